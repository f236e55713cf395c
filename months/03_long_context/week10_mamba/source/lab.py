# %% [markdown] id="title"
# # Week 10 lab · Mamba, written by you
#
# **What you will have built:** the selective scan three times, each time faster and each time the same to the last digits: token by token, in two levels of chunks, and as matmuls. Around it the convolution and Mamba's mixer, with a
# state that can be handed on at any place. In the library these are `hybridlab.ssm.selective_scan`, `.causal_conv`, `.chunked_scan`, `.ssd` and `.mamba_block`. At the end, weights of transformers' Mamba run on them.
#
# | day | exercise | minutes | points |
# | --- | --- | --- | --- |
# | Tue | 1 `selective_scan` | 30 | 3 |
# | Tue | 2 `causal_conv` | 25 | 3 |
# | Tue | 3 `chunked_scan` | 45 | 4 |
# | Wed | 4 `segment_sum` | 25 | 2 |
# | Wed | 5 `ssd` | 60 | 5 |
# | Fri | 6 `MambaMixer`: find the bug | 35 | 4 |
#
# **Time:** about 3¾ hours. Run from top to bottom, the solved notebook takes less than a minute. **Needs:** this week's lesson, and week 9's recurrence.
#
# A check that fails names the mistake it saw. `course hint week10 selective-scan` gives a hint: there are three for each exercise, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.ssm.fused import run_selective_scan
from hybridlab.ssm.mamba_config import MambaConfig, step_bias, step_size
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.scan_inputs import ScanInputs, require_finite, selective_inputs, ssd_inputs
from hybridlab.ssm.ssd import FORGOTTEN

# %% id="setup"
import time

import matplotlib.pyplot as plt
from coursekit.notebook import compare, seed_everything
from hybridlab.runtime import set_threads

seed_everything(10)
set_threads()
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)


def some_inputs(time, d_inner=32, d_state=8, step=0.1):
    """x, dt, A, B, C for one text."""
    x, B, C = torch.randn(1, time, d_inner), torch.randn(1, time, d_state), torch.randn(1, time, d_state)
    return x, step * torch.rand(1, time, d_inner), -torch.arange(1.0, d_state + 1).repeat(d_inner, 1), B, C

# %% [markdown] id="scan-why"
# ## Tuesday · 1. `selective_scan`: the recurrence as it is
#
# **Why.** A state of fixed size reads a text of any length. What Mamba adds to week 9: how long a step is (dt), what is written (B) and what is read (C) are computed *from the token*. So a token can say: keep me, or: pass me over.
# This loop is slow and plain, and everything else this week is measured against it.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `x`, `dt` | `(batch, time, d_inner)`; `A` is `(d_inner, d_state)`, at most 0; `B`, `C` are `(batch, time, d_state)`, the same for all channels |
# | one token | `h = exp(dt · A) · h + dt · x · B`, then `y = Σ_n h[n] · C[n]`, for each channel. Only the decay is week 9's exact Ā: for B̄, Mamba takes Euler's dt · B |
# | `state` | h before the first token, `(batch, d_inner, d_state)`; zeros if None |
# | result | `(y, h behind the last token)` |
# | first line | `inputs = selective_inputs(x, dt, A, B, C, state)`, given: raises `ValueError` on bad input; `inputs.x`, `.dt`, `.A`, `.B`, `.C`, `.state` are float32 at least |
# | last line before `return` | `require_finite(y, h, inputs)`, given: raises `ValueError` where NaN or infinity came out |
# | dtype | y has x's, the state stays that of `inputs` |
# | speed | tokens by `.unbind(1)`; `x[:, t]` makes backward quadratic |
#
# **Worked example.** One channel, a state of two numbers, two tokens:

# %% id="scan-example"
A, B, C = torch.tensor([-1.0, -2.0]), torch.tensor([[1.0, 1.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
h = torch.zeros(2)
for x, dt, b, c in ((2.0, 0.5, B[0], C[0]), (3.0, 1.0, B[1], C[1])):
    h = torch.exp(dt * A) * h + dt * x * b
    print(f"x {x}, dt {dt}: decay {torch.exp(dt * A).tolist()}, h {h.tolist()}, y {(h * c).sum():.4f}")

# %% id="selective-scan" exercise="hybridlab.ssm.selective_scan.selective_scan" points=3 minutes=30 difficulty=2

# %% [markdown] id="scan-next"
# If the check fails: do the example's two tokens with your function, and print h. What a single token can do to the state, through its step alone:

# %% id="scan-use"
x, dt, A, B, C = some_inputs(60, step=0.01)
figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
for step, label in ((0.0, "dt 0: as if it were not there"), (0.2, "dt .2"), (30.0, "dt 30: all before it is gone")):
    marked = dt.clone()
    marked[:, 20] = step
    left = [selective_scan(x[:, : t + 1] * 0, marked[:, : t + 1], A, B[:, : t + 1], C[:, : t + 1], torch.ones(1, 32, 8))[1].mean().item() for t in range(0, 60, 2)]
    axis.plot(range(0, 60, 2), left, label=label)
axis.set(xlabel="token", ylabel="share left", title="what is left of the first state; token 20 chooses its own step", ylim=(0, 1))
axis.legend(fontsize=8)
print("the step decides alone: exp(dt · A)")

# %% [markdown] id="conv-why"
# ## Tuesday · 2. `causal_conv`: the last four tokens
#
# **Why.** Before the scan, Mamba mixes each token with the three before it. That makes "the token behind a B" something that one layer can see. PyTorch has such a convolution; ours can be **continued**: who reads a
# text in pieces needs the last three tokens of the piece before.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `x` | `(batch, time, d)`; `weight` `(d, width)`: its last column is for the present token, its first for the oldest; `bias` `(d)` or None |
# | `past` | the width - 1 inputs before x, oldest first, `(batch, width - 1, d)`; zeros if None; brought to x's dtype |
# | result | `(y, new past)`: the last width - 1 inputs, of `past` and x together; a tensor of its own, not a view that keeps all of x in memory |
# | how | `width` shifted multiply-adds, no `conv1d` |
# | `ValueError` | no tokens; `weight`, `bias` or `past` of another shape than these |
#
# **Worked example.** One channel, inputs x_0 to x_3 = 1, 2, 3, 4, weights (1, 10, 100), no past:

# %% id="conv-example"
for t, seen in enumerate(((0, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4))):
    print(f"y_{t} = " + " + ".join(f"{weight}·{x}" for weight, x in zip((1, 10, 100), seen)), "=", seen[0] + 10 * seen[1] + 100 * seen[2])
print("new past: x_2, x_3 = 3, 4")

# %% id="causal-conv" exercise="hybridlab.ssm.causal_conv.causal_conv" points=3 minutes=25 difficulty=2

# %% [markdown] id="conv-next"
# If the check fails: print `torch.cat([past, x], 1)`, and mark what tap 0 reads. Against PyTorch's own, which is compiled for the processor:

# %% id="conv-use"
conv, x = nn.Conv1d(256, 256, 4, groups=256, padding=3), torch.randn(1, 1024, 256)
with torch.no_grad():
    print("same as torch's:", torch.allclose(causal_conv(x, conv.weight[:, 0], conv.bias)[0], conv(x.mT)[..., :1024].mT, atol=1e-5))
    ratio = compare(lambda: causal_conv(x, conv.weight[:, 0], conv.bias), lambda: conv(x.mT)[..., :1024].mT.contiguous())

# %% [markdown] id="chunks-why"
# ## Tuesday · 3. `chunked_scan`: two levels
#
# **Why.** The loop has as many steps as the text has tokens, and each is tiny. But a linear recurrence can be cut: chunks that begin with *nothing* can all be scanned at the same time. What the state at their beginning would have
# added is put on top afterwards. The loop is then as long as a chunk.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | inputs, checks, result, dtypes | those of `selective_scan`; first and last line, too |
# | 1 | all chunks at once, each from zeros: a loop over the `chunk` places |
# | 2 | from chunk to chunk, a loop: `state = exp(A · Σ dt of the chunk) · state + the chunk's own end`; it begins with the given state |
# | 3 | to `y_t` comes `Σ_n C_t[n] · exp(A · (dt of the chunk up to and with t)) · state at the chunk's beginning` |
# | length | any: fill up with tokens of dt = 0, and cut y |
# | exponents | only sums of dt · A, at most 0. No division by decays: that overflows |
# | backward | `.unbind(2)` for places, `.unbind(1)` for chunks; slices in a loop make it quadratic |
# | `ValueError` | `chunk` below 1; bad input |
#
# **Worked example.** One channel, one number of state, all dt = 1, A = -1, B = C = 1; x = 1, 1, 1, 1 in chunks of two. A step leaves q = exp(-1) = 0.368:

# %% id="chunks-example"
q = torch.exp(torch.tensor(-1.0)).item()
print(f"1. each chunk from zeros:      y = 1, 1 + q | 1, 1 + q     = {1:.3f} {1 + q:.3f} | {1:.3f} {1 + q:.3f};  both end with {1 + q:.3f}")
print(f"2. state at the beginnings:    0 | q² · 0 + (1 + q) = {1 + q:.3f}")
print(f"3. on top comes:               0, 0 | q · {1 + q:.3f}, q² · {1 + q:.3f} = {q * (1 + q):.3f} {q * q * (1 + q):.3f}")
print(f"together:                      {1:.3f} {1 + q:.3f} | {1 + q + q * q:.3f} {1 + q + q**2 + q**3:.3f}")

# %% id="chunked-scan" exercise="hybridlab.ssm.chunked_scan.chunked_scan" points=4 minutes=45 difficulty=4

# %% [markdown] id="chunks-next"
# If the check fails: take the example, and print what each of the three steps gives. How far the chunk's length matters:

# %% id="chunks-use"
inputs = some_inputs(2048, d_inner=64)
chunks = (4, 16, 32, 64, 256)
took = {}
with torch.no_grad():
    for chunk in chunks:
        begin = time.process_time()
        y, _ = chunked_scan(*inputs, chunk=chunk)
        took[chunk] = time.process_time() - begin
    begin = time.process_time()
    exact, _ = selective_scan(*inputs)
    slow = time.process_time() - begin
print(f"2,048 tokens in the loop: {1e3 * slow:.0f} ms;", ", ".join(f"chunks of {c}: {1e3 * s:.0f} ms" for c, s in took.items()))
print(f"largest difference: {(y - exact).abs().max():.1e} where y is up to {exact.abs().max():.1f}")

# %% [markdown] id="segments-why"
# ## Wednesday · 4. `segment_sum`: all decays between two tokens
#
# **Why.** Mamba-2 lets all channels of a head share *one* decay. Then what token j leaves at token i is one number, exp of the sum of the steps between them. All these numbers make a matrix, and that is a causal mask with
# decays in place of ones. Computed carelessly it is the classic source of NaN in such models.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `steps` | `(..., time)`, at most 0 (they are dt · A) |
# | result | `S`, `(..., time, time)`: `S[i, j] = steps[j + 1] + … + steps[i]` for j ≤ i, so 0 on the diagonal |
# | above the diagonal | -inf, so that exp gives 0, and its gradient too |
# | a step below `FORGOTTEN` = -88 | counts as -88: exp(-88) is 6 · 10⁻³⁹, nothing in float32. It forgets all the same, and keeps the running sum's digits |
# | how | one running sum, and differences; no loop; `steps` stays unchanged; its dtype |
#
# **Worked example.** Steps -1, -2, -3:

# %% id="segments-example"
print("row 0:   0   -inf  -inf      token 0 sees itself")
print("row 1:  -2     0   -inf      from token 0 to 1 lies step 1 alone")
print("row 2:  -5    -3     0       from token 0 to 2 lie steps 1 and 2: -2 - 3")

# %% id="segment-sum" exercise="hybridlab.ssm.ssd.segment_sum" points=2 minutes=25 difficulty=2

# %% [markdown] id="segments-next"
# If the check fails: which running sum minus which other gives -5 above? Three masks, as your function makes them:

# %% id="segments-use"
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
for axis, title, steps in zip(axes, ("A = 0: attention's causal mask", "every step the same", "token 8 resets"), (torch.zeros(16), torch.full((16,), -0.3), torch.full((16,), -0.1).index_fill(0, torch.tensor(8), -1e6))):
    picture = axis.imshow(torch.exp(segment_sum(steps)), vmin=0, vmax=1, cmap="viridis")
    axis.set(xlabel="token that is seen", ylabel="token that looks", xticks=range(0, 16, 5), yticks=range(0, 16, 5))
    axis.set_title(title, fontsize=10)
figure.colorbar(picture, ax=axes, label="what is left")
print("row 15 of the third:", torch.exp(segment_sum(steps))[15].tolist()[5:11])

# %% [markdown] id="ssd-why"
# ## Wednesday · 5. `ssd`: the scan as matmuls
#
# **Why.** Within a chunk, the recurrence *is* attention without softmax: `(L ∘ C Bᵀ)(dt · x)`, L = exp of your segment sums. Matmuls are what processors do best. Between chunks only a state is handed on. So the cost grows with
# the length, not with its square.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `x` | `(batch, time, heads, d_head)`; `dt` `(batch, time, heads)`; `A` `(heads)`; `B`, `C` `(batch, time, groups, d_state)`; head i uses group i // (heads / groups) |
# | `state` | `(batch, heads, d_head, d_state)`; `inputs.state` is zeros if None |
# | cut | `inputs.x` to `(batch, chunks, chunk, heads, d_head)`, the steps `inputs.dt · inputs.A` to `(batch, chunks, chunk, heads)`, B and C to `(batch, chunks, chunk, groups, d_state)` |
# | 1 within a chunk | `y = (L ∘ C Bᵀ)(dt · x)`; L and C Bᵀ have `(chunk, chunk)` for each chunk and head |
# | 2 what it leaves | `Σ_t exp(sum of the steps behind t) · dt_t · x_t B_tᵀ`: `(batch, chunks, heads, d_head, d_state)` |
# | 3 from chunk to chunk | a loop: `state = exp(sum of the chunk's steps) · state + what it leaves`; chunks by `.unbind(1)`, for the sake of backward |
# | 4 on top of y | `exp(sum of the steps up to and with t) · state at the chunk's beginning · C_t` |
# | steps | dt · A, one below `FORGOTTEN` counts as `FORGOTTEN` everywhere; only sums that are at most 0 go into exp |
# | first, last line | `inputs = ssd_inputs(…)`, `require_finite(…)`; use `inputs.x` and so on, which are wide; dtypes as before; any length (fill up with dt = 0); `ValueError` for `chunk` below 1 |
#
# **Worked example.** One head, one channel, one number of state, two tokens in one chunk; B = 2, 3 and C = 5, 7, dt · x = 1, 1, the step between them -0.7:

# %% id="ssd-example"
left = torch.exp(torch.tensor(-0.7)).item()
print(f"C Bᵀ = [[10, 15], [14, 21]], L = [[1, 0], [{left:.3f}, 1]]: y = 10, 14 · {left:.3f} + 21 = {14 * left + 21:.3f}")
print(f"the loop: h = 2, y = 5 · 2 = 10; h = {left:.3f} · 2 + 3 = {2 * left + 3:.3f}, y = 7 · {2 * left + 3:.3f} = {7 * (2 * left + 3):.3f}")

# %% id="ssd" exercise="hybridlab.ssm.ssd.ssd" points=5 minutes=60 difficulty=5

# %% [markdown] id="ssd-next"
# If the check fails: begin with one chunk, one group and no state; then your step 1 alone must be right. Your three scans on one task, forward and backward:

# %% id="ssd-use"
heads, d_head, d_state, length = 4, 32, 16, 1024
x, B, C = torch.randn(1, length, heads, d_head), torch.randn(1, length, 1, d_state), torch.randn(1, length, 1, d_state)
dt, A = 0.1 * torch.rand(1, length, heads), -torch.arange(1.0, heads + 1)
wide = (x.flatten(2), dt.repeat_interleave(d_head, 2), A.repeat_interleave(d_head)[:, None].expand(-1, d_state), B[:, :, 0], C[:, :, 0])
for name, scan, given in (("loop", selective_scan, wide), ("two levels", chunked_scan, wide), ("matmuls", ssd, (x, dt, A, B, C))):
    begin = time.process_time()
    y, _ = scan(*(part.clone().requires_grad_() for part in given))
    y.square().mean().backward()
    print(f"{name:11s} {length / (time.process_time() - begin):8,.0f} tokens/s, forward and backward; y of the last token {y.flatten(2)[0, -1, :3].tolist()}")

# %% [markdown] id="friday-why"
# ## Friday · 6. `MambaMixer`: working-looking code with a bug
#
# Mamba's mixer, whole: projection, convolution, the *selection* (dt, B and C from the token), scan, gate. A colleague loaded a real model's weights into it: on whole texts every logit was right. **Symptom:** when a text is read in pieces,
# something is wrong for a few tokens behind each cut, and then all is nearly well again; token by token it is useless. Run the cell and the figure, **find the bug and mend it.**
#
# **What is asked** (the constructor is given)
#
# | | |
# | --- | --- |
# | 1 | the first half of `in_proj(u)` is x, the second the gate |
# | 2 | `causal_conv` over x, continued from `state.past`; then SiLU |
# | 3 | `x_proj` of that, cut into `dt_rank`, `d_state` and `d_state` numbers: the step's projection, B and C |
# | 4 | dt = `step_size(dt_proj(…), config.step)`, A = -exp(A_log), both in float32 at least: weights and bias of dt_proj are widened, too |
# | 5 | `run_selective_scan` (given: your `chunked_scan`, or a GPU's kernel) over what 2 gave, from `state.memory`; `D` times what 2 gave on top |
# | 6 | times SiLU of the gate, `out_proj` |
# | result | `(out, MixerState(past, memory))`: any cut of a text must give what the whole gives |
#
# **Worked example.** What the convolution has to know at a cut, with width 4:

# %% id="friday-example"
raw = torch.arange(1.0, 8.0).reshape(1, 7, 1)
weight = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
whole, _ = causal_conv(raw, weight)
_, past = causal_conv(raw[:, :4], weight)
print("whole:", whole.flatten().tolist())
print("past behind token 3:", past.flatten().tolist(), "-> the rest:", causal_conv(raw[:, 4:], weight, None, past)[0].flatten().tolist())

# %% id="mamba-mixer" exercise="hybridlab.ssm.mamba_block.MambaMixer" points=4 minutes=35 difficulty=3

# %% id="friday-figure"
torch.manual_seed(3)
mixer, u = MambaMixer(MambaConfig(10, d_model=16, version=1)), torch.randn(1, 48, 16)
with torch.no_grad():
    whole, state, pieces = mixer(u)[0], None, []
    for piece in u.split(16, 1):
        y, state = mixer(piece, state)
        pieces.append(y)
gap = (torch.cat(pieces, 1) - whole).abs().amax((0, 2)) / whole.std()
figure, axis = plt.subplots(figsize=(7, 2.2), layout="constrained")
axis.plot(gap, "o-", markersize=3, clip_on=False)
axis.set(xlabel="token; cuts before 16 and 32", ylabel="gap / std", title="in pieces of 16 tokens against whole", ylim=(0, max(0.1, 1.1 * gap.max())))
print(f"largest gap: {gap.max():.2g} standard deviations (a right mixer: below 1e-5)")

# %% [markdown] id="friday-next"
# Once mended, all points lie at 0. If they do not: which tokens are wrong, and how far does the convolution look back? On whole texts there is no cut, so the bug never showed. Test what carries a state *by cutting*.

# %% [markdown] id="challenge"
# ## Challenge (optional, no points): the bytes that backward needs
#
# For backward, `chunked_scan` keeps several tensors of the size of *all* states: time · d_inner · d_state numbers each. Mamba's kernel keeps only the states between pieces, and computes the rest again (2312.00752, section 3.3.2). Write `lean`,
# with the same result and the same gradients, that keeps less. **A quarter of the bytes is good.**
#
# A hint: cut the text into spans, and let `torch.utils.checkpoint.checkpoint(..., use_reentrant=False)` read each of them.

# %% id="challenge-code"
def lean(x, dt, A, B, C):
    """The same as chunked_scan(x, dt, A, B, C), with fewer bytes kept for backward."""
    return chunked_scan(x, dt, A, B, C)  # replace this line

# %% id="challenge-ratio"
def kept_bytes(scan, given):
    """Bytes of all tensors that autograd keeps between forward and backward, each storage once."""
    kept = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()}) or t, lambda t: t):
        y, _ = scan(*given)
    return sum(kept.values()), torch.autograd.grad(y.square().mean(), given)


given = [part.requires_grad_() for part in some_inputs(1024)]
(mine, gradients), (all_of_it, expected) = kept_bytes(lean, given), kept_bytes(chunked_scan, given)
print("the same gradients:", all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(gradients, expected)))
ratio = mine / all_of_it
print(f"yours keeps {mine / 2**20:.1f} MiB, chunked_scan {all_of_it / 2**20:.1f} MiB: ratio {ratio:.2f}")

# %% [markdown] id="bigger"
# ## Grade, promote, see it run
#
# | | |
# | --- | --- |
# | `course grade week10` | points for each exercise, with hidden cases too |
# | `course promote week10` | what has passed becomes the library: the list below then says `learner` |
# | `course progress` | where you stand |
#
# Inside the bigger model: transformers' Mamba and Mamba-2, with the same random weights, run on your scans; whole, and token by token with a state of fixed size.

# %% id="bigger-model"
import logging
import warnings

logging.disable(logging.WARNING)
warnings.filterwarnings("ignore")
import hybridlab.ssm.selective_scan
from hybridlab.exercise import REGISTRY
from hybridlab.ssm.mamba_weights import from_transformers
from hybridlab.ssm.mixer_state import state_bytes
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaForCausalLM
from transformers import MambaConfig as TheirConfig

sizes = {"vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
tokens = torch.randint(100, (1, 150))
for theirs in (MambaForCausalLM(TheirConfig(**sizes)), Mamba2ForCausalLM(Mamba2Config(**sizes, num_heads=4, head_dim=16, n_groups=2))):
    ours = from_transformers(theirs.eval())
    with torch.no_grad():
        expected, state, steps = theirs(tokens).logits, None, []
        for token in tokens.unbind(1):
            logits, state = ours(token[:, None], state)
            steps.append(logits)
        whole = ours(tokens)[0]
    print(f"{type(theirs).__name__:18s} whole: within {(whole - expected).abs().max():.0e}; token by token: within {(torch.cat(steps, 1) - expected).abs().max():.0e}; state {state_bytes(state):,} bytes")
for symbol, entry in REGISTRY.items():
    if symbol.startswith(("hybridlab.ssm.selective_scan", "hybridlab.ssm.causal", "hybridlab.ssm.chunked", "hybridlab.ssm.ssd", "hybridlab.ssm.mamba_block")):
        print(f"{symbol.removeprefix('hybridlab.ssm.'):32s} {entry.origin}")

# %% [markdown] id="finish"
# ## What to read, what comes next
#
# - [Mamba](https://arxiv.org/abs/2312.00752), section 3: selection, and the scan that a GPU can do.
# - [Mamba-2](https://arxiv.org/abs/2405.21060), listing 1: your exercises 4 and 5 in thirty lines.
# - [The annotated S4](https://srush.github.io/annotated-s4/): week 9 and this one, as code and prose.
#
# **Next:** week 11, RWKV and hybrids: other recurrences with a state, and what attention is still needed for.
