"""What every benchmark writes: the command, the machine, the versions, the samples, and their medians."""

import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
RESULTS = HERE / "results"
REPO = HERE.parents[1]


def machine() -> dict[str, Any]:
    """Cores that this process may use, the processor's model, memory in GiB. Nothing that names the machine."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cores": cores, "cpu": model, "ram_gib": round(psutil.virtual_memory().total / 2**30)}


def processor_flags() -> list[str]:
    """Of the instructions that a model's speed hangs on, those that this processor has."""
    if not Path("/proc/cpuinfo").is_file():
        return []
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in ("avx2", "fma", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8") if flag in flags]


def kind_of(flags: list[str]) -> str:
    """What records of one benchmark on several processors are kept apart by: the widest of these instructions, or none."""
    return next((flag for flag in ("avx512f", "avx2") if flag in flags), "")


def write(
    name: str,
    *,
    unit: str,
    samples: dict[str, list[float]],
    ratios: dict[str, float] | None = None,
    by_processor: bool = False,
    **more: Any,
) -> Path:
    """Write `results/<name>.json`, whole or not at all. `samples` holds the measured values of each row, in `unit`.

    `by_processor`: it hangs on the processor's instructions, and is kept for each kind, as `results/<name>.<kind>.json`.
    """
    import torch

    content = {
        "command": f"python -m tests.benchmarks {name}",
        "machine": machine(),
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "threads": torch.get_num_threads(),
        "unit": unit,
        "samples": {row: [float(f"{value:.4g}") for value in values] for row, values in samples.items()},
        "median": {row: float(f"{statistics.median(values):.4g}") for row, values in samples.items()},
        "ratios": {row: round(value, 2) for row, value in (ratios or {}).items()},
        **more,
    }
    path = RESULTS / f"{name}.json"
    if by_processor:
        content["processor"] = processor_flags()
        path = path.with_name(".".join(filter(None, (name, kind_of(content["processor"]), "json"))))
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    draft.replace(path)
    return path


class Spent:
    """CPU seconds of this process and its ended children, and the MiB by which it has grown at its peak, from here on."""

    def __init__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._cpu, self._size = self._seconds(), self._peak()

    @staticmethod
    def _seconds() -> float:
        return sum(psutil.Process().cpu_times()[:4])

    @staticmethod
    def _peak() -> float:
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10

    def told(self) -> dict[str, float]:
        """`cpu`, s; `memory`, what the process grew by, and `peak`, how large it was, in MiB."""
        return {"cpu": self._seconds() - self._cpu, "memory": self._peak() - self._size, "peak": self._peak()}


def alone(side: Callable[..., dict], *given: Any) -> dict[str, Any]:
    """What `side(*given)` gives in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(side, *given).result()


def turn_about(
    calls: dict[str, Callable[[], Any]], repeat: int, *, warm_up: bool = True, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Time of each call in milliseconds, `repeat` times; by default this process's. The calls take turns: a busy moment hits all."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values() if warm_up else ():
        call()
    for round_ in range(repeat):
        names = list(calls) if round_ % 2 == 0 else list(reversed(calls))
        for name in names:
            begin = clock()
            calls[name]()
            samples[name].append(1e3 * (clock() - begin))
    return samples


def ratio(samples: dict[str, list[float]], row: str, base: str) -> float:
    """How many times the base's time a row takes: the median of the ratios within each turn."""
    return statistics.median(a / b for a, b in zip(samples[row], samples[base], strict=True))


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
