"""Attention for a hybrid: no positions, a window if one is wanted, and a state that is handed on like that of a Mamba.

Without positions (NoPE) attention sees a set, but for the causal mask: where a token stands, the recurrent layers beside it say. So no
length is trained in, and keys that have left the window can be dropped without a trace.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybridlab.exercise import exercise
from hybridlab.ssm.checked import require_finite_result, require_shapes
from hybridlab.transformer.attention import scaled_dot_product_attention

BLOCK = 128  # queries that are asked at once


class AttentionState(NamedTuple):
    """The keys and values that later tokens may still see, oldest first: (batch, kv_heads, seen, d_head). It grows up to the window."""

    keys: Tensor
    values: Tensor


@exercise
def window_attention(
    q: Float[Tensor, "batch heads queries d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_head"],
    window: int | None = None,
    block: int = BLOCK,
) -> Float[Tensor, "batch heads queries d_head"]:
    """Causal attention in which a query sees itself and the window - 1 tokens before it; all before it if `window` is None.

    The queries are the last of the keys' tokens: query i stands at i + keys - queries. They are asked in blocks of `block`, and each is
    given the keys that any of its queries may see and no others: the scores in memory are block · (window + block), not queries · keys.
    `scaled_dot_product_attention(q, k, v, mask)` does the attending, with a Bool mask, True = may look, that broadcasts to
    (batch, heads, queries, keys); grouped heads are its business.

    Raises:
        ValueError: more queries than keys; a window or a block below 1.

    Source: Child et al., 1904.10509 (local attention); Mistral 7B, 2310.06825, section 2, which counts the window as here.
    """
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys:
        raise ValueError(f"{queries} queries can't be the last of {keys} keys")
    if block < 1 or (window is not None and window < 1):
        raise ValueError(f"window={window} and block={block} must be at least 1")
    place = torch.arange(keys, device=q.device)
    answers = []
    for first in range(0, queries, block):
        own = place[keys - queries + first : keys - queries + first + block]  # places of this block's queries
        end = int(own[-1]) + 1
        begin = 0 if window is None else max(0, int(own[0]) + 1 - window)
        seen = place[begin:end]
        mask = seen <= own[:, None]
        if window is not None:
            mask = mask & (seen > own[:, None] - window)
        rows = slice(first, first + block)
        answers.append(scaled_dot_product_attention(q[:, :, rows], k[:, :, begin:end], v[:, :, begin:end], mask[None, None]))
    return torch.cat(answers, 2)


class WindowAttention(nn.Module):
    """Grouped attention without positions. `forward(x, state=None)` gives (result, AttentionState); any cut of a text gives the same.

    Submodules bear the names of transformers' JambaAttention.

    Raises:
        ValueError: d_model is no multiple of n_heads, or n_heads none of n_kv_heads; a state that is not this layer's; no finite result.

    Source: Lieber et al., 2403.19887, sections 2 and 6.5 (no explicit positions).
    """

    def __init__(self, d_model: int, n_heads: int, n_kv_heads: int, window: int | None = None) -> None:
        super().__init__()
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"d_model={d_model} must be a multiple of n_heads={n_heads}, and that one of n_kv_heads={n_kv_heads}")
        self.d_head, self.n_kv_heads, self.window = d_model // n_heads, n_kv_heads, window
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=False)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=False)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], state: AttentionState | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], AttentionState]:
        q, k, v = (proj(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj))
        if state is not None:
            if not isinstance(state, AttentionState):
                raise ValueError(f"the state of an attention layer is an AttentionState, not a {type(state).__name__}")
            seen = (x.shape[0], self.n_kv_heads, state.keys.shape[2], self.d_head)
            require_shapes({"keys": (state.keys, seen), "values": (state.values, seen)})
            k, v = torch.cat([state.keys.to(k.dtype), k], 2), torch.cat([state.values.to(v.dtype), v], 2)
        y = window_attention(q, k, v, self.window)
        require_finite_result({"x": x, "q": q, "k": k, "v": v}, y)
        kept = k.shape[2] if self.window is None else min(k.shape[2], self.window - 1)
        after = AttentionState(*(part[:, :, part.shape[2] - kept :].clone() for part in (k, v)))
        return self.o_proj(y.transpose(1, 2).flatten(2)), after
