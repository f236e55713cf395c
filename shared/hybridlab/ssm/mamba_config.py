"""The shape of a Mamba or Mamba-2: one frozen dataclass, validated in one place; and what turns a projection into a step."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

StepKind = Literal["softplus", "relu"]


@dataclass(frozen=True)
class MambaConfig:
    """Every size and choice of a Mamba (`version=1`) or Mamba-2 (`version=2`).

    `dt_rank` (Mamba's alone; None: d_model / 16, rounded up), `d_head` and `n_groups` (Mamba-2's alone).

    `step` is what makes the step dt out of its projection: "softplus", the papers', is never 0, so the state fades over a long text.
    "relu" is exactly 0 where the model wants to keep the state as it is. That is a DEVIATION FROM BOTH PAPERS.

    Raises:
        ValueError: a size is not positive, a choice is unknown, or heads and groups do not divide.
    """

    vocab_size: int
    d_model: int = 128
    n_layers: int = 2
    version: Literal[1, 2] = 2
    d_state: int = 16
    expand: int = 2
    d_conv: int = 4
    dt_rank: int | None = None
    d_head: int = 64
    n_groups: int = 1
    step: StepKind = "softplus"
    norm_eps: float = 1e-5
    tie_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.dt_rank is None:
            object.__setattr__(self, "dt_rank", math.ceil(self.d_model / 16))
        for name in ("vocab_size", "d_model", "n_layers", "d_state", "expand", "d_conv", "dt_rank", "d_head", "n_groups"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        if self.version not in (1, 2):
            raise ValueError(f"version={self.version!r} is unknown: choose 1 (Mamba) or 2 (Mamba-2)")
        if self.step not in ("softplus", "relu"):
            raise ValueError(f"step={self.step!r} is unknown: choose softplus (the papers') or relu")
        if self.norm_eps <= 0:
            raise ValueError(f"norm_eps={self.norm_eps} must be greater than 0")
        if self.version == 2 and (self.d_inner % self.d_head or self.n_heads % self.n_groups):
            raise ValueError(
                f"expand · d_model = {self.d_inner} must be a multiple of d_head={self.d_head}, "
                f"and the {self.n_heads} heads that this gives one of n_groups={self.n_groups}"
            )

    @property
    def d_inner(self) -> int:
        """Channels within a mixer."""
        return self.expand * self.d_model

    @property
    def n_heads(self) -> int:
        """Heads of a Mamba-2 mixer."""
        return self.d_inner // self.d_head


def step_size(z: Float[Tensor, "*shape"], kind: StepKind) -> Float[Tensor, "*shape"]:
    """The step dt ≥ 0 out of its projection z, by softplus or relu, in float32 at least: a bfloat16 step loses the text.

    Source: 2312.00752, section 3.2 (softplus); relu is a deviation, see `MambaConfig`.
    """
    wide = z.to(torch.promote_types(z.dtype, torch.float32))
    return F.softplus(wide) if kind == "softplus" else F.relu(wide)


def step_bias(n: int, kind: StepKind, *, low: float = 1e-3, high: float = 0.1) -> Float[Tensor, " n"]:
    """Biases for which the steps begin between `low` and `high`, spread evenly over the logarithm.

    Source: 2312.00752, section 3.6; for softplus its inverse, dt + log(1 - exp(-dt)).
    """
    dt = torch.exp(torch.empty(n).uniform_(math.log(low), math.log(high)))
    return dt + torch.log(-torch.expm1(-dt)) if kind == "softplus" else dt
