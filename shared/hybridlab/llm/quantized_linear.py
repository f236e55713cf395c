"""A linear layer that keeps its weight in 8 or 4 bits and dequantises it whenever it multiplies."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from hybridlab.llm.int_codes import unpack_int4
from hybridlab.llm.perplexity import block_linears
from hybridlab.llm.quantize import absmax_quantize, dequantize, pack_int4


class QuantizedLinear(nn.Module):
    """`linear`, frozen, in codes of 8 or 4 bits (two to a byte) with one float32 scale for each group of `group_size` weights of a row.

    Weight-only: the codes become float32 weights for the moment of the product, and x is never rounded. Saves memory, not operations.
    Raises: ValueError if bits is neither 8 nor 4, or as `absmax_quantize` does.
    """

    def __init__(self, linear: nn.Linear, bits: int, group_size: int) -> None:
        super().__init__()
        if bits not in (4, 8):
            raise ValueError(f"bits is {bits}; codes are stored in 4 or 8")
        codes, scales = absmax_quantize(linear.weight.detach(), bits, group_size)
        self.bits, self.group_size, self.in_features = bits, group_size, linear.in_features
        self.register_buffer("codes", pack_int4(codes) if bits == 4 else codes)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())

    @property
    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """The weight that is multiplied with, made anew at each call."""
        codes = unpack_int4(self.codes, self.in_features) if self.bits == 4 else self.codes
        return dequantize(codes, self.scales, self.group_size)

    @property
    def n_bytes(self) -> int:
        """Codes, scales and bias."""
        return sum(tensor.nbytes for tensor in (self.codes, self.scales, self.bias) if tensor is not None)

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        """In x's dtype."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


def quantize_linears(model: nn.Module, bits: int, group_size: int) -> list[str]:
    """Put a QuantizedLinear in the place of every nn.Linear but `lm_head`, in place; returns their names.

    Raises: ValueError if there is none, or as QuantizedLinear does.
    """
    found = dict(block_linears(model))
    if not found:
        raise ValueError(f"{type(model).__name__} has no nn.Linear to quantise, apart from lm_head")
    for name, linear in found.items():
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, QuantizedLinear(linear, bits, group_size))
    return list(found)
