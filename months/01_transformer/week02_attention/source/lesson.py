# %% [markdown] id="title"
# # Week 2 · Attention
#
# **The question of the week: how can a token find, among all tokens before it, the few that it needs?**
#
# | afterwards you can | |
# | --- | --- |
# | compute | attention by hand, with numbers, symbols and code |
# | explain | masks, heads, grouped heads, and why the scores are divided by √d_k |
# | predict | its cost in operations and bytes, for any length |
# | choose | how a model learns the order of its tokens |
#
# **Time:** Monday 2 hours, Thursday 1½ hours, Sunday 1 hour. The notebook runs from top to bottom in less than a minute. **Needs:** week 1 (tensors, gradients, cross-entropy).

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import math
import time

import matplotlib.pyplot as plt
import torch
from coursekit.notebook import review, seed_everything
from coursekit.sliders import slide
from hybridlab.transformer.attention import MultiHeadAttention, attention_mask, scaled_dot_product_attention, softmax
from hybridlab.transformer.positions import apply_rotary, rotary_angles, sinusoidal_positions
from ipywidgets import FloatLogSlider, IntSlider
from torch import nn

seed_everything(2)
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)

# %% [markdown] id="small-numbers"
# # Monday · the idea
#
# ## Three tokens, two dimensions, with numbers
#
# "The **cat** left the **mat**, and **it** …". The word *it* wants to know what it stands for. Each token offers a **key**: what can be found here. Two
# features will do: *animal* and *thing*. The token *it* sends a **query**: what I look for. And each token has a **value**: what I tell whoever looks at me.
#
# The score of a key is its dot product with the query, divided by √2 because there are two features. (On Thursday we shall see why.)

# %% id="small-numbers-code"
keys = {"cat": [1.0, 0.0], "mat": [0.0, 1.0], "it": [0.0, 0.0]}       # [animal, thing]
values = {"cat": 10.0, "mat": 40.0, "it": 0.0}
query = [2.0, 0.0]                                                    # it looks for an animal

scores = {word: (query[0] * key[0] + query[1] * key[1]) / math.sqrt(2) for word, key in keys.items()}
powers = {word: math.exp(score) for word, score in scores.items()}
weights = {word: power / sum(powers.values()) for word, power in powers.items()}
for word in keys:
    print(f"{word}:  score {scores[word]:.3f}   exp(score) {powers[word]:.3f}   weight {weights[word]:.3f}")
print(f"result: {sum(weights[word] * values[word] for word in keys):.3f}, an average of 10, 40 and 0")

# %% [markdown] id="small-symbols"
# ## The same with symbols
#
# With $q$ a query of $d_k$ features, $k_j$ and $v_j$ key and value of token $j$:
#
# $$ s_j = \frac{q \cdot k_j}{\sqrt{d_k}} \qquad w_j = \frac{e^{s_j}}{\sum_i e^{s_i}} \qquad \text{result} = \sum_j w_j\, v_j $$
#
# For all queries at once, each a row of a matrix $Q$: $\;\text{softmax}(QK^\top / \sqrt{d_k})\,V$. Nothing is chosen for good: every token takes part, a little or much. So
# the result has a gradient, and the queries and keys can be *learned*.
#
# ## The same with code

# %% id="small-code"
Q = torch.tensor([query])                          # (queries=1, d_k=2)
K = torch.tensor(list(keys.values()))              # (keys=3, d_k=2)
V = torch.tensor(list(values.values()))[:, None]   # (keys=3, d_v=1)
W = softmax(Q @ K.T / math.sqrt(2))                # (queries=1, keys=3)
print("weights", W[0], f"  result {(W @ V).item():.3f}")

# %% [markdown] id="slider-why"
# ## Sharp or flat?
#
# Multiply all scores by a factor and see what softmax does. With a factor near 0 all tokens count the same. With a large one the best takes everything. Move the slider
# and find the factor at which the cat's weight passes 0.99.

# %% id="slider-softmax"
def show_weights(factor=1.0):
    figure, axis = plt.subplots(figsize=(5, 2.4), layout="constrained")
    weights = softmax(factor * Q @ K.T / math.sqrt(2))[0]
    bars = axis.bar(list(keys), weights)
    axis.bar_label(bars, fmt="%.3f")
    axis.set(ylim=(0, 1.15), ylabel="weight", title=f"scores × {factor:.2g}")
    return figure


slide(show_weights, factor=FloatLogSlider(value=1.0, base=2, min=-4, max=5, step=0.5, continuous_update=False))

# %% [markdown] id="real-why"
# ## At real size: does it find what it needs?
#
# We build a task that can be solved *only* by finding. A sequence holds 12 facts, such as "name 7 has the digit 3", with other names and digits each time. Then come 12 questions
# in another order: "the digit of name 7?". A model without attention cannot do better than guess one digit of ten.
#
# The model has one attention: queries from the questions, keys and values from the facts. **The test:** if attention finds, then each question must look at exactly one fact,
# the one with its name. That is one bright cell in each row, and we know beforehand which.

# %% id="real-model"
class Lookup(nn.Module):
    """Facts and questions in, one digit for each question out. `scale` multiplies the scores."""

    def __init__(self, d_k, scale, names=32, digits=10):
        super().__init__()
        self.name, self.digit = nn.Embedding(names, d_k), nn.Embedding(digits, d_k)
        self.q, self.k, self.v = (nn.Linear(d_k, d_k, bias=False) for _ in range(3))
        self.out, self.scale = nn.Linear(d_k, digits), scale

    def forward(self, names, digits, asked):
        facts = self.name(names) + self.digit(digits)                        # (batch, facts, d_k)
        q, k, v = self.q(self.name(asked)), self.k(facts), self.v(facts)
        weights = softmax(q @ k.transpose(1, 2) * self.scale)                # (batch, questions, facts)
        return self.out(weights @ v), weights


def facts_and_questions(batch, facts=12):
    names = torch.rand(batch, 32).argsort(1)[:, :facts]                      # different names in each sequence
    digits, order = torch.randint(10, (batch, facts)), torch.rand(batch, facts).argsort(1)
    return names, digits, names.gather(1, order), digits.gather(1, order), order

# %% id="real-training"
def train_lookup(d_k, scale, steps, seed, lr=1e-2, batch=64):
    seed_everything(seed)
    model, losses = Lookup(d_k, scale), []
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        names, digits, asked, answers, _ = facts_and_questions(batch)
        loss = nn.functional.cross_entropy(model(names, digits, asked)[0].flatten(0, 1), answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


untrained, _ = train_lookup(d_k=64, scale=1 / 8, steps=0, seed=2)
trained, losses = train_lookup(d_k=64, scale=1 / 8, steps=100, seed=2)
names, digits, asked, answers, order = facts_and_questions(batch=500)
right = (trained(names, digits, asked)[0].argmax(-1) == answers).float().mean()
print(f"loss {losses[0]:.2f} → {losses[-1]:.3f} nats; {right:.1%} of {answers.numel():,} new questions answered; guessing gives 10 %")

# %% id="real-maps"
figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
for axis, model, title in zip(axes, (untrained, trained), ("before training", "after 100 steps")):
    with torch.no_grad():
        weights = model(names[:1], digits[:1], asked[:1])[1][0]
    picture = axis.imshow(weights, cmap="magma", vmin=0, vmax=1)
    axis.scatter(order[0], range(12), s=150, facecolors="none", edgecolors="deepskyblue", label="the fact with that name")
    axis.set(title=title, xlabel="facts (name = digit)", xticks=range(12))
    axis.set_xticklabels([f"{n}={d}" for n, d in zip(names[0].tolist(), digits[0].tolist())], rotation=90)
axes[0].set(ylabel="questions (name)", yticks=range(12))
axes[0].set_yticklabels(asked[0].tolist())
axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.22))
bar = figure.colorbar(picture, ax=axes, label="attention weight")

# %% [markdown] id="mask-why"
# ## Who may look at whom: masks
#
# A model that predicts the next token is trained on all positions at once. Position 3 must not see position 4: that is the answer. So the scores of later tokens are hidden *before*
# softmax: the **causal mask**. Sequences of one batch that are shorter are filled up with **padding**, which nobody may look at.
#
# A mask is a table of True and False: *row = who looks, column = who is looked at*. Both masks together:

# %% id="mask-figure"
real = torch.arange(8) < torch.tensor([[8], [5]])                    # second sequence: 5 tokens and 3 of padding
masks = {"causal": attention_mask(8, 8, causal=True)[0, 0],
         "causal, 5 real tokens": attention_mask(8, 8, causal=True, padding=real)[1, 0],
         "2 new tokens, 6 in a cache": attention_mask(2, 8, causal=True)[0, 0]}
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for axis, (title, mask) in zip(axes, masks.items()):
    axis.imshow(mask, cmap="Greens", vmin=0, vmax=1.3, extent=(-0.5, 7.5, 7.5, 7.5 - len(mask)))
    axis.set(title=title, xlabel="key", ylabel="position of the query", xticks=range(8), yticks=[7.0 - i for i in range(len(mask))])
    axis.set_yticklabels([f"{7 - i}" for i in range(len(mask))])
print("green = may look")

# %% [markdown] id="heads-why"
# ## Many heads
#
# One softmax can look for one thing. So the features are cut into *heads*: each has its own queries, keys and values, of `d_head = d_model / n_heads` features, and attends by itself. The results
# are joined and mixed by one more matrix. The cost stays the same: four heads of 16 features multiply as many numbers as one of 64.
#
# **Grouped heads.** While a model writes, the keys and values of all earlier tokens stay in memory. Several query heads can share one key/value head. Here are the bytes for the shape of
# Llama 3 8B: 32 layers, 32 query heads of 128 features, 2 bytes a number.

# %% id="heads-code"
x = torch.randn(1, 10, 64)
for kv_heads in (4, 2, 1):
    layer = MultiHeadAttention(64, 4, kv_heads)
    print(f"4 query heads, {kv_heads} key/value heads: {sum(p.numel() for p in layer.parameters()):6,} weights, result {tuple(layer(x).shape)}")

for kv_heads in (32, 8, 1):
    per_token = 2 * 32 * kv_heads * 128 * 2                  # keys and values, layers, heads, features, bytes
    print(f"Llama 3 8B with {kv_heads:2d} key/value heads: {per_token / 1024:4.0f} KiB a token, {per_token * 8192 / 2**30:5.3f} GiB for 8,192 tokens")

# %% [markdown] id="order-why"
# ## What attention does not know: the order
#
# A weighted average does not ask in which order its terms stand. Turn the sequence round, and attention gives the same results, turned round. "Dog bites man" and "man bites dog" are
# one and the same to it.

# %% id="order-code"
seed_everything(2)
layer, x = MultiHeadAttention(64, 4), torch.randn(1, 6, 64)
plain, backwards = layer(x, causal=False), layer(x.flip(1), causal=False).flip(1)
print(f"without positions, read forwards and backwards: largest difference {(plain - backwards).abs().max():.1e}")
turning = MultiHeadAttention(64, 4, rope_theta=10_000.0)
turning.load_state_dict(layer.state_dict())                           # the same weights
plain, backwards = turning(x, causal=False), turning(x.flip(1), causal=False).flip(1)
print(f"with rotary positions:                          largest difference {(plain - backwards).abs().max():.1e}")

# %% [markdown] id="sinusoidal-why"
# ### First answer: add a pattern (2017)
#
# Each position gets its own row of sines and cosines, which is *added* to the token. Fast waves tell neighbours apart, slow waves tell far places apart, like the hands of a clock. How alike
# are two positions? The dot product of their rows depends on the distance only: on the right, the curves of three positions lie on each other.

# %% id="sinusoidal-figure"
table = sinusoidal_positions(128, 64)
figure, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
picture = axes[0].imshow(table.T, aspect="auto", cmap="RdBu")
axes[0].set(xlabel="position", ylabel="feature", title="the table")
figure.colorbar(picture, ax=axes[0], label="value")
for place, style in ((20, "-"), (64, "--"), (108, ":")):
    axes[1].plot(torch.arange(128) - place, table @ table[place], style, linewidth=2.5, label=f"from position {place}")
axes[1].set(xlabel="distance (tokens)", ylabel="dot product", title="how alike two positions are")
legend = axes[1].legend()

# %% [markdown] id="rotary-why"
# ### Today's answer: turn (2021)
#
# Take two features of a query as an arrow in the plane, and *turn* it by an angle that grows with the position. Turn the keys likewise. The dot product of two arrows depends on their lengths and
# the angle *between* them, and that angle is the difference of the positions. Nothing is added, and lengths stay as they were.
#
# A head of 64 features has 32 such pairs. The first turns by 1 radian a token, each later one more slowly.

# %% id="rotary-figure"
cos, sin = rotary_angles(torch.arange(48), 64, 10_000.0)              # each (48 positions, 32 pairs)
figure, axes = plt.subplots(1, 3, figsize=(10, 3.3), layout="constrained")
for axis, pair in zip(axes, (0, 8)):
    for p in range(7):
        axis.annotate("", (cos[p, pair], sin[p, pair]), (0, 0), arrowprops={"arrowstyle": "->", "color": plt.cm.viridis(p / 7)})
        axis.text(1.15 * cos[p, pair], 1.15 * sin[p, pair], str(p), ha="center", va="center")
    axis.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal", title=f"pair {pair}: {10_000 ** (-pair / 32):.2g} rad a token")
seed_everything(2)
q, k = torch.randn(2, 64)
turned_q, turned_k = (apply_rotary(vector.expand(48, 64), cos, sin) for vector in (q, k))
picture = axes[2].imshow(turned_q @ turned_k.T / 8, cmap="RdBu")
axes[2].set(title="same query, same key", xlabel="position of the key", ylabel="position of the query")
bar = figure.colorbar(picture, ax=axes[2], label="score")

# %% [markdown] id="rotary-reading"
# On the right, the score is the same along each diagonal: same distance, same score. Try it: move *both* sliders by the same amount, and the arrows turn, but the angle between them and the score
# do not change.

# %% id="slider-rotary"
def show_arrows(query_at=5, key_at=2, theta=100):
    cos, sin = rotary_angles(torch.tensor([query_at, key_at]), 4, float(theta))
    arrow_q = apply_rotary(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), cos[:1], sin[:1])[0]
    arrow_k = apply_rotary(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), cos[1:], sin[1:])[0]
    figure, axes = plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
    for pair, axis in enumerate(axes):
        for arrow, name, color in ((arrow_q, "query", "tab:blue"), (arrow_k, "key", "tab:orange")):
            axis.annotate("", (arrow[pair], arrow[pair + 2]), (0, 0), arrowprops={"arrowstyle": "->", "lw": 2, "color": color})
            axis.plot([], [], color=color, label=name)
        axis.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", title=f"pair {pair}: {theta ** (-pair / 2):.2g} rad a token")
    axes[0].legend(loc="lower left")
    figure.suptitle(f"distance {query_at - key_at}: score {arrow_q @ arrow_k:.3f}")
    return figure


slide(
    show_arrows,
    query_at=IntSlider(5, 0, 60, continuous_update=False),
    key_at=IntSlider(2, 0, 60, continuous_update=False),
    theta=IntSlider(100, 2, 1000, continuous_update=False),
)

# %% [markdown] id="cost-why"
# ## What it costs
#
# **Predicted.** Every query meets every key. For T tokens and width d_model, `Q Kᵀ` is T²·d_model multiplications and as many additions, and so is `weights · V`. Together
# **4 · T² · d_model operations**; the number of heads does not matter. For each head there is a table of T × T weights: **4 · heads · T² bytes** in float32. Twice the length, four times the cost.
#
# **Measured.** PyTorch counts the operations, and a hook adds up what is kept for the backward pass.

# %% id="cost-count"
from torch.utils.flop_counter import FlopCounterMode

heads, d_head = 4, 32
for length in (128, 256, 512, 1024):
    q, k, v = torch.randn(3, 1, heads, length, d_head).requires_grad_()
    held, mask = {}, attention_mask(length, length, causal=True)
    keep = lambda t: held.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        scaled_dot_product_attention(q, k, v, mask)
    predicted, table = 4 * length**2 * heads * d_head, 4 * heads * length**2
    print(f"T = {length:4d}: predicted {predicted / 1e6:6.1f} million operations, counted {counter.get_total_flops() / 1e6:6.1f};"
          f"  one table {table / 2**20:5.2f} MiB, kept {sum(held.values()) / 2**20:5.2f} MiB = {sum(held.values()) / table:.1f} tables")

# %% id="cost-time"
def milliseconds(function, repeat=5):
    samples = []
    for _ in range(repeat):
        begin = time.process_time()
        function()
        samples.append(1e3 * (time.process_time() - begin))
    return min(samples)


lengths, own, fused = (128, 256, 512, 1024, 2048), [], []
with torch.no_grad():
    for length in lengths:
        q, k, v = torch.randn(3, 1, heads, length, d_head)
        mask = attention_mask(length, length, causal=True)
        own.append(milliseconds(lambda: scaled_dot_product_attention(q, k, v, mask)))
        fused.append(milliseconds(lambda: nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)))
for length, ours, theirs in zip(lengths, own, fused):
    print(f"T = {length:4d}: our readable attention {ours:7.2f} ms, PyTorch's fused one {theirs:6.2f} ms")

# %% id="cost-figure"
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
axis.loglog(lengths, own, "o-", label="ours, measured")
axis.loglog(lengths, fused, "s-", label="PyTorch's fused kernel, measured")
axis.loglog(lengths, [own[1] * (n / lengths[1]) ** 2 for n in lengths], "k--", label="predicted from T = 256: T²")
axis.set(xlabel="tokens T", ylabel="time (ms)", title="time of one attention")
axis.set_xticks(lengths, [str(n) for n in lengths])
axis.minorticks_off()
legend = axis.legend()
print(f"from 256 to 2,048 tokens: predicted ×64, measured ×{own[-1] / own[1]:.0f}")

# %% [markdown] id="cost-reading"
# Once the table no longer fits into the processor's cache, it can be worse than T²: the bytes cost more than the operations. Fused kernels (FlashAttention) never write the whole table
# down. They have the same T² operations and much less traffic. Friday's challenge goes that way, and month 3 asks how to get rid of T² itself.

# %% [markdown] id="breaks-why"
# ## How it breaks
#
# **One row that may look at nothing** ruins a whole training run. It happens: a sequence of padding alone, or padding on the left. Hidden scores are often set to −∞. In that row softmax computes 0/0, which is NaN.
# The loss can be made to ignore that row, or NaN can be replaced afterwards, and the loss looks healthy. Then see what comes back:

# %% id="breaks-nan"
def gradients_after(attention):
    seed_everything(2)
    project, x = nn.Linear(8, 8), torch.randn(1, 1, 4, 8)
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril(-1)            # the first token may look at nothing
    out = attention(project(x), x, x, mask).nan_to_num()                # "repair" the result
    out.square().mean().backward()
    return out.square().mean().item(), project.weight.grad


def careless(q, k, v, mask):
    hidden = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)     # 0 or −∞, added to the scores
    return softmax(q @ k.transpose(-2, -1) / math.sqrt(8) + hidden) @ v


for name, attention in (("careless", careless), ("ours", scaled_dot_product_attention)):
    loss, gradient = gradients_after(attention)
    print(f"{name:9s} loss {loss:.3f}; NaN in {gradient.isnan().sum():2d} of {gradient.numel()} gradients of the weights")

# %% [markdown] id="breaks-more"
# The loss is fine, every gradient is NaN, and after the next step so is every weight. Our attention fills hidden scores with the lowest *finite* number and then puts zeros into rows that saw nothing.
#
# Two more, quieter ones: the mask applied *after* softmax, and `exp` without a maximum subtracted.

# %% id="breaks-quiet"
scores = torch.tensor([1.0, 2.0, 3.0])
may_look = torch.tensor([True, True, False])
print("mask after softmax: ", softmax(scores) * may_look, " sum", f"{(softmax(scores) * may_look).sum():.3f}")
print("mask before softmax:", softmax(scores.masked_fill(~may_look, -torch.inf)), " sum", f"{softmax(scores.masked_fill(~may_look, -torch.inf)).sum():.3f}")
large = torch.tensor([100.0, 99.0])
print("scores of 100, exp alone:      ", large.exp() / large.exp().sum())
print("scores of 100, maximum removed:", softmax(large))

# %% [markdown] id="paper-why"
# # Thursday · the paper
#
# ## *Attention Is All You Need* (Vaswani et al., 2017, [arXiv 1706.03762](https://arxiv.org/abs/1706.03762)): why √d_k?
#
# **Its claim** (section 3.2.1 and footnote 4). If the components of q and k are independent, with mean 0 and variance 1, then q·k has mean 0 and **variance d_k**. For large d_k the scores are large, softmax
# is pushed to where it is flat, and its **gradients become extremely small**. Dividing by √d_k brings the variance back to 1. The paper gives an argument and no figure. We measure both halves of it.
#
# Before you run the next cell: d_k = 1,024 and no division. How large is a typical score? (The square root of the variance.)

# %% id="paper-measure"
widths, keys_each = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), 64
variance, gradient = {"plain": [], "scaled": []}, {"plain": [], "scaled": []}
seed_everything(2)
for d_k in widths:
    q, k = torch.randn(500, 1, d_k), torch.randn(500, keys_each, d_k)
    dots = (q * k).sum(-1)                                              # (500 queries, 64 keys)
    for name, scale in (("plain", 1.0), ("scaled", d_k**-0.5)):
        scores = (dots * scale).requires_grad_()
        (softmax(scores) * torch.randn(scores.shape)).sum().backward()  # a random gradient comes from above
        variance[name].append(scores.var().item())
        gradient[name].append(scores.grad.var(dim=-1))                  # one number for each query
print("   d_k | variance of the scores: paper, plain, scaled | median variance of the gradient: plain, scaled")
for i, d_k in enumerate(widths):
    print(f"{d_k:6d} | {d_k:12d} {variance['plain'][i]:12.1f} {variance['scaled'][i]:12.2f}    | "
          f"{gradient['plain'][i].median():20.1e} {gradient['scaled'][i].median():14.1e}")

# %% id="paper-figure"
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
axes[0].loglog(widths, widths, "k--", label="the paper: d_k, and 1")
axes[0].loglog(widths, [1] * len(widths), "k--")
for name, color, mark in (("plain", "tab:red", "o"), ("scaled", "tab:blue", "s")):
    axes[0].loglog(widths, variance[name], mark, color=color, label=f"ours, {name}")
    axes[1].loglog(widths, [g.median() for g in gradient[name]], f"{mark}-", color=color, label=f"{name}: median query")
    axes[1].loglog(widths, [g.mean() for g in gradient[name]], f"{mark}:", color=color, alpha=0.6, label=f"{name}: mean")
axes[0].set(xlabel="d_k", ylabel="variance of the scores", title="scores")
axes[1].set(xlabel="d_k", ylabel="variance of the gradient", title="gradients of the scores", ylim=(1e-10, 1))
for axis in axes:
    axis.legend(fontsize=8)

# %% [markdown] id="paper-reading"
# **Beside the claim.** The variance of the scores lies on the paper's line. For the gradient, look at the *median*: for d_k of 128 and more it falls off a cliff, while with the division
# it stays level. The *mean* falls slowly: a few queries, whose two best keys happen to be close, still learn, and most get nothing. Note the left end, too: for small d_k the division makes
# little difference. The paper cites the same from translation: undivided dot products did as well as another kind of attention for small d_k, and worse for large.
#
# **Does it matter for learning?** The task of Monday again, d_k = 256, with and without the division, at two learning rates, three seeds each.

# %% id="paper-training"
figure, axes = plt.subplots(1, 2, figsize=(10, 3.3), layout="constrained", sharey=True)
for axis, lr in zip(axes, (0.003, 0.01)):
    for name, scale, color in (("scaled", 1 / 16, "tab:blue"), ("plain", 1.0, "tab:red")):
        runs = [train_lookup(256, scale, steps=80, seed=seed, lr=lr, batch=16)[1] for seed in (1, 2, 3)]
        axis.plot(torch.tensor(runs).T, color=color, alpha=0.8, label=[name, None, None])
        ends = ", ".join(f"{sum(run[-20:]) / 20:.2f}" for run in runs)
        print(f"learning rate {lr}: {name:6s} loss over the last 20 steps, three seeds: {ends} nats")
    axis.axhline(math.log(10), color="black", linestyle="--", label="guessing: ln 10")
    axis.set(xlabel="step", title=f"d_k = 256, learning rate {lr}")
axes[0].set_ylabel("loss (nats)")
legend = axes[0].legend()

# %% [markdown] id="paper-conclusion"
# **So:** with small steps the plain model learns too, but slowly. With large steps it hardly learns at all, where the divided one is nearly there in twenty. The division makes learning quick and
# forgiving. What the model *can* express is the same: the matrices of q and k could hold the factor themselves.

# %% [markdown] id="where"
# ## Where this sits
#
# | | |
# | --- | --- |
# | in our system | the first part of the Transformer brain. Week 3 puts it into a block, week 4 gives it a cache, month 3 places it between Mamba layers |
# | Llama 3 | rotary positions with theta = 500,000, 8 key/value heads for 32 query heads (8B) |
# | Qwen 3 | the same, plus a norm on queries and keys (`qk_norm`): it keeps the scores small whatever the weights do |
# | Jamba | attention in one layer of eight, Mamba in the others: T² is paid seldom |
# | vLLM | keeps keys and values in pages, as an operating system keeps memory |
#
# The names `q_proj`, `k_proj`, `v_proj`, `o_proj` are those of Llama, so its weights fit into our class as they are. And why is Llama's theta so large? Every
# pair of features comes round after some tokens, and then two distances look alike to it. The slowest pair decides how far a model can tell them apart:

# %% id="where-theta"
for name, theta in (("RoFormer, Llama 1 and 2", 10_000), ("Llama 3", 500_000)):
    slowest = 2 * math.pi * theta ** (126 / 128)              # tokens for a full turn of pair 63 of 64; heads of 128 features
    print(f"{name:24s} theta {theta:7,}: the slowest pair turns once in {slowest:9,.0f} tokens")

# %% [markdown] id="sunday"
# # Sunday · review
#
# Put your answer in the place of `...` and run the cell. A number, a choice such as `"b"`, or a shape such as `(2, 3)`. You can try as often as you like.

# %% id="review-open"
answer = review("week02")

# %% [markdown] id="q1-text"
# **1.** A batch of 2, 8 query heads, 2 key/value heads, 10 queries, 50 keys. What is the shape of the scores?

# %% id="q1"
answer("q1", ...)

# %% [markdown] id="q2-text"
# **2.** 7 tokens are in the cache, 3 new ones come in. The attention is causal. How many keys does the *second* of the new tokens see?

# %% id="q2"
answer("q2", ...)

# %% [markdown] id="q3-text"
# **3.** Components of q and k are independent with mean 0 and variance 1, and d_k = 256. What is the *standard deviation* of q·k, before any division?

# %% id="q3"
answer("q3", ...)

# %% [markdown] id="q4-text"
# **4.** A sequence grows from 1,000 to 4,000 tokens. By which factor does the table of weights grow?

# %% id="q4"
answer("q4", ...)

# %% [markdown] id="q5-text"
# **5.** A query's scores are all −∞. What does softmax, by its formula, give in that row? (a) zeros, (b) equal weights, (c) NaN

# %% id="q5"
answer("q5", ...)

# %% [markdown] id="q6-text"
# **6.** With rotary positions, query 107 and key 100 have a certain score. The same vectors stand where with the same score? (a) query 7, key 0; (b) query 100, key 107; (c) query 214, key 200

# %% id="q6"
answer("q6", ...)

# %% [markdown] id="q7-text"
# **7.** A model has 32 layers, 32 query heads and 8 key/value heads of 128 features, in bfloat16. How many GiB do keys and values of 8,192 tokens take?

# %% id="q7"
answer("q7", ...)

# %% [markdown] id="reading"
# ## Read on
#
# 1. [Attention Is All You Need](https://arxiv.org/abs/1706.03762), sections 3.2 and 3.5: four pages, and you can now check each sentence.
# 2. [RoFormer](https://arxiv.org/abs/2104.09864), section 3: how the rotation is derived from the wish that only distance counts.
# 3. [FlashAttention](https://arxiv.org/abs/2205.14135), sections 2 and 3: the same result without the table, and why bytes matter more than operations.
#
# **Next:** this week's lab, where you write all of it. Then week 3: the block around attention, and the whole Transformer.
