"""The MLP half of a block: every token goes alone through a wide hidden layer and back.

`GeluMLP` is GPT-2's two matrices; `SwiGLU` is Llama's three, where one branch gates the other.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.exercise import exercise


def gelu(x: Float[Tensor, "..."], approximate: bool = False) -> Float[Tensor, "..."]:
    """x · P(Z < x) for a standard normal Z: a soft gate that lets large values pass.

    With `approximate=True`, the tanh formula that GPT-2 was trained with; it lies within 5e-4 of the exact one.

    Source: Hendrycks & Gimpel, 1606.08415, section 2; torch.nn.functional.gelu.
    """
    if approximate:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


class GeluMLP(nn.Module):
    """down_proj(gelu(up_proj(x))): GPT-2's feed-forward layer.

    Source: Radford et al., Language Models are Unsupervised Multitask Learners (GPT-2), section 2.3.
    """

    def __init__(self, d_model: int, d_ff: int, bias: bool = False) -> None:
        super().__init__()
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        return self.down_proj(gelu(self.up_proj(x)))


@exercise
class SwiGLU(nn.Module):
    """Llama's feed-forward layer: one branch is squashed by SiLU and gates the other.

        y = down_proj( silu(gate_proj(x)) · up_proj(x) )        silu(z) = z · sigmoid(z)

    `gate_proj` and `up_proj` map d_model → d_ff, `down_proj` maps d_ff → d_model. All three are `nn.Linear`s of
    these names (weights of Llama load into them) and have a bias only when `bias=True`.

    Source: Shazeer, 2002.05202, equation 6 (FFN_SwiGLU, with β = 1); transformers' LlamaMLP.
    """

    def __init__(self, d_model: int, d_ff: int, bias: bool = False) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
