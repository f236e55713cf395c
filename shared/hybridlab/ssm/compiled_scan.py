"""The scans in C, for reading on a CPU: compiled once with the machine's own compiler, four to ten times as fast as with PyTorch's.

It reads only: where a gradient is wanted, PyTorch's own run. It steps from token to token, so a text that is cut anywhere gives the same
bits. Where there is no C compiler, or what it makes can't be loaded, everything runs without it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.data.cache import cache_dir
from hybridlab.exercise import REGISTRY, UNDER_TEST
from hybridlab.ssm.scan_inputs import ScanInputs, require_finite

SOURCE = Path(__file__).with_suffix(".c")
COMMAND = ("cc", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-shared")
SECONDS = 60  # for the compiler, which takes one
VECTOR, LARGEST_STATE = 8, 256  # as in the source: floats in a vector, numbers of a channel's state


@functools.cache
def kernels() -> ctypes.CDLL | None:
    """The compiled scans, made where they are missing; None where they can't be had on this machine."""
    try:
        return ctypes.CDLL(str(_compiled(cache_dir() / "compiled")))
    except (OSError, subprocess.SubprocessError) as error:
        logging.getLogger(__name__).info("the scans run without C: %s", error)
        return None


def _compiled(folder: Path) -> Path:
    """The library for this source and this processor. Raises OSError, SubprocessError."""
    about = [*COMMAND, SOURCE.read_text("utf-8"), platform.machine(), _processor()]
    library = folder / f"scan-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}.so"
    if not library.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as draft:  # two processes at once: each makes its own, the last one stays
            made = Path(draft) / library.name
            subprocess.run([*COMMAND, "-o", made, SOURCE], check=True, capture_output=True, timeout=SECONDS)
            os.replace(made, library)
    return library


def _processor() -> str:
    """What the processor can do: a library that was compiled on another one may not run on this one."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def compiled_serves(symbols: tuple[str, ...], *tensors: Tensor | None) -> bool:
    """Whether a scan of these tensors runs in C: on a CPU, in float32 or narrower, with no gradient wanted, where the scan's `symbols`
    (exercises of hybridlab.ssm) are the reference's and not a learner's own, and no answer is being judged."""
    given = [tensor for tensor in tensors if tensor is not None]
    plain = all(tensor.device.type == "cpu" and tensor.dtype != torch.float64 for tensor in given)
    learning = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    own = any(REGISTRY[f"hybridlab.ssm.{symbol}"].origin != "reference" for symbol in symbols)
    return plain and not learning and not own and not UNDER_TEST and kernels() is not None


def compiled_selective_scan(inputs: ScanInputs) -> tuple[Float[Tensor, "batch time d_inner"], Float[Tensor, "batch d_inner d_state"]]:
    """`selective_scan` in C; `inputs` are what `selective_inputs` gave.

    Raises:
        ValueError: a result that is not finite.
    """
    inputs = inputs._replace(x=inputs.x.contiguous(), B=inputs.B.contiguous(), C=inputs.C.contiguous())
    return _scan(kernels().selective_scan, inputs, (*inputs.x.shape[1:], inputs.A.shape[1]))


def compiled_ssd(inputs: ScanInputs) -> tuple[Float[Tensor, "batch time heads d_head"], Float[Tensor, "batch heads d_head d_state"]]:
    """`ssd` in C; `inputs` are what `ssd_inputs` gave, with a d_state that is a multiple of VECTOR.

    Raises:
        ValueError: a result that is not finite.
    """
    inputs = inputs._replace(x=_tokens(inputs.x), B=_tokens(inputs.B), C=_tokens(inputs.C))
    steps = (part.stride(1) for part in (inputs.x, inputs.B, inputs.C))
    return _scan(kernels().ssd, inputs, (*inputs.x.shape[1:], *inputs.B.shape[2:], *steps))


def _tokens(part: Float[Tensor, "batch time outer inner"]) -> Float[Tensor, "batch time outer inner"]:
    """The same, with a token's own numbers side by side; from one token to the next it may be further."""
    return part if part.stride()[2:] == (part.shape[3], 1) else part.contiguous()


def _scan(kernel: Callable, inputs: ScanInputs, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    x, dt, A, B, C = inputs.x, inputs.dt.contiguous(), inputs.A.contiguous(), inputs.B, inputs.C
    y, state = torch.empty_like(x, memory_format=torch.contiguous_format), inputs.state.clone(memory_format=torch.contiguous_format)
    for row in zip(x, dt, [A] * len(x), B, C, state, y, strict=True):
        call(kernel, *row, *sizes)
    require_finite(y, state, inputs)
    return y, state


def call(kernel: Callable, *values: Tensor | int | float | None) -> None:
    """Call a function of the library: tensors by their first number's place (None: no place), whole numbers of 64 bits, float32."""
    kinds = {int: ctypes.c_int64, float: ctypes.c_float, type(None): ctypes.c_void_p}
    kernel(*(ctypes.c_void_p(value.data_ptr()) if isinstance(value, Tensor) else kinds[type(value)](value) for value in values))
