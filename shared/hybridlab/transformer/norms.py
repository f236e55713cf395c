"""LayerNorm and RMSNorm: each token's vector is brought to one size, whatever the others do.

Both compute in float32 when the input is half precision (as torch.nn.LayerNorm and transformers'
LlamaRMSNorm do): the mean of squares of a bfloat16 vector keeps three digits, of a float16 one overflows.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybridlab.exercise import exercise


@exercise
class RMSNorm(nn.Module):
    """Divide each token's vector by its root mean square, then multiply by a learned gain.

        y = x / sqrt(mean(x²) + eps) · weight

    The mean runs over the last axis alone. No mean is subtracted and there is no bias. `weight`, of shape
    (d,), is the only parameter; it begins at one. The statistics are computed in float32 when x is half
    precision, and the result has x's dtype again.

    Source: Zhang & Sennrich, 1910.07467, equation 4; transformers' LlamaRMSNorm.
    """

    def __init__(self, d: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean_square = wide.square().mean(-1, keepdim=True)
        unit = wide * torch.rsqrt(mean_square + self.eps)
        return (unit * self.weight).to(x.dtype)


@exercise
class LayerNorm(nn.Module):
    """Bring each token's vector to mean 0 and variance 1, then apply a learned gain and shift.

        y = (x - mean(x)) / sqrt(var(x) + eps) · weight + bias

    Mean and variance run over the last axis alone; the variance divides by d, not by d - 1. `weight` begins
    at one and `bias` at zero, both of shape (d,); with `bias=False` the attribute `bias` is None. The
    statistics are computed in float32 when x is half precision, and the result has x's dtype again.

    Source: Ba, Kiros & Hinton, 1607.06450, equations 3 and 4; torch.nn.LayerNorm.
    """

    def __init__(self, d: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        centred = wide - wide.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        unit = centred * torch.rsqrt(variance + self.eps)
        scaled = unit * self.weight
        return (scaled if self.bias is None else scaled + self.bias).to(x.dtype)
