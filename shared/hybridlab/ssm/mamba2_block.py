"""Mamba-2's mixer. Parameters bear the names of transformers' Mamba2Mixer.

What differs from Mamba: x, B and C come from one projection and go through the convolution together; a head of 64 channels has one step and
one decay; a norm stands before the last projection.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.ssm.causal_conv import causal_conv
from hybridlab.ssm.compiled_mixer import MAMBA2, conv_silu, mixer_serves, skip_and_gate
from hybridlab.ssm.fused import run_ssd
from hybridlab.ssm.mamba_config import MambaConfig, step_bias, step_size
from hybridlab.ssm.mixer_state import MixerState


class GatedRMSNorm(nn.Module):
    """RMSNorm of x · SiLU(gate), for each group of channels on its own, in float32; one gain a channel.

    Source: 2405.21060, section 7.1; `RMSNormGated` with norm_before_gate=False in state-spaces/mamba.
    """

    def __init__(self, d: int, n_groups: int, eps: float) -> None:
        super().__init__()
        self.n_groups, self.eps = n_groups, eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Float[Tensor, "... d"], gate: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        dtype = torch.promote_types(x.dtype, torch.float32)
        gated = (x.to(dtype) * F.silu(gate.to(dtype))).unflatten(-1, (self.n_groups, -1))
        unit = gated * torch.rsqrt(gated.square().mean(-1, keepdim=True) + self.eps)
        return (unit.flatten(-2) * self.weight).to(x.dtype)


class Mamba2Mixer(nn.Module):
    """Mamba-2's mixer: `forward(u, state=None)` gives (result, MixerState); whole, in pieces, or token by token, the same.

    Source: Dao & Gu, 2405.21060, section 7 and figure 6 (the parallel block).
    """

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.config = config
        d_inner, heads = config.d_inner, config.n_heads
        channels = d_inner + 2 * config.n_groups * config.d_state  # x, B and C
        self.in_proj = nn.Linear(config.d_model, d_inner + channels + heads, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, config.d_conv, groups=channels)
        self.dt_bias = nn.Parameter(step_bias(heads, config.step))
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, 16).log())
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = GatedRMSNorm(d_inner, config.n_groups, config.norm_eps)
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(
        self, u: Float[Tensor, "batch time d_model"], state: MixerState | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], MixerState]:
        past, memory = (None, None) if state is None else state
        groups = self.config.n_groups * self.config.d_state
        gate, xBC, z = self.in_proj(u).split([self.config.d_inner, self.config.d_inner + 2 * groups, self.config.n_heads], dim=-1)
        in_c = mixer_serves(self, u, MAMBA2)
        if in_c:
            xBC, past = conv_silu(xBC, self.conv1d, past)
        else:
            xBC, past = causal_conv(xBC, self.conv1d.weight[:, 0], self.conv1d.bias, past)
            xBC = F.silu(xBC)
        x, B, C = xBC.split([self.config.d_inner, groups, groups], dim=-1)
        x = x.unflatten(-1, (self.config.n_heads, -1))
        B, C = (part.unflatten(-1, (self.config.n_groups, -1)) for part in (B, C))
        wide = torch.promote_types(z.dtype, torch.float32)  # a bfloat16 step loses the text
        dt = step_size(z.to(wide) + self.dt_bias.to(wide), self.config.step)
        y, memory = run_ssd(x, dt, -torch.exp(self.A_log.to(wide)), B, C, memory)
        if in_c:
            skip = self.D.repeat_interleave(x.shape[-1])
            return self.out_proj(skip_and_gate(y.flatten(-2), x.flatten(-2), skip, gate, self.norm)), MixerState(past, memory)
        y = (y + self.D[:, None] * x).flatten(-2)
        return self.out_proj(self.norm(y, gate)), MixerState(past, memory)
