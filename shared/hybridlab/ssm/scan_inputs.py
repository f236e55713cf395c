"""What every scan looks at first and last: shapes and signs of what comes in, and that nothing goes out that is not finite.

A scan computes in float32 at least, whatever it is given. The decay exp(dt · A) is a product over thousands of tokens: in
bfloat16, with its three digits, the step dt and the running sum of dt · A lose the text.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.ssm.stability import all_finite


class ScanInputs(NamedTuple):
    """The inputs of a scan, in float32 at least. Shapes are those that the scan itself names."""

    x: Tensor
    dt: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    state: Tensor


def selective_inputs(
    x: Float[Tensor, "batch time d_inner"],
    dt: Float[Tensor, "batch time d_inner"],
    A: Float[Tensor, "d_inner d_state"],
    B: Float[Tensor, "batch time d_state"],
    C: Float[Tensor, "batch time d_state"],
    state: Float[Tensor, "batch d_inner d_state"] | None = None,
) -> ScanInputs:
    """Check the inputs of Mamba's scan, widen them to float32 (float64 stays), and begin with a state of zeros where none is given.

    Raises:
        ValueError: a shape that does not fit the others, no tokens, a negative dt, an A that is positive or not finite.
    """
    outer, inner = "batch time d_inner", "batch time d_state"
    shapes = {"x": outer, "dt": outer, "A": "d_inner d_state", "B": inner, "C": inner}
    return _inputs(shapes, "batch d_inner d_state", x, dt, A, B, C, state)


def ssd_inputs(
    x: Float[Tensor, "batch time heads d_head"],
    dt: Float[Tensor, "batch time heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch time groups d_state"],
    C: Float[Tensor, "batch time groups d_state"],
    state: Float[Tensor, "batch heads d_head d_state"] | None = None,
) -> ScanInputs:
    """The same for Mamba-2's scan, with one A a head, and B and C shared by the heads of a group.

    Raises:
        ValueError: as `selective_inputs`; and heads that are no multiple of the groups.
    """
    grouped = "batch time groups d_state"
    shapes = {"x": "batch time heads d_head", "dt": "batch time heads", "A": "heads", "B": grouped, "C": grouped}
    inputs = _inputs(shapes, "batch heads d_head d_state", x, dt, A, B, C, state)
    heads, groups = x.shape[2], B.shape[2]
    if groups < 1 or heads % groups:
        raise ValueError(f"{heads} heads can't be shared out over {groups} groups: heads must be a multiple of groups")
    return inputs


def require_finite(y: Float[Tensor, "batch time *channels"], state: Float[Tensor, "batch *channels d_state"], inputs: ScanInputs) -> None:
    """What a scan does last: refuse a result with NaN or infinity in it, and say which input brought it there.

    Raises:
        ValueError: y or the state is not finite; the inputs are looked at only then.
    """
    if all_finite(y, state):
        return
    for name, tensor in inputs._asdict().items():
        wrong = ~torch.isfinite(tensor)
        if wrong.any():
            raise ValueError(f"{name} has {int(wrong.sum())} values that are not finite, the first at {wrong.nonzero()[0].tolist()}")
    raise ValueError(
        f"the scan overflows {y.dtype}: dt is up to {inputs.dt.max():.3g}, x up to {inputs.x.abs().max():.3g}, "
        f"B up to {inputs.B.abs().max():.3g}, and what enters the state is their product"
    )


def _inputs(shapes: dict[str, str], state_shape: str, *tensors: Tensor | None) -> ScanInputs:
    *given, state = tensors
    sizes: dict[str, int] = {}
    for (name, pattern), tensor in zip(shapes.items(), given, strict=True):
        _fit(name, tensor, pattern, sizes)
    if state is not None:
        _fit("state", state, state_shape, sizes)
    if not sizes["time"] or not sizes["batch"]:
        raise ValueError(f"x has shape {tuple(given[0].shape)}: there is nothing to read")
    dtype = torch.promote_types(given[0].dtype, torch.float32)
    x, dt, A, B, C = (tensor.to(dtype) for tensor in given)
    if (lowest := dt.detach().min()) < 0:
        raise ValueError(f"dt is down to {lowest:.3g}: a step can't be negative. Has softplus or relu been forgotten?")
    if not torch.isfinite(A).all() or A.max() > 0:
        raise ValueError(f"A is up to {A.max():.3g}: it must be finite and at most 0, or the state grows. A is -exp(A_log)")
    if state is None:
        state = x.new_zeros([sizes[axis] for axis in state_shape.split()])
    return ScanInputs(x, dt, A, B, C, state.to(dtype))


def _fit(name: str, tensor: Tensor, pattern: str, sizes: dict[str, int]) -> None:
    """Compare a tensor's shape with the axes that are known, and note those that are new."""
    axes = pattern.split()
    if tensor.ndim == len(axes) and all(sizes.setdefault(axis, size) == size for axis, size in zip(axes, tensor.shape, strict=True)):
        return
    known = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in axes)
    raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected ({known})")
