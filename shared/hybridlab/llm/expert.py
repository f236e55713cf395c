"""An expert: a GGUF adapter with a card beside it, `NAME.gguf` and `NAME.json`, for one base model and one use.

llama.cpp loads any adapter whose shapes fit, and an adapter upon the wrong weights talks nonsense without an error. So the card
names its base by the hash of the file, and an expert whose card does not fit is refused with a sentence.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from torch import nn

from hybridlab.llm.gguf import GGUFError, GGUFFile
from hybridlab.llm.gguf_adapter import AdapterError, require_adapter_fits, save_gguf_adapter


class ExpertError(ValueError):
    """An expert that can't be used; the text names the file, what is wrong, and what to do."""


@dataclass(frozen=True)
class Card:
    """What an adapter's file does not say. `use` is what it is asked for ("sources": answers from given sources); `base` the name
    and `base_sha256` the hash of the GGUF file that it belongs to; `made` how it was made, so that it can be made again."""

    name: str
    use: str
    base: str
    base_sha256: str
    licence: str
    made: str


@dataclass(frozen=True)
class Expert:
    """An adapter and what its card says; `path` is the adapter's GGUF file, and the card lies beside it."""

    card: Card
    path: Path


def save_expert(model: nn.Module, folder: str | os.PathLike, card: Card) -> Expert:
    """Write the adapters of `model` and their card into `folder`; the card comes last, so there is no card without its adapter.

    Raises AdapterError where the adapters can't be exported.
    """
    path = save_gguf_adapter(model, Path(folder) / f"{card.name}.gguf")
    draft = path.with_suffix(".json.tmp")
    draft.write_text(json.dumps(asdict(card), indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(draft, path.with_suffix(".json"))
    return Expert(card, path)


def load_expert(card: Path, base: Path) -> Expert:
    """The expert of a card, once its file is seen to be whole and to belong to the GGUF model `base`.

    Raises:
        ExpertError: the card is no card, its adapter is missing, cut off or damaged, or it belongs to another base.
    """
    try:
        said = json.loads(card.read_text("utf-8"))
        known = Card(**{field.name: said[field.name] for field in fields(Card)})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExpertError(f"{card} is no expert's card ({type(error).__name__}: {error}): write it anew, or take the file away") from None
    path = card.with_suffix(".gguf")
    if known.base_sha256 != (found := sha256(base)):
        raise ExpertError(
            f"{card} belongs to the base model {known.base} ({known.base_sha256[:12]}…), and this one is {base.stem} ({found[:12]}…): "
            "take the expert away, or load its own base"
        )
    try:
        require_adapter_fits(GGUFFile(path), GGUFFile(base))
    except GGUFError as error:
        raise ExpertError(f"the expert {known.name} can't be read: {error}") from None
    except AdapterError as error:
        raise ExpertError(str(error)) from None
    return Expert(known, path)


def load_experts(folders: list[Path], base: Path) -> list[Expert]:
    """The experts in `folders`, one for each use: an earlier folder's goes before a later one's. Raises ExpertError."""
    chosen: dict[str, Expert] = {}
    for folder in folders:
        for card in sorted(folder.glob("*.json")):
            expert = load_expert(card, base)
            chosen.setdefault(expert.card.use, expert)
    return list(chosen.values())


def sha256(path: Path) -> str:
    """The hash of a file. Remembered while the file is the same: the base has 93 MB."""
    about = path.stat()
    return _sha256(path, about.st_size, about.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
