"""Numbers in few bits: whole-number codes and a scale for each group, integers that multiply, two codes to a byte.

Glossary: a *code* q is a small whole number, a *scale* s is one float for a *group* of neighbouring weights of a row, and a
weight is about s · q. One group a row is called "per channel"; a matrix laid out as a single row, "per tensor".
Everything here is symmetric: zero is code 0, and there is no zero-point.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int8, UInt8
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.llm.int_codes import largest_code, require_finite


@exercise
def absmax_quantize(
    weight: Float[Tensor, "rows d_in"], bits: int, group_size: int
) -> tuple[Int8[Tensor, "rows d_in"], Float32[Tensor, "rows groups"]]:
    """Codes and scales of a matrix, each group of `group_size` neighbours in a row with a scale of its own.

    A row is cut into ceil(d_in / group_size) groups from the left; the last may be shorter. With Q = largest_code(bits):

        scale = (largest absolute value of the group) / Q        code = round(weight / scale), from -Q to Q

    Everything is computed in float32, whatever floating dtype the weight has. In a group of zeros, scale and codes are 0.
    Round to the nearest whole number (ties as torch.round has them). `weight` stays as it is.

    Returns: codes, int8, and scales, float32.
    Raises: ValueError if bits is not 2 … 8, if group_size is less than 1, or if a weight is NaN or infinite.
    Source: LLM.int8(), arXiv 2208.07339, section 2.1 (absmax), with groups.
    """
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size is {group_size}; a group has at least one weight")
    require_finite("weight", weight.float())
    d_in = weight.shape[1]
    filled = F.pad(weight.float(), (0, -d_in % group_size))  # zeros change no maximum
    groups = filled.unflatten(1, (-1, group_size))  # (rows, groups, group_size)
    scales = groups.abs().amax(-1) / largest
    steps = scales.masked_fill(scales == 0, torch.inf)[..., None]  # 0 / inf is 0
    # the clamp is for scales so small that float32 rounds them to a neighbour
    codes = (groups / steps).round().clamp(-largest, largest)
    return codes.flatten(1)[:, :d_in].to(torch.int8), scales


@exercise
def pack_int4(codes: Int8[Tensor, "rows d_in"]) -> UInt8[Tensor, "rows n_bytes"]:
    """Two codes of four bits to a byte: byte j of a row holds code 2j in its low half and code 2j + 1 in its high half.

    A code c from -8 to 7 is stored as the four bits of its two's complement: c itself from 0 on, else c + 16. A row of an odd
    number of codes ends with a byte whose high half is 0.

    Returns: uint8, ceil(d_in / 2) bytes a row. `unpack_int4` gives the codes back. `codes` stays as it is.
    Raises: ValueError if a code lies outside -8 … 7.
    """
    if ((codes < -8) | (codes > 7)).any():
        raise ValueError(f"codes go from {codes.min()} to {codes.max()}; four bits hold -8 to 7")
    nibbles = F.pad(codes, (0, codes.shape[1] % 2)).to(torch.uint8) & 15
    low, high = nibbles[:, 0::2], nibbles[:, 1::2]
    return low | (high << 4)


@exercise
def outlier_matmul(
    x: Float[Tensor, "tokens d_in"], weight: Float[Tensor, "d_out d_in"], threshold: float = 6.0
) -> Float[Tensor, "tokens d_out"]:
    """x @ weight.T in 8-bit integers, but the features with outliers in float32: LLM.int8()'s mixed decomposition.

    A feature (a column of x) is an outlier if |x| >= threshold for at least one token. The product is the sum of two:
    - outliers: those columns of x times those columns of weight, in float32;
    - all others: x with one 8-bit scale for each token, weight with one for each row, both found *without* the outlier
      columns. Integers are multiplied and added exactly, then scaled: codes_x @ codes_wᵀ · scale_x · scale_wᵀ.

    Returns: dtype of x. Neither input changes. threshold = inf means integers alone, threshold = 0 means float32 alone.
    Raises: ValueError if the two do not have the same number of features, or if a number of either is NaN or infinite.
    Source: LLM.int8(), arXiv 2208.07339, section 3 and equation 8.
    """
    d_in = x.shape[1]
    if weight.shape[1] != d_in:
        raise ValueError(f"x has {d_in} features and weight has {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = (x.abs() >= threshold).any(0)  # (d_in,)
    x_codes, x_scales = absmax_quantize(x.masked_fill(outlier, 0), 8, d_in)  # a feature of zeros adds nothing
    w_codes, w_scales = absmax_quantize(weight.masked_fill(outlier, 0), 8, d_in)
    integers = x_codes.int() @ w_codes.int().T  # exact: int32 holds 133,000 products of 127 · 127
    exact = x[:, outlier].float() @ weight[:, outlier].float().T
    return (integers * x_scales * w_scales.T + exact).to(x.dtype)


@exercise
def dequantize(
    codes: Int8[Tensor, "rows d_in"], scales: Float32[Tensor, "rows groups"], group_size: int
) -> Float32[Tensor, "rows d_in"]:
    """The weights that codes and scales stand for: code · scale of its group.

    Weight j of a row belongs to group j // group_size; the last group of a row may be shorter than the others. This is the
    way back from `absmax_quantize(weight, bits, group_size)`.

    Returns: float32. `codes` and `scales` stay as they are.
    Raises: ValueError if the number of scales a row is not ceil(d_in / group_size).
    """
    d_in = codes.shape[1]
    if scales.shape[1] != -(-d_in // group_size):
        raise ValueError(f"{d_in} codes a row in groups of {group_size} do not go with {scales.shape[1]} scales a row")
    return codes * scales.repeat_interleave(group_size, dim=1)[:, :d_in]
