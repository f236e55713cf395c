"""Our attention, written from scratch, against PyTorch's own: the fused function and the module."""

from functools import partial

import torch
from hybridlab.transformer.attention import MultiHeadAttention, attention_mask, scaled_dot_product_attention
from torch import nn
from torch.nn import functional as F

from tests.benchmarks.record import ratio, turn_about, write

SHAPES = {"batch 12, time 64": (12, 64), "batch 4, time 256": (4, 256), "batch 1, time 1,024": (1, 1024)}
D_MODEL, HEADS = 128, 4


def modules(batch: int, time: int) -> dict:
    """Ours and nn.MultiheadAttention, causal, forward and backward as in training."""
    torch.manual_seed(0)
    x = torch.randn(batch, time, D_MODEL, requires_grad=True)
    ours = MultiHeadAttention(D_MODEL, HEADS)
    theirs = nn.MultiheadAttention(D_MODEL, HEADS, bias=False, batch_first=True)
    hidden = ~attention_mask(time, time, causal=True)[0, 0]
    return {
        "ours": lambda: ours(x).sum().backward(),
        "PyTorch": lambda: theirs(x, x, x, attn_mask=hidden, is_causal=True, need_weights=False)[0].sum().backward(),
    }


def functions(batch: int, time: int) -> dict:
    """The function alone, forward: softmax(q kᵀ / √d) v against the fused kernel."""
    q, k, v = (torch.randn(batch, HEADS, time, D_MODEL // HEADS) for _ in range(3))
    mask = attention_mask(time, time, causal=True)
    fused = partial(F.scaled_dot_product_attention, q, k, v, is_causal=True)
    return {"ours": torch.no_grad()(lambda: scaled_dot_product_attention(q, k, v, mask)), "PyTorch": torch.no_grad()(fused)}


def main() -> None:
    samples, ratios = {}, {}
    for kind, make in (("module, forward and backward", modules), ("function, forward", functions)):
        for shape, sizes in SHAPES.items():
            taken = turn_about(make(*sizes), repeat=15)
            for side, values in taken.items():
                samples[f"{kind}, {shape}: {side}"] = values
            ratios[f"{kind}, {shape}: ours"] = ratio(taken, "ours", "PyTorch")
    note = f"d_model {D_MODEL}, {HEADS} heads, causal. A ratio is our time over PyTorch's: 1.00 is as fast, 2.00 takes twice as long."
    write("attention", unit="ms of CPU time", samples=samples, ratios=ratios, note=note)
