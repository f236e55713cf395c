"""The scans over lengths, forward and backward, and whole models, against the plain loop, mambapy and transformers' slow paths."""

import logging
import statistics
import time
from collections.abc import Callable

import torch
from hybridlab.ssm.chunked_scan import chunked_scan
from hybridlab.ssm.compiled_scan import kernels
from hybridlab.ssm.fused import in_spans, run_selective_scan, run_ssd, scan_chunk
from hybridlab.ssm.mamba_weights import from_transformers
from hybridlab.ssm.selective_scan import selective_scan
from hybridlab.ssm.ssd import ssd
from torch import Tensor

from tests.benchmarks.record import ratio, say, turn_about, write

D_INNER, D_STATE = 256, 16  # Mamba
HEADS, D_HEAD, WIDE_STATE, CHUNK = 4, 64, 64, 64  # Mamba-2, as wide
SLOW_BACKWARD = 512  # transformers' loop slices: its backward is quadratic
NOTE = (
    "One text. Mamba: 256 channels, a state of 16; Mamba-2: 4 heads of 64, a state of 64. A ratio is the speed over that of the row "
    "without one, at the same length, kind and direction: the loop for Mamba's scans, transformers for Mamba-2's and for whole models "
    "(4 layers, d_model 128, up to the last norm). {mambapy} Left out: backward of transformers' Mamba beyond {slow} tokens "
    "(quadratic), and of Mamba's scans at 131,072 (all states, over 12 GiB). Matmuls of this machine: {rate:.0f} GFLOP/s in float32; "
    "of which SSD's forward pass in PyTorch reaches {share:.0%}; the scan in C takes as long as SSD would at {in_c:.0%} (16,384 tokens)."
)


def selective(length: int) -> list[Tensor]:
    torch.manual_seed(0)
    x, B, C = torch.randn(1, length, D_INNER), torch.randn(1, length, D_STATE), torch.randn(1, length, D_STATE)
    return [x, 0.1 * torch.rand(1, length, D_INNER), -torch.arange(1.0, D_STATE + 1).repeat(D_INNER, 1), B, C]


def heads(length: int) -> list[Tensor]:
    torch.manual_seed(0)
    x, B, C = torch.randn(1, length, HEADS, D_HEAD), torch.randn(1, length, 1, WIDE_STATE), torch.randn(1, length, 1, WIDE_STATE)
    return [x, 0.1 * torch.rand(1, length, HEADS), -torch.linspace(1, 16, HEADS), B, C]


def transformers_selective(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    from transformers.models.mamba.modeling_mamba import mamba_selective_scan

    return mamba_selective_scan(x.mT, dt.mT, A, B.mT, C.mT, return_last_state=True)


def transformers_heads(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

    return mamba2_chunk_scan(x, dt, A, B, C, 256, return_final_states=True)


def mambapy_scan() -> Callable | None:
    """mambapy's parallel scan in our shapes, where the package is installed; it is none of the course's."""
    try:
        from mambapy.pscan import pscan
    except ImportError:
        return None

    def scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
        states = pscan(torch.exp(dt[..., None] * A), (dt * x)[..., None] * B[:, :, None])
        return (states @ C[..., None]).squeeze(3), states[:, -1]

    return scan


def forward(scan: Callable, given: list[Tensor]) -> Callable[[], object]:
    return torch.no_grad()(lambda: scan(*given))


def both_ways(scan: Callable, given: list[Tensor]) -> Callable[[], object]:
    given = [part.clone().requires_grad_() for part in given]
    return lambda: torch.autograd.grad(scan(*given)[0].square().mean(), given)


class Table:
    """Samples in tokens per second, and ratios to each group's base."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.clock = clock
        self.samples: dict[str, list[float]] = {}
        self.ratios: dict[str, float] = {}

    def measure(
        self, label: str, length: int, calls: dict[str, Callable], base: str, repeat: int, *, warm_up: bool = True
    ) -> dict[str, list[float]]:
        say(f"  {label}, {length:,} tokens")
        taken = turn_about(calls, repeat, warm_up=warm_up, clock=self.clock)
        for name, milliseconds in taken.items():
            row = f"{label}, {length:,} tokens: {name}"
            self.samples[row] = [1e3 * length / value for value in milliseconds]
            if name != base and base in taken:
                self.ratios[row] = ratio(taken, base, name)
        return taken


def two_levels(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    return in_spans(chunked_scan, x, dt, A, B, C, chunk=scan_chunk(x.shape[1]))


def matmuls(*given: Tensor) -> tuple[Tensor, Tensor]:
    return in_spans(ssd, *given)


def scans(table: Table) -> dict[str, float]:
    """All scans over all lengths; returns the FLOP/s of SSD's forward pass at 16,384 tokens, by who computes it."""
    mambapy = mambapy_scan()
    for length, repeat in ((2_048, 5), (16_384, 3), (131_072, 1)):
        given = selective(length)
        ours = {"the loop": selective_scan, "two levels, ours": two_levels}
        if mambapy and length < 131_072:
            ours["mambapy"] = mambapy
        slow = {"transformers": transformers_selective} if length < 131_072 else {}
        calls = {k: forward(f, given) for k, f in (ours | {"in C, ours": run_selective_scan} | slow).items()}
        table.measure("Mamba's scan, forward", length, calls, "the loop", repeat)
        if length < 131_072:
            calls = {k: both_ways(f, given) for k, f in ours.items()}
            table.measure("Mamba's scan, forward and backward", length, calls, "the loop", repeat)
        if length == 2_048:
            few = selective(SLOW_BACKWARD)
            calls = {k: both_ways(f, few) for k, f in (ours | slow).items()}
            table.measure("Mamba's scan, forward and backward", SLOW_BACKWARD, calls, "the loop", 1)
        given = heads(length)
        pair = {"transformers": transformers_heads, "matmuls (SSD), ours": matmuls}
        calls = {k: forward(f, given) for k, f in (pair | {"in C, ours": run_ssd}).items()}
        taken = table.measure("Mamba-2's scan, forward", length, calls, "transformers", repeat)
        if length == 16_384:
            inner = HEADS * D_HEAD
            per_token = 2 * (CHUNK * WIDE_STATE + CHUNK * inner + 2 * inner * WIDE_STATE)  # C Bᵀ; times dt x; into the state, out of it
            flops = {name: per_token * length / (statistics.median(values) / 1e3) for name, values in taken.items()}
        calls = {k: both_ways(f, given) for k, f in pair.items()}
        table.measure("Mamba-2's scan, forward and backward", length, calls, "transformers", repeat)
    return flops


def models(table: Table) -> None:
    """Reading, end to end."""
    from transformers import Mamba2Config, Mamba2Model, MambaConfig, MambaModel

    sizes = {"vocab_size": 1_000, "hidden_size": 128, "num_hidden_layers": 4}
    torch.manual_seed(0)
    theirs = {
        "Mamba": MambaModel(MambaConfig(**sizes, state_size=16)),
        "Mamba-2": Mamba2Model(Mamba2Config(**sizes, state_size=64, num_heads=HEADS, head_dim=D_HEAD, n_groups=1)),
    }
    for name, model in theirs.items():
        ours = from_transformers(model.eval())
        for length, repeat in ((2_048, 3), (16_384, 1)):
            tokens = torch.randint(1_000, (1, length))
            calls = {
                "transformers": torch.no_grad()(lambda model=model, tokens=tokens: model(tokens, use_cache=True)),
                "ours": torch.no_grad()(lambda ours=ours, tokens=tokens: ours.read(tokens)),
            }
            table.measure(f"a {name}, reading", length, calls, "transformers", repeat)


def matmul_rate() -> float:
    """FLOP/s of float32 matmuls of 1,024 × 1,024."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return 2 * 1024**3 / (min(turn_about({"matmul": lambda: a @ b}, 9)["matmul"]) / 1e3)


def main() -> None:
    logging.disable(logging.WARNING)  # transformers says for each kernel that it is missing
    if kernels() is None:
        raise SystemExit("there is no C compiler (cc): the rows in C would be PyTorch's. Install gcc, then measure again.")
    table, rate = Table(), matmul_rate()
    flops = scans(table)
    models(table)
    mambapy = "mambapy 1.2.0's pscan." if mambapy_scan() else "mambapy was not installed."
    share, in_c = (flops[f"{name}, ours"] / rate for name in ("matmuls (SSD)", "in C"))
    note = NOTE.format(mambapy=mambapy, slow=SLOW_BACKWARD, rate=rate / 1e9, share=share, in_c=in_c)
    write("scans", unit="tokens per second of CPU time", samples=table.samples, ratios=table.ratios, note=note)
