"""S4D: the state space model with a diagonal A, whose kernel is one product of matrices, and the layer that is made of it.

A state matrix that can be diagonalised may as well be diagonal: A = diag(λ). Then each number of the state decays and turns for itself,
Ā = exp(dt λ), and the kernel is a sum of exponentials. The λ come in conjugate pairs, so that y is real; one of each pair is kept, and
the real part is taken twice. B is 1 everywhere: only the product of B and C counts.

    K_l = 2 Re Σ_n  C_n B̄_n exp(dt λ_n l)          B̄_n = (exp(dt λ_n) - 1) / λ_n

Glossary: `d_state` = N, the size of the real state, so N/2 complex numbers for each of `d_model` features.
Source: S4D, arXiv 2206.11893; the authors' code is state-spaces/s4, models/s4/s4d.py.
"""

import math

import torch
from jaxtyping import Complex, Float, Float64
from torch import Tensor, nn

from hybridlab.exercise import exercise
from hybridlab.ssm.convolution import causal_convolution
from hybridlab.ssm.stability import as_complex, require_decay, require_finite, require_step

DT_RANGE = (0.001, 0.1)  # step sizes are drawn log-uniformly from here, as in the authors' code


def s4d_eigenvalues(kind: str, half: int) -> Complex[Tensor, "half"]:
    """The λ with which S4D begins, for a state of N = 2 · half numbers.

        "lin"     -1/2 + i π n                           a Fourier series within an exponential
        "inv"     -1/2 + i (N/π) (N / (2n + 1) - 1)      close to the eigenvalues of HiPPO-LegS
        "real"    -(n + 1)                               no oscillation at all

    Raises: ValueError if the kind is another, or half is less than 1.
    Source: S4D, arXiv 2206.11893, section 4.
    """
    if half < 1:
        raise ValueError(f"half is {half}; a state has at least one complex number")
    n = torch.arange(half, dtype=torch.float64)
    size = 2 * half
    imaginary = {"lin": math.pi * n, "inv": size / math.pi * (size / (2 * n + 1) - 1), "real": torch.zeros_like(n)}
    if kind not in imaginary:
        raise ValueError(f"kind is {kind!r}; choose one of {', '.join(imaginary)}")
    real = -(n + 1) if kind == "real" else torch.full_like(n, -0.5)
    return torch.complex(real, imaginary[kind]).to(torch.complex64)


def as_real_system(eigenvalues: Complex[Tensor, "half"]) -> tuple[Float64[Tensor, "n n"], Float64[Tensor, "n"]]:
    """The real (A, B) of N = 2 · half numbers that a diagonal system with B = 1 stands for: a 2 × 2 block [[a, -b], [b, a]] for a + ib."""
    a, b = eigenvalues.real.double(), eigenvalues.imag.double()
    A = torch.block_diag(*torch.stack([torch.stack([a, -b], -1), torch.stack([b, a], -1)], -2))
    return A, torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(len(a))


@exercise
def s4d_kernel(
    eigenvalues: Complex[Tensor, "d_model half"],
    C: Complex[Tensor, "d_model half"],
    dt: Float[Tensor, "d_model"],
    length: int,
) -> Float[Tensor, "d_model length"]:
    """The kernel of each feature's diagonal system under zero-order hold, with B = 1 and one λ of each conjugate pair:

        K[d, l] = 2 Re Σ_n  C[d, n] B̄[d, n] exp(dt[d] λ[d, n] l)          B̄ = (exp(dt λ) - 1) / λ

    for l = 0 … length - 1. Also where |dt λ| is tiny, B̄ is exact to float precision: exp(z) - 1 loses all its digits there, and
    torch.expm1(z) does not. Gradients flow to all three.

    Returns: real, (d_model, length), in the real dtype that goes with C's. No input changes.
    Raises: ValueError if length is less than 1, dt is not finite and above 0, C is not finite, or a λ is not finite or does not decay
    (real part not below 0): `require_step(dt)`, `require_finite("C", C)` and `require_decay(eigenvalues)`, which are given, raise it.
    Source: S4D, arXiv 2206.11893, section 3.
    """
    if length < 1:
        raise ValueError(f"length is {length}; a kernel has at least one number")
    require_step(dt)
    require_finite("C", C)
    require_decay(eigenvalues)
    z = dt[:, None] * eigenvalues  # (d_model, half)
    weights = C * torch.expm1(z) / eigenvalues
    steps = torch.arange(length).to(dt)
    vandermonde = torch.exp(z[..., None] * steps)  # (d_model, half, length)
    return 2 * torch.einsum("dn,dnl->dl", weights, vandermonde).real


class S4D(nn.Module):
    """d_model diagonal state space models side by side, and a direct path: y = K * u + D u.

    Trained are C, D, dt and λ. λ's real part is -exp(·), so that no step of an optimiser can make the state grow.
    `forward` is the convolution, for whole sequences; `step` is the recurrence, one time step with a state that does not grow with the
    length. Both give the same outputs.
    """

    def __init__(self, d_model: int, d_state: int = 64, kind: str = "lin", dt_range: tuple[float, float] = DT_RANGE):
        super().__init__()
        if d_state < 2 or d_state % 2:
            raise ValueError(f"d_state is {d_state}; it must be even: conjugate pairs")
        low, high = dt_range
        if not 0 < low <= high < math.inf:
            raise ValueError(f"dt_range is {dt_range}; it must go from above 0 to something finite")
        half = d_state // 2
        first = s4d_eigenvalues(kind, half).expand(d_model, half)
        self.log_decay = nn.Parameter((-first.real).log())  # (d_model, half)
        self.frequency = nn.Parameter(first.imag.clone())  # (d_model, half)
        self.log_dt = nn.Parameter(math.log(low) + torch.rand(d_model) * math.log(high / low))  # (d_model,)
        self.C = nn.Parameter(torch.randn(d_model, half, 2) * 0.5**0.5)  # real and imaginary part; mean square 1
        self.D = nn.Parameter(torch.randn(d_model))

    @property
    def eigenvalues(self) -> Complex[Tensor, "d_model half"]:
        return torch.complex(-self.log_decay.exp(), self.frequency)

    def forward(self, u: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time d_model"]:
        """Whole sequences, from a state of zeros."""
        kernel = s4d_kernel(self.eigenvalues, as_complex(self.C), self.log_dt.exp(), u.shape[1])
        return causal_convolution(u.mT, kernel).mT + self.D * u

    def initial_state(self, batch: int) -> Complex[Tensor, "batch d_model half"]:
        return torch.zeros(batch, *self.frequency.shape, dtype=torch.complex64, device=self.frequency.device)

    def step(
        self, u: Float[Tensor, "batch d_model"], state: Complex[Tensor, "batch d_model half"]
    ) -> tuple[Float[Tensor, "batch d_model"], Complex[Tensor, "batch d_model half"]]:
        """One time step: (y, the next state). Raises ValueError if u has a NaN or infinity, which the state would never lose."""
        require_finite("u", u)
        z = self.log_dt.exp()[:, None] * self.eigenvalues
        state = torch.exp(z) * state + torch.expm1(z) / self.eigenvalues * u[..., None]
        return 2 * (state * as_complex(self.C)).sum(-1).real + self.D * u, state


class S4DBlock(nn.Module):
    """x + Linear(GELU(S4D(LayerNorm(x)))), gated: the residual block around the layer.

    S4D mixes along time and keeps features apart; the linear layer with its gate (GLU) mixes features.
    """

    def __init__(self, d_model: int, d_state: int = 64, kind: str = "lin", dt_range: tuple[float, float] = DT_RANGE):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.ssm = S4D(d_model, d_state, kind, dt_range)
        self.out = nn.Linear(d_model, 2 * d_model)

    def forward(self, x: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time d_model"]:
        mixed = nn.functional.gelu(self.ssm(self.norm(x)))
        return x + nn.functional.glu(self.out(mixed), dim=-1)

    def step(
        self, x: Float[Tensor, "batch d_model"], state: Complex[Tensor, "batch d_model half"]
    ) -> tuple[Float[Tensor, "batch d_model"], Complex[Tensor, "batch d_model half"]]:
        """One time step: (output, the next state)."""
        y, state = self.ssm.step(self.norm(x), state)
        return x + nn.functional.glu(self.out(nn.functional.gelu(y)), dim=-1), state
