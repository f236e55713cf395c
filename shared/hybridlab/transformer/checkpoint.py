"""Checkpoints from which training goes on as if it had never stopped, bit for bit.

Weights alone are not enough: the optimizer's moments, the number of the step, and both random states (torch's own, which
dropout uses, and the one that draws the batches) belong to it. A file is written beside the old one and then put in
its place, so that a crash in the middle of writing leaves the old checkpoint whole. Files are read with
`weights_only=True`: a checkpoint from elsewhere can't run code.
"""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

FORMAT = "hybridlab checkpoint 1"


class CheckpointError(ValueError):
    """A checkpoint that can't be used, and why."""


class Checkpoint(NamedTuple):
    """What `load_checkpoint` found besides the states that it put back."""

    step: int
    extra: dict[str, Any]


def save_checkpoint(
    path: str | os.PathLike,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    step: int,
    generator: torch.Generator,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write everything that is needed to go on after update number `step`, atomically.

    `generator` is the one that draws the batches. `extra` may hold plain values (numbers, strings, lists, dicts, tensors).
    If writing fails, the file that was there before stays, and nothing is left beside it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "format": FORMAT,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "data_rng": generator.get_state(),
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "extra": extra or {},
    }
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # on the disk before it gets the name, or a power cut could leave an empty file
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_checkpoint(
    path: str | os.PathLike,
    *,
    model: nn.Module,
    optimizer: Optimizer | None = None,
    generator: torch.Generator | None = None,
) -> Checkpoint:
    """Put a checkpoint's weights into `model`; with `optimizer` and `generator`, put back all the rest too, to train on.

    With only a model (for generation) no random state is touched. An error leaves everything as it was.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: the file is damaged, is not a checkpoint, or belongs to a model of another shape.
        ValueError: only one of `optimizer` and `generator` is given.
    """
    if (optimizer is None) != (generator is None):
        raise ValueError("give both optimizer and generator to train on, or neither to use the weights only")
    state = read_checkpoint(path)
    _hold_against(path, state["model"], model)
    if optimizer is not None:
        try:
            optimizer.load_state_dict(state["optimizer"])
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"{path} was written with another optimizer ({error}): build the same one, or start a new run") from error
        generator.set_state(state["data_rng"])
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
    model.load_state_dict(state["model"])
    return Checkpoint(state["step"], state["extra"])


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """The whole content of a checkpoint, put nowhere yet. Raises the errors of `load_checkpoint`."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load itself does not compare the sums that are in the file
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"{damaged} has another checksum")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) can't be read: it is cut off, damaged, or not a checkpoint. "
            "Delete it and start again, or put an older checkpoint in its place."
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a training checkpoint of this library (expected format {FORMAT!r})")
    return state


def _hold_against(path: str | os.PathLike, saved: dict[str, torch.Tensor], model: nn.Module) -> None:
    """Refuse weights of another shape before anything is changed."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in saved.items()}
    differing = sorted(name for name in own.keys() | theirs.keys() if own.get(name) != theirs.get(name))
    if differing:
        name = differing[0]
        raise CheckpointError(
            f"{path} belongs to another model: {len(differing)} weights differ, first {name}: "
            f"{theirs.get(name, 'missing')} in the file, {own.get(name, 'missing')} in the model"
        )
