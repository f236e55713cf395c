"""NF4: sixteen levels for weights that are normally distributed, QLoRA's four bits.

Blocks of 64 weights, across the rows, share their largest absolute value. A weight divided by it lies in -1 … 1, and its code
is the number of the nearest level. Layout, levels and codes are those of bitsandbytes.
"""

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.llm.int_codes import require_finite


@exercise
def nf4_levels() -> Float32[Tensor, "16"]:
    """The sixteen levels of NF4 in rising order, float32, from -1 to 1, with an exact 0 (level 7).

    They are quantiles of the standard normal distribution, so that each level is used about equally often. With Q the quantile
    function (`torch.special.ndtri`) and p = (31/32 + 29/30) / 2, the outermost probability that is still finite:

    - positive: Q at eight probabilities, evenly spaced from p down to 1/2, the 1/2 itself left out (nine points, last one dropped);
    - negative: -Q at seven probabilities, evenly spaced from p down to 1/2, likewise (eight points, last one dropped);
    - zero.

    All are divided by the largest. Compute in float64 and round to float32 at the end.

    Source: QLoRA, arXiv 2305.14314, section 3 and appendix E; `create_normal_map` in bitsandbytes.
    """
    p = (31 / 32 + 29 / 30) / 2
    positive, negative = (torch.special.ndtri(torch.linspace(p, 0.5, n, dtype=torch.float64)[:-1]) for n in (9, 8))
    levels = torch.cat([-negative, torch.zeros(1), positive.flip(0)])
    return (levels / levels[-1]).float()


LEVELS = nf4_levels()


def quantize_nf4(
    weight: Float[Tensor, "rows d_in"], block_size: int = 64
) -> tuple[UInt8[Tensor, "weights"], Float32[Tensor, "blocks"]]:
    """Codes 0 … 15, one a weight, and the largest absolute value of each block. Blocks run on from row to row, as bitsandbytes has them.

    Raises: ValueError if a weight is NaN or infinite, or block_size is less than 1.
    """
    if block_size < 1:
        raise ValueError(f"block_size is {block_size}; a block has at least one weight")
    flat = weight.float().flatten()
    require_finite("weight", flat)
    blocks = torch.nn.functional.pad(flat, (0, -len(flat) % block_size)).view(-1, block_size)
    largest = blocks.abs().amax(-1)
    unit = blocks / largest.masked_fill(largest == 0, 1.0)[:, None]  # a block of zeros becomes level 7, which is 0
    middles = (LEVELS[1:] + LEVELS[:-1]) / 2
    return torch.bucketize(unit, middles).flatten()[: len(flat)].to(torch.uint8), largest


def dequantize_nf4(
    codes: UInt8[Tensor, "weights"], largest: Float32[Tensor, "blocks"], shape: tuple[int, ...], block_size: int = 64
) -> Float32[Tensor, "..."]:
    """The weights that the codes stand for: level · largest of the block.

    Raises: ValueError if the number of blocks, or the shape, does not go with the number of codes.
    """
    if len(largest) != -(-len(codes) // block_size) or torch.Size(shape).numel() != len(codes):
        raise ValueError(f"{len(codes)} codes do not fill {len(largest)} blocks of {block_size}, or the shape {tuple(shape)}")
    return (LEVELS.index_select(0, codes.int()) * largest.repeat_interleave(block_size)[: len(codes)]).view(shape)
