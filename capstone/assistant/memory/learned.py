"""What memory has learned: the reader of the stream of turns, in a file of weights with its card (`learned.md`) beside it.

Memory works without it: where the file is missing, or is not what it says that it is, nothing is read, and the sentence says why.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from assistant.memory.stream import Shape, StreamReader

WEIGHTS = Path(__file__).with_name("learned.safetensors")
VERSION = 1  # of what the weights mean: another reads other states out of the same turns


class NoReader(Exception):
    """There is no reader that can be used; the text says why, and what to do."""


@dataclass(frozen=True)
class Learned:
    """`name` is the fingerprint of the reader's weights and form: a state of another is not its."""

    reader: StreamReader
    name: str


def fingerprint(reader: StreamReader) -> str:
    """SHA-256 of the form and all weights."""
    digest = hashlib.sha256(json.dumps({"version": VERSION, **asdict(reader.shape)}, sort_keys=True).encode())
    for name, value in sorted(reader.state_dict().items()):
        digest.update(name.encode() + value.numpy().astype("<f4").tobytes())
    return digest.hexdigest()


def save(path: Path, reader: StreamReader) -> None:
    """In float16, with the fingerprint of what that leaves of the weights."""
    weights = {name: value.half().contiguous() for name, value in reader.state_dict().items()}
    kept = StreamReader(reader.shape)
    kept.load_state_dict({name: value.float() for name, value in weights.items()})
    save_file(weights, path, {"shape": json.dumps(asdict(reader.shape)), "fingerprint": fingerprint(kept)})


def load(path: Path) -> Learned:
    """Raises NoReader where the file is not there, damaged, or another program's or version's."""
    if not path.is_file():
        raise NoReader(f"{path.name} is not there: memory works without the reader of turns; put the file of this version back.")
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata()
            reader = StreamReader(Shape(**json.loads(about["shape"])))
            reader.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118 - it is no dict
        wanted = about["fingerprint"]
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        what = " ".join(str(error).split())[:200]
        raise NoReader(f"{path.name} can't be read ({what}): memory works without it; put the file of this version back.") from error
    if (found := fingerprint(reader)) != wanted:
        said = f"its fingerprint is {found[:12]} and should be {wanted[:12]}"
        raise NoReader(f"{path.name} is not what it was ({said}): memory works without it; put the file of this version back.")
    return Learned(reader.eval().requires_grad_(False), found)


def reader_for(dim: int) -> tuple[Learned | None, str]:
    """The reader for vectors of this size; or none, and the sentence that says why."""
    try:
        learned = load(WEIGHTS)
    except NoReader as error:
        return None, str(error)
    if learned.reader.dim != dim:
        return None, f"{WEIGHTS.name} reads vectors of {learned.reader.dim} numbers, the encoder makes {dim}: memory works without it."
    return learned, ""
