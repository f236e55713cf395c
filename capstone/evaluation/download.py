"""Files that are fetched from a fixed address and are none but those: known by their SHA-256, kept outside the repository."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from hybridlab.exercise import sha256

from capstone.evaluation.documents import NotFetched


def download(files: Mapping[str, str], source: str, folder: Path) -> list[Path]:
    """Download what is missing of `files` (name → SHA-256). Raises NotFetched where that can't be done, or what comes is another file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, wanted in files.items():
        path = folder / name
        if path.is_file() and sha256(path) == wanted:
            continue
        draft = path.with_suffix(".tmp")
        try:
            with urlopen(f"{source}/{name}", timeout=60) as answer:
                draft.write_bytes(answer.read())
        except (URLError, TimeoutError) as error:
            raise NotFetched(f"{name} could not be downloaded from {source} ({error}): put it into {folder} by hand.") from error
        if (got := sha256(draft)) != wanted:
            draft.unlink()
            raise NotFetched(f"{source}/{name} has the SHA-256 {got}, and not {wanted}: it is another file, and was thrown away.")
        draft.replace(path)
    return [folder / name for name in files]
