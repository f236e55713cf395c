"""What a state space model can't be run with: steps that are none, numbers that are none, modes that grow.

A linear recurrence turns one NaN into NaN for ever, and an eigenvalue just outside the unit circle into infinity a few
thousand steps later, far from the cause. So both are refused where they come in.

No exercise stands here and none is imported, so that promoted code, which brings its notebook's import cell along, may import
it whichever module comes first.
"""

import math

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor


def all_finite(*results: Inexact[Tensor, "..."]) -> bool:
    """Whether no number is NaN or infinite. A sum keeps both and takes one pass, where isfinite makes five; that is asked where the sum
    itself overflows."""
    return all(bool(torch.isfinite(result.sum())) or bool(torch.isfinite(result).all()) for result in results)


def require_finite(name: str, numbers: Inexact[Tensor, "..."]) -> None:
    """Raises ValueError that says how many of `numbers` are NaN or infinite, if any is, and where the first one stands."""
    bad = ~torch.isfinite(numbers)
    if bad.any():
        place = [int(i) for i in bad.nonzero()[0]]
        raise ValueError(f"{int(bad.sum())} of {numbers.numel()} numbers of {name} are NaN or infinite; the first stands at {place}")


def require_step(dt: float | Float[Tensor, "..."]) -> None:
    """Raises ValueError unless every step size is finite and above 0: time does not stand still, and does not run backwards."""
    steps = torch.as_tensor(dt)
    wrong = steps[~(torch.isfinite(steps) & (steps > 0))]
    if wrong.numel():
        raise ValueError(f"a step size dt is {wrong[0]:g}; it must be finite and above 0")


def require_decay(eigenvalues: Inexact[Tensor, "..."]) -> None:
    """Raises ValueError unless every eigenvalue of a continuous system is finite and has a real part below 0: exp(λ t) must decay."""
    require_finite("the eigenvalues", eigenvalues)
    largest = eigenvalues.real.max().item()
    if largest >= 0:
        raise ValueError(f"the largest real part of an eigenvalue is {largest:g}; it must be below 0, or the state does not decay")


def spectral_radius(A_bar: Inexact[Tensor, "n n"]) -> float:
    """The largest |eigenvalue| of a discrete system: its slowest mode shrinks, or grows, by this factor each step."""
    return torch.linalg.eigvals(A_bar).abs().max().item()


def require_no_overflow(what: str, numbers: Float[Tensor, "..."], A_bar: Float[Tensor, "n n"]) -> None:
    """Raises ValueError that names the spectral radius of A_bar, if `numbers`, which it brought about, are not all finite."""
    if not torch.isfinite(numbers).all():
        radius = spectral_radius(A_bar)
        raise ValueError(f"{what} overflowed: the largest |eigenvalue| of A_bar is {radius:.4g}, and above 1 the state grows without bound")


def half_life(A_bar: Inexact[Tensor, "n n"]) -> float:
    """Steps until the slowest mode of a discrete system has halved; infinite if it does not shrink."""
    radius = spectral_radius(A_bar)
    return math.inf if radius >= 1 else math.log(0.5) / math.log(radius) if radius > 0 else 0.0


def as_complex(pairs: Float[Tensor, "*shape 2"]) -> Complex[Tensor, "*shape"]:
    """Complex numbers out of pairs (real, imaginary). Optimisers and checkpoints know real parameters best."""
    return torch.view_as_complex(pairs.contiguous())
