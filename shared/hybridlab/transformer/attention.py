"""Attention: every token asks, every earlier token may answer.

Notable:
- A mask is Bool, True = may look. A row that may look at nothing gives zeros, not NaN, and so do its gradients.
- Over a long text `MultiHeadAttention` asks in blocks of queries (`query_blocks`), which is faster; the result is the same.
- Grouped KV heads cost no copy of k and v: the queries of one group are stacked along time.
- Submodules carry Llama's names, so that its weights load without a translation table.

Cost for one head group, time T, width d: 4·T²·d floating-point operations, and T² scores held for backward.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hybridlab.exercise import exercise
from hybridlab.transformer.positions import apply_rotary, rotary_angles_from
from hybridlab.transformer.query_blocks import in_query_blocks


@exercise
def softmax(scores: Float[Tensor, "*shape"], dim: int = -1) -> Float[Tensor, "*shape"]:
    """Turn scores into weights: positive, and adding up to one along `dim`.

    Finite scores of any size give finite weights (±1e4 too, where exp alone overflows), and finite gradients.
    A score of -inf gives the weight 0, if another score along `dim` is finite. Shape and dtype are kept.

    Source: Attention Is All You Need, arXiv 1706.03762, section 3.2.1.
    """
    # the maximum is a constant shift that cancels: no gradient needs to pass through it
    powers = (scores - scores.detach().amax(dim, keepdim=True)).exp_()
    # one reciprocal a row, then a product: the backward of a division makes three more arrays of this size
    return powers * powers.sum(dim, keepdim=True).reciprocal()


@exercise
def attention_mask(
    n_queries: int,
    n_keys: int,
    *,
    causal: bool,
    padding: Bool[Tensor, "batch n_keys"] | None = None,
    device: torch.device | str | None = None,
) -> Bool[Tensor, "batch_or_1 1 n_queries n_keys"]:
    """Which query may look at which key: True = may look.

    The queries are the last `n_queries` of the `n_keys` tokens (the earlier ones wait in a cache): query i stands at
    position `n_keys - n_queries + i`. With `causal=True` it sees that position and everything before it; with
    `causal=False` it sees every key. `padding` is True at real tokens: keys at False are seen by nobody.

    Returns: Bool of shape (batch, 1, n_queries, n_keys); without `padding` batch is 1. It lies on `device`, or where
    `padding` lies if there is one.
    Raises: ValueError if causal and n_queries > n_keys; if the last axis of padding is not n_keys long.
    Source: Attention Is All You Need, arXiv 1706.03762, section 3.2.3.
    """
    if causal and n_queries > n_keys:
        raise ValueError(f"{n_queries} queries can't be the last of {n_keys} keys; pass causal=False for other keys")
    if padding is not None and padding.shape[-1] != n_keys:
        raise ValueError(f"padding must be (batch, n_keys={n_keys}), got {tuple(padding.shape)}")
    mask = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=device if padding is None else padding.device)
    if causal:
        mask = mask.tril(n_keys - n_queries)
    return mask if padding is None else mask & padding[:, None, None, :]


@exercise
def scaled_dot_product_attention(
    q: Float[Tensor, "batch heads queries d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    mask: Bool[Tensor, "#batch #heads #queries keys"] | None = None,
) -> Float[Tensor, "batch heads queries d_value"]:
    """softmax(q kᵀ / √d_head) v, where each query looks only where the mask says True.

    Grouped heads: `heads` is a multiple of `kv_heads`; with groups = heads / kv_heads, query head h reads key and
    value head h // groups. A query that may look at nothing returns zeros, and every gradient stays finite.
    The mask may have size 1 where it is the same for all. The inputs may be transposed views.

    Raises: ValueError if heads is not a multiple of kv_heads; if mask is not Bool.
    Source: Attention Is All You Need, arXiv 1706.03762, equation 1; GQA, arXiv 2305.13245.
    """
    heads, kv_heads, queries = q.shape[1], k.shape[1], q.shape[2]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads can't share {kv_heads} key/value heads evenly")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError(f"mask must be Bool with True = may look, got {mask.dtype}")
    # one matmul per kv head: the queries of its group stand one after the other along time
    q = (q * q.shape[-1] ** -0.5).reshape(q.shape[0], kv_heads, -1, q.shape[-1])
    scores = (q @ k.transpose(-2, -1)).view(-1, heads, queries, k.shape[2])
    if mask is not None:
        sees = mask.any(dim=-1, keepdim=True)
        # a row that sees nothing keeps its scores and loses its result below: in softmax -inf alone would be 0/0
        scores = scores.masked_fill(sees & ~mask, float("-inf"))
    weights = softmax(scores, dim=-1)
    out = (weights.view(-1, kv_heads, q.shape[2], k.shape[2]) @ v).view(-1, heads, queries, v.shape[-1])
    return out if mask is None else out.masked_fill(~sees, 0.0)


@exercise
class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in its own d_head = d_model / n_heads features.

    `n_kv_heads` (default: n_heads) key and value heads are shared by groups of query heads. `rope_theta` turns queries
    and keys by their positions (None: no rotation). `qk_norm` is a factory d_head -> module, applied to every head of
    q (as `q_norm`) and k (as `k_norm`) before the rotation.

    Submodules: q_proj, k_proj, v_proj, o_proj, each an nn.Linear with or without `bias`.
    Raises: ValueError if d_model is not a multiple of n_heads, or n_heads not one of n_kv_heads.
    Source: Attention Is All You Need, arXiv 1706.03762, section 3.2.2; names as in transformers' LlamaAttention.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        *,
        bias: bool = False,
        rope_theta: float | None = None,
        qk_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} can't be split evenly among {n_heads} heads")
        if n_heads % n_kv_heads:
            raise ValueError(f"{n_heads} heads can't share {n_kv_heads} key/value heads evenly")
        self.d_head = d_model // n_heads
        self.rope_theta = rope_theta
        self.q_proj = nn.Linear(d_model, n_heads * self.d_head, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(n_heads * self.d_head, d_model, bias=bias)
        self.q_norm = qk_norm(self.d_head) if qk_norm else nn.Identity()
        self.k_norm = qk_norm(self.d_head) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        *,
        causal: bool = True,
        padding: Bool[Tensor, "batch keys"] | None = None,
        cache=None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Attend within x, and to the tokens that wait in `cache`.

        `len(cache)` is the number of tokens already in it, so the position of x's first token; `cache.append(k, v)`
        takes this call's (rotated) keys and values, each (batch, n_kv_heads, time, d_head), and returns all of them.
        `padding` is True at real tokens, over all keys: those of the cache, then those of x.
        """
        time = x.shape[1]
        # (batch, time, heads * d_head) -> (batch, heads, time, d_head)
        q, k, v = (
            proj(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            start = 0 if cache is None else len(cache)
            cos, sin = rotary_angles_from(start, time, self.d_head, self.rope_theta, x.device)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        if time == 1 and padding is None:
            mask = None  # the newest token sees every key
        else:
            mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = in_query_blocks(scaled_dot_product_attention, q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).flatten(2))
