"""The KV cache: keys and values of the tokens seen so far, so that a new token costs one row of attention, not all.

The buffers are allocated once at their full size. An `append` copies only the new tokens; what it returns are views.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.transformer.config import TransformerConfig


@exercise
class KVCache:
    """Keys and values of one attention layer, for up to `max_time` tokens.

    `append(k, v)` stores the keys and values of `time` new tokens behind those already there, and returns those of
    all tokens so far, oldest first. `time` may be any number from 1: a whole prompt at once, then token by token.
    `len(cache)` is the number of tokens in it, and so the position of the next token.

    The memory is taken once, in `__init__`: `append` copies the new tokens into it and returns views of the filled
    part, without a copy of the old ones. The cache has its own `dtype`, whatever k and v come in.

    Raises:
        ValueError: an `append` would go beyond `max_time`. The cache stays as it was.
    """

    def __init__(
        self,
        batch: int,
        n_kv_heads: int,
        max_time: int,
        d_head: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.keys = torch.empty(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)  # nobody reads beyond `length`
        self.values = torch.empty_like(self.keys)
        self.length = 0

    def __len__(self) -> int:
        return self.length

    def append(
        self,
        k: Float[Tensor, "batch kv_heads time d_head"],
        v: Float[Tensor, "batch kv_heads time d_head"],
    ) -> tuple[Float[Tensor, "batch kv_heads all_time d_head"], Float[Tensor, "batch kv_heads all_time d_head"]]:
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(
                f"the cache holds {self.keys.shape[2]} tokens: {self.length} are there, {k.shape[2]} more do not fit"
            )
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


def make_caches(
    config: TransformerConfig,
    batch: int,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> list[KVCache]:
    """One empty cache per layer of a model of this shape, each as long as the model's `max_time`."""
    return [
        KVCache(batch, config.n_kv_heads, config.max_time, config.d_head, dtype, device) for _ in range(config.n_layers)
    ]
