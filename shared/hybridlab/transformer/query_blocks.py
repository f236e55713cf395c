"""A long text's attention in blocks of queries: the same result, with little more than half the scores.

A block is given the keys that any of its queries may see. Under a causal mask the scores ahead of it are then never computed,
and those of one block stay in the processor's cache: on a CPU that is what the softmax waits for.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BLOCK = 64
LONG = 256


def in_query_blocks(
    attend: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor],
    q: Float[Tensor, "batch heads queries d_head"],
    k: Float[Tensor, "batch kv_heads keys d_head"],
    v: Float[Tensor, "batch kv_heads keys d_value"],
    mask: Bool[Tensor, "#batch #heads queries keys"] | None,
) -> Float[Tensor, "batch heads queries d_value"]:
    """`attend(q, k, v, mask)`; where a mask lies over more than `LONG` queries, in blocks of `BLOCK` of them.

    `attend` is an attention like `scaled_dot_product_attention`: each query's result depends on that query alone.
    Source: the outer loop of FlashAttention, arXiv 2205.14135, algorithm 1, with each row's softmax still whole.
    """
    if mask is None or q.shape[2] <= LONG:
        return attend(q, k, v, mask)
    blocks = []
    for first in range(0, q.shape[2], BLOCK):
        rows = slice(first, first + BLOCK)
        seen = mask[..., rows, :].flatten(0, -2).any(dim=0).nonzero()
        keys = int(seen[-1]) + 1 if len(seen) else 1  # one key at least: `attend` answers a query that sees nothing
        blocks.append(attend(q[:, :, rows], k[:, :, :keys], v[:, :, :keys], mask[..., rows, :keys]))
    return torch.cat(blocks, dim=2)
