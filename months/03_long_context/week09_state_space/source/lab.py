# %% [markdown] id="title"
# # Week 9 lab · A state space model, written by you
#
# **What you will have built:** a linear system that reads a sequence of any length with a state of fixed size: from continuous time to steps, run step by step and as one convolution, with
# HiPPO's matrices, which remember, and S4D's kernel, which trains. In the library it is `hybridlab.ssm.discretize`, `.convolution`, `.hippo` and `.s4d`. The `S4D` layer is made of it, and week 10's Mamba begins here.
#
# | day | exercise | minutes | points |
# | --- | --- | --- | --- |
# | Tue | 1 `discretize` | 45 | 5 |
# | Tue | 2 `run_recurrence` | 30 | 4 |
# | Wed | 3 `recurrence_kernel` | 20 | 2 |
# | Wed | 4 `hippo_legs` | 20 | 2 |
# | Wed | 5 `s4d_kernel` | 45 | 5 |
# | Fri | 6 `causal_convolution`: find the bug | 30 | 3 |
#
# **Time:** about 3¼ hours. Run from top to bottom, the solved notebook takes less than a minute. **Needs:** this week's lesson; month 1's PyTorch.
#
# A check that fails names the mistake it saw. `course hint week09 discretize` gives a hint: there are three for each exercise, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import math

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Float64
from torch import Tensor

from hybridlab.ssm.fft_length import fast_length
from hybridlab.ssm.stability import require_decay, require_finite, require_no_overflow, require_step

# %% id="setup"
import matplotlib.pyplot as plt
from coursekit.notebook import compare, seed_everything
from hybridlab.runtime import set_threads

seed_everything(9)
set_threads()
torch.set_printoptions(precision=4, sci_mode=False, linewidth=110)

# %% [markdown] id="discretize-why"
# ## Tuesday · 1. `discretize`: from time that flows to steps
#
# **Why.** A state space model is written in continuous time, x' = A x + B u: A says how the state moves by itself, B how the input enters. A text comes in steps. What does x become after a step of length dt? The
# answer depends on what u does in between, so there is more than one rule. Mamba learns dt for each token: what it learns goes through this function.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `A`, `B` | `(n, n)` and `(n,)`, float32 or float64; they stay unchanged |
# | method `"zoh"` (if none is named) | u is held within a step: Ā = exp(dt A), and B̄ is the integral of exp(s A) B over s = 0 … dt |
# | A without an inverse | must work: an integrator has A = 0. One exponential gives both: the first n rows of exp(dt · [[A, B], [0, 0]]) are [Ā, B̄] |
# | method `"bilinear"` | Ā = (I - dt/2 A)⁻¹ (I + dt/2 A), B̄ = (I - dt/2 A)⁻¹ dt B |
# | result | `(A_bar, B_bar)`, `(n, n)` and `(n,)`, in A's dtype |
# | `ValueError` | shapes that don't fit; NaN or infinity in A or B, named (`require_finite("A", A)` is given); dt not finite or not above 0 (`require_step(dt)` is given); another method; a result that is not finite; I - dt/2 A without an inverse |
# | not allowed | scipy |
#
# **Worked example.** One number, x' = -2 x + u, a step of 0.5, beginning at x = 1, with u = 3 throughout. The true curve is x(t) = 1.5 - 0.5 e^(-2t).

# %% id="discretize-example"
a, b, dt = -2.0, 1.0, 0.5
a_bar, b_bar = math.exp(a * dt), (math.exp(a * dt) - 1) / a * b
print(f"zoh:      a_bar {a_bar:.4f}, b_bar {b_bar:.4f}: x = {a_bar * 1 + b_bar * 3:.4f}, true {1.5 - 0.5 * math.exp(-1):.4f}")
a_bar, b_bar = (1 + dt / 2 * a) / (1 - dt / 2 * a), dt * b / (1 - dt / 2 * a)
print(f"bilinear: a_bar {a_bar:.4f}, b_bar {b_bar:.4f}: x = {a_bar * 1 + b_bar * 3:.4f}")

# %% id="discretize" exercise="hybridlab.ssm.discretize.discretize" points=5 minutes=45 difficulty=3

# %% [markdown] id="discretize-next"
# If the check fails: with n = 1 your numbers must be those of the example. If it speaks of an inverse: `torch.linalg.solve_ex` returns a solution *and* says whether there was one. Here is what both rules make of a swing, with ever longer steps:

# %% id="discretize-use"
swing, push = torch.tensor([[-0.2, -3.0], [3.0, -0.2]]), torch.tensor([1.0, 0.0])
for dt in (0.05, 0.5, 2.0):
    sizes = [torch.linalg.eigvals(discretize(swing, push, dt, method)[0]).abs().max().item() for method in ("zoh", "bilinear")]
    print(f"dt {dt:4.2f}: a step shrinks the state by {sizes[0]:.3f} (zoh) and {sizes[1]:.3f} (bilinear); Euler's I + dt A would by {torch.linalg.eigvals(torch.eye(2) + dt * swing).abs().max():.3f}")

# %% [markdown] id="recurrence-why"
# ## Tuesday · 2. `run_recurrence`: reading as it comes
#
# **Why.** This is how a state space model reads a text of a million tokens: it keeps n numbers, whatever the length. Read in pieces, with the state handed on, it must give exactly what it gives at once.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `A_bar`, `B_bar`, `C` | `(n, n)`, `(n,)`, `(n,)` |
# | `u` | `(*batch, time)`: any number of leading axes, also none |
# | `state` | `(*batch, n)`, or None: zeros. Each sequence has its own; it stays unchanged |
# | each step | x = Ā x + B̄ u_k, **then** y_k = C x |
# | result | `(y, state)`: `(*batch, time)`, and the state after the last step |
# | time = 0 | y is empty, the state is the one that came |
# | gradients | flow to all inputs |
# | `ValueError` | NaN or infinity in u or state, named (`require_finite`); a state of another shape; an output that overflows: `require_no_overflow("the recurrence", y, A_bar)`, which is given, names the cause |
#
# **Worked example.** One number, Ā = 0.5, B̄ = 1, C = 2:

# %% id="recurrence-example"
x = 0.0
for k, u_k in enumerate((1.0, 0.0, 4.0)):
    x = 0.5 * x + 1.0 * u_k
    print(f"step {k}: input {u_k:.0f}, state {x:.2f}, output {2 * x:.2f}")

# %% id="run-recurrence" exercise="hybridlab.ssm.convolution.run_recurrence" points=4 minutes=30 difficulty=2

# %% [markdown] id="recurrence-next"
# If the check fails: run one sequence without a batch first. Take the steps by `u.unbind(-1)`: `u[..., k]` in a loop is right as well, but its backward pass fills a tensor as large as u for *each* step, and gets slow as the square of the length.

# %% id="recurrence-use"
A_bar, B_bar = discretize(swing, push, 0.1)
u = torch.zeros(120)
u[5] = u[60] = 1.0
C = torch.tensor([1.0, 0.0])
at_once, _ = run_recurrence(A_bar, B_bar, C, u)
first, state = run_recurrence(A_bar, B_bar, C, u[:70])
second, _ = run_recurrence(A_bar, B_bar, C, u[70:], state)
print(f"read at once and in two pieces, the outputs differ by {(torch.cat([first, second]) - at_once).abs().max():.1e}")
figure, axis = plt.subplots(figsize=(8, 2.4), layout="constrained")
axis.plot(at_once, label="output")
axis.stem([5, 60], [0.1, 0.1], linefmt="tab:red", markerfmt="r^", basefmt=" ", label="a push")
axis.set(xlabel="step", ylabel="y", title="a swing, pushed twice: the second push meets what is left of the first")
axis.legend()
plt.show()

# %% [markdown] id="kernel-why"
# ## Wednesday · 3. `recurrence_kernel`: the same system as a filter
#
# **Why.** The system is linear. So its answer to any input is a sum of its answers to single ones, each begun at its own step. Its answer to one 1 is the *kernel*; with it, all outputs can be computed at once, which is how S4 trains.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | kernel | K_j = C Ā^j B̄ for j = 0 … length - 1; the first is C B̄ |
# | result | `(length,)`, in A_bar's dtype; gradients flow to all three; nothing changes |
# | cost | one product of matrix and vector a step, not powers of a matrix |
# | `ValueError` | length below 1; an overflow: `require_no_overflow("the kernel", kernel, A_bar)` |
# | not allowed | `run_recurrence`, `matrix_power` |
#
# **Worked example.** Ā = 0.5, B̄ = 1, C = 2, and the input 1, 0, 4 from above:

# %% id="kernel-example"
K = [2 * 0.5**j * 1 for j in range(3)]
print("kernel", K, "; output at step 2 = K0 · 4 + K1 · 0 + K2 · 1 =", K[0] * 4 + K[1] * 0 + K[2] * 1)

# %% id="recurrence-kernel" exercise="hybridlab.ssm.convolution.recurrence_kernel" points=2 minutes=20 difficulty=2

# %% [markdown] id="kernel-next"
# If the check fails: your kernel must be what `run_recurrence` answers to 1, 0, 0, …:

# %% id="kernel-use"
impulse = torch.eye(1, 120)[0]
print(f"kernel and answer to a one differ by {(recurrence_kernel(A_bar, B_bar, C, 120) - run_recurrence(A_bar, B_bar, C, impulse)[0]).abs().max():.1e}")

# %% [markdown] id="legs-why"
# ## Wednesday · 4. `hippo_legs`: the matrix that remembers
#
# **Why.** With a random A, the past is gone or garbled after a few steps. HiPPO asked: which A makes the state the best polynomial through *all* that came so far? There is one answer for all lengths, and S4 begins with it.
#
# **What is asked.** Rows i and columns j count from 0.
#
# | | |
# | --- | --- |
# | below the diagonal (i > j) | A[i, j] = -√(2i + 1) √(2j + 1) |
# | on it | A[i, i] = -(i + 1) |
# | above it | 0 |
# | B | B[i] = √(2i + 1) |
# | result | `(A, B)`, float64 |
# | `ValueError` | n below 1 |
#
# **Worked example.** The last row for n = 3:

# %% id="legs-example"
print([round(-math.sqrt(5) * math.sqrt(2 * j + 1), 3) for j in range(2)], "and", -3, "; its B:", round(math.sqrt(5), 3))

# %% id="hippo-legs" exercise="hybridlab.ssm.hippo.hippo_legs" points=2 minutes=20 difficulty=2

# %% [markdown] id="legs-next"
# If the check fails: print `hippo_legs(3)`. Now what it is for. The library's `legs_memory` runs your A and B over a signal; from the last state *alone*, we draw the whole past again:

# %% id="legs-use"
from hybridlab.ssm.hippo import legs_basis, legs_memory

t = torch.linspace(0, 1, 300, dtype=torch.float64)
signal = (9 * t).sin() + 0.6 * (40 * t**2).cos()
middles = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
axis.plot(signal, color="black", linewidth=3, alpha=0.25, label="what went in, 300 numbers")
for n in (8, 32):
    back = legs_basis(n, middles) @ legs_memory(signal, n)[-1]
    axis.plot(back, label=f"read back from a state of {n}")
    print(f"state of {n} numbers: mean error {(back - signal).abs().mean():.3f}")
axis.set(xlabel="step", ylabel="signal", title="the past, out of the last state")
axis.legend(fontsize=8, loc="lower left")
plt.show()

# %% [markdown] id="s4d-why"
# ## Wednesday · 5. `s4d_kernel`: a state matrix that is diagonal
#
# **Why.** A kernel of length L by Ā costs L · n² operations, one after the other. If A is diagonal, each number of the state decays and turns for itself, and the kernel is a sum of exponentials: one table, one product.
# S4D showed that this trains as well as S4. All that Mamba keeps of A is such a diagonal.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `eigenvalues`, `C` | λ and C, complex `(d_model, half)`: one of each conjugate pair |
# | `dt` | `(d_model,)`: a step size for each feature |
# | B̄ | (exp(dt λ) - 1) / λ, as zero-order hold has it for B = 1 |
# | kernel | K[d, l] = 2 Re Σ_n C[d, n] B̄[d, n] exp(dt[d] λ[d, n] l), l = 0 … length - 1 |
# | tiny steps | exact to float precision also where \|dt λ\| is 10⁻⁸: `torch.expm1(z)` is exp(z) - 1 without the loss |
# | result | real, `(d_model, length)`, in the real dtype that goes with C's; gradients flow to all three; nothing changes |
# | `ValueError` | length below 1; `require_step(dt)`, `require_finite("C", C)` and `require_decay(eigenvalues)`, all given, raise the others |
#
# **Worked example.** One feature, λ = -0.5 + 2i, C = 1, dt = 0.1:

# %% id="s4d-example"
lam, z = -0.5 + 2j, 0.1 * (-0.5 + 2j)
turn = complex(math.exp(z.real) * math.cos(z.imag), math.exp(z.real) * math.sin(z.imag))
b_bar = (turn - 1) / lam
print("exp(dt λ) = {:.4f}, B̄ = {:.4f}, kernel {}".format(turn, b_bar, [round(2 * (b_bar * turn**l).real, 4) for l in range(4)]))
print(f"exp(z) - 1 at z = 1e-8, in float32: {torch.exp(torch.tensor(1e-8)) - 1:.1e}; torch.expm1: {torch.expm1(torch.tensor(1e-8)):.1e}")

# %% id="s4d-kernel" exercise="hybridlab.ssm.s4d.s4d_kernel" points=5 minutes=45 difficulty=4

# %% [markdown] id="s4d-next"
# If the check fails: with one feature, one λ and length 1 the kernel is 2 Re(C B̄). Three ways to begin, and what their kernels look like:

# %% id="s4d-use"
from hybridlab.ssm.s4d import s4d_eigenvalues

figure, axes = plt.subplots(1, 3, figsize=(10, 2.4), layout="constrained")
for axis, kind in zip(axes, ("lin", "inv", "real")):
    eigenvalues = s4d_eigenvalues(kind, 16)[None]
    axis.plot(s4d_kernel(eigenvalues, torch.ones_like(eigenvalues), torch.tensor([0.02]), 150)[0])
    axis.set(title=f"S4D-{kind.capitalize()}, C = 1", xlabel="steps back")
axes[0].set_ylabel("kernel")
plt.show()

# %% [markdown] id="friday-why"
# ## Friday · 6. `causal_convolution`: working-looking code with a bug
#
# A convolution of length L takes L² products; by way of the FFT, L log L. A colleague wrote it. It passed their test: a kernel that dies out after ten steps, and an input that ends in zeros. Then they took a
# slow system, which remembers long. **Symptom:** the output begins to move *before* the first input comes. The model seems to know the future. Run the cell and the figure after it, **find the bug and mend it.**
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `u`, `kernel` | `(*batch, time)` and `(*features, taps)`; leading axes are broadcast; taps may be fewer or more than time; they stay unchanged |
# | result | y_k = K_0 u_k + K_1 u_{k-1} + … + K_k u_0; what came before the first input is zero; shape and dtype of u |
# | dtypes | computed in float32, or in float64 if one of both is float64; bfloat16 comes back as bfloat16 |
# | gradients | flow to both |
# | speed | the FFT of 511 numbers takes four times as long as that of 512; `fast_length(n)`, which is given, is the next good length from n on |
# | `ValueError` | NaN or infinity in either; an empty last axis |
# | not allowed | `conv1d`, scipy |
#
# **Worked example:**

# %% id="friday-example"
u_small, K_small = (1.0, 0.0, 4.0), (2.0, 1.0, 0.5)
print([sum(K_small[j] * u_small[k - j] for j in range(k + 1)) for k in range(3)])

# %% id="causal-convolution" exercise="hybridlab.ssm.convolution.causal_convolution" points=3 minutes=30 difficulty=3

# %% id="friday-figure"
slow, feed = discretize(torch.tensor([[-0.02, -0.3], [0.3, -0.02]]), push, 0.5)
u = torch.zeros(200)
u[60], u[150] = 1.0, -1.5
kernel = recurrence_kernel(slow, feed, C, 200)
truth, _ = run_recurrence(slow, feed, C, u)
figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
axis.plot(truth, color="black", linewidth=4, alpha=0.25, label="run_recurrence")
axis.plot(causal_convolution(u, kernel), color="tab:red", label="causal_convolution")
axis.axvline(60, color="gray", linestyle="--", label="the first input")
axis.set(xlabel="step", ylabel="y", title="nothing may move before the first input comes")
axis.legend(fontsize=8, loc="lower left")
plt.show()
print(f"largest difference between recurrence and convolution {(causal_convolution(u, kernel) - truth).abs().max():.1e} (1e-5 is rounding)")

# %% [markdown] id="friday-next"
# Once mended, the red line lies on the grey one. If it does not: convolve eight ones, after a single 1 at the last of eight steps, and look which outputs answer. This bug leaves every shape, every dtype and every
# gradient in order; it shows only where the kernel is still alive at the end of the sequence. A model trained with it gets better losses than it should.

# %% [markdown] id="challenge"
# ## Challenge (optional, no points): a long kernel, in two levels
#
# `s4d_kernel` computes an exponential for each λ and *each* of L steps: d · N/2 · L of them, complex, all in memory at once. Exponentials are the dear part. Write `faster`, with the same result. **Five times as fast is good.**
#
# A hint: with l = m i + j, exp(z l) = exp(z m i) · exp(z j). How many exponentials are needed for all i and all j, if m is about √L? And what is then a sum over n of a product of both? Week 10 meets this trick again: a scan in chunks.

# %% id="challenge-code"
def faster(eigenvalues, C, dt, length):
    """The same as s4d_kernel(eigenvalues, C, dt, length)."""
    return s4d_kernel(eigenvalues, C, dt, length)  # replace this line

# %% id="challenge-ratio"
long = 4_096
eigenvalues = s4d_eigenvalues("lin", 16).expand(8, 16)
C_many, steps = torch.randn(8, 16, dtype=torch.complex64), torch.rand(8) * 0.05 + 0.001
exponentials = 8 * 16 * long, 8 * 16 * 2 * math.isqrt(long)
print(f"exponentials: {exponentials[0]:,} in one level, {exponentials[1]:,} in two: a ratio of {exponentials[0] / exponentials[1]:.0f}")
print(f"largest difference {(faster(eigenvalues, C_many, steps, long) - s4d_kernel(eigenvalues, C_many, steps, long)).abs().max():.1e} (at most 1e-04)")
ratio = compare(lambda: faster(eigenvalues, C_many, steps, long), lambda: s4d_kernel(eigenvalues, C_many, steps, long))

# %% [markdown] id="bigger"
# ## Grade, promote, see it run
#
# | | |
# | --- | --- |
# | `course grade week09` | points for each exercise, with hidden cases too |
# | `course promote week09` | what has passed becomes the library: the list below then says `learner` |
# | `course progress` | where you stand |
#
# Inside the bigger model: the library's `S4D` layer learns to say again what it heard 16 steps ago. It learns by convolution, and is then run as a recurrence, one step at a time.

# %% id="bigger-model"
from hybridlab.exercise import REGISTRY
from hybridlab.ssm.s4d import S4D

seed_everything(9)
layer, delay = S4D(1, d_state=64, dt_range=(0.05, 0.05)), 16
optimizer = torch.optim.Adam(layer.parameters(), lr=0.02)
for step in range(151):
    u = torch.randn(16, 80, 1)
    loss = (layer(u)[:, delay:] - u[:, :-delay]).square().mean()
    optimizer.zero_grad(), loss.backward(), optimizer.step()
    if step % 50 == 0:
        print(f"step {step:3d}: error {loss.item():.3f} (1 is knowing nothing)")
with torch.no_grad():
    state, outputs = layer.initial_state(16), []
    for u_k in u.unbind(1):
        y, state = layer.step(u_k, state)
        outputs.append(y)
    print(f"step by step and at once, the outputs differ by {(torch.stack(outputs, 1) - layer(u)).abs().max():.1e}")
for symbol, entry in REGISTRY.items():
    if symbol.startswith("hybridlab.ssm."):
        print(f"{symbol.removeprefix('hybridlab.ssm.'):34s} {entry.origin}")
