"""Where a token stands: the sinusoidal table that is added, the rotation that is multiplied.

Notable:
- Both use the same ladder of frequencies, from one radian per token down to 1/theta radians.
- Rotary pairs feature i with feature i + d_head/2 ("halves", as Llama and transformers do). The RoPE paper
  pairs neighbours 2i and 2i+1. The two are not interchangeable: weights trained with one are noise to the other.
"""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.exercise import exercise


def rotary_angles(
    positions: Int[Tensor, "... time"], d_head: int, theta: float = 10_000.0
) -> tuple[Float[Tensor, "... time half"], Float[Tensor, "... time half"]]:
    """Cosine and sine of the angle by which each pair of features is turned at each position.

    Pair i of d_head/2 turns by `position * theta ** (-2 * i / d_head)` radians. Computed in float32, whatever
    the model's dtype: bfloat16 can't tell position 256 from 257.

    Returns: cos and sin, each of shape (..., time, d_head // 2).
    Raises: ValueError if d_head is odd.
    Source: RoFormer, arXiv 2104.09864, equation 15.
    """
    if d_head % 2:
        raise ValueError(f"d_head must be even to be split into pairs, got {d_head}")
    exponents = torch.arange(0, d_head, 2, device=positions.device, dtype=torch.float32) / d_head
    angles = positions.float().unsqueeze(-1) * theta**-exponents
    return angles.cos(), angles.sin()


def rotary_angles_from(
    start: int, time: int, d_head: int, theta: float, device: torch.device
) -> tuple[Float[Tensor, "time half"], Float[Tensor, "time half"]]:
    """`rotary_angles` of the positions start, start + 1, …, start + time - 1: views of a table that all layers share."""
    end = start + time
    table = _rotary_table(1 << (max(end, 256) - 1).bit_length(), d_head, theta, device)
    return table[0][start:end], table[1][start:end]


@lru_cache(maxsize=8)
def _rotary_table(
    time: int, d_head: int, theta: float, device: torch.device
) -> tuple[Float[Tensor, "time half"], Float[Tensor, "time half"]]:
    with torch.inference_mode(False):  # a table that is first asked for in inference must serve training too
        return rotary_angles(torch.arange(time, device=device), d_head, theta)


@exercise
def sinusoidal_positions(time: int, d_model: int) -> Float[Tensor, "time d_model"]:
    """The table of sines and cosines that gives every position its own pattern.

    Row p, for i = 0, 1, ..., d_model/2 - 1:

        table[p, 2i]     = sin(p / 10000 ** (2i / d_model))
        table[p, 2i + 1] = cos(p / 10000 ** (2i / d_model))

    Sines stand in the even columns, cosines in the odd ones. The result is float32.

    Raises: ValueError if d_model is odd.
    Source: Attention Is All You Need, arXiv 1706.03762, section 3.5.
    """
    if d_model % 2:
        raise ValueError(f"d_model must be even: half sines, half cosines; got {d_model}")
    position = torch.arange(time).unsqueeze(1)
    angles = position * 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


@exercise
def apply_rotary(
    x: Float[Tensor, "*batch time d_head"], cos: Float[Tensor, "time half"], sin: Float[Tensor, "time half"]
) -> Float[Tensor, "*batch time d_head"]:
    """Turn each pair of features of each query or key by its position's angle.

    Feature i (i < d_head/2) is paired with feature i + d_head/2. Each pair (a, b) becomes

        (a * cos - b * sin,  b * cos + a * sin)

    with `cos` and `sin` as `rotary_angles` returns them. Lengths do not change, and the dot product of a turned
    query and a turned key depends on their distance only. The result has the dtype of `x`; `x` itself stays as
    it is.

    Raises: ValueError if the last axis of cos is not d_head/2 wide.
    Source: RoFormer, arXiv 2104.09864, equation 34; the pairing by halves is that of Llama and transformers.
    """
    half = x.shape[-1] // 2
    if cos.shape[-1] * 2 != x.shape[-1]:
        raise ValueError(f"x has d_head {x.shape[-1]}, so cos must be {half} wide, got {cos.shape[-1]}")
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
