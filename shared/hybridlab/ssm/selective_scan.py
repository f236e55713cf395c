"""Mamba's selective scan as the recurrence that it is: one token after the other. The slow, obvious reference of all scans.

Names, from the paper to the code: Δ is `dt`, N is `d_state`, E·D is `d_inner`, the hidden state h is `state`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.ssm.scan_inputs import require_finite, selective_inputs


@exercise
def selective_scan(
    x: Float[Tensor, "batch time d_inner"],
    dt: Float[Tensor, "batch time d_inner"],
    A: Float[Tensor, "d_inner d_state"],
    B: Float[Tensor, "batch time d_state"],
    C: Float[Tensor, "batch time d_state"],
    state: Float[Tensor, "batch d_inner d_state"] | None = None,
) -> tuple[Float[Tensor, "batch time d_inner"], Float[Tensor, "batch d_inner d_state"]]:
    """Read x token by token into a state of fixed size, and read the state out; each channel has d_state numbers.

        h_t = exp(dt_t · A) · h_{t-1} + dt_t · x_t · B_t        y_t = Σ_n h_t[n] · C_t[n]

    Channels do not mix: channel d has its own dt and x, and row d of A; B and C are the same for all. `state` is h
    before the first token (zeros if None); the result is (y, h after the last token), and h can be handed to the next call.

    The first line calls `selective_inputs(x, dt, A, B, C, state)`, which raises ValueError on bad input and gives all six in float32
    at least; the last calls `require_finite(y, h, inputs)`. y has x's dtype again, the state stays wide. Nothing given is changed in
    place. Backward takes time in proportion to the length: take tokens with `.unbind(1)`. A slice `x[:, t]` makes a gradient as large
    as all of x, for each t.

    Source: Gu & Dao, 2312.00752, equation 2a and algorithm 2, with B discretised by Euler's rule as in their `selective_scan_ref`.
    """
    inputs = selective_inputs(x, dt, A, B, C, state)
    h, ys = inputs.state, []
    tokens = zip(*(part.unbind(1) for part in (inputs.x, inputs.dt, inputs.B, inputs.C)), strict=True)
    for x_t, dt_t, B_t, C_t in tokens:
        decay = torch.exp(dt_t[..., None] * inputs.A)  # (batch, d_inner, d_state)
        h = decay * h + (dt_t * x_t)[..., None] * B_t[:, None]
        ys.append((h @ C_t[..., None]).squeeze(-1))
    y = torch.stack(ys, 1)
    require_finite(y, h, inputs)
    return y.to(x.dtype), h
