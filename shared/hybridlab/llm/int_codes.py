"""What a code is, how four bits come out of a byte, and what can't be quantised at all.

No exercise stands here and none is imported, so that promoted code, which brings its notebook's import cell along, may import
it whichever module comes first.
"""

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor


def largest_code(bits: int) -> int:
    """The largest code of `bits` bits, 2^(bits-1) - 1: 127 for 8, 7 for 4, 3 for 3, 1 for 2. Codes lie between minus that and it.

    Raises: ValueError unless bits is 2 … 8.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits is {bits}; a code takes 2 to 8 of them")
    return 2 ** (bits - 1) - 1


def require_finite(name: str, numbers: Float[Tensor, "..."]) -> None:
    """Raises ValueError that says how many of `numbers` are NaN or infinite, if any is: they would spoil a whole group."""
    bad = int((~torch.isfinite(numbers)).sum())
    if bad:
        raise ValueError(f"{bad} of {numbers.numel()} numbers of {name} are NaN or infinite: mend the model before you quantise it")


def unpack_int4(packed: UInt8[Tensor, "rows n_bytes"], d_in: int) -> Int8[Tensor, "rows d_in"]:
    """The codes -8 … 7 out of bytes that hold two each, the first in the low half. The inverse of `pack_int4`.

    Raises: ValueError if d_in codes are not what n_bytes bytes hold.
    """
    if (d_in + 1) // 2 != packed.shape[1]:
        raise ValueError(f"{packed.shape[1]} bytes a row do not hold {d_in} codes of four bits")
    nibbles = torch.stack([packed & 15, packed >> 4], dim=-1).flatten(1)[:, :d_in].to(torch.int8)
    return (nibbles ^ 8) - 8  # 15 means -1: two's complement of four bits
