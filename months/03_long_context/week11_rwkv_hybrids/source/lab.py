# %% [markdown] id="title"
# # Week 11 lab · RWKV and hybrids, written by you
#
# **What you will have built:** linear attention as a recurrence and in chunks, RWKV-4's mean that fades and survives keys of any size, RWKV-7's delta rule, which can *replace* what it knows, and the attention in a window that a hybrid puts between its
# recurrent layers. In the library these are `hybridlab.ssm.token_shift`, `.linear_attention`, `.wkv4`, `.delta_rule` and `.window_attention`. At the end, weights of transformers' RWKV and Jamba run on them.
#
# | day | exercise | minutes | points |
# | --- | --- | --- | --- |
# | Tue | 1 `token_shift` | 15 | 2 |
# | Tue | 2 `linear_attention` | 30 | 3 |
# | Tue | 3 `chunked_linear_attention` | 45 | 5 |
# | Wed | 4 `wkv4` | 40 | 4 |
# | Wed | 5 `delta_rule` | 35 | 4 |
# | Fri | 6 `window_attention`: find the bug | 30 | 3 |
#
# **Time:** about 3¼ hours. Run from top to bottom, the solved notebook takes less than a minute. **Needs:** this week's lesson, and month 1's attention.
#
# A check that fails names the mistake it saw. `course hint week11 wkv4` gives a hint: there are three for each exercise, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hybridlab.ssm.checked import require_finite_result, require_shapes, require_tokens
from hybridlab.ssm.delta_rule import delta_inputs
from hybridlab.ssm.linear_attention import LinearState, divide, linear_inputs
from hybridlab.ssm.window_attention import BLOCK
from hybridlab.ssm.wkv4 import wkv4_inputs
from hybridlab.transformer.attention import scaled_dot_product_attention

# %% id="setup"
import time

import matplotlib.pyplot as plt
from coursekit.notebook import compare, seed_everything
from hybridlab.runtime import set_threads

seed_everything(11)
set_threads()
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)

# %% [markdown] id="shift-why"
# ## Tuesday · 1. `token_shift`: the cheapest memory
#
# **Why.** Every RWKV layer looks at the token and at the one before it. So "the token behind a B" can be seen by one layer, and the state is spared. It is a convolution of width two; what makes it an exercise is the cut: who reads a text in pieces must hand the last token on.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `x` | `(batch, time, d)`, time ≥ 1; `last`, the token before x, `(batch, d)`; zeros if None |
# | result | `(shifted, new_last)`: row t of `shifted` is `x[:, t - 1]`, row 0 is `last`; both have x's dtype, also where `last` came in another |
# | `new_last` | the last token of x, for the next call; a tensor of its own, not a view that keeps all of x in memory |
# | `ValueError` | x holds nothing: `require_tokens("x", x)`; last is not `(batch, d)`: `require_shapes({"last": (last, (batch, d))})`; both are given |
# | not allowed | `F.pad`, `nn.ZeroPad2d`; x stays unchanged |
#
# **Worked example.** One channel, x = 5, 6, 7, and 4 stood before:

# %% id="shift-example"
x, last = [5, 6, 7], 4
print("shifted:", [last, *x[:-1]], "; handed on:", x[-1])

# %% id="token-shift" exercise="hybridlab.ssm.token_shift.token_shift" points=2 minutes=15 difficulty=1

# %% [markdown] id="shift-next"
# If the check fails: print shifted for x = 5, 6, 7. A blend of token and predecessor, as RWKV has it, by one number a channel:

# %% id="shift-use"
x = torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0, 0.0]).reshape(1, 6, 1)
before, last = token_shift(x)
for mix in (1.0, 0.5, 0.0):
    print(f"mix {mix}: {torch.lerp(before, x, mix).flatten().tolist()}")
print("x less its predecessor shows where something begins and ends:", (x - before).flatten().tolist())

# %% [markdown] id="linear-why"
# ## Tuesday · 2. `linear_attention`: attention that is a recurrence
#
# **Why.** Softmax needs all keys for each query. With weights φ(q) · φ(k), the sum over the past does not know the query: it can be carried along, in a matrix. That is all of "Transformers are RNNs".
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `q`, `k`, `v` | `(batch, heads, time, d_key)` twice, and `(batch, heads, time, d_value)` |
# | `state` | a `LinearState(memory, weight)` or None (nothing): `(batch, heads, d_key, d_value)` and `(batch, heads, d_key)` |
# | one token | memory += φ(k) vᵀ; weight += φ(k); **then** y = φ(q) memory / (φ(q) · weight) |
# | first line | `inputs = linear_inputs(q, k, v, state)`, given: it raises `ValueError` on bad input; `inputs.q` and `inputs.k` are φ(q) and φ(k) already, `inputs.v` and `inputs.state` stand beside them; all in float32 at least |
# | the division | `divide(total, weight, inputs)`, given: totals `(batch, heads, time, d_value)`, weights `(batch, heads, time)`; raises `ValueError` where a weight is 0 |
# | result | `(y, LinearState behind the last token)`; y in q's dtype, the state stays wide |
# | speed | tokens by `.unbind(2)`: `q[:, :, t]` in a loop makes backward quadratic; nothing that was given changes |
#
# **Worked example.** φ(k) = (1, 0), (0, 2), (1, 1), values 10, 20, 30, and φ(q) = (1, 1) each time:

# %% id="linear-example"
memory, weight, q = torch.zeros(2), torch.zeros(2), torch.tensor([1.0, 1.0])
for key, value in (([1.0, 0.0], 10.0), ([0.0, 2.0], 20.0), ([1.0, 1.0], 30.0)):
    key = torch.tensor(key)
    memory, weight = memory + key * value, weight + key
    print(f"memory {memory.tolist()}, weight {weight.tolist()}: y = {q @ memory:.0f} / {q @ weight:.0f} = {(q @ memory) / (q @ weight):.1f}")

# %% id="linear-attention" exercise="hybridlab.ssm.linear_attention.linear_attention" points=3 minutes=30 difficulty=2

# %% [markdown] id="linear-next"
# If the check fails: print memory and weight after each token of the example. What attention keeps and what this keeps, for one head of 64:

# %% id="linear-use"
q, k, v = (torch.randn(1, 1, 2000, 64) for _ in range(3))
_, state = linear_attention(q, k, v)
print(f"state: {sum(part.nbytes for part in state):,} bytes, at any length; keys and values of 2,000 tokens: {k.nbytes + v.nbytes:,} bytes")

# %% [markdown] id="chunked-why"
# ## Tuesday · 3. `chunked_linear_attention`: the same in matmuls
#
# **Why.** The loop takes one small step for each token. But both forms can be mixed: within a chunk, attention with a mask; between chunks, the state. That is how all models of this family train, and it is week 10's SSD without decays.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | inputs, checks, result, dtypes | those of `linear_attention`, the first line and `divide` too |
# | 1 | cut into chunks; what does not fill the last one is filled up with zeros **behind φ**: they weigh nothing |
# | 2 | within each chunk: the products φ(q) φ(k)ᵀ, masked so that a token sees itself and what stands before it in its chunk, times v; and the sum of each row |
# | 3 | before each chunk: memory and weight are the given state plus what all *earlier* chunks left: a `cumsum` over chunks |
# | 4 | total = 2. + φ(q) · memory, the same for the weights; cut both to `time` (what fills up weighs 0); **one** division |
# | scores | (batch, heads, chunks, chunk, chunk): time · chunk of them, not time² |
# | no loop over tokens | one over chunks is allowed, and none is needed |
# | length | any from 1, shorter than a chunk too |
# | `ValueError` | `chunk` below 1; bad input |
#
# **Worked example.** The three tokens from above in chunks of two:

# %% id="chunked-example"
print("chunk 1: y_0 = 10 / 1 = 10.0;  y_1 = (10 + 2 · 20) / (1 + 2) = 16.7;  it leaves memory (10, 40), weight (1, 2)")
print("chunk 2: itself: total 2 · 30 = 60, weight 2;  the past: (1, 1) · (10, 40) = 50, weight 3;  y_2 = (60 + 50) / (2 + 3) = 22.0")
print("two means added up would be 60 / 2 + 50 / 3 = 46.7, which is wrong")

# %% id="chunked-linear-attention" exercise="hybridlab.ssm.linear_attention.chunked_linear_attention" points=5 minutes=45 difficulty=4

# %% [markdown] id="chunked-next"
# If the check fails: with one chunk and no state, steps 1 and 2 alone must be right. How much the chunk's length matters, forward and backward:

# %% id="chunked-use"
given = [torch.randn(1, 4, 2048, 32, requires_grad=True) for _ in range(3)]


def seconds(form, **options):
    begin = time.process_time()
    form(*given, **options)[0].sum().backward()
    return time.process_time() - begin


slow = seconds(linear_attention)
taken = {chunk: seconds(chunked_linear_attention, chunk=chunk) for chunk in (8, 32, 64, 256, 2048)}
print(f"loop: {2048 / slow:,.0f} tokens a second")
for chunk, took in taken.items():
    print(f"chunks of {chunk:4d}: {2048 / took:9,.0f} tokens a second")

# %% [markdown] id="wkv-why"
# ## Wednesday · 4. `wkv4`: a mean that fades, and never overflows
#
# **Why.** RWKV-4 has no queries. Each channel keeps a mean of its values, weighted by exp(key), and fading with a rate of its own; the present token gets a bonus. Keys are not bounded, and exp(100) is infinity in float32. So numerator and denominator are
# kept *divided by exp(m)*, m being the largest exponent so far. Softmax does the same (week 2), and so does FlashAttention.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `k`, `v` | `(batch, time, d)`; `decay` (at least 0) and `bonus` are `(d)` |
# | `state` | `(batch, 3, d)`, rows a, b, m: the true sums are exp(m) a and exp(m) b; None: nothing was before |
# | now | n = max(m, bonus + k);  y = (exp(m - n) a + exp(bonus + k - n) v) / (exp(m - n) b + exp(bonus + k - n)) |
# | later | n = max(m - decay, k);  a ← exp(m - decay - n) a + exp(k - n) v;  b likewise with 1 for v;  m ← n |
# | first line | `inputs = wkv4_inputs(k, v, decay, bonus, state)`, given: a dict of these five names, in float32 at least, with a state always (an empty one has m = -10³⁸); raises `ValueError` |
# | last line before `return` | `require_finite_result(inputs, y, state)`, given: raises `ValueError` |
# | result | `(y, state)`: y in k's dtype, the state stays wide, rows a, b, m on axis 1 |
# | speed | tokens by `.unbind(1)` |
#
# **Worked example.** One channel, decay 1, bonus 0.5, keys 0 and 2, values 10 and 20. First with plain exponentials, then for keys that are larger by 200:

# %% id="wkv-example"
e = torch.exp(torch.tensor([0.5, 2.5, -1.0, 2.0])).tolist()
print(f"token 0: y = {e[0]:.3f} · 10 / {e[0]:.3f} = 10; it leaves exp(0) = 1")
print(f"token 1: y = (1 · 10 + {e[1]:.3f} · 20) / (1 + {e[1]:.3f}) = {(10 + e[1] * 20) / (1 + e[1]):.3f}")
print(f"behind it: sums {e[2]:.3f} · 10 + {e[3]:.3f} · 20 and {e[2]:.3f} + {e[3]:.3f};  m = max(0 - 1, 2) = 2, b = exp(-3) + 1 = {e[2] / e[3] + 1:.3f}")
print("keys 200 and 202: y is the same. exp(202) in float32:", torch.exp(torch.tensor(202.0)).item())

# %% id="wkv4" exercise="hybridlab.ssm.wkv4.wkv4" points=4 minutes=40 difficulty=3

# %% [markdown] id="wkv-next"
# If the check fails: do the two tokens of the example, and print a, b, m. What one loud token does to channels of different rates:

# %% id="wkv-use"
k = torch.zeros(1, 40, 4)
k[:, 10] = 4.0
v = torch.zeros(1, 40, 4)
v[:, 10] = 1.0
decay = torch.tensor([0.0, 0.05, 0.2, 1.0])
y, _ = wkv4(k, v, decay, torch.zeros(4))
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
for channel in range(4):
    axis.plot(y[0, :, channel], label=f"decay {decay[channel]:.2f}")
axis.set(xlabel="token", ylabel="the mean", title="token 10 says 1 with a key of 4, all others say 0 with a key of 0")
axis.legend(fontsize=8)
plt.show()
largest, _ = wkv4(k * 1e4, v, decay, torch.zeros(4))
print("with a key of 40,000: finite:", bool(largest.isfinite().all()))

# %% [markdown] id="delta-why"
# ## Wednesday · 5. `delta_rule`: to replace, not only to add
#
# **Why.** A memory that only adds keeps the old value beside the new one: "my door is green", and later "my door is red", give something between. The delta rule first looks up what stands under a key, takes that out, and then writes. RWKV-7, DeltaNet, Qwen3-Next
# and Kimi Linear are built on it.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `r`, `log_w`, `k`, `a`, `b` | `(batch, time, heads, d_key)`; `v` is `(batch, time, heads, d_value)`; log_w is at most 0 |
# | `state` | S, `(batch, heads, d_value, d_key)`: rows are values, columns are keys; zeros if None |
# | one token | removed = S a (from S as it stood);  S ← S · exp(log_w), **column by column**, + removed bᵀ + v kᵀ;  y = S r, behind that |
# | first line | `inputs = delta_inputs(r, log_w, k, v, a, b, state)`, given: a named tuple of the seven, in float32 at least; raises `ValueError` |
# | last line before `return` | `require_finite_result(inputs._asdict(), y, S)`, given: raises `ValueError` |
# | result | `(y, S)`: y in v's dtype, S stays wide |
# | speed | tokens by `.unbind(1)`; nothing that was given changes |
#
# **Worked example.** Keys of two numbers, values of one; a = -k, b = k: all of what stands under the key is taken out. The minus is in a, so `removed` is *added*. Under key (1, 0) we write 5, under (0, 1) 7, and then 9 under (1, 0):

# %% id="delta-example"
S = torch.zeros(1, 2)
for key, value in (((1.0, 0.0), 5.0), ((0.0, 1.0), 7.0), ((1.0, 0.0), 9.0)):
    key = torch.tensor(key)
    removed = S @ -key
    S = S + removed[:, None] * key + value * key
    print(f"write {value:.0f} under {key.tolist()}: removed = {removed.item():2.0f} is added, S = {S.tolist()}")

# %% id="delta-rule" exercise="hybridlab.ssm.delta_rule.delta_rule" points=4 minutes=35 difficulty=3

# %% [markdown] id="delta-next"
# If the check fails: one head, d_key = 2, d_value = 1, and the example's three tokens, with log_w = 0. Facts that change: twelve keys, each written again and again. How well is the *newest* value read? (Not even a right answer gets to 0: random keys overlap, so each write disturbs the others.)

# %% id="delta-use"
torch.manual_seed(1)
keys = F.normalize(torch.randn(12, 32), dim=-1)
order = torch.randint(12, (240,))
k, v = keys[order].reshape(1, 240, 1, 32), torch.randn(1, 240, 1, 8)
still = torch.zeros_like(k)
newest = torch.stack([v[0, (order == i).nonzero()[-1, 0], 0] for i in range(12)])
for name, a, b in (("only adds", still, still), ("delta rule, half", -k, 0.5 * k), ("delta rule, all", -k, k)):
    _, S = delta_rule(k, still, k, v, a, b)
    read = (S[0, 0] @ keys.T).T
    print(f"{name:17s}: error {((read - newest).square().mean() / newest.square().mean()).sqrt():.2f} of the values' size")

# %% [markdown] id="friday-why"
# ## Friday · 6. `window_attention`: working-looking code with a bug
#
# A hybrid needs a few layers of attention; those may look through a window, so that what they keep stays small. A colleague wrote it in blocks, so that never all scores are in memory. It equals PyTorch's attention on every whole text that they tried. **Symptom:** in the chat,
# where a text is read in pieces and old keys are kept, answers are right in the first piece and nonsense from the second on. Run the cell and the figure, **find the bug and mend it.**
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `q` | `(batch, heads, queries, d_head)`; `k`, `v` `(batch, kv_heads, keys, d_head)`; heads is a multiple of kv_heads |
# | places | the queries are the last of the keys' tokens: there may be more keys than queries |
# | sees | itself and the `window - 1` tokens before it; all before it if `window` is None; never what comes behind |
# | blocks | `block` queries at once, each block given only the keys that one of its queries may see: at most block · (window + block) scores |
# | `scaled_dot_product_attention(q, k, v, mask)` | given, month 1's: a Bool mask, True = may look, that broadcasts to `(batch, heads, queries, keys)`; it shares grouped heads out |
# | result | like q, in its dtype |
# | `ValueError` | more queries than keys; a window or a block below 1 |
#
# **Worked example.** Five keys, the last two of which ask; a window of 3:

# %% id="friday-example"
for place in (3, 4):
    print(f"the query at place {place} sees", [key for key in range(5) if place - 3 < key <= place])

# %% id="window-attention" exercise="hybridlab.ssm.window_attention.window_attention" points=3 minutes=30 difficulty=3

# %% id="friday-figure"
def who_sees_whom(queries, keys, window):
    """(queries, keys): the weights, where all keys are alike and value i is a one at place i."""
    q, k = torch.zeros(1, 1, queries, keys), torch.zeros(1, 1, keys, keys)
    return window_attention(q, k, torch.eye(keys)[None, None], window, block=4)[0, 0]


figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), layout="constrained")
for axis, (queries, window, title) in zip(axes, ((16, 5, "the whole text, window 5"), (8, 5, "its second half, window 5"), (8, None, "its second half, no window"))):
    picture = axis.imshow(who_sees_whom(queries, 16, window) > 0, cmap="Blues", vmin=0, vmax=1, extent=(-0.5, 15.5, 15.5, 15.5 - queries))
    axis.plot([-0.5, 15.5], [-0.5, 15.5], color="tab:red", linewidth=1, label="itself")
    axis.set(title=title, xlabel="key", ylabel="query", xlim=(-0.5, 15.5), ylim=(15.5, -0.5))
axes[0].legend(fontsize=8)
plt.show()
q, k, v = (torch.randn(1, 2, 16, 8) for _ in range(3))
whole, half = window_attention(q, k, v, 5)[:, :, 8:], window_attention(q[:, :, 8:], k, v, 5)
print(f"second half, whole against in pieces: differ by {(whole - half).abs().max():.2g} (a right answer: below 1e-6)")

# %% [markdown] id="friday-next"
# Once mended, the second and third picture are the lower half of what a whole text shows: each blue row ends at the red line. If they are not: ask a single query over five keys, and print `own`. On whole texts the bug never shows. Well-known libraries had it, too: FlashAttention's notes on version 2.1 tell of it.

# %% [markdown] id="challenge"
# ## Challenge (optional, no points): the delta rule in chunks
#
# Within a chunk, what a token removes depends on what all earlier ones removed: a triangular system. `torch.linalg.solve_triangular` solves it for a whole chunk. Write `fast` for the plain delta rule (log_w = 0, a = -k, b = beta · k, |k| = 1), state from zeros. **Three
# times as fast as the loop, forward, is good.**
#
# A hint: let u_t be the value that is *written* at token t once the old one is taken out. In a chunk that begins with S: (I + the part of diag(beta) K Kᵀ below the diagonal) U = diag(beta) (V - K Sᵀ), then S ← S + Uᵀ K and Y = R Sᵀ + (R Kᵀ).tril() U.

# %% id="challenge-code"
def fast(r, k, v, beta):
    """(y, S), as delta_rule(r, 0, k, beta · v, -k, beta · k): shapes (batch, time, heads, d); beta is (batch, time, heads, 1)."""
    return delta_rule(r, torch.zeros_like(k), k, beta * v, -k, beta * k)  # replace this line

# %% id="challenge-ratio"
r, k, v = (torch.randn(1, 512, 4, 32) for _ in range(3))
k, beta = F.normalize(k, dim=-1), torch.rand(1, 512, 4, 1)
expected = delta_rule(r, torch.zeros_like(k), k, beta * v, -k, beta * k)
with torch.no_grad():
    print("the same values:", all(torch.allclose(a, b, atol=1e-4) for a, b in zip(fast(r, k, v, beta), expected)))
    ratio = compare(lambda: fast(r, k, v, beta), lambda: delta_rule(r, torch.zeros_like(k), k, beta * v, -k, beta * k))

# %% [markdown] id="bigger"
# ## Grade, promote, see it run
#
# | | |
# | --- | --- |
# | `course grade week11` | points for each exercise, with hidden cases too |
# | `course promote week11` | what has passed becomes the library: the list below then says `learner` |
# | `course progress` | where you stand |
#
# Inside the bigger model: transformers' RWKV-4 and Jamba, with the same random weights, on your functions; whole, and in pieces with a state that is handed on. Training uses `chunked_wkv4` and `chunked_delta_rule`, which are given: each must equal yours.

# %% id="bigger-model"
import logging
import warnings

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")
from hybridlab.exercise import REGISTRY
from hybridlab.ssm.delta_rule import chunked_delta_rule
from hybridlab.ssm.hybrid_weights import from_transformers as from_jamba
from hybridlab.ssm.rwkv4_weights import from_transformers as from_rwkv
from hybridlab.ssm.wkv4 import chunked_wkv4
from transformers import JambaConfig, JambaForCausalLM, RwkvConfig, RwkvForCausalLM

jamba = JambaForCausalLM(JambaConfig(vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, attn_layer_period=4, attn_layer_offset=2, num_experts=1, mamba_d_state=8, mamba_dt_rank=4, use_mamba_kernels=False))
rwkv = RwkvForCausalLM(RwkvConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, rescale_every=0))
tokens = torch.randint(100, (1, 60))
for name, theirs, load in (("RWKV-4", rwkv, from_rwkv), ("Jamba", jamba, from_jamba)):
    ours, state, pieces = load(theirs.eval()), None, []
    with torch.no_grad():
        for piece in tokens.split([20, 1, 39], 1):
            logits, state = ours(piece, state)
            pieces.append(logits)
        print(f"{name:7s} in three pieces: within {(torch.cat(pieces, 1) - theirs(tokens).logits).abs().max():.0e} of transformers")
k, v, decay = torch.randn(1, 100, 8), torch.randn(1, 100, 8), torch.rand(8)
print(f"wkv4 and its chunked form: within {(wkv4(k, v, decay, decay)[0] - chunked_wkv4(k, v, decay, decay)[0]).abs().max():.0e}")
r, k, v = (F.normalize(torch.randn(1, 100, 2, 8), dim=-1) for _ in range(3))
print(f"delta_rule and its chunked form: within {(delta_rule(r, -k.abs(), k, v, -k, k)[0] - chunked_delta_rule(r, -k.abs(), k, v, -k, k)[0]).abs().max():.0e}")
for symbol, entry in REGISTRY.items():
    if symbol.split(".")[2] in ("token_shift", "linear_attention", "wkv4", "delta_rule", "window_attention"):
        print(f"{symbol.removeprefix('hybridlab.ssm.'):44s} {entry.origin}")

# %% [markdown] id="finish"
# ## What to read, what comes next
#
# - [Transformers are RNNs](https://arxiv.org/abs/2006.16236), section 3: exercises 2 and 3.
# - [RWKV-7 "Goose"](https://arxiv.org/abs/2503.14456), sections 3 and 4: the delta rule, generalised; why it can do what attention of one layer can't.
# - [DeltaNet in parallel](https://arxiv.org/abs/2406.06484), section 3: the challenge, for a GPU.
#
# **Next:** week 12, long context for real: what is left of these states after a million tokens.
