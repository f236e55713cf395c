"""Which code runs a scan: the fused kernels of `mamba-ssm` where they are installed and the data lies on a CUDA GPU, else ours; ours in
C (compiled_scan.py) where a CPU reads and nothing is learned.

On a CPU the tests see the choice, and the adapters with a stand-in for the package; wherever both exist, kernel and reference are compared.
That was so on one NVIDIA H200 with mamba-ssm 2.3.2 (docs/benchmarks.md, "Mamba's kernels on a GPU"): of Mamba's scan both have float32's
digits; Mamba-2's kernel multiplies in TF32, and is off by up to 2.3e-3 of the largest value, its gradients by 4.0e-3.

The kernels were seen to go wrong without a word beyond about 61,000 tokens (state-spaces/mamba, issue 1015), so longer pieces run on
ours. Our own scans are imported when they are called: a learner's version of one may import this module.
"""

import functools
import math
from collections.abc import Callable
from types import SimpleNamespace

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.ssm.compiled_scan import LARGEST_STATE, VECTOR, compiled_selective_scan, compiled_serves, compiled_ssd
from hybridlab.ssm.scan_inputs import require_finite, selective_inputs, ssd_inputs

LONGEST = 32_768  # tokens in one call of a kernel
SPAN = 2_048  # tokens that our scans take at once: the states of its chunks stay in the processor's cache


@functools.cache
def kernels() -> SimpleNamespace | None:
    """mamba-ssm's two scans, or None where the package (or Triton, or its CUDA extension) can't be imported."""
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except ImportError:
        return None
    return SimpleNamespace(selective=selective_scan_fn, ssd=mamba_chunk_scan_combined)


def kernel_serves(device: torch.device, time: int) -> bool:
    """Whether a piece of `time` tokens on this device goes to mamba-ssm's kernels."""
    return device.type == "cuda" and 1 < time <= LONGEST and kernels() is not None


def run_selective_scan(
    x: Float[Tensor, "batch time d_inner"],
    dt: Float[Tensor, "batch time d_inner"],
    A: Float[Tensor, "d_inner d_state"],
    B: Float[Tensor, "batch time d_state"],
    C: Float[Tensor, "batch time d_state"],
    state: Float[Tensor, "batch d_inner d_state"] | None = None,
) -> tuple[Float[Tensor, "batch time d_inner"], Float[Tensor, "batch d_inner d_state"]]:
    """`chunked_scan`, the same in C, or the kernel where it serves. The kernel can't begin with a state: a text that goes on runs on ours.

    Raises:
        ValueError: bad input, see `selective_inputs`; a result that is not finite.
    """
    if state is None and kernel_serves(x.device, x.shape[1]):
        return fused_selective_scan(x, dt, A, B, C)
    from hybridlab.ssm.chunked_scan import chunked_scan

    if A.shape[-1] <= LARGEST_STATE and compiled_serves(("chunked_scan.chunked_scan",), x, dt, A, B, C, state):
        y, state = compiled_selective_scan(selective_inputs(x, dt, A, B, C, state))
        return y.to(x.dtype), state
    return in_spans(chunked_scan, x, dt, A, B, C, state, chunk=scan_chunk(x.shape[1]))


def run_ssd(
    x: Float[Tensor, "batch time heads d_head"],
    dt: Float[Tensor, "batch time heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch time groups d_state"],
    C: Float[Tensor, "batch time groups d_state"],
    state: Float[Tensor, "batch heads d_head d_state"] | None = None,
) -> tuple[Float[Tensor, "batch time heads d_head"], Float[Tensor, "batch heads d_head d_state"]]:
    """`ssd`, the same in C, or the kernel where it serves.

    Raises:
        ValueError: bad input, see `ssd_inputs`; a result that is not finite.
    """
    if kernel_serves(x.device, x.shape[1]):
        return fused_ssd(x, dt, A, B, C, state)
    from hybridlab.ssm.ssd import ssd

    fits = B.shape[-1] <= LARGEST_STATE and B.shape[-1] % VECTOR == 0
    if fits and compiled_serves(("ssd.ssd", "ssd.segment_sum"), x, dt, A, B, C, state):
        y, state = compiled_ssd(ssd_inputs(x, dt, A, B, C, state))
        return y.to(x.dtype), state
    return in_spans(ssd, x, dt, A, B, C, state)


def fused_selective_scan(
    x: Float[Tensor, "batch time d_inner"],
    dt: Float[Tensor, "batch time d_inner"],
    A: Float[Tensor, "d_inner d_state"],
    B: Float[Tensor, "batch time d_state"],
    C: Float[Tensor, "batch time d_state"],
) -> tuple[Float[Tensor, "batch time d_inner"], Float[Tensor, "batch d_inner d_state"]]:
    """mamba-ssm's kernel, which has time last, on our shapes and with our checks."""
    inputs = selective_inputs(x, dt, A, B, C)
    y, state = kernels().selective(inputs.x.mT, inputs.dt.mT, inputs.A, inputs.B.mT, inputs.C.mT, return_last_state=True)
    require_finite(y, state, inputs)
    return y.mT.to(x.dtype), state


def fused_ssd(
    x: Float[Tensor, "batch time heads d_head"],
    dt: Float[Tensor, "batch time heads"],
    A: Float[Tensor, " heads"],
    B: Float[Tensor, "batch time groups d_state"],
    C: Float[Tensor, "batch time groups d_state"],
    state: Float[Tensor, "batch heads d_head d_state"] | None,
) -> tuple[Float[Tensor, "batch time heads d_head"], Float[Tensor, "batch heads d_head d_state"]]:
    """mamba-ssm's Triton kernel, whose shapes are ours, with our checks."""
    inputs = ssd_inputs(x, dt, A, B, C, state)
    y, state = kernels().ssd(*inputs[:5], chunk_size=64, initial_states=inputs.state, return_final_states=True)
    require_finite(y, state, inputs)
    return y.to(x.dtype), state


def scan_chunk(time: int) -> int:
    """Tokens of a chunk of `chunked_scan`: as many chunks as places, for then its two loops together are shortest."""
    return min(32, math.ceil(math.sqrt(min(time, SPAN))))


def in_spans(
    scan: Callable,
    x: Float[Tensor, "batch time *channels"],
    dt: Float[Tensor, "batch time *steps"],
    A: Float[Tensor, "*decays"],
    B: Float[Tensor, "batch time *inner"],
    C: Float[Tensor, "batch time *inner"],
    state: Float[Tensor, "batch *memory"] | None = None,
    **more: int,
) -> tuple[Float[Tensor, "batch time *channels"], Float[Tensor, "batch *memory"]]:
    """A scan of SPAN tokens after SPAN tokens, continued from piece to piece: (y, state)."""
    ys = []
    for x_s, dt_s, B_s, C_s in zip(*(part.split(SPAN, 1) for part in (x, dt, B, C)), strict=True):
        y, state = scan(x_s, dt_s, A, B_s, C_s, state, **more)
        ys.append(y)
    return torch.cat(ys, 1) if len(ys) > 1 else ys[0], state
