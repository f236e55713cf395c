"""Supervised fine-tuning: the loss of the answers, and a loop of few lines around it.

The loop takes any transformers model whose trainable parameters are chosen already (`inject_lora`), and packed rows.
Notable:
- The head (SmolLM2: 49,152 words) runs only where a label counts. With short answers that saves a fifth of the work.
- A step's rows go through the model one by one, and count by their labels, as in week 4: memory of one row, result of all.
- A loss that is no number stops the run before it reaches the weights.
- A run can be stopped and goes on from its checkpoint, which holds the adapters and not the model they sit on.
"""

import math
import os
import time as clock
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.optim import AdamW
from tqdm.auto import tqdm

from hybridlab.exercise import exercise
from hybridlab.llm.instruction import IGNORE
from hybridlab.llm.packing import PackedRows, packed_mask
from hybridlab.transformer.checkpoint import CheckpointError, load_checkpoint, read_checkpoint, save_checkpoint
from hybridlab.transformer.losses import cross_entropy
from hybridlab.transformer.schedule import warmup_cosine
from hybridlab.transformer.training import clip_grad_norm, deferred_interrupt

SAVE_EVERY = 10  # steps
Mask = Callable[[Int[Tensor, "rows time"]], Bool[Tensor, "rows 1 time time"]]


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
    interrupted: bool = False

    @property
    def step(self) -> int:
        """The last step that was made."""
        return len(self.losses)


def rows_loss(model: nn.Module, rows: PackedRows, mask: Mask = packed_mask) -> Float[Tensor, ""]:
    """The answers' mean loss over packed rows, by a transformers causal language model. `mask` says, from the rows'
    segments, which token may look at which."""
    hidden = model.base_model(
        input_ids=rows.tokens, attention_mask=mask(rows.segments), position_ids=rows.positions, use_cache=False
    ).last_hidden_state
    return answer_loss(hidden, model.get_output_embeddings(), rows.labels)


def finetune(
    model: nn.Module,
    rows: PackedRows,
    config: FinetuneConfig,
    *,
    mask: Mask = packed_mask,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> FinetuneResult:
    """Train the parameters of `model` that require a gradient, in place, for `config.steps` steps over shuffled rows.

    The model is left in the train or eval mode in which it came. With a `checkpoint` path the run is saved every tenth step,
    at its end, and when it is stopped (Ctrl-C, or the stop button of JupyterLab: the step in progress is finished, and
    the curve so far comes back with `interrupted=True`). If the file is there already, the run goes on from it and
    ends as if it had never been stopped.

    Raises:
        ValueError: there are no rows, a row has no label that counts (the message names it), or nothing is trainable.
        FloatingPointError: loss or gradient are no longer finite; the weights are those of the step before.
        CheckpointError: the checkpoint is damaged, or belongs to a run with other settings, rows or adapters.
    """
    counts = _counts(rows)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError("no parameter of the model is trainable: call inject_lora first")
    parameters = list(trainable.values())
    adapters = nn.ParameterDict({name.replace(".", "/"): p for name, p in trainable.items()})  # the very same parameters
    optimizer = AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay)
    generator, queue, result = torch.Generator().manual_seed(config.seed), [], FinetuneResult()
    run = {"config": asdict(config), "rows": list(rows.tokens.shape), "labels": int(counts.sum())}
    if checkpoint is not None and Path(checkpoint).exists():
        queue, result = _resume(checkpoint, adapters, optimizer, generator, run)

    def save() -> None:
        if checkpoint is not None:
            extra = {"run": run, "queue": queue, "result": asdict(result) | {"interrupted": False}}
            save_checkpoint(checkpoint, model=adapters, optimizer=optimizer, step=result.step, generator=generator, extra=extra)

    climb = round(config.warmup * config.steps)
    was_training, before, started = model.training, result.seconds, clock.perf_counter()
    model.train()
    line = tqdm(total=config.steps, initial=result.step, unit="step", disable=not progress, mininterval=0.5)
    with deferred_interrupt() as stop, line:
        while result.step < config.steps and not stop.is_set():
            step = result.step + 1
            while len(queue) < config.rows_per_step:
                queue += torch.randperm(len(counts), generator=generator).tolist()
            chosen, queue = queue[: config.rows_per_step], queue[config.rows_per_step :]
            optimizer.zero_grad()
            loss = 0.0
            for row in chosen:
                filled = int((rows.segments[row] >= 0).sum())  # the padding behind needs no work
                share = counts[row] / counts[chosen].sum()
                row_loss = rows_loss(model, PackedRows(*(part[row : row + 1, :filled] for part in rows)), mask) * share
                row_loss.backward()
                loss += row_loss.item()
            norm = clip_grad_norm(parameters, config.max_grad_norm).item()
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
            result.seconds = before + clock.perf_counter() - started
            line.update()
            line.set_description(f"loss {loss:.3f} nats per answer token", refresh=False)
            if step % SAVE_EVERY == 0 and step < config.steps:
                save()
    result.interrupted = result.step < config.steps
    save()
    model.train(was_training)
    return result


def _counts(rows: PackedRows) -> Int[Tensor, "rows"]:
    """How many labels count in each row. Raises ValueError where there is no row, or none counts in one."""
    counts = (rows.labels[:, 1:] != IGNORE).sum(dim=1)
    if not len(counts):
        raise ValueError("the training set is empty: there is no row to learn from")
    if not counts.all():
        row = int((counts == 0).nonzero()[0])
        raise ValueError(f"row {row} of the training set has no answer to learn: all of its labels are masked (-100)")
    return counts


def _resume(
    checkpoint: str | os.PathLike, adapters: nn.ParameterDict, optimizer: AdamW, generator: torch.Generator, run: dict
) -> tuple[list[int], FinetuneResult]:
    """The rows that wait and the curve so far; weights, moments and random state are put back."""
    theirs = read_checkpoint(checkpoint)["extra"].get("run", {})
    if differing := [f"{name}: {theirs.get(name)} there, {run[name]} here" for name in run if theirs.get(name) != run[name]]:
        raise CheckpointError(f"{checkpoint} belongs to another run ({'; '.join(differing)}): delete it, or use another path")
    found = load_checkpoint(checkpoint, model=adapters, optimizer=optimizer, generator=generator)
    return found.extra["queue"], FinetuneResult(**found.extra["result"])
