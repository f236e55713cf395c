"""Where a reader stands, as a file: tensors and JSON in one safetensors file, nothing in it that could run."""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.place import Place

FORMAT = "hybridlab reader state 1"


class StateError(ValueError):
    """A saved state that can't be used, and why."""


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


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, str], dict[str, Shaped[Tensor, "..."]]]:
    """The metadata and the tensors of a file of safetensors, copied out of it.

    Raises:
        FileNotFoundError: there is no such file.
        StateError: it is cut off, damaged, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no state at {path}")
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no dict
    except SafetensorError as error:
        raise StateError(f"{path} can't be read ({error}): it is cut off, damaged, or no state of a reader") from None


@exercise
def load_place(path: str | os.PathLike, model: Mamba, hashed: str) -> Place:
    """The place that `save_place` wrote, for the model whose hash (`model_hash`) is `hashed`. Whatever else stands there is refused.

    `read_tensors(path)` gives (metadata, tensors). The metadata, all text: "format"; "model", a hash; "tokens", a number; "source", JSON.
    The tensors: "pending", int64; "rest", uint8; and, where a chunk has been read, "0.past" and "0.memory" for layer 0 and so on for each
    of `model.layers`. The place: state = a list of MixerState(past, memory), or None where there is no "0.past"; pending as numpy, rest as
    bytes, tokens as int, source as what the JSON says.

    Raises:
        FileNotFoundError: there is no such file (`read_tensors` raises it).
        StateError: in this order: damaged (`read_tensors`); the format is not FORMAT, or there is none; another model's hash; a tensor is
            missing; a number in the state is not finite; a waiting token below 0 or not below model.config.vocab_size. Each message
            names the path.
    """
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}, and this version reads {FORMAT!r}: read the text again")
    if (its := metadata.get("model", "none")) != hashed:
        raise StateError(f"{path} was written by model {its[:12]}, and this is {hashed[:12]}: load that one, or read the text again")
    layers = len(model.layers) if "0.past" in tensors else 0
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(layers)]
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}: it is damaged") from None
    if not all(part.isfinite().all() for layer in state for part in layer):
        raise StateError(f"{path} has numbers that are not finite: it is damaged")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know: it is damaged")
    return Place(state or None, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))
