"""What a recurrence looks at first and last: that shapes and states fit, and that nothing leaves it that is no number."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from hybridlab.ssm.stability import all_finite, require_finite

State = TypeVar("State")


def require_shapes(expected: Mapping[str, tuple[Shaped[Tensor, "..."] | None, tuple[int, ...]]]) -> None:
    """Raises ValueError that names the first tensor which has not the shape it should have; None is left out."""
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")


def require_tokens(name: str, tensor: Shaped[Tensor, "..."]) -> None:
    """Raises ValueError if the tensor holds nothing at all: no texts, or no tokens."""
    if not tensor.numel():
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}: there is nothing to read")


def layer_states(tokens: Int[Tensor, "batch time"], state: Sequence[State] | None, n_layers: int) -> Sequence[State | None]:
    """The state of each layer: the one given, or None for each.

    Raises:
        ValueError: no tokens; a state of another number of layers.
    """
    require_tokens("tokens", tokens)
    if state is None:
        return [None] * n_layers
    if len(state) != n_layers:
        raise ValueError(f"a state of {len(state)} layers was given, and the model has {n_layers}: it belongs to another model")
    return state


def require_decays(name: str, decay: Float[Tensor, "..."]) -> None:
    """Raises ValueError unless every decay is finite and at least 0: a state that grows has no end."""
    wrong = decay.detach()[~(torch.isfinite(decay) & (decay >= 0))]
    if wrong.numel():
        raise ValueError(f"{name} has {wrong[0]:.3g} in it; it must be finite, and at least 0")


def require_log_decays(name: str, log_decay: Float[Tensor, "..."]) -> None:
    """Raises ValueError unless every logarithm of a factor is finite and at most 0: a state that grows has no end."""
    wrong = log_decay.detach()[~(torch.isfinite(log_decay) & (log_decay <= 0))]
    if wrong.numel():
        raise ValueError(f"{name} has {wrong[0]:.3g} in it; it must be finite, and at most 0")


def require_finite_result(inputs: Mapping[str, Float[Tensor, "..."]], *results: Float[Tensor, "..."]) -> None:
    """Refuse a result with NaN or infinity in it, and say what brought it there. The inputs are looked at only then.

    Raises:
        ValueError: a result is not finite.
    """
    if all_finite(*results):
        return
    for name, tensor in inputs.items():
        require_finite(name, tensor)
    largest = ", ".join(f"{name} up to {tensor.abs().max():.3g}" for name, tensor in inputs.items())
    raise ValueError(f"the state overflows {results[0].dtype}: {largest}")


def widest(tensor: Float[Tensor, "..."]) -> torch.dtype:
    """float32, or the tensor's own dtype if that is wider: what decays and states are computed in."""
    return torch.promote_types(tensor.dtype, torch.float32)
