"""Supervised fine-tuning: the loss of the answers, and a loop of few lines around it.

The loop takes any transformers model whose trainable parameters are chosen already (`inject_lora`), and packed rows.
Notable:
- The head (SmolLM2: 49,152 words) runs only where a label counts. With short answers that saves a fifth of the work.
- A step's rows go through the model one by one, and count by their labels, as in week 4: memory of one row, result of all.
- A loss that is no number stops the run before it reaches the weights.
"""

import math
import time as clock
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import AdamW
from tqdm.auto import tqdm

from hybridlab.exercise import exercise
from hybridlab.llm.instruction import IGNORE
from hybridlab.llm.packing import PackedRows, packed_mask
from hybridlab.transformer.losses import cross_entropy
from hybridlab.transformer.schedule import warmup_cosine
from hybridlab.transformer.training import clip_grad_norm


@exercise
def answer_loss(
    hidden: Float[Tensor, "batch time d_model"],
    head: Callable[[Float[Tensor, "n d_model"]], Float[Tensor, "n vocab"]],
    labels: Int[Tensor, "batch time"],
) -> Float[Tensor, ""]:
    """The mean cross-entropy, in nats, of the labels that count; -100 does not.

    `hidden` is what the model's last layer gives for each token, and `head` turns such vectors into logits. `labels[b, t]` says
    which token stands at place t. The token at place t is predicted from the hidden state at place t - 1, so a
    label at place 0 is predicted by nothing and does not count.

    The head is called once, and only with the n hidden states that a counting label needs: shape (n, d_model), row by row in
    their order. The loss is computed in float32 whatever the head gives.

    Raises:
        ValueError: no label counts, so that there is nothing to learn.
    """
    before, wanted = hidden[:, :-1], labels[:, 1:]
    counted = wanted != IGNORE
    if not counted.any():
        raise ValueError("every label is masked (-100): there is no answer to learn; look at how the labels were made")
    return cross_entropy(head(before[counted]).float(), wanted[counted])


@dataclass(frozen=True)
class FinetuneConfig:
    """How a fine-tuning run goes: AdamW, warm-up and cosine to a tenth of the peak.

    Raises:
        ValueError: a number lies outside its range.
    """

    steps: int
    lr: float = 1e-3
    rows_per_step: int = 1
    warmup: float = 0.1  # the part of the steps in which the rate climbs
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "rows_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.lr > 0 or not self.max_grad_norm > 0:
            raise ValueError(f"lr and max_grad_norm must be above 0, got {self.lr} and {self.max_grad_norm}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup is a part of the steps, between 0 and 1, got {self.warmup}")


@dataclass
class FinetuneResult:
    """The curve of a run: one loss (nats per counted token) and one gradient norm for each step."""

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    seconds: float = 0.0


def rows_loss(model: nn.Module, rows: PackedRows) -> Float[Tensor, ""]:
    """The answers' mean loss over packed rows, by a transformers causal language model."""
    hidden = model.base_model(
        input_ids=rows.tokens, attention_mask=packed_mask(rows.segments), position_ids=rows.positions, use_cache=False
    ).last_hidden_state
    return answer_loss(hidden, model.get_output_embeddings(), rows.labels)


def finetune(model: nn.Module, rows: PackedRows, config: FinetuneConfig, *, progress: bool = True) -> FinetuneResult:
    """Train the parameters of `model` that require a gradient, in place, for `config.steps` steps over shuffled rows.

    The model is left in the train or eval mode in which it came.

    Raises:
        ValueError: there are no rows, a row has no label that counts (the message names it), or nothing is trainable.
        FloatingPointError: loss or gradient are no longer finite; the weights are those of the step before.
    """
    counts = (rows.labels[:, 1:] != IGNORE).sum(dim=1)
    if not len(counts):
        raise ValueError("the training set is empty: there is no row to learn from")
    if not counts.all():
        row = int((counts == 0).nonzero()[0])
        raise ValueError(f"row {row} of the training set has no answer to learn: all of its labels are masked (-100)")
    trainable = [p for p in model.parameters() if p.requires_grad]
    if not trainable:
        raise ValueError("no parameter of the model is trainable: call inject_lora first")
    optimizer = AdamW(trainable, lr=config.lr, weight_decay=config.weight_decay)
    generator, queue, result = torch.Generator().manual_seed(config.seed), [], FinetuneResult()
    climb = round(config.warmup * config.steps)
    was_training, started = model.training, clock.perf_counter()
    model.train()
    line = tqdm(range(1, config.steps + 1), unit="step", disable=not progress, mininterval=0.5)
    for step in line:
        while len(queue) < config.rows_per_step:
            queue += torch.randperm(len(counts), generator=generator).tolist()
        chosen, queue = queue[: config.rows_per_step], queue[config.rows_per_step :]
        optimizer.zero_grad()
        loss = 0.0
        for row in chosen:
            filled = int((rows.segments[row] >= 0).sum())  # the padding behind needs no work
            share = counts[row] / counts[chosen].sum()
            row_loss = rows_loss(model, PackedRows(*(part[row : row + 1, :filled] for part in rows))) * share
            row_loss.backward()
            loss += row_loss.item()
        norm = clip_grad_norm(trainable, config.max_grad_norm).item()
        if not math.isfinite(norm) or not math.isfinite(loss):
            model.train(was_training)
            raise FloatingPointError(
                f"fine-tuning stopped at step {step} of {config.steps}: loss {loss:.4g}, gradient norm {norm:.4g}. The adapters "
                f"have the weights of step {step - 1}. Try a smaller learning rate than {config.lr:g}, or a longer warm-up"
            )
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, warmup=climb, total=config.steps, peak=config.lr, floor=config.lr / 10)
        optimizer.step()
        result.losses.append(loss)
        result.grad_norms.append(norm)
        line.set_description(f"loss {loss:.3f} nats per answer token", refresh=False)
    result.seconds = clock.perf_counter() - started
    model.train(was_training)
    return result
