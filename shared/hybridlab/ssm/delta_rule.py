"""The generalised delta rule: RWKV-7's state, which can replace what stands under a key and not only add to it.

    S_t = S_{t-1} (diag(w_t) + a_t b_tᵀ) + v_t k_tᵀ          y_t = S_t r_t

S is a matrix (d_value, d_key) for each head: it maps keys to values. Linear attention has w = 1 and a = b = 0: it only adds. The plain
delta rule has w = 1, a = -k, b = β k: it takes out a part β of what S holds under k before it writes v. RWKV-7 has w_t in (0, 1) for
each key channel, a_t = -κ_t and b_t = κ_t · (in-context learning rate), with |κ_t| = 1: it removes under κ, and writes under k.

The decay comes as a logarithm, log w ≤ 0: sums of it are exact where products of w would underflow.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hybridlab.exercise import exercise
from hybridlab.ssm.checked import require_finite_result, require_log_decays, require_shapes, require_tokens, widest

DEEPEST = 60.0  # what log w may sum up to in a chunk: exp(60) = 1e26, and float32 ends at 3e38


class DeltaInputs(NamedTuple):
    """The inputs of the delta rule, in float32 at least."""

    r: Tensor
    log_w: Tensor
    k: Tensor
    v: Tensor
    a: Tensor
    b: Tensor
    state: Tensor


def delta_inputs(
    r: Float[Tensor, "batch time heads d_key"],
    log_w: Float[Tensor, "batch time heads d_key"],
    k: Float[Tensor, "batch time heads d_key"],
    v: Float[Tensor, "batch time heads d_value"],
    a: Float[Tensor, "batch time heads d_key"],
    b: Float[Tensor, "batch time heads d_key"],
    state: Float[Tensor, "batch heads d_value d_key"] | None,
) -> DeltaInputs:
    """Check the inputs, widen them to float32 (float64 stays), and begin with a state of zeros where none is given.

    Raises:
        ValueError: a shape that does not fit k's, no tokens, a log_w above 0 or not finite.
    """
    require_tokens("k", k)
    batch, _, heads, d_key = k.shape
    d_value, like_k = v.shape[-1], tuple(k.shape)
    if state is None:
        state = torch.zeros(batch, heads, d_value, d_key, dtype=widest(k), device=k.device)
    expected = {name: (tensor, like_k) for name, tensor in {"r": r, "log_w": log_w, "a": a, "b": b}.items()}
    require_shapes(expected | {"v": (v, (*like_k[:3], d_value)), "state": (state, (batch, heads, d_value, d_key))})
    require_log_decays("log_w", log_w)
    return DeltaInputs(*(tensor.to(widest(k)) for tensor in (r, log_w, k, v, a, b, state)))


@exercise
def delta_rule(
    r: Float[Tensor, "batch time heads d_key"],
    log_w: Float[Tensor, "batch time heads d_key"],
    k: Float[Tensor, "batch time heads d_key"],
    v: Float[Tensor, "batch time heads d_value"],
    a: Float[Tensor, "batch time heads d_key"],
    b: Float[Tensor, "batch time heads d_key"],
    state: Float[Tensor, "batch heads d_value d_key"] | None = None,
) -> tuple[Float[Tensor, "batch time heads d_value"], Float[Tensor, "batch heads d_value d_key"]]:
    """Fade, take out, write, read: the generalised delta rule, token by token.

        removed = S a_t                                     what S holds under a_t, (d_value); a_t = -k_t has the minus, so add it
        S ← S · exp(log_w_t) + removed b_tᵀ + v_t k_tᵀ      the decay is one for each column of S
        y_t = S r_t                                         reads the state *behind* token t

    The first line calls `delta_inputs(r, log_w, k, v, a, b, state)`: it checks, and gives all seven in float32 at least, with a state even
    where none is given; the last calls `require_finite_result(inputs._asdict(), y, state)`. y has v's dtype, the state stays wide. Take
    tokens with `.unbind(1)`, for the sake of backward.

    Source: Peng et al., 2503.14456, section 4.1; `RWKV_x070_TMix_seq` in the package rwkv.
    """
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, ys = inputs.state, []
    for r_t, log_w_t, k_t, v_t, a_t, b_t in zip(*(part.unbind(1) for part in inputs[:6]), strict=True):
        removed = S @ a_t[..., None]  # (batch, heads, d_value, 1)
        S = S * torch.exp(log_w_t)[..., None, :] + removed * b_t[..., None, :] + v_t[..., None] * k_t[..., None, :]
        ys.append((S @ r_t[..., None]).squeeze(-1))
    y = torch.stack(ys, 1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


def chunked_delta_rule(
    r: Float[Tensor, "batch time heads d_key"],
    log_w: Float[Tensor, "batch time heads d_key"],
    k: Float[Tensor, "batch time heads d_key"],
    v: Float[Tensor, "batch time heads d_value"],
    a: Float[Tensor, "batch time heads d_key"],
    b: Float[Tensor, "batch time heads d_key"],
    state: Float[Tensor, "batch heads d_value d_key"] | None = None,
    chunk: int = 16,
) -> tuple[Float[Tensor, "batch time heads d_value"], Float[Tensor, "batch heads d_value d_key"]]:
    """The same as `delta_rule`, in matmuls: within a chunk a triangular system, between chunks a state.

    What a token removes depends on what all earlier ones removed. With u_t = S_{t-1} a_t, c_t = log w_1 + … + log w_t, and

        ã_t = a_t exp(c_{t-1})    b̃_t = b_t exp(-c_t)    k̃_t = k_t exp(-c_t)    r̃_t = r_t exp(c_t)

    the chunk's u solve (I - A) U = ã Sᵀ + (the part of ã k̃ᵀ below the diagonal) V, where A is the part of ã b̃ᵀ below the diagonal. U is
    linear in S, the state before the chunk: one triangular solve gives both halves for all chunks at once; a chunk then is S ← S M + N.

    exp(-c) grows: RWKV-7's decays are bounded (log w ≥ -exp(-1/2)) *so that* 16 tokens stay below exp(9.8).

    Raises:
        ValueError: chunk is below 1; the decays of a chunk sum up to more than DEEPEST; bad input, as `delta_rule`.

    Source: 2503.14456, appendix on the parallel form; Yang et al., 2406.06484 (the WY form of the delta rule) and 2412.06464, section 3.
    """
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    time, dtype = k.shape[1], v.dtype
    chunk = min(chunk, time)
    # (batch, time, heads, d) -> (batch, heads, chunks, chunk, d); tokens that fill up change no state: they decay by 1 and write 0
    filled = (F.pad(part, (0, 0, 0, 0, 0, -time % chunk)) for part in inputs[:6])
    r, log_w, k, v, a, b = (part.unflatten(1, (-1, chunk)).permute(0, 3, 1, 2, 4) for part in filled)
    c = log_w.cumsum(-2)
    if (deepest := -c.detach().min()) > DEEPEST:
        raise ValueError(
            f"the decays of a chunk of {chunk} tokens sum up to {deepest:.3g}, more than {DEEPEST:g}: exp of it leaves float32 no digits. "
            "Take delta_rule, or smaller chunks"
        )
    grown = torch.exp(-c)
    b_in, k_in, r_in, a_in = b * grown, k * grown, r * torch.exp(c), a * torch.exp(c - log_w)

    below = (a_in @ b_in.mT).tril(-1)
    right = torch.cat([a_in, (a_in @ k_in.mT).tril(-1) @ v], -1)
    eye = torch.eye(chunk, dtype=c.dtype, device=c.device)
    from_state, from_values = torch.linalg.solve_triangular(eye - below, right, upper=False, unitriangular=True).split(
        [k.shape[-1], v.shape[-1]], -1
    )
    to_end = torch.exp(c[..., -1:, :] - c)
    b_end, k_end = b * to_end, k * to_end
    M = torch.diag_embed(torch.exp(c[..., -1, :])) + from_state.mT @ b_end
    N = from_values.mT @ b_end + v.mT @ k_end

    S, begins = inputs.state, []
    for M_c, N_c in zip(M.unbind(2), N.unbind(2), strict=True):
        begins.append(S)
        S = S @ M_c + N_c
    begin = torch.stack(begins, 2)  # (batch, heads, chunks, d_value, d_key)

    read_b, read_k = (r_in @ b_in.mT).tril(), (r_in @ k_in.mT).tril()
    y = (r_in + read_b @ from_state) @ begin.mT + read_b @ from_values + read_k @ v
    y = y.permute(0, 2, 3, 1, 4).flatten(1, 2)[:, :time]
    require_finite_result(inputs._asdict(), y, S)
    return y.to(dtype), S
