"""What rounding costs: perplexity of a model, and bits a weight, scales included."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybridlab.llm.quantize import absmax_quantize, dequantize

SCALE_BITS = 32  # scales are kept in float32


@torch.no_grad()
def perplexity(model: nn.Module, tokens: Int[Tensor, "rows time"]) -> float:
    """exp of the mean cross-entropy (nats) of each token but the first of its row, given those before it.

    `model(tokens)` gives logits (rows, time, vocab_size), or an object with `.logits`. Rows go through it one at a time.
    Raises: ValueError if a row has less than two tokens, or if the model's logits are NaN.
    """
    if tokens.shape[1] < 2:
        raise ValueError(f"rows of {tokens.shape[1]} token: nothing can be predicted; at least two are needed")
    total = 0.0
    for row in tokens:
        out = model(row[None])
        logits = getattr(out, "logits", out)[0, :-1].float()
        total += F.cross_entropy(logits, row[1:], reduction="sum").item()
    mean = total / tokens[:, 1:].numel()
    if mean != mean:
        raise ValueError("the model's logits are NaN: its weights were spoilt, look for NaN or infinite ones")
    return torch.tensor(mean).exp().item()


def bits_per_weight(d_in: int, bits: float, group_size: int) -> float:
    """Bits a weight of a row of d_in weights: its code, and its share of the group's scale (float32)."""
    return bits + SCALE_BITS * -(-d_in // group_size) / d_in


def rounded(weight: Float[Tensor, "rows d_in"], bits: int, group_size: int) -> Float[Tensor, "rows d_in"]:
    """The weight after it has gone into codes of `bits` bits and back, in its own dtype. Raises ValueError as `absmax_quantize` does."""
    return dequantize(*absmax_quantize(weight, bits, group_size), group_size).to(weight.dtype)


def block_linears(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Every nn.Linear of the model but `lm_head`, with its name: those that quantisation is for."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] != "lm_head":
            yield name, module


@contextmanager
def changed_weights(model: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[nn.Module]:
    """Within the `with`, the weight of each of `block_linears(model)` is change(weight); afterwards it is what it was."""
    before = {name: linear.weight.data for name, linear in block_linears(model)}
    try:
        for _, linear in block_linears(model):
            linear.weight.data = change(linear.weight.data)
        yield model
    finally:
        for name, linear in block_linears(model):
            linear.weight.data = before[name]
