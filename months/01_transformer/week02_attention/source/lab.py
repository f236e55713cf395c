# %% [markdown] id="title"
# # Week 2 lab · Attention, written by you
#
# **What you will have built.** The attention of a Llama: weights from scores, masks, grouped heads, positions. In the library it is
# `hybridlab.transformer.attention` and `.positions`. Week 3's blocks, the month's GPT and the assistant of month 6 call it.
#
# | day | exercise | minutes | points |
# | --- | --- | --- | --- |
# | Tue | 1 `softmax` | 15 | 2 |
# | Tue | 2 `attention_mask` | 25 | 3 |
# | Tue | 3 `scaled_dot_product_attention` | 40 | 5 |
# | Wed | 4 `sinusoidal_positions` | 20 | 2 |
# | Wed | 5 `apply_rotary` | 25 | 3 |
# | Fri | 6 `MultiHeadAttention`: find the bug | 45 | 5 |
#
# **Time:** about three hours. Run from top to bottom, the solved notebook takes less than a minute. **Needs:** this week's lesson, and PyTorch as in week 1.
#
# **How it works.** Read what is asked, write into the cell, run it, and run the check cell below it. A check that fails names the mistake it
# saw. `course hint week02 softmax` gives a hint: there are three for each exercise, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hybridlab.transformer.positions import rotary_angles
# Only the library's own answer to the last exercise uses these two, for speed. You do not need them.
from hybridlab.transformer.positions import rotary_angles_from
from hybridlab.transformer.query_blocks import in_query_blocks

# %% id="setup"
import math

import matplotlib.pyplot as plt
from coursekit.notebook import compare, seed_everything

seed_everything(2)
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)

# %% [markdown] id="softmax-why"
# ## Tuesday · 1. `softmax`: from scores to weights
#
# **Why.** A score may be any number. To take an average, we need weights: positive, with the sum 1. Softmax makes them, and it keeps the order.
# The formula is `exp(score) / sum of exp(scores)`. The formula alone is not enough: `exp(89)` is more than float32 can hold, and scores of 100 do occur.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `scores` | any shape, any floating dtype |
# | `dim` | the axis along which the weights add up to 1; the last one if it is not given |
# | result | shape and dtype of `scores` |
# | large scores | weights and gradients stay finite at ±1e4, also where one row lies far below another |
# | `-inf` | gets the weight 0, as long as another score in the row is finite |
# | gradients | those of softmax: nothing on the way may cut them, and `scores` stays unchanged |
# | not allowed | PyTorch's own softmax in any form |
#
# **Worked example**, by hand:

# %% id="softmax-example"
row = [1.0, 2.0, 3.0]
powers = [math.exp(s) for s in row]
print("powers  ", [round(p, 3) for p in powers], " sum", round(sum(powers), 3))
print("weights ", [round(p / sum(powers), 3) for p in powers])
print("the same weights from [-2, -1, 0]:", [round(math.exp(s - 3) / sum(math.exp(t - 3) for t in row), 3) for s in row])

# %% id="softmax" exercise="hybridlab.transformer.attention.softmax" points=2 minutes=15 difficulty=1

# %% [markdown] id="softmax-next"
# If the check fails: look at the sums that it prints. Sums that are not 1 point at the axis. NaN points at `exp` of a large number: the third
# line of the example shows a way around it.

# %% [markdown] id="mask-why"
# ## Tuesday · 2. `attention_mask`: who may look at whom
#
# **Why.** A model that predicts the next token must not see it. And sentences of one batch have different lengths: the filling at the end, the *padding*,
# says nothing and must be seen by nobody.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `n_queries`, `n_keys` | how many tokens ask, how many can be looked at |
# | the queries | are the **last** `n_queries` of the `n_keys` tokens: query `i` stands at position `n_keys - n_queries + i`. The tokens before them wait in a cache (week 4) |
# | `causal=True` | a query sees its own position and all earlier ones |
# | `causal=False` | a query sees every key |
# | `padding` | Bool `(batch, n_keys)`, True = real token, False = seen by nobody; or None |
# | result | Bool `(batch, 1, n_queries, n_keys)`, **True = may look**. Batch is 1 without `padding`. The axis of size 1 is there for the heads |
# | device | that of `padding`; without it, `device` |
# | `ValueError` | if `causal` and `n_queries > n_keys`; if the last axis of `padding` is not `n_keys` long |
#
# **Worked example.** Two new tokens, three in the cache, `causal=True`; ■ = may look. The sequence is padded on the left: its first token is not real.

# %% id="mask-example"
for padding, rows in ((None, ["■ ■ ■ ■ □", "■ ■ ■ ■ ■"]), ([False, True, True, True, True], ["□ ■ ■ ■ □", "□ ■ ■ ■ ■"])):
    print("padding =", padding)
    for i, cells in enumerate(rows):
        print(f"    query {i} (position {5 - 2 + i}):  {cells}")

# %% id="attention-mask" exercise="hybridlab.transformer.attention.attention_mask" points=3 minutes=25 difficulty=2

# %% [markdown] id="mask-next"
# If the check fails: it names the first query that sees the wrong keys. Draw that row. An error of one column is the diagonal; rows that see too little,
# with more keys than queries, are the cache that was forgotten.

# %% [markdown] id="attention-why"
# ## Tuesday · 3. `scaled_dot_product_attention`
#
# **Why.** This is the operation from which everything else is made. Each query is compared with each key. The weights say how much of each value it takes.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `q` | `(batch, heads, queries, d_head)` |
# | `k`, `v` | `(batch, kv_heads, keys, d_head)` and `(batch, kv_heads, keys, d_value)` |
# | `mask` | Bool, True = may look; sizes of 1 stand for "the same for all"; or None |
# | result | `softmax(q kᵀ / √d_head) v`, shape `(batch, heads, queries, d_value)`, dtype of `q` |
# | grouped heads | `heads = groups × kv_heads`; query head `h` uses key and value head `h // groups` |
# | a query that may look at nothing | returns zeros; **every gradient stays finite** |
# | memory layout | the inputs may be transposed views: `.view` can fail on them where `.reshape` works |
# | `ValueError` | if `heads` is not a multiple of `kv_heads`; if `mask` is not Bool |
# | not allowed | `torch.nn.functional`; use your `softmax` |
#
# **Worked example.** One head, one query, three keys, d_head = 2. The third key is hidden by the mask.

# %% id="attention-example"
query, keys, values = [2.0, 0.0], [[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]], [10.0, 20.0, 99.0]
scores = [sum(a * b for a, b in zip(query, key)) / math.sqrt(2) for key in keys]
powers = [math.exp(s) for s in scores[:2]]                    # the third key is hidden
weights = [p / sum(powers) for p in powers] + [0.0]
print("scores ", [round(s, 3) for s in scores])
print("weights", [round(w, 3) for w in weights])
print("result ", round(sum(w * v for w, v in zip(weights, values)), 3))
print("8 query heads on 2 key/value heads: head h reads", [h // 4 for h in range(8)])

# %% id="scaled-dot-product-attention" exercise="hybridlab.transformer.attention.scaled_dot_product_attention" points=5 minutes=40 difficulty=3

# %% [markdown] id="attention-next"
# If the check fails with NaN: put a `print` after each line and find the first NaN. It comes from a row in which *every* score is hidden. If only the gradients
# are NaN, the forward pass was repaired too late: the NaN is still inside, and backward meets it.
#
# What you have now can already look back. Here it reads a sequence and averages what came before:

# %% id="attention-use"
tokens = torch.arange(1.0, 6.0).view(1, 1, 5, 1)              # five tokens with the values 1 … 5
same = torch.zeros(1, 1, 5, 1)                                # equal queries, equal keys: equal weights
print("average of itself and everything before:", scaled_dot_product_attention(same, same, tokens, attention_mask(5, 5, causal=True)).flatten())

# %% [markdown] id="sinusoidal-why"
# ## Wednesday · 4. `sinusoidal_positions`: a pattern for each place
#
# **Why.** Attention is an average, and an average does not know the order. The first Transformer therefore *adds* a pattern to each token, made of sine
# and cosine waves. Fast waves tell neighbours apart, slow ones tell the beginning from the end.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `table[p, 2i]` | `sin(p / 10000 ** (2i / d_model))` |
# | `table[p, 2i + 1]` | `cos(p / 10000 ** (2i / d_model))` |
# | result | `(time, d_model)`, float32; row 0 is position 0 |
# | `ValueError` | if `d_model` is odd |
#
# **Worked example**, d_model = 4: two waves, one of 1 radian a token, one of 0.01.

# %% id="sinusoidal-example"
for p in (0, 1, 2):
    print(f"position {p}:", [round(f(p / 10000 ** (i / 4)), 4) for i in (0, 2) for f in (math.sin, math.cos)])

# %% id="sinusoidal-positions" exercise="hybridlab.transformer.positions.sinusoidal_positions" points=2 minutes=20 difficulty=2

# %% [markdown] id="sinusoidal-next"
# If the check fails: compare your table for `(3, 4)` with the example. Right numbers in wrong columns are the most frequent slip.

# %% id="sinusoidal-plot"
fig, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
picture = axis.imshow(sinusoidal_positions(64, 48).T, aspect="auto", cmap="RdBu")
axis.set(xlabel="position", ylabel="column", title="your table: fast waves at the top, slow ones below")
bar = fig.colorbar(picture, label="value")

# %% [markdown] id="rotary-why"
# ## Wednesday · 5. `apply_rotary`: turn, don't add
#
# **Why.** Llama, Qwen and most models of today add nothing. They *turn* queries and keys, two features at a time, by an angle that grows with the position. The dot
# product of two turned vectors depends on the difference of the angles only, so on the *distance* of the tokens.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `x` | `(…, time, d_head)`, with any number of axes in front; it stays unchanged |
# | `cos`, `sin` | `(time, d_head/2)`, from `rotary_angles(positions, d_head, theta)`, which is given |
# | pairs | feature `i` goes with feature `i + d_head/2` |
# | a pair `(a, b)` | becomes `(a·cos − b·sin, b·cos + a·sin)` |
# | result | shape and **dtype of `x`** (`cos` and `sin` are float32; `x` may be bfloat16) |
# | `ValueError` | if the last axis of `cos` is not `d_head/2` |
#
# **Worked example**, d_head = 4: a quarter turn of the first pair (features 0 and 2), nothing for the second (features 1 and 3).

# %% id="rotary-example"
x, angles = [1.0, 2.0, 3.0, 4.0], [math.pi / 2, 0.0]
pairs = [(x[i], x[i + 2], math.cos(angles[i]), math.sin(angles[i])) for i in (0, 1)]
print(f"before {x}")
print("after ", [round(a * c - b * s, 3) for a, b, c, s in pairs] + [round(b * c + a * s, 3) for a, b, c, s in pairs])

# %% id="apply-rotary" exercise="hybridlab.transformer.positions.apply_rotary" points=3 minutes=25 difficulty=3

# %% [markdown] id="rotary-next"
# If the check fails: turn the example's `x` and compare. "Lengths change" means that one of the four products has the wrong sign or uses a half that was already overwritten.
#
# Now the promise of rotary positions. Same query, same key, always three tokens apart: the score must be the same everywhere.

# %% id="rotary-use"
q, k = torch.randn(2, 32)
cos, sin = rotary_angles(torch.arange(1000), 32, 10_000.0)
turned_q, turned_k = apply_rotary(q.expand(1000, 32), cos, sin), apply_rotary(k.expand(1000, 32), cos, sin)
for place in (3, 100, 999):
    print(f"query at {place:3d}, key at {place - 3:3d}: score {turned_q[place] @ turned_k[place - 3]:.4f}")

# %% [markdown] id="friday-why"
# ## Friday · 6. `MultiHeadAttention`: working-looking code with a bug
#
# **Why.** One attention can look for one thing at a time. A model runs several side by side, each in its own part of the features, and joins the results.
#
# A colleague wrote the class below. It has the right shapes, it trains, and its loss falls nicely. It is wrong. **Find the bug and mend it.**
#
# **Symptom.** We train it on *pure noise*: each token is drawn at random from 16, new ones in every step. There is nothing to learn and nothing to remember.
# The best that any honest model can do is to say "one in 16", a loss of ln 16. The next cell is the test; run the class further down, then the two cells after its check.

# %% id="friday-noise"
def train_on_noise(attention, steps=200, vocab_size=16, time=12, d_model=32):
    """The losses of a one-layer model that predicts random tokens."""
    seed_everything(2)
    embed, head = nn.Embedding(vocab_size, d_model), nn.Linear(d_model, vocab_size)
    layer, table = attention(d_model, 4), sinusoidal_positions(time, d_model)
    parameters = [p for module in (embed, layer, head) for p in module.parameters()]
    optimizer, losses = torch.optim.AdamW(parameters, lr=1e-2), []
    for _ in range(steps):
        tokens = torch.randint(vocab_size, (64, time + 1))
        x = embed(tokens[:, :-1]) + table
        logits = head(x + layer(x))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses

# %% [markdown] id="friday-contract"
# **What is asked** of the class
#
# | | |
# | --- | --- |
# | sizes | `d_head = d_model / n_heads`; head `h` owns features `h·d_head … (h+1)·d_head − 1`; `n_kv_heads` (default `n_heads`) heads for keys and values |
# | submodules | `q_proj`, `k_proj`, `v_proj`, `o_proj` (`nn.Linear`, with or without `bias`); with `qk_norm` also `q_norm = qk_norm(d_head)` and `k_norm` |
# | order | project, split into heads, norms, rotation of q and k (if `rope_theta`), cache, attention, join, `o_proj` |
# | `cache` | `len(cache)` = tokens that are in it = position of x's first token; `cache.append(k, v)` stores the new keys and values, each `(batch, n_kv_heads, time, d_head)`, and returns all of them. An empty cache counts as False in an `if` |
# | `padding` | over all keys: those in the cache, then those of x |
# | `ValueError` | if `d_model` is not a multiple of `n_heads`, or `n_heads` not of `n_kv_heads` |

# %% id="multi-head-attention" exercise="hybridlab.transformer.attention.MultiHeadAttention" points=5 minutes=45 difficulty=4

# %% id="friday-curve"
losses = train_on_noise(MultiHeadAttention)
floor = math.log(16)
fig, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.plot(losses, label="this class")
axis.axhline(floor, color="black", linestyle="--", label=f"ln 16 = {floor:.2f}: the best that is possible")
axis.set(xlabel="step", ylabel="loss (nats per token)", ylim=(0, 3.2), title="learning to predict noise")
axis.legend(loc="lower left")
print(f"last 20 steps: {sum(losses[-20:]) / 20:.2f} nats per token; possible: {floor:.2f}")

# %% [markdown] id="friday-tool"
# A tool for bugs of this kind: **who influences whom?** The gradient of output `t` with respect to input `s` is not zero exactly if output `t` depends on token `s`.
# You know what this picture must look like for causal attention. Does it?

# %% id="friday-influence"
seed_everything(2)
layer, x = MultiHeadAttention(32, 4), torch.randn(1, 12, 32, requires_grad=True)
rows = [torch.autograd.grad(out.sum(), x, retain_graph=True)[0][0].norm(dim=-1) for out in layer(x)[0]]
fig, axis = plt.subplots(figsize=(4, 3.4), layout="constrained")
picture = axis.imshow(torch.stack(rows), cmap="magma")
axis.set(xlabel="input token s", ylabel="output token t", title="influence of s on t")
bar = fig.colorbar(picture, label="length of the gradient")

# %% [markdown] id="friday-next"
# Once mended, the curve stays at the dashed line and the picture is empty above its diagonal. If it is not: follow one number by hand through `forward` and say, line by line, which axis
# is the head and which is the time. This bug is in many a first implementation. Its loss looks *better* than it should, and its samples are useless.

# %% [markdown] id="challenge"
# ## Challenge (optional, no points): long causal attention, faster
#
# For 1,024 tokens the reference computes 1,024 × 1,024 scores, and then hides almost half of them. That half need not be computed, and the whole table need not be in memory at once.
# Write `faster` so that it gives the same result in less time. The next cell tests it and prints the ratio. **Twice as fast is good; four times can be done** in ten lines
# that call what you have already written.
#
# A hint: take the queries in pieces. Which keys can a piece see at all?

# %% id="challenge-code"
def faster(q, k, v):
    """Causal attention, (batch, heads, time, d_head), without gradients."""
    return scaled_dot_product_attention(q, k, v, attention_mask(q.shape[2], k.shape[2], causal=True))

# %% id="challenge-ratio"
def plain(q, k, v):
    return scaled_dot_product_attention(q, k, v, attention_mask(q.shape[2], k.shape[2], causal=True))

q, k, v = torch.randn(3, 1, 4, 1024, 32)
with torch.no_grad():
    print(f"largest difference from the plain way: {(faster(q, k, v) - plain(q, k, v)).abs().max():.1e} (at most 1e-05)")
    ratio = compare(lambda: faster(q, k, v), lambda: plain(q, k, v))

# %% [markdown] id="bigger"
# ## Inside the bigger model
#
# A Llama in small, from the library that you write this month: four layers, eight query heads on two key/value heads, rotary positions. We put *your* class into each layer, with the
# weights that were there, and compare the logits.

# %% id="bigger-model"
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer

config = TransformerConfig.llama(vocab_size=65, n_heads=8, n_kv_heads=2)
model, tokens = MiniTransformer(config), torch.randint(65, (2, 32))
before = model(tokens)
for layer in model.layers:
    mine = MultiHeadAttention(config.d_model, config.n_heads, config.n_kv_heads, rope_theta=config.rope_theta)
    mine.load_state_dict(layer.self_attn.state_dict())
    layer.self_attn = mine
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, logits {tuple(before.shape)}")
print(f"largest difference with your attention: {(model(tokens) - before).abs().max():.1e}")

# %% id="bigger-library"
from hybridlab.exercise import REGISTRY

for symbol, entry in REGISTRY.items():
    if symbol.startswith(("hybridlab.transformer.attention", "hybridlab.transformer.positions")):
        print(f"{symbol.removeprefix('hybridlab.transformer.'):45s} {entry.origin}")

# %% [markdown] id="finish"
# ## Grade, promote, go on
#
# In a terminal, or with *Validate* in the menu:
#
# | | |
# | --- | --- |
# | `course grade week02` | points for each exercise, with hidden cases too |
# | `course promote week02` | what has passed becomes the library: the list above then says `learner` |
# | `course progress` | where you stand |
#
# **Read:** [Attention Is All You Need](https://arxiv.org/abs/1706.03762), section 3.2: you have now written each of its equations ·
# [RoFormer](https://arxiv.org/abs/2104.09864), section 3: why turning gives distances ·
# [GQA](https://arxiv.org/abs/2305.13245), figure 2: what sharing keys costs and saves.
#
# **Next week:** the block around it. Norms, the residual stream, the MLP: and a whole Transformer.
