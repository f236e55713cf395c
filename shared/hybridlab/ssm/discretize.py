"""From a system in continuous time to a recurrence, one step of length dt at a time.

    x'(t) = A x(t) + B u(t)          becomes          x_k = Ā x_{k-1} + B̄ u_k

Glossary, for this package: `A` (n, n) says how the *state* x of n numbers moves by itself, `B` (n,) how the input u enters it, `C` (n,)
how the output y = C x is read from it; `A_bar` and `B_bar` (Ā, B̄ in the papers) belong to the discrete system. u and y are one number
at a time: a layer of d features runs d such systems side by side.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.ssm.stability import require_finite, require_step


@exercise
def discretize(
    A: Float[Tensor, "n n"], B: Float[Tensor, "n"], dt: float, method: str = "zoh"
) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n"]]:
    """The recurrence x_k = Ā x_{k-1} + B̄ u_k that follows x' = A x + B u in steps of dt.

    method "zoh", zero-order hold: exact if u stays constant within a step. Ā = exp(dt A), and B̄ is the integral of exp(s A) B over
    s = 0 … dt. That is A^-1 (Ā - I) B where A can be inverted, but A may be singular (an integrator has A = 0). One matrix exponential
    gives both: the first n rows of exp(dt · [[A, B], [0, 0]]) are [Ā, B̄].
    method "bilinear": the mean of a step forward and one backward.
        Ā = (I - dt/2 A)^-1 (I + dt/2 A)          B̄ = (I - dt/2 A)^-1 dt B

    Returns: (Ā, B̄), in A's dtype. A and B stay as they are.
    Raises: ValueError if A is not n × n for B's n, if a number of either is NaN or infinite (and says which of the two), if dt is not
    finite or not above 0, if the method is another, or if the result is not finite (exp overflows; I - dt/2 A has no inverse).
    Source: S4, arXiv 2111.00396, equation 3 (bilinear); zero-order hold: Mamba, arXiv 2312.00752, equation 4.
    """
    n = B.shape[0]
    if A.shape != (n, n):
        raise ValueError(f"A is {tuple(A.shape)} and B has {n} numbers; A must be {n} × {n}")
    require_finite("A", A)
    require_finite("B", B)
    require_step(dt)
    both = torch.cat([A, B[:, None]], dim=1) * dt  # (n, n + 1)
    if method == "zoh":
        both = torch.linalg.matrix_exp(F.pad(both, (0, 0, 0, 1)))[:n]
    elif method == "bilinear":
        identity = torch.eye(n).to(A)
        half = both[:, :n] / 2
        both[:, :n] = identity + half
        both, singular = torch.linalg.solve_ex(identity - half, both)
        if singular:
            raise ValueError(f"I - dt/2 A has no inverse at dt = {dt:g}: 2 / dt is an eigenvalue of A")
    else:
        raise ValueError(f"method is {method!r}; choose 'zoh' or 'bilinear'")
    require_finite(f"the discrete system at dt = {dt:g}", both)
    return both[:, :n], both[:, n]
