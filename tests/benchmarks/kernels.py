"""mamba-ssm's kernels on a CUDA GPU beside our scans there: time, and how far both are from the plain loop in float64.

Only on a machine with such a GPU and `mamba-ssm` (docker/environment-gpu.yml); elsewhere what is on record stays.
"""

import time
from importlib.metadata import version
from unittest.mock import patch

import torch
from hybridlab.ssm import fused
from hybridlab.ssm.chunked_scan import chunked_scan
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.selective_scan import selective_scan
from hybridlab.ssm.ssd import ssd
from torch import Tensor

from tests.benchmarks.record import say, write
from tests.benchmarks.scans import Table, both_ways, forward, heads, matmuls, selective, two_levels
from tests.unit.test_scans import ssd_as_loop

LENGTHS, EXACT, REPEAT = (2_048, 16_384), (2, 63, 64, 1_000, 4_999), 5
NOTE = (
    "{gpu}, mamba-ssm {package}, torch {torch}, Triton {triton}. Shapes as in the scans above. A ratio is the speed over that of ours "
    "in PyTorch on the same GPU. Largest error over the largest value, beside the plain loop in float64, over {lengths} tokens: {errors}. "
    "(Mamba-2's kernel multiplies in TF32.) Models: 4 layers, d_model 128; their last hidden states differ between GPU and CPU by {models}."
)


def gpu_clock() -> float:
    """Seconds, once the GPU has done what it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


def on_gpu(given: list[Tensor]) -> list[Tensor]:
    return [part.cuda() for part in given]


def error(got: Tensor, exact: Tensor) -> float:
    return float((got.double().cpu() - exact).abs().max() / exact.abs().max())


def loop_by_heads(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    return ssd_as_loop(x, dt, A, B, C, x.new_zeros(*x.shape[:1], *x.shape[2:], B.shape[-1]))


def errors() -> str:
    """The largest errors, forward and of the gradients, over all of EXACT."""
    told = []
    sides = {
        "Mamba": (selective, selective_scan, {"kernel": fused.fused_selective_scan, "ours": chunked_scan}),
        "Mamba-2": (heads, loop_by_heads, {"kernel": lambda *given: fused.fused_ssd(*given, None), "ours": ssd}),
    }
    for name, (make, exact, scans) in sides.items():
        worst = dict.fromkeys(scans, (0.0, 0.0))
        for length in EXACT:
            given = make(length)
            wide = [part.double() for part in given]
            y, slopes = forward(exact, wide)(), both_ways(exact, wide)()
            for who, scan in scans.items():
                there = on_gpu(given)
                values = max(error(a, b) for a, b in zip(forward(scan, there)(), y, strict=True))
                grads = max(error(a, b) for a, b in zip(both_ways(scan, there)(), slopes, strict=True))
                worst[who] = (max(worst[who][0], values), max(worst[who][1], grads))
        told += [f"{name}, {who} {values:.1e}, gradients {grads:.1e}" for who, (values, grads) in worst.items()]
    return "; ".join(told)


def main() -> None:
    if not torch.cuda.is_available() or fused.kernels() is None:
        say("  there is no CUDA GPU with mamba-ssm here: what is on record stays")
        return
    table = Table(gpu_clock)
    for length in LENGTHS:
        for name, make, kernel, ours in (
            ("Mamba", selective, fused.fused_selective_scan, two_levels),
            ("Mamba-2", heads, lambda *given: fused.fused_ssd(*given, None), matmuls),
        ):
            given = on_gpu(make(length))
            calls = {"ours": forward(ours, given), "kernel": forward(kernel, given)}
            table.measure(f"{name}'s scan, forward", length, calls, "ours", REPEAT)
            calls = {"ours": both_ways(ours, given), "kernel": both_ways(kernel, given)}
            table.measure(f"{name}'s scan, forward and backward", length, calls, "ours", REPEAT)

    apart = []
    for number, name in ((1, "Mamba"), (2, "Mamba-2")):
        torch.manual_seed(0)
        model = Mamba(MambaConfig(1_000, n_layers=4, version=number, d_state=16 if number == 1 else 64)).eval()
        tokens = torch.randint(1_000, (1, 16_384))
        with torch.no_grad():
            here = model.read(tokens)[0].double()
            model.cuda()
            there = tokens.cuda()
            apart.append(f"{error(model.read(there)[0], here):.1e} ({name})")

            def without(model: Mamba = model, there: Tensor = there) -> object:
                with patch.object(fused, "kernels", lambda: None):
                    return model.read(there)

            calls = {"ours": without, "kernel": lambda model=model, there=there: model.read(there)}
            table.measure(f"a {name}, reading", 16_384, calls, "ours", REPEAT)

    import mamba_ssm

    note = NOTE.format(
        gpu=torch.cuda.get_device_name(),
        package=mamba_ssm.__version__,
        torch=version("torch"),
        triton=version("triton"),
        lengths=", ".join(f"{length:,}" for length in EXACT),
        errors=errors(),
        models=" and ".join(apart),
    )
    write("kernels", unit="tokens per second", samples=table.samples, ratios=table.ratios, note=note)
