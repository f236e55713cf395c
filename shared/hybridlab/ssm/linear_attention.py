"""Linear attention: leave the softmax out, and attention becomes a recurrence with a state of fixed size.

softmax(q kᵀ) needs all keys for each query. With weights φ(q) · φ(k) instead, Σ_i φ(q)·φ(k_i) v_i = φ(q) · Σ_i φ(k_i) v_iᵀ: the sum on the
right does not know the query, so it can be carried along. Three forms give the same values:

- quadratic: attention with other weights, T² of them. The oracle of the other two;
- recurrent: one state, one token after the other;
- chunked: quadratic within a chunk, recurrent between chunks. What one trains with.

The state is a matrix of d_key × d_value for each head, and a vector that counts: the sum of the weights, to divide by.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hybridlab.exercise import exercise
from hybridlab.ssm.checked import require_finite_result, require_shapes, require_tokens, widest


class LinearState(NamedTuple):
    """`memory`: (batch, heads, d_key, d_value), Σ φ(k) vᵀ. `weight`: (batch, heads, d_key), Σ φ(k). Both in float32 at least."""

    memory: Tensor
    weight: Tensor


class LinearInputs(NamedTuple):
    """φ(q), φ(k), v and the state to begin with, all of them wide."""

    q: Tensor
    k: Tensor
    v: Tensor
    state: LinearState


def feature_map(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """φ(x) = elu(x) + 1, element by element: x + 1 where x > 0, exp(x) elsewhere. Always positive, as a weight has to be.

    Not `F.elu(x) + 1`: elu(-20) is -1 + 2e-9, which float32 rounds to -1, and the weight is gone. exp(x) itself is exact down to -87.
    Gradients are finite for every finite x, those of 1e4 too, where exp(x) overflows: clamp what goes into exp.

    Source: Katharopoulos et al., 2006.16236, equation 7.
    """
    return torch.where(x > 0, x + 1, torch.exp(x.clamp(max=0)))


def linear_inputs(
    q: Float[Tensor, "batch heads time d_key"],
    k: Float[Tensor, "batch heads time d_key"],
    v: Float[Tensor, "batch heads time d_value"],
    state: LinearState | None,
) -> LinearInputs:
    """Check shapes, apply the feature map in float32 at least, and begin with a state of zeros where none is given.

    Raises:
        ValueError: q, k, v or the state do not fit one another (the shapes are named), or hold nothing.
    """
    require_tokens("q", q)
    batch, heads, time, d_key = q.shape
    require_shapes({"k": (k, (batch, heads, time, d_key)), "v": (v, (batch, heads, time, v.shape[-1]))})
    dtype = widest(q)
    if state is None:
        shape = (batch, heads, d_key, v.shape[-1])
        state = LinearState(*(torch.zeros(shape[:rank], dtype=dtype, device=q.device) for rank in (4, 3)))
    require_shapes({"memory": (state.memory, (batch, heads, d_key, v.shape[-1])), "weight": (state.weight, (batch, heads, d_key))})
    return LinearInputs(feature_map(q.to(dtype)), feature_map(k.to(dtype)), v.to(dtype), LinearState(*(part.to(dtype) for part in state)))


def divide(
    total: Float[Tensor, "*shape d_value"], weight: Float[Tensor, "*shape"], inputs: LinearInputs
) -> Float[Tensor, "*shape d_value"]:
    """The weighted mean: total / weight.

    Raises:
        ValueError: a query whose weights are all 0 in float32, since q or k lie below -87; or values that are not finite.
    """
    if (weight == 0).any():
        raise ValueError(f"{int((weight == 0).sum())} queries have no key of a weight above 0: q or k lie so far below 0 that φ underflows")
    y = total / weight[..., None]
    require_finite_result({"q": inputs.q, "k": inputs.k, "v": inputs.v, "memory": inputs.state.memory}, y)
    return y


def quadratic_linear_attention(
    q: Float[Tensor, "batch heads time d_key"], k: Float[Tensor, "batch heads time d_key"], v: Float[Tensor, "batch heads time d_value"]
) -> Float[Tensor, "batch heads time d_value"]:
    """Attention with the weights φ(q_t) · φ(k_i) for i ≤ t in place of softmax's. T² weights; the slow, obvious reference.

    Raises:
        ValueError: see `linear_inputs` and `divide`.

    Source: 2006.16236, equations 4 and 8.
    """
    inputs = linear_inputs(q, k, v, None)
    weights = (inputs.q @ inputs.k.mT).tril()
    return divide(weights @ inputs.v, weights.sum(-1), inputs).to(q.dtype)


@exercise
def linear_attention(
    q: Float[Tensor, "batch heads time d_key"],
    k: Float[Tensor, "batch heads time d_key"],
    v: Float[Tensor, "batch heads time d_value"],
    state: LinearState | None = None,
) -> tuple[Float[Tensor, "batch heads time d_value"], LinearState]:
    """Attention without softmax, token by token, in a state that does not grow.

        memory_t = memory_{t-1} + φ(k_t) v_tᵀ      weight_t = weight_{t-1} + φ(k_t)
        y_t = φ(q_t) memory_t / (φ(q_t) · weight_t)

    The first line calls `linear_inputs(q, k, v, state)`: it checks, applies φ to q and k (don't do it twice), and gives q, k, v, state
    in float32 at least. `divide(total, weight, inputs)` divides, and refuses a weight of 0. The result is (y, state behind the last
    token), to be handed to the next call; y has q's dtype, the state stays wide. Take tokens with `.unbind(2)`, for the sake of backward.

    Source: Katharopoulos et al., 2006.16236, equations 16 to 20 ("Transformers are RNNs").
    """
    inputs = linear_inputs(q, k, v, state)
    (memory, weight), totals, weights = inputs.state, [], []
    for q_t, k_t, v_t in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2), strict=True):
        memory = memory + k_t[..., None] * v_t[..., None, :]
        weight = weight + k_t
        totals.append((q_t[..., None, :] @ memory).squeeze(-2))
        weights.append((q_t * weight).sum(-1))
    y = divide(torch.stack(totals, 2), torch.stack(weights, 2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@exercise
def chunked_linear_attention(
    q: Float[Tensor, "batch heads time d_key"],
    k: Float[Tensor, "batch heads time d_key"],
    v: Float[Tensor, "batch heads time d_value"],
    state: LinearState | None = None,
    chunk: int = 64,
) -> tuple[Float[Tensor, "batch heads time d_value"], LinearState]:
    """The same as `linear_attention`, value for value, in matmuls: no loop over time at all.

    1. cut the text into chunks (fill the last one up with keys, values and queries of 0 *behind* φ: they weigh nothing);
    2. within each chunk: the masked products φ(q) φ(k)ᵀ (a token sees itself) times v, and their sum;
    3. before each chunk: memory and weight are the given state plus what all earlier chunks left, a `cumsum` over chunks;
    4. y = (2. + φ(q) · memory) / (the same sums of weights), both cut to `time` before `divide`: what fills up weighs 0.

    Checks, dtypes and the result are those of `linear_attention`. Any time of at least 1; a text may be shorter than a chunk.

    Raises:
        ValueError: chunk is below 1; bad input, see `linear_inputs`.

    Source: 2006.16236, section 3.3; the chunked form is that of Hua et al., 2202.10447, section 3.
    """
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    time = q.shape[2]
    chunk = min(chunk, time)
    # (batch, heads, time, d) -> (batch, heads, chunks, chunk, d)
    q_c, k_c, v_c = (F.pad(part, (0, 0, 0, -time % chunk)).unflatten(2, (-1, chunk)) for part in inputs[:3])
    left = torch.cat([inputs.state.memory[:, :, None], k_c.mT @ v_c], 2).cumsum(2)
    counted = torch.cat([inputs.state.weight[:, :, None], k_c.sum(3)], 2).cumsum(2)
    weights = (q_c @ k_c.mT).tril()
    total = weights @ v_c + q_c @ left[:, :, :-1]
    weight = weights.sum(-1) + (q_c @ counted[:, :, :-1, :, None]).squeeze(-1)
    total, weight = (part.flatten(2, 3)[:, :, :time] for part in (total, weight))
    return divide(total, weight, inputs).to(q.dtype), LinearState(left[:, :, -1], counted[:, :, -1])
