"""WKV-4: RWKV's weighted mean over the past, whose weights fade at a rate of each channel's own.

    wkv_t = (Σ_{i<t} exp(k_i - (t - 1 - i) w) v_i  +  exp(u + k_t) v_t) / (the same without v)

Names, from the paper to the code: w is `decay` (at least 0), u is `bonus`. The weights are exponentials of keys, which nothing bounds:
exp(100) is infinity. So the state holds numerator and denominator divided by exp(m), where m is the largest exponent so far: all that goes
into exp is at most 0, and the quotient is the same.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.ssm.checked import require_decays, require_finite_result, require_shapes, require_tokens, widest

NOTHING = -1e38  # the exponent of a past that is not there: exp(NOTHING - m) is 0, and differences of it are numbers


def empty_wkv4(k: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch 3 d"]:
    """The state before the first token: nothing in numerator and denominator."""
    state = torch.zeros(k.shape[0], 3, k.shape[2], dtype=widest(k), device=k.device)
    state[:, 2] = NOTHING
    return state


def wkv4_inputs(
    k: Float[Tensor, "batch time d"],
    v: Float[Tensor, "batch time d"],
    decay: Float[Tensor, " d"],
    bonus: Float[Tensor, " d"],
    state: Float[Tensor, "batch 3 d"] | None,
) -> dict[str, Float[Tensor, "..."]]:
    """Check the inputs of WKV-4 and widen them to float32 (float64 stays): a dict of k, v, decay, bonus and state.

    Raises:
        ValueError: shapes that do not fit k's, no tokens, a decay that is negative or not finite.
    """
    require_tokens("k", k)
    batch, _, d = k.shape
    state = empty_wkv4(k) if state is None else state
    require_shapes({"v": (v, tuple(k.shape)), "decay": (decay, (d,)), "bonus": (bonus, (d,)), "state": (state, (batch, 3, d))})
    require_decays("decay", decay)
    given = {"k": k, "v": v, "decay": decay, "bonus": bonus, "state": state}
    return {name: tensor.to(widest(k)) for name, tensor in given.items()}


@exercise
def wkv4(
    k: Float[Tensor, "batch time d"],
    v: Float[Tensor, "batch time d"],
    decay: Float[Tensor, " d"],
    bonus: Float[Tensor, " d"],
    state: Float[Tensor, "batch 3 d"] | None = None,
) -> tuple[Float[Tensor, "batch time d"], Float[Tensor, "batch 3 d"]]:
    """RWKV-4's mean over the past, token by token, safe for keys of any size.

    The state's rows are the numerator a, the denominator b, and the exponent m by which both are scaled: the true sums are exp(m) · a
    and exp(m) · b. For each token, with the token's own weight exp(bonus + k) for now and exp(k) for later:

        now:    n = max(m, bonus + k)          y = (exp(m - n) a + exp(bonus + k - n) v) / (exp(m - n) b + exp(bonus + k - n))
        later:  n = max(m - decay, k)          a ← exp(m - decay - n) a + exp(k - n) v;   b likewise without v;   m ← n

    The first line calls `wkv4_inputs(k, v, decay, bonus, state)`: it checks, and gives a dict of all five in float32 at least, with a state
    even where none is given; the last calls `require_finite_result(inputs, y, state)`. y has k's dtype, the state stays wide. n cancels in
    the quotient, so no gradient needs to pass through it (`.detach()`). Take tokens with `.unbind(1)`.

    Source: Peng et al., 2305.13048, equation 16 and appendix D; `rwkv_linear_attention_cpu` in transformers.
    """
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    decay, bonus = inputs["decay"], inputs["bonus"]
    (a, b, m), ys = inputs["state"].unbind(1), []
    for k_t, v_t in zip(inputs["k"].unbind(1), inputs["v"].unbind(1), strict=True):
        n = torch.maximum(m, bonus + k_t).detach()
        past, present = torch.exp(m - n), torch.exp(bonus + k_t - n)
        ys.append((past * a + present * v_t) / (past * b + present))
        n = torch.maximum(m - decay, k_t).detach()
        past, present = torch.exp(m - decay - n), torch.exp(k_t - n)
        a, b, m = past * a + present * v_t, past * b + present, n
    y, after = torch.stack(ys, 1), torch.stack([a, b, m], 1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


def chunked_wkv4(
    k: Float[Tensor, "batch time d"],
    v: Float[Tensor, "batch time d"],
    decay: Float[Tensor, " d"],
    bonus: Float[Tensor, " d"],
    state: Float[Tensor, "batch 3 d"] | None = None,
    chunk: int = 32,
) -> tuple[Float[Tensor, "batch time d"], Float[Tensor, "batch 3 d"]]:
    """The same as `wkv4`, value for value, with a loop of `chunk` steps and one over the chunks.

    Each step works on all chunks at once, each from an empty past. Then the pasts go from chunk to chunk, and every token's two sums are
    merged with those of the past before its chunk, which has faded by then. What does not fill a chunk comes last, as a shorter chunk.

    Raises:
        ValueError: chunk is below 1; bad input, as `wkv4`.

    Source: 2305.13048, section 3.2 (the time-parallel mode).
    """
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    time = k.shape[1]
    full = time - time % min(chunk, time)
    ys, now = [], inputs["state"]
    for first, last, size in ((0, full, min(chunk, time)), (full, time, time - full)):
        if last > first:
            parts = (inputs[name][:, first:last].unflatten(1, (-1, size)) for name in ("k", "v"))
            y, now = _full_chunks(*parts, inputs["decay"], inputs["bonus"], now)
            ys.append(y)
    y = torch.cat(ys, 1)
    require_finite_result(inputs, y, now)
    return y.to(k.dtype), now


def _full_chunks(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """k and v are (batch, chunks, chunk, d); y is (batch, chunks · chunk, d)."""
    nothing = torch.zeros_like(k[:, :, 0])  # (batch, chunks, d)
    sums = _Sums(nothing, nothing, nothing + NOTHING)
    seen = []
    for k_t, v_t in zip(k.unbind(2), v.unbind(2), strict=True):
        token = _Sums(v_t, torch.ones_like(v_t), k_t)
        seen.append(_merge(sums, token._replace(m=bonus + k_t)))
        sums = _merge(sums._replace(m=sums.m - decay), token)

    now, begins = _Sums(*state.unbind(1)), []
    for a, b, m in zip(*(part.unbind(1) for part in sums), strict=True):
        begins.append(now)
        now = _merge(now._replace(m=now.m - len(seen) * decay), _Sums(a, b, m))
    begin = _Sums(*(torch.stack(part, 1) for part in zip(*begins, strict=True)))

    ys = []
    for place, sums in enumerate(seen):
        total = _merge(begin._replace(m=begin.m - place * decay), sums)
        ys.append(total.a / total.b)
    return torch.stack(ys, 2).flatten(1, 2), torch.stack(now, 1)


class _Sums(NamedTuple):
    """A numerator exp(m) · a and a denominator exp(m) · b."""

    a: Tensor
    b: Tensor
    m: Tensor


def _merge(one: _Sums, other: _Sums) -> _Sums:
    """The sum of both, scaled by the larger exponent."""
    m = torch.maximum(one.m, other.m).detach()
    left, right = torch.exp(one.m - m), torch.exp(other.m - m)
    return _Sums(left * one.a + right * other.a, left * one.b + right * other.b, m)
