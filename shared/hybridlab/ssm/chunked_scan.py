"""Mamba's selective scan in two levels: all chunks at once from a state of zeros, then the states from chunk to chunk.

Notable:
- the loop has as many steps as a chunk has tokens, not as the text has: each step works on all chunks;
- d_inner is the last axis within, d_state the one before: the long axis lies in a row in memory, and the sum over d_state is a matmul;
- no logarithms: dividing by a running product of decays overflows at sixteen tokens once the mean dt is near 0.2.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hybridlab.exercise import exercise
from hybridlab.ssm.scan_inputs import require_finite, selective_inputs


@exercise
def chunked_scan(
    x: Float[Tensor, "batch time d_inner"],
    dt: Float[Tensor, "batch time d_inner"],
    A: Float[Tensor, "d_inner d_state"],
    B: Float[Tensor, "batch time d_state"],
    C: Float[Tensor, "batch time d_state"],
    state: Float[Tensor, "batch d_inner d_state"] | None = None,
    chunk: int = 32,
) -> tuple[Float[Tensor, "batch time d_inner"], Float[Tensor, "batch d_inner d_state"]]:
    """The same as `selective_scan`, value for value, with a loop of `chunk` steps and one over the chunks.

    1. Cut the text into chunks, and scan **all of them at once**, each from a state of zeros: `chunk` steps, each for all chunks.
    2. Between chunks: what stood in the state when a chunk began has decayed by exp(A · Σ dt of the chunk) when it ends, and the
       chunk's own end state comes on top. A loop over the chunks gives the true state at each one's beginning.
    3. To y comes what the beginning state gives: Σ_n C_t[n] · exp(A · (dt of the chunk up to and with t)) · beginning state.

    Any time of at least 1: a text that does not fill its last chunk is filled up with tokens of dt = 0, which change no state. Checks
    (the first line and the last), dtypes and the result (y, state) are those of `selective_scan`. Into exp go sums of dt · A alone, at
    most 0: nothing overflows, however large dt. Take tokens and chunks with `.unbind(...)`, for the sake of backward.

    Raises:
        ValueError: chunk is below 1; bad input, as `selective_scan`.

    Source: Gu & Dao, 2312.00752, section 3.3.2 (a scan need not be sequential); Blelloch, 1990.
    """
    inputs = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    batch, time = x.shape[:2]
    chunk = min(chunk, time)
    # (batch, time, …) -> chunk tokens, each (batch, chunks, …)
    parts = (F.pad(part, (0, 0, 0, -time % chunk)).unflatten(1, (-1, chunk)) for part in (inputs.x, inputs.dt, inputs.B, inputs.C))
    xs, dts, Bs, Cs = (part.unbind(2) for part in parts)
    A = inputs.A.T  # (d_state, d_inner)

    h, ys = A.new_zeros(batch, len(xs[0][0]), *A.shape), []
    for x_t, dt_t, B_t, C_t in zip(xs, dts, Bs, Cs, strict=True):
        decay = torch.exp(dt_t[:, :, None] * A)
        h = torch.addcmul((dt_t * x_t)[:, :, None] * B_t[..., None], decay, h)
        ys.append(C_t[:, :, None] @ h)

    now, begins = inputs.state.mT, []
    elapsed = torch.stack(dts).cumsum(0)  # (chunk, batch, chunks, d_inner)
    for decay, end in zip(torch.exp(elapsed[-1][:, :, None] * A).unbind(1), h.unbind(1), strict=True):
        begins.append(now)
        now = torch.addcmul(end, decay, now)
    begin = torch.stack(begins, 1)

    ys = [y + C_t[:, :, None] @ (torch.exp(past[:, :, None] * A) * begin) for y, C_t, past in zip(ys, Cs, elapsed.unbind(0), strict=True)]
    y = torch.cat(ys, 2).flatten(1, 2)[:, :time]
    require_finite(y, now, inputs)
    return y.to(x.dtype), now.mT
