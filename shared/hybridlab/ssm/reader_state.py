"""Where a reader stands, as a file: tensors and JSON in one safetensors file, nothing in it that could run."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hybridlab.ssm.mamba_model import Mamba, ModelState
from hybridlab.ssm.mixer_state import MixerState

FORMAT = "hybridlab reader state 1"


class StateError(ValueError):
    """A saved state that can't be used, and why."""


class Place(NamedTuple):
    """Where a reader stands, whole: whoever has it goes on as if nothing had happened.

    `pending`: tokens that do not fill a chunk yet; `rest`: bytes that may become one token or several; `source`: how far a file has been
    read, while it is not at its end.
    """

    state: ModelState | None = None
    pending: Int[np.ndarray, " waiting"] = np.empty(0, np.int64)
    rest: bytes = b""
    tokens: int = 0
    source: dict | None = None


def model_hash(model: Mamba) -> str:
    """SHA-256 over the config and all weights: two models with the same hash read alike."""
    digest = hashlib.sha256(json.dumps(asdict(model.config), sort_keys=True).encode())
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_place(place: Place, model: str, path: str | os.PathLike) -> None:
    """Write atomically: a crash leaves the old file whole. `model` is its hash."""
    path = Path(path)
    tensors = {"pending": torch.from_numpy(place.pending.copy()), "rest": torch.tensor(list(place.rest), dtype=torch.uint8)}
    for i, layer in enumerate(place.state or []):
        tensors |= {f"{i}.past": layer.past.contiguous(), f"{i}.memory": layer.memory.contiguous()}
    metadata = {"format": FORMAT, "model": model, "tokens": str(place.tokens), "source": json.dumps(place.source)}
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, beside, metadata)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load_place(path: str | os.PathLike, model: Mamba, hashed: str) -> Place:
    """What `save_place` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        StateError: damaged, no state, of another version, of another model, or with numbers that are none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no state at {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as error:
        raise StateError(f"{path} can't be read ({error}): it is cut off, damaged, or no state of a reader") from None
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}, and this version reads {FORMAT!r}: read the text again")
    if metadata["model"] != hashed:
        its = metadata["model"][:12]
        raise StateError(f"{path} was written by model {its}, and this is {hashed[:12]}: load that one, or read the text again")
    layers = len(model.layers) if "0.past" in tensors else 0
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(layers)]
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}: it is damaged") from None
    if not all(part.isfinite().all() for part in _parts(state)):
        raise StateError(f"{path} has numbers that are not finite: it is damaged")
    return Place(state or None, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


def _parts(state: ModelState) -> list[Tensor]:
    return [part for layer in state for part in layer]
