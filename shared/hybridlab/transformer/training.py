"""Training: one update (clip, accumulate, step), and the loop around it.

The loop can be stopped at any time, picks up again bit for bit from its checkpoint, measures the validation loss on the same
batches each time, and stops with a sentence when the loss is no longer a number. Losses are in nats per token.
"""

import math
import os
import signal
import threading
import time as clock
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm.auto import tqdm

from hybridlab.exercise import exercise
from hybridlab.transformer.batching import random_batch
from hybridlab.transformer.checkpoint import CheckpointError, load_checkpoint, read_checkpoint, save_checkpoint
from hybridlab.transformer.losses import cross_entropy
from hybridlab.transformer.schedule import warmup_cosine

Batch = tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]


@exercise
def clip_grad_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Float[Tensor, ""]:
    """Shorten all gradients together, in place, to a common norm of at most `max_norm`; return the norm before.

    The norm is the Euclidean length of *one* vector that holds every gradient: the square root of the sum of all
    squares. If it is larger than `max_norm`, every gradient is multiplied by the same factor `max_norm / norm`, so
    that the direction stays. Otherwise nothing changes. The norm is a tensor without axes.

    Parameters whose `.grad` is None are left out; without any gradient the norm is 0. `parameters` may be a
    generator (`model.parameters()` is one), which can be walked through only once.

    Raises:
        ValueError: `max_norm` is not above 0.

    Source: On the difficulty of training recurrent neural networks (arXiv 1211.5063), algorithm 1;
    `torch.nn.utils.clip_grad_norm_`.
    """
    if max_norm <= 0:
        raise ValueError(f"max_norm must be above 0, got {max_norm}: use float('inf') to measure the norm only")
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum((g.square().sum() for g in gradients), torch.zeros(())).sqrt()
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@exercise
def train_step(
    model: nn.Module,
    batches: Sequence[tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]],
    optimizer: Optimizer,
    *,
    max_grad_norm: float,
) -> tuple[float, float]:
    """Make one update from several micro-batches, as if they were one big batch; return (loss, gradient norm).

    `batches` is a list of (inputs, targets). Each goes through the model on its own, forward and backward, so that
    only one micro-batch's activations are in memory at a time; the gradients add up in `.grad`. Gradients from
    before the call don't count. Then the gradients are clipped once, to `max_grad_norm`, with `clip_grad_norm`, and
    the optimizer steps once.

    The result equals one big batch: the loss is the mean over *all* counted tokens. Micro-batches may differ in
    size, and a target of -100 doesn't count (`cross_entropy` leaves it out of its mean). So each micro-batch weighs
    as much as its share of the counted tokens. The norm is the one before clipping; both results are floats.

    Raises:
        FloatingPointError: the gradient norm is not finite. Nothing is stepped then: the weights stay as they were.

    Source: nanoGPT's train.py, for micro-batches of equal size.
    """
    n_counted = sum(int((targets != -100).sum()) for _, targets in batches)
    optimizer.zero_grad()
    loss = 0.0
    for inputs, targets in batches:
        share = int((targets != -100).sum()) / n_counted
        part = cross_entropy(model(inputs), targets) * share
        part.backward()
        loss += part.item()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient norm is {norm} at loss {loss:.4g}")
    optimizer.step()
    return loss, norm


@dataclass(frozen=True)
class TrainConfig:
    """How a run goes. The peak learning rate is the optimizer's own: each of its groups follows the curve below its `lr`."""

    steps: int
    batch_size: int = 12
    time: int = 64
    micro_batches: int = 1
    warmup: int = 100
    floor: float = 0.1  # the last learning rate, as a part of the peak
    max_grad_norm: float = 1.0
    eval_every: int = 100
    eval_batches: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "time", "micro_batches", "eval_every", "eval_batches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.warmup <= self.steps:
            raise ValueError(f"warmup must lie between 0 and steps={self.steps}, got {self.warmup}")
        if not 0 <= self.floor <= 1:
            raise ValueError(f"floor is a part of the peak, between 0 and 1, got {self.floor}")
        if self.max_grad_norm <= 0:
            raise ValueError(f"max_grad_norm must be above 0, got {self.max_grad_norm}")


@dataclass
class TrainResult:
    """The curve of a run. `losses[i]` and `grad_norms[i]` belong to update i + 1; `validation` holds (step, loss)."""

    losses: list[float] = field(default_factory=list)
    grad_norms: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def step(self) -> int:
        """The number of updates made."""
        return len(self.losses)


def fixed_batches(tokens: Int[Tensor, "n_tokens"], n_batches: int, batch_size: int, time: int) -> list[Batch]:
    """Validation batches that are the same in every run, whatever its seed, so that runs can be compared."""
    generator = torch.Generator().manual_seed(2019)
    return [random_batch(tokens, batch_size, time, generator) for _ in range(n_batches)]


@torch.no_grad()
def evaluate(model: nn.Module, batches: Sequence[Batch]) -> float:
    """Mean loss in nats per token over equal batches, without dropout. The model's train/eval mode is the same afterwards."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    losses = [cross_entropy(model(inputs.to(device)), targets.to(device)).item() for inputs, targets in batches]
    model.train(was_training)
    return sum(losses) / len(losses)


def train(
    model: nn.Module,
    tokens: Int[Tensor, "n_tokens"],
    validation_tokens: Int[Tensor, "n_validation"],
    optimizer: Optimizer,
    config: TrainConfig,
    *,
    checkpoint: str | os.PathLike | None = None,
    progress: bool = True,
) -> TrainResult:
    """Train `model` in place for `config.steps` updates, and return the curve.

    With a `checkpoint` path the run is saved at each evaluation and at the end; if the file is there already, the run goes on
    from it and ends as if it had never been interrupted, bit for bit.

    An interrupt (Ctrl-C, or the stop button of JupyterLab) ends the run after the update in progress: the checkpoint is
    written, and the curve so far is returned with `interrupted=True`. A second one raises KeyboardInterrupt at once.

    Raises:
        FloatingPointError: the loss or the gradient is no longer a finite number; says at which step, and what helps.
        CheckpointError: the checkpoint can't be used, or belongs to a run with another `config`.
    """
    result = TrainResult()
    generator = torch.Generator().manual_seed(config.seed)
    validation = fixed_batches(validation_tokens, config.eval_batches, config.batch_size, config.time)
    device = next(model.parameters()).device
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
    if checkpoint is not None and Path(checkpoint).exists():
        result = _resume(checkpoint, model, optimizer, generator, config)

    def save() -> None:
        if checkpoint is not None:
            extra = {"config": asdict(config), "result": asdict(result) | {"interrupted": False}}
            states = {"model": model, "optimizer": optimizer, "generator": generator}
            save_checkpoint(checkpoint, **states, step=result.step, extra=extra)

    model.train()
    before, started = result.seconds, clock.perf_counter()
    line = tqdm(total=config.steps, initial=result.step, unit="step", disable=not progress, mininterval=0.5)
    with deferred_interrupt() as stop, line:
        while result.step < config.steps and not stop.is_set():
            step = result.step + 1
            rate = warmup_cosine(step, warmup=config.warmup, total=config.steps, peak=1.0, floor=config.floor)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["initial_lr"]
            batches = [
                tuple(part.to(device) for part in random_batch(tokens, config.batch_size, config.time, generator))
                for _ in range(config.micro_batches)
            ]
            try:
                loss, norm = train_step(model, batches, optimizer, max_grad_norm=config.max_grad_norm)
            except FloatingPointError as error:
                raise FloatingPointError(
                    f"training stopped at step {step} of {config.steps}: {error}, learning rate {group['lr']:.3g}. "
                    f"The model has the weights of step {step - 1}. Try a smaller learning rate or a longer "
                    "warm-up; if it is step 1, look for inf or nan in the model's own forward pass."
                ) from error
            result.losses.append(loss)
            result.grad_norms.append(norm)
            result.seconds = before + clock.perf_counter() - started
            line.update()
            if step % config.eval_every == 0 or step == config.steps:
                result.validation.append((step, evaluate(model, validation)))
                save()
            last = f", validation {result.validation[-1][1]:.3f}" if result.validation else ""
            line.set_description(f"loss {loss:.3f}{last} nats/token", refresh=False)
    result.interrupted = result.step < config.steps
    if result.interrupted:
        save()
    return result


def _resume(
    checkpoint: str | os.PathLike, model: nn.Module, optimizer: Optimizer, generator: torch.Generator, config: TrainConfig
) -> TrainResult:
    theirs, ours = read_checkpoint(checkpoint)["extra"].get("config", {}), asdict(config)
    differing = [f"{name}: {theirs.get(name)} there, {ours[name]} here" for name in ours if theirs.get(name) != ours[name]]
    if differing:
        raise CheckpointError(f"{checkpoint} belongs to another run ({'; '.join(differing)}): use its settings, or another path")
    found = load_checkpoint(checkpoint, model=model, optimizer=optimizer, generator=generator)
    return TrainResult(**found.extra["result"])


@contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Turn the first interrupt into a flag, so that no update is left half made; the second one is raised as ever.

    Signals reach only the main thread: elsewhere the flag just stays down.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    earlier = signal.getsignal(signal.SIGINT)

    def remember(signum: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, remember)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, earlier)
