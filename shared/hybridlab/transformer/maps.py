"""What attention looked at: the weights inside a trained model, which its forward pass does not return.

The inputs of each attention are caught on their way, and the weights are computed again from them with the model's own
projections. So any MiniTransformer can be looked into, also one whose attention is the learner's.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.transformer.attention import MultiHeadAttention, attention_mask, softmax
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.positions import apply_rotary, rotary_angles


@torch.no_grad()
def attention_maps(
    model: MiniTransformer, tokens: Int[Tensor, "batch time"]
) -> Float[Tensor, "layers batch heads time time"]:
    """Where each position looks, in every layer and head: row = the position that asks, column = the one it looks at."""
    seen: list[Tensor] = []

    def keep(attention: MultiHeadAttention, inputs: tuple[Tensor, ...]) -> None:
        seen.append(_weights(attention, inputs[0]))

    hooks = [layer.self_attn.register_forward_pre_hook(keep) for layer in model.layers]
    was_training = model.training
    try:
        model.eval()(tokens)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return torch.stack(seen)


def _weights(
    attention: MultiHeadAttention, x: Float[Tensor, "batch time d_model"]
) -> Float[Tensor, "batch heads time time"]:
    time, d_head = x.shape[1], attention.d_head
    q, k = (proj(x).unflatten(-1, (-1, d_head)).transpose(1, 2) for proj in (attention.q_proj, attention.k_proj))
    q, k = attention.q_norm(q), attention.k_norm(k)
    if attention.rope_theta is not None:
        cos, sin = rotary_angles(torch.arange(time, device=x.device), d_head, attention.rope_theta)
        q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = q @ k.mT * d_head**-0.5
    allowed = attention_mask(time, time, causal=True, device=x.device)
    return softmax(scores.masked_fill(~allowed, torch.finfo(scores.dtype).min))
