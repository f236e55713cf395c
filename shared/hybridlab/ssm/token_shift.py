"""Token shift: each token sees the one before it. RWKV's convolution of width two, and the cheapest memory that there is."""

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.ssm.checked import require_shapes, require_tokens


@exercise
def token_shift(
    x: Float[Tensor, "batch time d"], last: Float[Tensor, "batch d"] | None = None
) -> tuple[Float[Tensor, "batch time d"], Float[Tensor, "batch d"]]:
    """What stood before each token: row t of the result is x[:, t - 1]; row 0 is `last`, the token before x (zeros if None).

    Returns (the shifted x, the last token of x): the second is the `last` of the next call, and a tensor of its own, not a view that
    keeps all of x in memory. Both have x's dtype, also where `last` came in another one. A text of one token gives `last`.

    Raises:
        ValueError: x holds nothing (`require_tokens("x", x)`); last is not (batch, d) (`require_shapes({"last": (last, (batch, d))})`).

    Source: Peng et al., 2305.13048, section 3.1.1 and figure 3.
    """
    require_tokens("x", x)
    batch, _, d = x.shape
    if last is None:
        last = x.new_zeros(batch, d)
    require_shapes({"last": (last, (batch, d))})
    return torch.cat([last.to(x.dtype)[:, None], x[:, :-1]], 1), x[:, -1].clone()
