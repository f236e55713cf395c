"""Our block against PyTorch's own encoder layer of the same shape: pre-norm, LayerNorm, GELU, causal."""

import torch
from hybridlab.transformer.attention import attention_mask
from hybridlab.transformer.block import Block
from hybridlab.transformer.config import TransformerConfig
from torch import nn

from tests.benchmarks.record import ratio, turn_about, write

SHAPES = {"batch 12, time 64": (12, 64), "batch 4, time 256": (4, 256)}
D_MODEL, HEADS = 128, 4


def pair(batch: int, time: int) -> dict:
    torch.manual_seed(0)
    x = torch.randn(batch, time, D_MODEL, requires_grad=True)
    ours = Block(TransformerConfig.gpt2(64, d_model=D_MODEL, n_heads=HEADS))
    llama = Block(TransformerConfig.llama(64, d_model=D_MODEL, n_heads=HEADS, n_kv_heads=HEADS))
    theirs = nn.TransformerEncoderLayer(D_MODEL, HEADS, 4 * D_MODEL, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
    hidden = ~attention_mask(time, time, causal=True)[0, 0]
    return {
        "ours, GPT-2's shape": lambda: ours(x).sum().backward(),
        "ours, Llama's shape": lambda: llama(x).sum().backward(),
        "PyTorch": lambda: theirs(x, src_mask=hidden, is_causal=True).sum().backward(),
    }


def main() -> None:
    samples, ratios = {}, {}
    for shape, sizes in SHAPES.items():
        taken = turn_about(pair(*sizes), repeat=15)
        for side, values in taken.items():
            samples[f"{shape}: {side}"] = values
            if side != "PyTorch":
                ratios[f"{shape}: {side}"] = ratio(taken, side, "PyTorch")
    note = (
        f"d_model {D_MODEL}, {HEADS} heads, forward and backward. "
        "PyTorch: nn.TransformerEncoderLayer in GPT-2's shape; both of ours against it."
    )
    write("block", unit="ms of CPU time", samples=samples, ratios=ratios, note=note)
