"""A short convolution over time, channel by channel, that sees nothing of the future and can be continued."""

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise


@exercise
def causal_conv(
    x: Float[Tensor, "batch time d"],
    weight: Float[Tensor, "d width"],
    bias: Float[Tensor, " d"] | None = None,
    past: Float[Tensor, "batch width_less_1 d"] | None = None,
) -> tuple[Float[Tensor, "batch time d"], Float[Tensor, "batch width_less_1 d"]]:
    """Each output is a weighted sum of the last `width` inputs of its channel; the last column of `weight` is for the present one.

        y_t = Σ_k weight[:, k] · x_{t - (width - 1) + k} + bias

    `past` holds the width - 1 inputs before x, the oldest first (zeros if None). The result is (y, the last width - 1 inputs), which
    is the `past` of the next call: also where x is shorter than that. It is a tensor of its own, not a view that keeps all of x in
    memory. Width 1 has an empty past. Written as `width` shifted multiply-adds; a grouped nn.Conv1d gives the same values.

    Raises:
        ValueError: x has no tokens; weight, bias or past do not fit x (the shapes are named).

    Source: 2312.00752, figure 3; `causal_conv1d_ref` in Dao-AILab/causal-conv1d.
    """
    batch, time, d = x.shape
    width = weight.shape[-1]
    if not time:
        raise ValueError(f"x has shape {tuple(x.shape)}: there is nothing to read")
    if past is None:
        past = x.new_zeros(batch, width - 1, d)
    shapes = {"weight": (weight, (d, width)), "past": (past, (batch, width - 1, d)), "bias": (bias, (d,))}
    for name, (tensor, shape) in shapes.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {shape}")
    seen = torch.cat([past.to(x.dtype), x], 1)
    y = sum(seen[:, k : k + time] * weight[:, k] for k in range(width))
    return (y if bias is None else y + bias), seen[:, time:].clone()
