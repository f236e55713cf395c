"""A mixer for reading on a CPU: matmuls by PyTorch, scan, convolution and gate in C (compiled_scan.c), each in one pass over the text.

Where the C does not serve (`compiled_serves`), the mixers' own steps run; the results agree to float32's rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybridlab.ssm.compiled_scan import call, compiled_serves, kernels
from hybridlab.ssm.fused import run_selective_scan
from hybridlab.ssm.mamba_config import step_size
from hybridlab.ssm.mixer_state import MixerState

if TYPE_CHECKING:
    from hybridlab.ssm.mamba_block import MambaMixer

MAMBA2 = ("causal_conv.causal_conv",)
MAMBA = (*MAMBA2, "mamba_block.MambaMixer")


def mixer_serves(mixer: nn.Module, u: Float[Tensor, "batch time d_model"], symbols: tuple[str, ...]) -> bool:
    """Whether a mixer made of these exercises reads u with its convolution and gate in C: in float32, with something to read."""
    return u.dtype == torch.float32 and u.ndim == 3 and u.numel() > 0 and compiled_serves(symbols, u, *mixer.parameters())


def compiled_mamba(
    mixer: MambaMixer, u: Float[Tensor, "batch time d_model"], state: MixerState | None
) -> tuple[Float[Tensor, "batch time d_model"], MixerState]:
    """`mixer(u, state)`, where `mixer_serves(mixer, u, MAMBA)`.

    Raises:
        ValueError: a state that does not fit; a result that is not finite.
    """
    config = mixer.config
    past, memory = (None, None) if state is None else state
    x, gate = mixer.in_proj(u).chunk(2, dim=-1)
    x, past = conv_silu(x, mixer.conv1d, past)
    low, B, C = mixer.x_proj(x).split([config.dt_rank, config.d_state, config.d_state], dim=-1)
    z = mixer.dt_proj(low)
    dt = softplus(z) if config.step == "softplus" else step_size(z, config.step)
    y, memory = run_selective_scan(x, dt, -torch.exp(mixer.A_log), B, C, memory)
    return mixer.out_proj(skip_and_gate(y, x, mixer.D, gate)), MixerState(past, memory)


def conv_silu(
    x: Float[Tensor, "batch time d"], conv: nn.Conv1d, past: Float[Tensor, "batch width_less_1 d"] | None
) -> tuple[Float[Tensor, "batch time d"], Float[Tensor, "batch width_less_1 d"]]:
    """SiLU of `causal_conv`, and the past that it hands on.

    Raises:
        ValueError: past does not fit x.
    """
    (batch, time, d), width = x.shape, conv.kernel_size[0]
    shape = (batch, width - 1, d)
    past = x.new_zeros(shape) if past is None else past.to(x.dtype).contiguous()
    if tuple(past.shape) != shape:
        raise ValueError(f"past has shape {tuple(past.shape)}, expected {shape}")
    x, y, weight = _rows(x), x.new_empty(batch, time, d), conv.weight[:, 0].mT.contiguous()
    for row, before, out in zip(x, past, y, strict=True):
        call(kernels().conv_silu, row, weight, conv.bias, before, out, time, d, width, row.stride(0))
    seen = torch.cat([past, x[:, max(0, time - width + 1) :]], 1)
    return y, seen[:, seen.shape[1] - width + 1 :].clone()


def softplus(z: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """ln(1 + e^z) of each number."""
    z = z.contiguous()
    y = torch.empty_like(z)
    call(kernels().softplus, z, y, z.numel())
    return y


def skip_and_gate(
    y: Float[Tensor, "batch time d"],
    x: Float[Tensor, "batch time d"],
    skip: Float[Tensor, " d"],
    gate: Float[Tensor, "batch time d"],
    norm: nn.Module | None = None,
) -> Float[Tensor, "batch time d"]:
    """(y + skip x) SiLU(gate), and then Mamba-2's `GatedRMSNorm` where its `norm` is given."""
    y, x, gate, out = y.contiguous(), _rows(x), _rows(gate), torch.empty_like(y, memory_format=torch.contiguous_format)
    groups, eps, weight = (1, 0.0, None) if norm is None else (norm.n_groups, norm.eps, norm.weight)
    for y_row, x_row, gate_row, out_row in zip(y, x, gate, out, strict=True):
        sizes = (*y_row.shape, x_row.stride(0), gate_row.stride(0), groups, eps)
        call(kernels().skip_and_gate, y_row, x_row, skip, gate_row, weight, out_row, *sizes)
    return out


def _rows(x: Float[Tensor, "batch time d"]) -> Float[Tensor, "batch time d"]:
    """x with the numbers of a row side by side; the rows may stand apart."""
    return x if x.stride(-1) == 1 else x.contiguous()
