# %% [markdown] id="title"
# # Week 10 lesson · Mamba
#
# **The question of the week: a state of fixed size can't hold everything. How can it choose what to keep, token by token, and still be computed fast?**
#
# **Afterwards you can**
# - say what *selection* is, and what a linear system that is fixed in time can't do;
# - run one and the same scan token by token, in two levels of chunks, and as matmuls, and say what each costs;
# - show that Mamba-2's layer is attention with a mask of decays;
# - take a real Mamba apart, and carry its state from one piece of a text to the next;
# - name the three ways in which such code turns to NaN, or goes wrong without a word.
#
# **Time:** about 100 minutes (Monday, Thursday, Sunday). The notebook runs in about a minute. **You need:** month 1, and week 9's recurrence.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import logging
import time
import warnings

import matplotlib.pyplot as plt
import torch
from coursekit.notebook import review, seed_everything
from hybridlab.runtime import set_threads
from hybridlab.ssm.chunked_scan import chunked_scan
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.mamba_weights import from_transformers
from hybridlab.ssm.mixer_state import state_bytes
from hybridlab.ssm.selective_copying import NOISE, SYMBOLS, accuracy, copying_batch, copying_model, train_copying
from hybridlab.ssm.selective_scan import selective_scan
from hybridlab.ssm.ssd import segment_sum, ssd
from torch.nn import functional as F

answer = review("week10")
seed_everything(10)
set_threads()
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)  # the libraries' own announcements


def seconds_of(call):
    """Processor time of a call, the best of two."""
    taken = []
    for _ in range(2):
        begin = time.process_time()
        call()
        taken.append(time.process_time() - begin)
    return min(taken)

# %% [markdown] id="monday"
# # Monday · the idea
#
# ## Three tokens, by hand
#
# Week 9's state fades at a rate that is fixed once and for all. Now each token brings its own step dt. A state of one number, A = -1. What is left of the old state is exp(-dt), and dt · x comes in.
# Token 1 says 5 with a step of 1. Token 2 is noise, and its step is 0. Token 3 says 2 with a step of 10: forget everything before me.

# %% id="by-hand"
h = 0.0
for name, x, dt in (("token 1", 5.0, 1.0), ("noise", 9.0, 0.0), ("token 3", 2.0, 10.0)):
    keep = 2.718281828**-dt
    h = keep * h + dt * x
    print(f"{name}: x = {x:.0f}, dt = {dt:4.1f}: keep {keep:.5f} of the state, add {dt * x:4.1f} -> h = {h:.5f}")

# %% [markdown] id="symbols"
# **In symbols.** Each channel has its own x and dt, and a state h of N numbers. B says what is written, C what is read. With $A \le 0$ of shape (channels, N):
#
# $$ h_t = e^{\Delta_t A}\, h_{t-1} + \Delta_t\, x_t\, B_t \qquad\qquad y_t = C_t \cdot h_t $$
#
# In week 9, Δ, B and C were fixed. In Mamba **the token chooses them**: B and C are projections of it, and Δ is softplus of one. That is all of "selective". Only the decay is week 9's exact Ā; for B̄, Mamba takes Euler's Δ · B. In code, on the same three tokens:

# %% id="symbols-code"
x, dt = torch.tensor([5.0, 9.0, 2.0]).reshape(1, 3, 1), torch.tensor([1.0, 0.0, 10.0]).reshape(1, 3, 1)
ones = torch.ones(1, 3, 1)
y, h = selective_scan(x, dt, torch.tensor([[-1.0]]), ones, ones)
print("y:", y.flatten().tolist())

# %% [markdown] id="real-text"
# ## At real size
#
# A text of 64 tokens: noise, and five tokens that matter. How much of each is in the state at the end? Token j's share is $e^{A \cdot (\text{steps behind } j)} \cdot \Delta_j$: a sum of steps, nothing else. Once with one step for all, once with steps that
# the tokens choose.

# %% id="real-figure"
marked = torch.tensor([6, 19, 24, 41, 57])
figure, axes = plt.subplots(1, 2, figsize=(10, 2.6), layout="constrained", sharex=True)
for axis, title, steps in (
    (axes[0], "one step for all: the last tokens", torch.full((64,), 0.1)),
    (axes[1], "steps by the token: the five, anywhere", torch.full((64,), 1e-3).index_fill(0, marked, 0.2)),
):
    share = torch.exp(segment_sum(-steps))[-1] * steps
    axis.bar(range(64), share, color=["tab:orange" if i in marked else "lightgrey" for i in range(64)])
    axis.set(title=title, xlabel="token", ylabel="share in the last state")
    print(f"{title.split(':')[0]}: the five hold {share[marked].sum() / share.sum():.0%} of the state")

# %% [markdown] id="three-ways"
# ## One scan, three ways
#
# A fixed system could be computed as one long convolution (week 9). A selective one can't: its kernel changes at every token. What is left is the recurrence. Three ways to run it:
#
# 1. **The loop**: one token after the other.
# 2. **Two levels**: all chunks at once, each from a state of zeros; then a short loop over the chunks puts on top what their beginnings would have added.
# 3. **Matmuls** (Mamba-2): where all channels of a head share one decay, a chunk becomes two matrix products.
#
# The same inputs through all three:

# %% id="three-ways-code"
length, heads, d_head, n = 2048, 4, 32, 16
x, B, C = torch.randn(1, length, heads, d_head), torch.randn(1, length, 1, n), torch.randn(1, length, 1, n)
dt, A = 0.1 * torch.rand(1, length, heads), -torch.tensor([0.5, 1.0, 2.0, 8.0])
wide = (x.flatten(2), dt.repeat_interleave(d_head, 2), A.repeat_interleave(d_head)[:, None].expand(-1, n), B[:, :, 0], C[:, :, 0])
ways = {"loop": lambda: selective_scan(*wide), "two levels": lambda: chunked_scan(*wide), "matmuls": lambda: ssd(x, dt, A, B, C)}
with torch.no_grad():
    exact = ways["loop"]()[0].flatten()
    for name, call in ways.items():
        gap = (call()[0].flatten() - exact).abs().max()
        print(f"{name:11s} {length / seconds_of(call):9,.0f} tokens a second; largest difference from the loop {gap:.0e}, where y is up to {exact.abs().max():.0f}")

# %% [markdown] id="duality-text"
# ## The duality: a recurrence is a matrix
#
# What goes in at token j comes out at token i, scaled. So the whole scan is a matrix M: $y_i = \sum_j M_{ij}\, \Delta_j x_j$. Mamba-2's paper writes it down: $M = L \circ (C B^\top)$, scores of C on B, times a mask of decays. That is attention without
# softmax, with $C, B, x$ in the places of query, key and value. We find M in another way, through the *loop*: put a 1 in at token j, and see what comes out.

# %% id="duality"
T = 24
steps, b, c = 0.3 * torch.rand(1, T, 1), torch.randn(1, T, 6), torch.randn(1, T, 6)
steps[:, 12] = 4.0
found = torch.zeros(T, T)
for j in range(T):
    probe = torch.zeros(1, T, 1)
    probe[:, j] = 1 / steps[0, j]  # so that dt · x = 1
    found[:, j] = selective_scan(probe, steps, torch.full((1, 6), -1.0), b, c)[0].flatten()
L = torch.exp(segment_sum(-steps[0, :, 0]))
written = L * (c[0] @ b[0].T)
figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
for axis, matrix, title in zip(axes, (L, c[0] @ b[0].T, found), ("L: decays, 0 to 1; token 12 resets", "C Bᵀ: scores", "the loop's matrix")):
    largest = 1 if matrix is L else 4
    picture = axis.imshow(matrix, cmap="RdBu_r", vmin=-largest, vmax=largest)
    axis.set(title=title, xlabel="j: goes in", ylabel="i: comes out")
figure.colorbar(picture, ax=axes[1:])
print(f"largest difference between the loop's matrix and L ∘ C Bᵀ: {(found - written).abs().max():.1e}")

# %% [markdown] id="block-text"
# ## The block
#
# Mamba puts the scan into a block that replaces attention *and* MLP: project to twice the width, mix the last four tokens (a short convolution), let the token choose dt, B and C, scan, gate, project back. In Mamba-2 one projection gives
# all of it. Here is a Mamba of transformers with random weights; ours gets the same weights.

# %% id="block"
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaForCausalLM
from transformers import MambaConfig as TheirConfig

shape = {"vocab_size": 200, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 16}
tokens = torch.randint(200, (1, 300))
for theirs in (MambaForCausalLM(TheirConfig(**shape)), Mamba2ForCausalLM(Mamba2Config(**shape, num_heads=8, head_dim=16, n_groups=2))):
    ours = from_transformers(theirs.eval())
    with torch.no_grad():
        gap = (ours(tokens)[0] - theirs(tokens).logits).abs().max()
    print(f"{type(theirs).__name__}: logits within {gap:.0e}")
    for name, weight in ours.layers[0].mixer.named_parameters():
        print(f"   {name:16s} {tuple(weight.shape)}")

# %% [markdown] id="state-text"
# ## The state is all that is carried
#
# Between two pieces of a text go the scan's state and the last three inputs of the convolution, from each layer. Cut anywhere: the logits stay the same.

# %% id="state"
model = Mamba(MambaConfig(200, d_model=64, n_layers=2, d_state=16, d_head=16))
with torch.no_grad():
    whole, _ = model(tokens)
    for cuts in ([150, 150], [1] * 300, [7, 200, 2, 91]):
        state, pieces = None, []
        for piece in tokens.split(cuts, 1):
            logits, state = model(piece, state)
            pieces.append(logits)
        print(f"{len(cuts):3d} pieces: within {(torch.cat(pieces, 1) - whole).abs().max():.0e}; the state takes {state_bytes(state):,} bytes")

# %% [markdown] id="cost-text"
# ## What it costs
#
# **Predicted.** For each token and channel, the scan does about 6 · N operations, whatever stood before; its state has N numbers a channel. Attention does 4 · t operations a channel for token number t, and keeps 2 · t numbers a channel. So a text of twice the
# length costs a scan twice as much, and attention four times. **Measured**, 256 channels:

# %% id="cost"
sizes, times = (512, 1024, 2048, 4096, 8192), {"attention": [], "SSD": []}
for length in sizes:
    q = torch.randn(1, 4, length, 64)
    x, B, dt = torch.randn(1, length, 4, 64), torch.randn(1, length, 1, 64), 0.1 * torch.rand(1, length, 4)
    with torch.no_grad():
        times["attention"].append(seconds_of(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True)))
        times["SSD"].append(seconds_of(lambda: ssd(x, dt, A, B, B)))
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
for name, taken in times.items():
    axis.plot(sizes, [1e6 * s / length for s, length in zip(taken, sizes)], "o-", label=name)
axis.set(xscale="log", xlabel="tokens", ylabel="µs a token", ylim=(0, None), title="time per token")
axis.set_xticks(sizes, sizes)
axis.minorticks_off()
axis.legend()
for name, taken in times.items():
    print(f"{name:9s} from 4,096 to 8,192 tokens: {taken[-1] / taken[-2]:.1f} times the time (predicted {4 if name == 'attention' else 2}); kept for the next token at 8,192: {(2 * 8192 if name == 'attention' else 64) * 256 * 4 / 2**10:,.0f} KiB")

# %% [markdown] id="breaks-text"
# ## How it breaks
#
# **1. Division by a decay.** A linear recurrence has a closed form: divide what enters by the running product of decays, sum up, multiply back. It is elegant, it is in many repositories, and it overflows. How large may the mean step be, in chunks of 16 and 64, with A = -16?

# %% id="breaks-logspace"
def closed_form(dt, A=-16.0):
    total = (dt * A).cumsum(-1)
    return torch.exp(total) * (dt / torch.exp(total)).cumsum(-1)


for chunk in (16, 64):
    means = (0.01, 0.05, 0.1, 0.2, 0.4, 0.8)
    verdicts = [bool(closed_form(torch.full((chunk,), mean)).isfinite().all()) for mean in means]
    print(f"chunks of {chunk}:", ", ".join(f"step {mean}: {'finite' if good else 'NaN'}" for mean, good in zip(means, verdicts)))
extreme = chunked_scan(torch.ones(1, 64, 1), torch.full((1, 64, 1), 1e4), torch.tensor([[-16.0]]), torch.ones(1, 64, 1), torch.ones(1, 64, 1))[0]
print("ours, with a step of 10,000: finite:", bool(extreme.isfinite().all()))

# %% [markdown] id="breaks-mask-text"
# **2. A mask behind exp.** `exp(differences).tril()` is right going forward. Above the diagonal, exp may give infinity, and then the gradient of what was masked away is 0 · ∞. **3. Sums in half precision.** bfloat16 has three digits: a running sum stops growing once a step is smaller than half its last digit.

# %% id="breaks-rest"
steps = torch.full((8,), -60.0, requires_grad=True)
total = steps.cumsum(0)
careless = torch.exp(total[:, None] - total[None]).tril().sum()
(gradient,) = torch.autograd.grad(careless, steps)
print(f"masked behind exp: value {careless.item():.3f}, gradient {gradient[:3].tolist()};  before: {torch.autograd.grad(torch.exp(segment_sum(steps)).sum(), steps)[0][:3].tolist()}")
running = torch.zeros((), dtype=torch.bfloat16)
for step in torch.full((4096,), -0.001).bfloat16():
    running = running + step
print(f"4,096 steps of -0.001: the decay is {torch.exp(torch.tensor(-4.096)):.3f}; with a running sum in bfloat16 {torch.exp(running.float()):.3f}")
x, B, dt, A1 = torch.ones(1, 9, 1), torch.ones(1, 9, 1), torch.full((1, 9, 1), 0.1), torch.tensor([[-1.0]])
for what, call in {
    "a step below 0": lambda: selective_scan(x, dt - 1, A1, B, B),
    "NaN in the text": lambda: selective_scan(x / 0 * 0, dt, A1, B, B),
    "a step that overflows": lambda: selective_scan(x * 1e20, dt * 1e30, A1, B, B),
    "another model's state": lambda: Mamba(MambaConfig(200, d_model=32, d_head=16))(tokens, state),
}.items():
    try:
        call()
    except ValueError as error:
        print(f"{what}: refused: {error}")

# %% [markdown] id="paper-text"
# # Thursday · the paper
#
# ## *Mamba: Linear-Time Sequence Modeling with Selective State Spaces* (Gu and Dao, 2023, [arXiv 2312.00752](https://arxiv.org/abs/2312.00752))
#
# **Its claim** (table 1). *Selective copying*: a long text of noise has a few data tokens at random places, and at its end the model writes them down in order. Models that are fixed in time can count, and so copy from fixed places; they can't leave out
# the noise. In the paper, S4 in a block without a gate reaches 18.3 %, and the selective scan in its place 97.0 %; in Mamba's gated block they reach 56.4 and 99.8 %.
#
# **In small.** Two data tokens of eight kinds; noise of 8 to 20 tokens in training, and longer ones in the test. The same block twice: with the selective scan, and with week 9's S4D in its place, whose state is four times as large. Everything else is equal.

# %% id="paper-data"
example, wanted = copying_batch(3, generator=torch.Generator().manual_seed(4))
for row, data in zip(example.tolist(), wanted.tolist()):
    print(" ".join("·" if t == NOISE else "?" if t > NOISE else str(t) for t in row), "  -> write", *data)

# %% id="paper-train"
models, losses, contexts = {}, {}, (8, 16, 32, 64, 128)
for name, selection in (("selective scan", True), ("S4D, fixed", False)):
    seed_everything(1)
    models[name] = copying_model(selection=selection)
    losses[name] = train_copying(models[name], 300, seed=0)
    print(f"{name}: {sum(p.numel() for p in models[name].parameters()):,} weights; loss of the last 20 steps {sum(losses[name][-20:]) / 20:.2f} nats (guessing: {torch.tensor(float(SYMBOLS)).log():.2f})")

# %% id="paper-figure"
figure, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
for name, model in models.items():
    generator = torch.Generator().manual_seed(9)
    right = [accuracy(model, *copying_batch(256, context=n, generator=generator)) for n in contexts]
    axes[0].plot(torch.tensor(losses[name]).unfold(0, 15, 5).mean(1), label=name)
    axes[1].plot(contexts, right, "o-", label=name)
    print(f"{name:15s}", "  ".join(f"{n} tokens: {r:4.0%}" for n, r in zip(contexts, right)))
axes[0].set(xlabel="step / 5", ylabel="loss, nats", title="training", ylim=(0, None))
axes[1].axhline(1 / SYMBOLS, color="grey", linestyle=":", label="guessing")
axes[1].axvspan(8, 20, color="tab:green", alpha=0.1, label="lengths of the training")
axes[1].set(xscale="log", xlabel="tokens of noise and data", ylabel="written rightly", title="selective copying", ylim=(0, 1.05))
axes[1].set_xticks(contexts, contexts)
axes[1].minorticks_off()
axes[1].legend(fontsize=7)
print("paper, 4,096 tokens, 16 of them data, 400,000 steps: S4 18.3 %, Mamba's block with S4 56.4 %, with the selective scan 99.8 %")

# %% [markdown] id="paper-reading"
# **Beside the claim.** Same order, other sizes: ours trains for seconds, on one seed. Within the lengths of the training the fixed layer does better than chance: two gated layers can count a little. On longer noise it has nothing to hold on to. Our selective
# model fades there, too: a step by softplus is never quite 0. Week 12 trains one that doesn't.

# %% [markdown] id="paper2-text"
# ## The claim of Mamba-2 ([2405.21060](https://arxiv.org/abs/2405.21060), figure 10)
#
# A larger state remembers more. But the scan pays for each number of it, and the matmul hardly notices: "2 to 8 times as fast". That is against Mamba's own GPU kernel. Ours stands against single operations of PyTorch on a processor, so with large
# states it may win by more. **In small:** the same channels, states of 16, 64 and 128.

# %% id="paper2"
length, rows = 1024, []
with torch.no_grad():
    for n in (16, 64, 128):
        x, B, dt = torch.randn(1, length, 4, 32), torch.randn(1, length, 1, n), 0.1 * torch.rand(1, length, 4)
        wide = (x.flatten(2), dt.repeat_interleave(32, 2), A.repeat_interleave(32)[:, None].expand(-1, n), B[:, :, 0], B[:, :, 0])
        rows.append((n, seconds_of(lambda: chunked_scan(*wide)), seconds_of(lambda: ssd(x, dt, A, B, B))))
for n, scan, matmul in rows:
    print(f"state {n:3d}: two levels {1e3 * scan:6.1f} ms ({scan / rows[0][1]:4.1f} times that of 16), matmuls {1e3 * matmul:5.1f} ms ({matmul / rows[0][2]:.1f} times): matmuls are {scan / matmul:.1f} times as fast")

# %% [markdown] id="where"
# ## Where this sits
#
# | | |
# | --- | --- |
# | in our system | the long reader (this month's project) and the assistant's long memory are Mambas: a state per reader, saved and resumed |
# | Codestral Mamba, Falcon Mamba | language models of these blocks alone |
# | Jamba, Granite 4, Nemotron-H | hybrids: mostly Mamba, every few layers attention (week 11) |
# | on a GPU | `mamba-ssm`'s fused kernels; `hybridlab.ssm.fused` takes them where they are installed, and ours elsewhere |
# | vLLM, llama.cpp | keep one state a sequence in place of a KV cache that grows |

# %% id="where-size"
big = MambaConfig(50_280, d_model=2560, n_layers=64, d_state=128, d_head=64)
numbers = big.n_layers * (big.d_inner * big.d_state + (big.d_conv - 1) * (big.d_inner + 2 * big.d_state))
print(f"Mamba-2 2.7B: a state of {numbers * 4 / 2**20:.0f} MiB in float32, at any length; Llama-3-8B's cache in bfloat16 is as large at {numbers * 4 // (2 * 32 * 8 * 128 * 2):,} tokens")

# %% [markdown] id="sunday"
# # Sunday · review
#
# Put your answer in the place of `...` and run the cell. A number, a choice such as `"b"`, or a shape such as `(2, 3)`. You can try as often as you like.

# %% [markdown] id="q1-text"
# **1.** A = -1, one number of state. The state is 8, then comes a token with dt = 0 and x = 5. What is the state now?

# %% id="q1"
answer("q1", ...)

# %% [markdown] id="q2-text"
# **2.** What is *selective* in Mamba? (a) A depends on the token; (b) dt, B and C depend on the token; (c) tokens are picked by attention first

# %% id="q2"
answer("q2", ...)

# %% [markdown] id="q3-text"
# **3.** A text of 1,000 tokens, chunks of 64. How many steps has the loop over places in `chunked_scan`?

# %% id="q3"
answer("q3", ...)

# %% [markdown] id="q4-text"
# **4.** Steps dt · A are -1, -2, -3, -4 for tokens 0 to 3. What is S[3, 1], the logarithm of the decay from token 1 to token 3?

# %% id="q4"
answer("q4", ...)

# %% [markdown] id="q5-text"
# **5.** Mamba-2 with batch 2, 8 heads of 64 channels, a state of 128: the shape of the scan's state?

# %% id="q5"
answer("q5", ...)

# %% [markdown] id="q6-text"
# **6.** Why does a selective scan not run as one FFT convolution? (a) its kernel is another one at every token; (b) FFT is not differentiable; (c) the state is too large

# %% id="q6"
answer("q6", ...)

# %% [markdown] id="q7-text"
# **7.** A convolution of width 4 stands before the scan. How many inputs of each channel must be carried from piece to piece?

# %% id="q7"
answer("q7", ...)

# %% [markdown] id="q8-text"
# **8.** `exp(S).tril()` with S unmasked: what goes wrong first? (a) the forward values; (b) the gradient; (c) nothing

# %% id="q8"
answer("q8", ...)

# %% [markdown] id="reading"
# ## Read on
#
# 1. [Mamba](https://arxiv.org/abs/2312.00752), sections 3.1 to 3.4: selection, and what it has to do with gates.
# 2. [Mamba-2](https://arxiv.org/abs/2405.21060), sections 3 to 6: matrices that are recurrences, and the algorithm of exercise 5.
# 3. [Repeat After Me](https://arxiv.org/abs/2402.01032): what a state of fixed size can't do, and attention can.
#
# **Next:** this week's lab, where you write all of it.
