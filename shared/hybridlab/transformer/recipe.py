"""Recipes: the shape of a model, and how it is trained, as one value that can be compared with another.

`nanogpt` is the small recipe for a CPU out of nanoGPT's README (four layers, 128 wide, AdamW). `mini_gpt` is the
learner's own.
"""

from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer

from hybridlab.exercise import exercise
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.cost import training_flops
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.muon import Muon, muon_groups
from hybridlab.transformer.optim import AdamW
from hybridlab.transformer.training import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A model's shape, its training, and the optimizer with its peak learning rates.

    With "muon", the matrices inside the layers move with `lr` and `momentum`, and everything else with AdamW and `adamw_lr`.
    With "adamw", everything moves with `lr`, and only matrices decay; `momentum` and `adamw_lr` say nothing then.

    Raises:
        ValueError: the optimizer is unknown, training windows are longer than the model's `max_time`, or a learning rate
            is not above 0.
    """

    model: TransformerConfig
    training: TrainConfig
    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = 0.02
    momentum: float = 0.95
    adamw_lr: float = 3e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in ("muon", "adamw"):
            raise ValueError(f"optimizer must be 'muon' or 'adamw', got {self.optimizer!r}")
        if self.training.time > self.model.max_time:
            raise ValueError(f"windows of {self.training.time} tokens do not fit a model of max_time={self.model.max_time}")
        if not (self.lr > 0 and self.adamw_lr > 0):
            raise ValueError(f"learning rates must be above 0, got lr={self.lr}, adamw_lr={self.adamw_lr}")

    @property
    def flops(self) -> int:
        """Operations of the whole run (`training_flops`; the optimizer's own are not in it)."""
        training = self.training
        return training.steps * training.micro_batches * training_flops(self.model, training.batch_size, training.time)

    def build(self) -> tuple[MiniTransformer, Optimizer]:
        """A new model and its optimizer."""
        model = MiniTransformer(self.model)
        if self.optimizer == "muon":
            hidden, others = muon_groups(model, lr=self.lr, adamw_lr=self.adamw_lr, weight_decay=self.weight_decay)
            return model, Muon([hidden | {"momentum": self.momentum}, others])
        matrices = [p for p in model.parameters() if p.ndim >= 2]
        vectors = [p for p in model.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": self.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        return model, AdamW([group for group in groups if group["params"]], lr=self.lr, betas=(0.9, 0.99))


def nanogpt(vocab_size: int) -> Recipe:
    """nanoGPT's recipe for a CPU: 2,000 updates of 12 windows of 64 characters, AdamW at 1e-3.

    Source: nanoGPT's README, "I only have a macbook"; what it leaves open is from config/train_shakespeare_char.py.
    """
    return Recipe(
        TransformerConfig(vocab_size, d_model=128, n_layers=4, n_heads=4, max_time=64),
        TrainConfig(steps=2000, batch_size=12, time=64, warmup=100, floor=0.1, eval_every=250),
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.1,
    )


BUDGET_PARAMETERS = 1_000_000
BUDGET_FLOPS = nanogpt(75).flops // 3


@exercise
def mini_gpt(vocab_size: int) -> Recipe:
    """Your recipe: a third of nanoGPT's arithmetic, and a lower loss than it reaches.

    - a model for any `vocab_size`, with at most BUDGET_PARAMETERS parameters (1,000,000);
    - training windows as long as the model's `max_time`, so that it has no position that training never shows;
    - a whole run of at most BUDGET_FLOPS operations (a third of nanoGPT's), as `Recipe.flops` counts them;
    - a learning rate that climbs for at most a quarter of the steps, and ends at a tenth of its peak or lower;
    - it learns from the first steps on: after 16 updates (4 of them warm-up) the loss is below 3.3 nats. That is what
      guessing each character by how often it occurs would give.

    Everything else is yours to choose: TransformerConfig, TrainConfig and Recipe list what there is.
    """
    # Llama's shape with four whole heads; as many updates as the budget pays for; a short memory for a short run
    model = TransformerConfig.llama(vocab_size, n_kv_heads=4, max_time=64, qk_norm=True)
    training = TrainConfig(steps=663, warmup=30, floor=0.0)
    return Recipe(model, training, momentum=0.85, adamw_lr=0.02)
