"""Mamba's mixer as Jamba has it: with a norm on what the selection makes."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hybridlab.ssm.causal_conv import causal_conv
from hybridlab.ssm.checked import widest
from hybridlab.ssm.fused import run_selective_scan
from hybridlab.ssm.mamba_block import MambaMixer
from hybridlab.ssm.mamba_config import MambaConfig, step_size
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.transformer.norms import RMSNorm


class JambaMixer(MambaMixer):
    """Mamba's mixer with a norm each on the step's projection, B and C: without them large hybrids' losses spiked.

    Source: 2403.19887, section 6.4; names as in transformers' JambaMambaMixer.
    """

    def __init__(self, config: MambaConfig) -> None:
        super().__init__(config)
        self.dt_layernorm = RMSNorm(config.dt_rank, eps=config.norm_eps)
        self.b_layernorm = RMSNorm(config.d_state, eps=config.norm_eps)
        self.c_layernorm = RMSNorm(config.d_state, eps=config.norm_eps)

    def forward(
        self, u: Float[Tensor, "batch time d_model"], state: MixerState | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], MixerState]:
        past, memory = (None, None) if state is None else state
        x, gate = self.in_proj(u).chunk(2, dim=-1)
        x, past = causal_conv(x, self.conv1d.weight[:, 0], self.conv1d.bias, past)
        x = F.silu(x)
        low, B, C = self.x_proj(x).split([self.config.dt_rank, self.config.d_state, self.config.d_state], dim=-1)
        low, B, C = self.dt_layernorm(low), self.b_layernorm(B), self.c_layernorm(C)
        wide = widest(low)
        dt = step_size(F.linear(low.to(wide), self.dt_proj.weight.to(wide), self.dt_proj.bias.to(wide)), self.config.step)
        y, memory = run_selective_scan(x, dt, -torch.exp(self.A_log.to(wide)), B, C, memory)
        return self.out_proj((y + self.D * x) * F.silu(gate)), MixerState(past, memory)
