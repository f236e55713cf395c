"""What a recurrence looks at first and last: that the shapes fit, and that nothing leaves it that is no number."""

from collections.abc import Mapping

import torch
from torch import Tensor

from hybridlab.ssm.stability import require_finite


def require_shapes(expected: Mapping[str, tuple[Tensor | None, tuple[int, ...]]]) -> None:
    """Raises ValueError that names the first tensor which has not the shape it should have; None is left out."""
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def require_tokens(name: str, tensor: Tensor) -> None:
    """Raises ValueError if the tensor holds nothing at all: no texts, or no tokens."""
    if not tensor.numel():
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}: there is nothing to read")


def require_decays(name: str, decay: Tensor, *, highest: float = torch.inf) -> None:
    """Raises ValueError unless every decay is a number from 0 to `highest`: a state that grows has no end."""
    wrong = decay.detach()[~(torch.isfinite(decay) & (decay >= 0) & (decay <= highest))]
    if wrong.numel():
        raise ValueError(f"{name} has {wrong[0]:.3g} in it; it must be finite, at least 0 and at most {highest:g}")


def require_finite_result(inputs: Mapping[str, Tensor], *results: Tensor) -> None:
    """Refuse a result with NaN or infinity in it, and say what brought it there. The inputs are looked at only then.

    Raises:
        ValueError: a result is not finite.
    """
    if all(torch.isfinite(result).all() for result in results):
        return
    for name, tensor in inputs.items():
        require_finite(name, tensor)
    largest = ", ".join(f"{name} up to {tensor.abs().max():.3g}" for name, tensor in inputs.items())
    raise ValueError(f"the state overflows {results[0].dtype}: {largest}")


def widest(tensor: Tensor) -> torch.dtype:
    """float32, or the tensor's own dtype if that is wider: what decays and states are computed in."""
    return torch.promote_types(tensor.dtype, torch.float32)
