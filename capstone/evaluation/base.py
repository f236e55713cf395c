"""The knowledge that questions are asked of: the assistant's own ingestion, run over the evaluation's documents.

The documents are parsed anew every time; what the encoder makes of a passage is kept between runs, by text and by the code that made it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from assistant.knowledge.service import Knowledge
from assistant.settings import Settings
from assistant.store import Store
from hybridlab.rag import e5_file, e5_tokenizer, embed, half, int8
from hybridlab.rag.embed import E5, States

Make = Callable[[list[str]], Iterable[tuple[np.ndarray, States]]]  # texts to vectors and states
AT_ONCE = 16  # passages that are read between two looks at the file
STAFF, BOARD = "staff", "board"  # the board's one document is not the staff's to see


def fingerprint(encoder: E5) -> bytes:
    """Of the code and the precision that make an encoder's vectors: what another one has made is made anew."""
    code = b"".join(Path(module.__file__).read_bytes() for module in (embed, e5_file, e5_tokenizer, half, int8))
    return hashlib.sha256(code + encoder.precision.encode()).digest()


class Remembered:
    """An encoder that reads a text once, and keeps its vector and token states (in float16) in a file."""

    def __init__(self, encoder: E5, path: Path):
        self.encoder, self.path, self.dim = encoder, path, encoder.dim
        self._salt = fingerprint(encoder)
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("CREATE TABLE IF NOT EXISTS passages (key BLOB PRIMARY KEY, vector BLOB NOT NULL, states BLOB NOT NULL)")

    def query(self, texts: Sequence[str]) -> np.ndarray:
        return self.encoder.query(texts)

    def read(self, texts: Sequence[str], depth: int) -> tuple[np.ndarray, list[States]]:
        """Vectors of passages [n, dim] and their token states, from the file where they are in it."""
        rows = self._kept(texts, bytes([depth]), lambda some: zip(*self.encoder.read(some, depth), strict=True))
        return np.stack([vector for vector, _ in rows]), [states for _, states in rows]

    def asked(self, texts: Sequence[str], depth: int) -> list[States]:
        """Token states of questions, likewise."""
        none = np.zeros(0, np.float32)
        rows = self._kept(
            texts, b"?" + bytes([depth]), lambda some: ((none, states) for states in self.encoder.token_states(some, depth, question=True))
        )
        return [states for _, states in rows]

    def _kept(self, texts: Sequence[str], kind: bytes, make: Make) -> list[tuple[np.ndarray, States]]:
        """A vector and states for each text; what is not in the file is made, and put there."""
        keys = [hashlib.sha256(self._salt + kind + text.encode()).digest() for text in texts]
        with closing(sqlite3.connect(self.path)) as file:
            find = "SELECT vector, states FROM passages WHERE key = ?"
            missing = {key: text for key, text in zip(keys, texts, strict=True) if not file.execute(find, (key,)).fetchone()}
            for some in (list(missing)[i : i + AT_ONCE] for i in range(0, len(missing), AT_ONCE)):
                made = zip(some, make([missing[key] for key in some]), strict=True)
                with file:  # a run that is ended early has not read in vain; another that goes on at the same time may have been quicker
                    rows = [(key, vector.astype("<f4").tobytes(), states.astype("<f2").tobytes()) for key, (vector, states) in made]
                    file.executemany("INSERT OR IGNORE INTO passages VALUES (?, ?, ?)", rows)
            held = [file.execute(find, (key,)).fetchone() for key in keys]
        return [
            (np.frombuffer(vector, "<f4"), np.frombuffer(states, "<f2").reshape(-1, self.dim).astype(np.float32)) for vector, states in held
        ]


class NotReadable(Exception):
    """A document of the evaluation could not be read; the text says which, and why."""


def build(home: Path, documents: Sequence[Path], restricted: str, remembered: Path | None) -> Knowledge:
    """Ingest documents as the service does: all for the staff, but for the `restricted` one, which is the board's.

    With `remembered`, what the encoder makes comes from that file where it can; questions are always embedded anew. Raises NotReadable.
    """
    settings = Settings(home=home, _env_file=None)
    store, encoder = Store(settings.database), E5()
    knowledge = Knowledge(store, Remembered(encoder, remembered) if remembered else encoder, settings)
    for owner in (STAFF, BOARD):
        store.keys.ensure_user(owner)
    for path in documents:
        with path.open("rb") as stream:
            knowledge.add(BOARD if path.name == restricted else STAFF, path.name, stream)
    knowledge.start()
    finished = knowledge.wait(1800)
    knowledge.close()
    unread = [f"{d.name}: {d.error or d.state}" for owner in (STAFF, BOARD) for d in knowledge.documents(owner) if d.state != "ready"]
    if unread or not finished:
        raise NotReadable("; ".join(unread) or "the documents were not read within half an hour: look at the log.")
    knowledge.encoder = knowledge.searching.encoder = encoder
    return knowledge
