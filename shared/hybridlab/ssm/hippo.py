"""HiPPO-LegS: a state that holds the whole history of its input, as the best polynomial through it.

    f(s), s from 0 to t      ≈      Σ_n  x_n(t) · √(2n+1) P_n(2s/t - 1)          P_n: the Legendre polynomials

The coefficients x_n(t) need not be computed anew at each t. They follow a differential equation with one fixed matrix:

    x'(t) = (1/t) (A x(t) + B f(t))

In the time τ = ln t that is x' = A x + B f, an ordinary state space model. S4 leaves the 1/t out and starts from the same A: then the
memory fades exponentially, and the past that it covers has a length that dt sets.

The sign of A is that of S4 (2111.00396, equation 2); HiPPO (2008.07669, theorem 2) writes -A.
"""

import math

import torch
from jaxtyping import Complex, Float, Float64
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.ssm.discretize import discretize
from hybridlab.ssm.stability import require_finite


@exercise
def hippo_legs(n: int) -> tuple[Float64[Tensor, "n n"], Float64[Tensor, "n"]]:
    """The matrix A and the vector B of HiPPO-LegS, for a state of n numbers. Rows i and columns j count from 0.

        A[i, j] = -√(2i+1) √(2j+1)   below the diagonal (i > j)          B[i] = √(2i+1)
                = -(i + 1)           on it
                = 0                  above it

    Returns: (A, B), float64.
    Raises: ValueError if n is less than 1.
    Source: S4, arXiv 2111.00396, equation 2; HiPPO, arXiv 2008.07669, theorem 2.
    """
    if n < 1:
        raise ValueError(f"n is {n}; a state has at least one number")
    i = torch.arange(n, dtype=torch.float64)
    B = (2 * i + 1).sqrt()
    return -torch.outer(B, B).tril(-1) - torch.diag(i + 1), B


def legs_memory(signal: Float[Tensor, "time"], n: int) -> Float64[Tensor, "time n"]:
    """The state of HiPPO-LegS after each sample: the Legendre coefficients of all that came so far.

    Sample k is held from time k to k + 1. In ln t, that step is ln((k + 1) / k) long, and zero-order hold is exact in it: the
    coefficients are those of the projection, up to rounding. The first step begins at ln 0 and ends with the mean, which is the sample.

    Raises: ValueError if the signal is empty or has a NaN or infinity.
    Source: HiPPO, arXiv 2008.07669, section 3, with an exact step in place of theirs.
    """
    if not signal.numel():
        raise ValueError("the signal has no samples")
    require_finite("the signal", signal)
    A, B = hippo_legs(n)
    state = torch.zeros(n, dtype=torch.float64)
    state[0] = signal[0]
    states = [state]
    for k, sample in enumerate(signal.double().unbind()[1:], start=1):
        A_bar, B_bar = discretize(A, B, math.log((k + 1) / k))
        states.append(A_bar @ states[-1] + B_bar * sample)
    return torch.stack(states)


def legs_basis(n: int, positions: Float64[Tensor, "points"]) -> Float64[Tensor, "points n"]:
    """√(2i+1) P_i(2s - 1) for i = 0 … n - 1 at positions s from 0 (the beginning of the history) to 1 (now).

    A history is `legs_basis(n, positions) @ state`. By Bonnet's recurrence (i + 1) P_{i+1} = (2i + 1) z P_i - i P_{i-1}.
    """
    z = 2 * positions - 1
    P = [torch.ones_like(z), z]
    for i in range(1, n - 1):
        P.append(((2 * i + 1) * z * P[i] - i * P[i - 1]) / (i + 1))
    return torch.stack(P[:n], dim=1) * (2 * torch.arange(n) + 1).sqrt()


def legs_normal_eigenvalues(n: int) -> Complex[Tensor, "half"]:
    """The eigenvalues with a positive imaginary part of LegS's normal part A + P Pᵀ, P_i = √(i + 1/2), smallest imaginary part first.

    All have the real part -1/2: what is left after adding 1/2 to the diagonal is skew-symmetric. S4 keeps P beside them, "S4D-LegS"
    drops it, and S4D-Inv is a formula for about these numbers.

    Source: S4, arXiv 2111.00396, theorem 1; S4D, arXiv 2206.11893, section 4.
    """
    A, _ = hippo_legs(n)
    P = (torch.arange(n, dtype=torch.float64) + 0.5).sqrt()
    skew = A + torch.outer(P, P) + 0.5 * torch.eye(n, dtype=torch.float64)
    frequencies = torch.linalg.eigvalsh(-1j * skew)  # real, in pairs ±
    positive = frequencies[frequencies > 0]
    return torch.complex(torch.full_like(positive, -0.5), positive)
