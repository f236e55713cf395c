"""The MiniTransformer's forward pass for sequences that stand at different places, over a paged cache.

`MiniTransformer.forward` takes one position for the whole batch. Here every row has its own: each step rotates queries and keys
by the row's own positions, writes the new keys into the row's own blocks, and lets each row see its own tokens alone. All
matrices are the model's own, and so is the attention.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.llm.paged_cache import PagedKVCache
from hybridlab.transformer.attention import scaled_dot_product_attention
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.positions import apply_rotary, rotary_angles


def make_paged_cache(model: MiniTransformer, n_blocks: int, block_size: int = 16) -> PagedKVCache:
    """An empty cache of the model's shape, dtype and device."""
    weight = model.embed_tokens.weight
    return PagedKVCache(model.config, n_blocks, block_size, dtype=weight.dtype, device=weight.device)


@torch.no_grad()
def forward_paged(
    model: MiniTransformer, tokens: Int[Tensor, "batch time"], cache: PagedKVCache, sequences: Sequence[int]
) -> Float[Tensor, "batch time d_model"]:
    """Run `time` new tokens of each sequence, append their keys and values to the cache, and return the last hidden states.

    `model.lm_head` makes logits of those that are wanted: for a prompt the last one is enough.

    Raises:
        OutOfBlocks: the cache has no room for the new tokens; it is as it was.
        ValueError: the model has no rotary positions or puts its norms behind, or a sequence grows beyond `max_time`.
    """
    config = model.config
    if config.positions != "rotary" or config.norm_placement != "pre":
        found = f"{config.positions}, {config.norm_placement}-norm"
        raise ValueError(f"forward_paged runs rotary, pre-norm models (Llama's shape), not {found}")
    time = tokens.shape[1]
    longest = max(cache.lengths[s] for s in sequences) + time
    if longest > config.max_time:
        raise ValueError(f"a sequence would have {longest} tokens, and the model's max_time is {config.max_time}: shorten the prompt")
    cache.extend(sequences, time)
    slots, _ = cache.slots(sequences)  # (batch, longest)
    ends = torch.tensor([cache.lengths[s] for s in sequences], device=tokens.device)
    positions = ends[:, None] - time + torch.arange(time, device=tokens.device)  # (batch, time)
    new_slots = slots.gather(1, positions).flatten()
    # position p sees what stands at p and before; what lies behind a row's end is seen by nobody
    mask = (torch.arange(slots.shape[1], device=tokens.device) <= positions[..., None])[:, None]  # (batch, 1, time, longest)
    cos, sin = rotary_angles(positions.flatten(), config.d_head, config.rope_theta)  # (batch · time, half)
    x = model.embed_tokens(tokens)
    for number, layer in enumerate(model.layers):
        attention, normed = layer.self_attn, layer.input_layernorm(x).flatten(0, 1)
        # all tokens of all sequences in one row: (heads, batch · time, d_head)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        q, k, v = (project(normed).unflatten(-1, (-1, config.d_head)).transpose(0, 1) for project in projections)
        if config.qk_norm:  # else an attention class need not have them
            q, k = attention.q_norm(q), attention.k_norm(k)
        q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        cache.write(number, new_slots, k.transpose(0, 1), v.transpose(0, 1))
        q = q.unflatten(1, tokens.shape).transpose(0, 1)  # (batch, heads, time, d_head)
        attended = scaled_dot_product_attention(q, *cache.read(number, slots), mask)
        x = x + attention.o_proj(attended.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return model.norm(x)
