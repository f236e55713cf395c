"""A linear layer in few bits: bytes, and the time of its product for one token, against float32 and the libraries' own."""

import copy
import warnings

import torch
from hybridlab.llm.quantized_linear import QuantizedLinear
from torch import nn

from tests.benchmarks.record import ratio, turn_about, write

D_IN, D_OUT, GROUP = 576, 1536, 64  # the MLP of SmolLM2


@torch.no_grad()
def main() -> None:
    warnings.filterwarnings("ignore")  # torch announces the end of quantize_dynamic; this version has it
    import torchao.quantization as torchao

    torch.manual_seed(0)
    linear, x = nn.Linear(D_IN, D_OUT, bias=False), torch.randn(1, D_IN)
    alone = nn.Sequential(linear)
    weight_only = copy.deepcopy(alone)
    torchao.quantize_(weight_only, torchao.Int8WeightOnlyConfig())
    dynamic = torch.ao.quantization.quantize_dynamic(copy.deepcopy(alone), {nn.Linear}, dtype=torch.qint8)
    own = {
        "int8, a scale a row, ours": QuantizedLinear(linear, 8, D_IN),
        f"int8, groups of {GROUP}, ours": QuantizedLinear(linear, 8, GROUP),
        f"int4, groups of {GROUP}, ours": QuantizedLinear(linear, 4, GROUP),
    }
    layers = {"float32": alone, **own, "int8 weight-only, torchao": weight_only, "int8 dynamic, torch": dynamic}
    taken = turn_about({name: lambda layer=layer: [layer(x) for _ in range(20)] for name, layer in layers.items()}, repeat=15)
    sizes = "; ".join(f"{name} {layer.n_bytes:,}" for name, layer in own.items())
    note = (
        f"A layer of {D_IN} × {D_OUT}, one token, as when a model writes; twenty products a sample. A ratio is the time over float32's. "
        f"Ours make the float32 weights anew for each product. Bytes with scales: float32 {linear.weight.nbytes:,}; {sizes}."
    )
    ratios = {name: ratio(taken, name, "float32") for name in layers if name != "float32"}
    write("quantize", unit="ms of CPU time per 20 products", samples=taken, ratios=ratios, note=note)
