"""Mamba's mixer: what a Mamba layer has in place of attention. Parameters bear the names of transformers' MambaMixer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.exercise import exercise
from hybridlab.ssm.causal_conv import causal_conv
from hybridlab.ssm.fused import run_selective_scan
from hybridlab.ssm.mamba_config import MambaConfig, step_bias, step_size
from hybridlab.ssm.mixer_state import MixerState


@exercise
class MambaMixer(nn.Module):
    """Mamba's mixer: project, convolve over four tokens, scan with steps that the token itself chooses, gate, project back.

    The constructor is given; it makes, for D = config.d_inner, N = config.d_state, R = config.dt_rank:
    `in_proj` (d_model → 2 D), `conv1d` (a depthwise nn.Conv1d that holds weight (D, 1, d_conv) and bias), `x_proj` (D → R + 2 N),
    `dt_proj` (R → D, with bias), `A_log` (D, N), `D` (D), `out_proj` (D → d_model).

    `forward(u, state=None)` gives (result, MixerState), for u of shape (batch, time, d_model), with time ≥ 1:

    1. the first half of `in_proj(u)` is x, the second the gate
    2. `causal_conv` over x, continued from `state.past`; then SiLU
    3. `x_proj` of that, cut into R, N and N numbers: the step's projection, B and C. **This is the selection**
    4. dt = `step_size`(dt_proj(the R numbers), config.step) and A = -exp(A_log). **Both in float32 at least**, weights and bias of
       dt_proj too: in a model of bfloat16, dt may not be rounded to three digits on its way
    5. `run_selective_scan` over what 2. gave, continued from `state.memory`; D times what 2. gave comes on top
    6. times SiLU of the gate; `out_proj`
    7. the state is what `causal_conv` and the scan gave: the next call goes on where this one ended, and any cut of a text gives the same

    Source: Gu & Dao, 2312.00752, figure 3 and algorithm 2.
    """

    def __init__(self, config: MambaConfig) -> None:  # given
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(
        self, u: Float[Tensor, "batch time d_model"], state: MixerState | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], MixerState]:
        past, memory = (None, None) if state is None else state
        x, gate = self.in_proj(u).chunk(2, dim=-1)
        x, past = causal_conv(x, self.conv1d.weight[:, 0], self.conv1d.bias, past)
        x = F.silu(x)
        low, B, C = self.x_proj(x).split([self.config.dt_rank, self.config.d_state, self.config.d_state], dim=-1)
        wide = torch.promote_types(low.dtype, torch.float32)
        dt = step_size(F.linear(low.to(wide), self.dt_proj.weight.to(wide), self.dt_proj.bias.to(wide)), self.config.step)
        y, memory = run_selective_scan(x, dt, -torch.exp(self.A_log.to(wide)), B, C, memory)
        y = y + self.D * x
        return self.out_proj(y * F.silu(gate)), MixerState(past, memory)
