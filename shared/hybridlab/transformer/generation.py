"""Text from a model: one token at a time, with or without a KV cache, and the same tokens either way."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybridlab.transformer.cache import make_caches
from hybridlab.transformer.sampling import filter_logits


def choose_token(
    logits: Float[Tensor, "batch vocab"],
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator | None,
) -> Int[Tensor, "batch 1"]:
    """Draw one token per row; `temperature=0` takes the most probable one (greedy)."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    allowed = filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    return torch.multinomial(allowed.softmax(dim=-1), 1, generator=generator)


def window_start(length: int, max_time: int) -> int:
    """The first token that a model of `max_time` positions still sees when `length` tokens are there.

    When the window is full, its older half is dropped at once. It then grows again, so that a cache has to be built anew
    only every `max_time / 2` tokens; a window that slid by one token would have to be built anew for each.
    """
    half = max(1, max_time // 2)
    too_many = max(0, length - max_time)
    return -(-too_many // half) * half


@torch.no_grad()
def generate(
    model: nn.Module,
    tokens: Int[Tensor, "batch time"],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
) -> Int[Tensor, "batch all_time"]:
    """Continue each row of `tokens` by `max_new_tokens` tokens, and return prompt and continuation together.

    `temperature`, `top_k` and `top_p` are those of `filter_logits`; `temperature=0` is greedy. Texts longer than the
    model's `max_time` are allowed: see `window_start`. `use_cache` changes the time it takes, not the tokens.
    The model's train/eval mode is the same afterwards.

    Raises:
        ValueError: the prompt is empty, or `max_new_tokens` is negative.
    """
    if tokens.shape[1] < 1:
        raise ValueError("the prompt is empty: give at least one token to begin from")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be 0 or more, got {max_new_tokens}")
    was_training = model.training
    model.eval()
    try:
        caches, start = None, -1
        for _ in range(max_new_tokens):
            first = window_start(tokens.shape[1], model.config.max_time)
            if use_cache and first != start:
                weight = next(model.parameters())
                caches, start = make_caches(model.config, len(tokens), dtype=weight.dtype, device=weight.device), first
            seen = first + len(caches[0]) if caches else first
            logits = model(tokens[:, seen:], caches=caches)[:, -1]
            choice = choose_token(logits, temperature=temperature, top_k=top_k, top_p=top_p, generator=generator)
            tokens = torch.cat([tokens, choice], dim=1)
    finally:
        model.train(was_training)
    return tokens
