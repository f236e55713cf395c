"""What attention looked at: the weights inside a trained model, which its forward pass does not return.

They are read through the contract of `MultiHeadAttention` alone (its call, its cache, `o_proj`), so any MiniTransformer can be
looked into, also one whose attention is the learner's: a cache hands back unit vectors in the place of the values, and what then
reaches `o_proj` is the weights themselves, d_head columns at a time.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybridlab.transformer.model import MiniTransformer


class _UnitValues:
    """A cache that keeps nothing: it hands back the keys, and unit vectors for the values from `start` on. `d_head` is seen on the way."""

    def __init__(self, start: int):
        self.start, self.d_head = start, 0

    def __len__(self) -> int:
        return 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        time, self.d_head = v.shape[-2:]
        columns = torch.arange(self.start, self.start + self.d_head, device=v.device)
        units = (torch.arange(time, device=v.device)[:, None] == columns).to(v.dtype)  # (time, d_head)
        return k, units.expand(v.shape)


@torch.no_grad()
def attention_maps(model: MiniTransformer, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "layers batch heads time time"]:
    """Where each position looks, in every layer and head: row = the position that asks, column = the one it looks at."""
    seen: list[Tensor] = []
    hooks = [
        layer.self_attn.register_forward_pre_hook(lambda _, args, named: seen.append(args[0] if args else named["x"]), with_kwargs=True)
        for layer in model.layers
    ]
    was_training = model.training
    try:
        model.eval()(tokens)
        for hook in hooks:
            hook.remove()
        return torch.stack([_weights(layer.self_attn, x) for layer, x in zip(model.layers, seen, strict=True)])
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


def _weights(attention: nn.Module, x: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch heads time time"]:
    time, joined, start = x.shape[1], [], 0
    hook = attention.o_proj.register_forward_pre_hook(lambda _, args: joined.append(args[0]))
    try:
        while start < time:
            probe = _UnitValues(start)
            attention(x, causal=True, cache=probe)
            start += probe.d_head
    finally:
        hook.remove()
    columns = [part.unflatten(-1, (-1, probe.d_head)).transpose(1, 2) for part in joined]  # (batch, heads, time, d_head) each
    return torch.cat(columns, -1)[..., :time]
