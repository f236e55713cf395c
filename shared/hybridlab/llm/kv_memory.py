"""How many bytes the KV cache takes: the number that decides how many people one machine can answer."""

from collections.abc import Sequence

import torch

from hybridlab.exercise import exercise
from hybridlab.transformer.config import TransformerConfig


@exercise
def kv_cache_bytes(
    config: TransformerConfig, lengths: Sequence[int], *, block_size: int = 1, dtype: torch.dtype = torch.float32
) -> int:
    """Bytes of all keys and values of several sequences, over all layers of a model of this shape.

    `lengths` holds the number of tokens of each sequence. A token has one key and one value in each layer for each of its
    key/value heads, each of `config.d_head` numbers of type `dtype`.

    Memory is given out in blocks of `block_size` tokens, and a sequence has its blocks for itself: each length counts as
    rounded up to whole blocks. With `block_size=1` nothing is rounded.

    Returns: a whole number of bytes. Without sequences, or for sequences of length 0, it is 0.
    Raises: ValueError if block_size is less than 1, or a length is negative.
    Source: PagedAttention, arXiv 2309.06180, section 3 (800 KB a token for OPT-13B).
    """
    if block_size < 1:
        raise ValueError(f"block_size is {block_size}; a block holds at least one token")
    if any(length < 0 for length in lengths):
        raise ValueError(f"the shortest length is {min(lengths)}; a sequence has 0 tokens or more")
    a_token = 2 * config.n_layers * config.n_kv_heads * config.d_head * dtype.itemsize
    n_blocks = sum(-(-length // block_size) for length in lengths)
    return n_blocks * block_size * a_token
