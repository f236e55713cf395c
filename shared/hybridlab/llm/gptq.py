"""GPTQ on one layer: round a column, and let the columns that are still free make up for its error."""

import torch
from jaxtyping import Float, Float32, Int8
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.llm.hessian import compensation
from hybridlab.llm.int_codes import largest_code
from hybridlab.llm.quantize import absmax_quantize


@exercise
def gptq_quantize(
    weight: Float[Tensor, "rows d_in"], hessian: Float[Tensor, "d_in d_in"], bits: int, group_size: int, damping: float = 0.01
) -> tuple[Int8[Tensor, "rows d_in"], Float32[Tensor, "rows groups"]]:
    """Codes and scales as `absmax_quantize` gives them, but codes chosen so that the layer's *output* changes little.

    The scales are those that `absmax_quantize(weight, bits, group_size)` finds for the weight as it came, and stay. Then, with
    U = compensation(hessian, damping), for each column j from left to right:

    1. code = round(column / scale of its group), from -Q to Q with Q = largest_code(bits); where the scale is 0, the code is 0;
    2. error = (column - code · scale) / U[j, j];
    3. from every column k > j, as it now stands, error · U[j, k] is subtracted.

    Computed in float64. `weight` and `hessian` stay as they are.

    Returns: codes, int8, and scales, float32. Raises: ValueError as `absmax_quantize` and `compensation` do, and if the hessian
    is not d_in × d_in.
    Source: GPTQ, arXiv 2210.17323, section 3.3 and algorithm 1, without its blocks (they change the speed, not the result).
    """
    d_in = weight.shape[1]
    if hessian.shape != (d_in, d_in):
        raise ValueError(f"the hessian is {tuple(hessian.shape)}, and the weight has {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    upper = compensation(hessian, damping)
    remaining = weight.double().T.clone()  # (d_in, rows): a column lies in one piece
    for j in range(d_in):
        scale = scales[:, j // group_size].double()
        code = (remaining[j] / scale.masked_fill(scale == 0, torch.inf)).round().clamp(-largest, largest)
        codes[:, j] = code
        error = (remaining[j] - code * scale) / upper[j, j]
        remaining[j + 1 :] -= upper[j, j + 1 :, None] * error
    return codes, scales
