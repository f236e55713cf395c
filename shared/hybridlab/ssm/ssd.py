"""Mamba-2's scan by matmuls (SSD): within a chunk masked attention, between chunks a state.

Where all of a head's channels share one decay, the scan over a chunk *is* attention without softmax, with a mask of decays
in place of zeros and ones: y = (L ∘ C Bᵀ) (dt · x). That costs chunk² and runs as matmuls; the recurrence between chunks costs nothing.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hybridlab.exercise import exercise
from hybridlab.ssm.scan_inputs import require_finite, ssd_inputs

FORGOTTEN = -88.0  # exp(-88) = 6e-39: nothing in a float32 is left of what stood there


@exercise
def segment_sum(steps: Float[Tensor, "... time"]) -> Float[Tensor, "... time time"]:
    """Sums over every stretch of a row: S[i, j] = steps[j + 1] + … + steps[i], so that exp(S[i, j]) is the decay from j to i.

    S is 0 on the diagonal and -inf above it (a token sees nothing that comes later): exp gives 0 there, forward and backward.
    The steps are at most 0. One below FORGOTTEN = -88 counts as -88: it forgets all the same, and a running sum that has a -1e6 in it
    would have no digits left for the steps behind. All of S comes from one running sum: no loop over stretches.

    Source: Dao & Gu, 2405.21060, listing 1.
    """
    total = steps.clamp(min=FORGOTTEN).cumsum(-1)
    stretches = total[..., :, None] - total[..., None, :]
    later = torch.ones_like(stretches, dtype=torch.bool).triu(1)
    return stretches.masked_fill(later, -torch.inf)


@exercise
def ssd(
    x: Float[Tensor, "batch time heads d_head"],
    dt: Float[Tensor, "batch time heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch time groups d_state"],
    C: Float[Tensor, "batch time groups d_state"],
    state: Float[Tensor, "batch heads d_head d_state"] | None = None,
    chunk: int = 64,
) -> tuple[Float[Tensor, "batch time heads d_head"], Float[Tensor, "batch heads d_head d_state"]]:
    """Mamba-2's selective scan: in each head one decay for all channels, and so matmuls.

        h_t = exp(dt_t · A) · h_{t-1} + dt_t · x_t B_tᵀ        y_t = h_t C_t          (h is d_head × d_state, for each head)

    Heads share B and C by groups: head i uses group i // (heads / groups). For all chunks at once, with `L = exp(segment_sum(dt · A))`:

    1. within a chunk: y = (L ∘ C Bᵀ) (dt · x), the product C Bᵀ once for each group;
    2. what a chunk leaves in the state: Σ_t exp(sum of the steps behind t) · dt_t · x_t B_tᵀ;
    3. from chunk to chunk, a loop: state ← exp(sum of the chunk's steps) · state + what the chunk leaves;
    4. to y comes what the state at the chunk's beginning gives: exp(sum of the steps up to and with t) · state C_t.

    The first line calls `ssd_inputs(x, dt, A, B, C, state)`, the last `require_finite(y, state, inputs)`, as in `selective_scan`; y has
    x's dtype, the state is float32 at least. Any time of at least 1 (fill up with tokens of dt = 0). Only sums of steps, at most 0, go
    into exp. A step below FORGOTTEN counts as FORGOTTEN in all four places. Take the chunks of step 3 with `.unbind(1)`: a slice
    `leaves[:, i]` makes a gradient as large as all of `leaves`, for each chunk.

    Raises:
        ValueError: chunk is below 1; bad input, see `ssd_inputs`.

    Source: Dao & Gu, 2405.21060, section 6 and listing 1; `mamba_chunk_scan_combined` in state-spaces/mamba.
    """
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    time, d_head, groups = x.shape[1], x.shape[3], B.shape[2]
    chunk = min(chunk, time)
    fill = -time % chunk

    def cut(part: Tensor) -> Tensor:
        """(batch, time, a, …) -> (batch, chunks, a, chunk, …)"""
        filled = F.pad(part, (0, 0) * (part.ndim - 2) + (0, fill))
        return filled.unflatten(1, (-1, chunk)).transpose(2, 3)

    steps = cut(inputs.dt * inputs.A)
    B, C = cut(inputs.B), cut(inputs.C)  # (batch, chunks, groups, chunk, d_state)
    entering = cut(inputs.x * inputs.dt[..., None])  # (batch, chunks, heads, chunk, d_head)
    L = torch.exp(segment_sum(steps))  # (batch, chunks, heads, chunk, chunk)
    attention = (C @ B.mT)[:, :, :, None] * L.unflatten(2, (groups, -1))
    y = attention.flatten(2, 3) @ entering

    total = steps.clamp(min=FORGOTTEN).cumsum(-1)
    left = entering * torch.exp(total[..., -1:] - total)[..., None]
    # the heads of a group side by side: one matmul for all of them, (heads · d_head, chunk) @ (chunk, d_state)
    leaves = left.unflatten(2, (groups, -1)).mT.flatten(3, 4) @ B
    leaves = leaves.unflatten(3, (-1, d_head)).flatten(2, 3)

    now, begins = inputs.state, []
    for decay, new in zip(torch.exp(total[..., -1]).unbind(1), leaves.unbind(1), strict=True):
        begins.append(now)
        now = decay[..., None, None] * now + new
    begin = torch.stack(begins, 1).unflatten(2, (groups, -1)).flatten(3, 4)
    read = (C @ begin.mT).unflatten(-1, (-1, d_head)).transpose(3, 4).flatten(2, 3)
    y = y + read * torch.exp(total)[..., None]

    y = y.transpose(2, 3).flatten(1, 2)[:, :time]
    require_finite(y, now, inputs)
    return y.to(x.dtype), now
