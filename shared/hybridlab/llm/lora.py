"""LoRA: a frozen linear layer, and beside it a trainable correction of low rank.

    y = base(x) + (alpha / rank) · B A x          A: rank × d_in, B: d_out × rank

Notable:
- B begins at zero, so an untrained adapter changes nothing; A begins at random, or neither would ever learn.
- A and B are float32 whatever the base is stored in (bfloat16, 4 bits): small steps are lost in 8 bits of precision.
- `merge` keeps the weight that it replaces: W + ΔW − ΔW is not W in floating point.
- Layers are chosen by the end of their name, as PEFT's `target_modules` are, so the same names mean the same layers.

Source: LoRA, arXiv 2106.09685, section 4; huggingface/peft.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.exercise import exercise

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL_LINEAR = (*ATTENTION, "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoRAConfig:
    """Which layers get an adapter, of which rank, and how much it counts.

    `targets` are ends of layer names: "q_proj" takes that layer in every block, "layers.0.self_attn.q_proj" in one.
    The correction is multiplied by `alpha / rank`, so that another rank needs no other learning rate.

    Raises:
        ValueError: rank below 1, alpha not above 0, dropout outside [0, 1), or no targets.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ALL_LINEAR

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not self.alpha > 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}: the adapter would count nothing")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        if isinstance(self.targets, str) or not self.targets:
            raise ValueError(f"targets must be a tuple of layer names such as {ALL_LINEAR}, got {self.targets!r}")


@exercise
class LoRALinear(nn.Module):
    """A linear layer that stays as it is, plus a trainable product of two small matrices.

        y = base(x) + scaling · B (A dropout(x))          scaling = alpha / rank

    - `base` is kept as the attribute `base`, the very same module; its parameters are frozen. `scaling` is an attribute, too.
    - `lora_A` (rank × in_features) and `lora_B` (out_features × rank) are the only trainable parameters. They are float32
      whatever dtype the base has, and lie on the base weight's device.
    - `lora_B` begins at zero, `lora_A` as `nn.init.kaiming_uniform_(..., a=math.sqrt(5))` draws it.
    - `dropout` acts on the input of A alone, and only in train mode.
    - x may have any number of leading axes. The branch is computed in float32; y has the dtype of `base(x)`.

    `merge` adds the correction to the base's weight, in place: from then on `forward` is `base(x)` alone, as fast as
    before LoRA. The sum is computed in float32 and rounded once to the weight's dtype. `unmerge` brings the old weight back, bit
    for bit, and `forward` is the sum again. A second `merge`, or an `unmerge` without a merge, changes nothing.

    Raises:
        ValueError: in `merge`, if the base's weight is not floating point (4-bit layers hold codes, not numbers).

    Source: LoRA, arXiv 2106.09685, equation 3; the start values are those of microsoft/LoRA and peft.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scaling = alpha / rank
        self.dropout = nn.Dropout(dropout)
        device = base.weight.device
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features, dtype=torch.float32, device=device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=torch.float32, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.weight_before: Tensor | None = None  # the base's own weight, while merged

    def forward(self, x: Float[Tensor, "... d_in"]) -> Float[Tensor, "... d_out"]:
        y = self.base(x)
        if self.weight_before is not None:
            return y
        # the scaling multiplies the `rank` numbers in the middle, not the d_out at the end: fewer operations
        small = F.linear(self.dropout(x).float(), self.lora_A) * self.scaling
        return y + F.linear(small, self.lora_B).to(y.dtype)

    @torch.no_grad()
    def merge(self) -> None:
        weight = self.base.weight
        if not weight.is_floating_point():
            raise ValueError(f"a base weight of {weight.dtype} holds codes, not numbers: load the model unquantised, then merge")
        if self.weight_before is None:
            self.weight_before = weight.clone()
            weight.copy_(weight + self.scaling * self.lora_B @ self.lora_A)  # float32 + bfloat16 is float32

    @torch.no_grad()
    def unmerge(self) -> None:
        if self.weight_before is not None:
            self.base.weight.copy_(self.weight_before)
            self.weight_before = None


@exercise
def inject_lora(model: nn.Module, config: LoRAConfig) -> list[str]:
    """Freeze `model` and put a LoRALinear around each chosen linear layer, in place; return the layers' names.

    A layer is chosen if it is an `nn.Linear` and its dotted name in the model *is* one of `config.targets`, or ends in a
    dot and one of them: "v_proj" chooses "layers.0.self_attn.v_proj", not "layers.0.self_attn.kv_proj". The names come
    in the order of `model.named_modules()`, without repeats.

    Each chosen layer becomes `LoRALinear(layer, config.rank, config.alpha, config.dropout)`. Afterwards `lora_A` and `lora_B`
    are the only parameters of the model that require a gradient: embeddings, norms, biases and the layers
    that were not chosen are frozen as well.

    Raises ValueError, and leaves the model as it was:
        - if a target chooses no layer (the message names that target);
        - if the model holds a LoRALinear already: adapters would be put upon adapters.
    """
    modules = dict(model.named_modules())
    if any(isinstance(module, LoRALinear) for module in modules.values()):
        raise ValueError("the model has adapters already: merge them and take them out, or load the model anew")
    linear = [name for name, module in modules.items() if name and isinstance(module, nn.Linear)]
    chosen: set[str] = set()
    for target in config.targets:
        ours = {name for name in linear if f".{name}".endswith(f".{target}")}
        if not ours:
            ends = sorted({name.rpartition(".")[2] for name in linear})
            raise ValueError(f"no linear layer is named {target!r}; this model has {', '.join(ends)}")
        chosen |= ours
    model.requires_grad_(False)
    names = [name for name in linear if name in chosen]
    for name in names:
        parent, _, last = name.rpartition(".")
        adapted = LoRALinear(modules[name], config.rank, config.alpha, config.dropout)
        setattr(model.get_submodule(parent), last, adapted)
    return names


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The model's adapted layers by name, in the model's order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def merge_lora(model: nn.Module) -> None:
    """Merge every adapter into its layer. Raises ValueError if there is none, or if a layer's weight is quantised."""
    for layer in _some_layers(model):
        layer.merge()


def unmerge_lora(model: nn.Module) -> None:
    """Bring every layer's own weight back, bit for bit. Raises ValueError if the model has no adapters."""
    for layer in _some_layers(model):
        layer.unmerge()


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, all) parameters; one that two modules share counts once."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)


def _some_layers(model: nn.Module) -> list[LoRALinear]:
    layers = list(lora_layers(model).values())
    if not layers:
        raise ValueError("the model has no adapters: call inject_lora or load_adapter first")
    return layers
