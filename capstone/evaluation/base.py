"""The knowledge that questions are asked of: the assistant's own ingestion, run over the evaluation's documents.

The documents are read anew every time; only their embeddings are kept between runs, by text and by the code that made them.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from assistant.knowledge.service import Knowledge
from assistant.settings import Settings
from assistant.store import Store
from hybridlab.rag import e5_file, embed, int8
from hybridlab.rag.embed import E5

STAFF, BOARD = "staff", "board"  # the board's one document is not the staff's to see


class RememberedEmbeddings:
    """An encoder that embeds a passage once and keeps its vector in a file."""

    def __init__(self, encoder: E5, path: Path):
        self.encoder, self.path, self.dim = encoder, path, encoder.dim
        code = b"".join(Path(module.__file__).read_bytes() for module in (embed, e5_file, int8))
        self._salt = hashlib.sha256(code + encoder.precision.encode()).digest()
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")

    def query(self, texts: Sequence[str]) -> np.ndarray:
        return self.encoder.query(texts)

    def passages(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> np.ndarray:
        """Vectors [n, dim], from the file where they are in it."""
        keys = [hashlib.sha256(self._salt + text.encode()).digest() for text in texts]
        with closing(sqlite3.connect(self.path)) as file:
            known = {key: row[0] for key in keys if (row := file.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone())}
            missing = [i for i, key in enumerate(keys) if key not in known]
            if missing:
                made = self.encoder.passages([texts[i] for i in missing])
                known |= {keys[i]: vector.astype("<f4").tobytes() for i, vector in zip(missing, made, strict=True)}
                with file:
                    file.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", [(keys[i], known[keys[i]]) for i in missing])
        if progress:
            progress(len(texts))
        return np.stack([np.frombuffer(known[key], "<f4") for key in keys])


class NotReadable(Exception):
    """A document of the evaluation could not be read; the text says which, and why."""


def build(home: Path, documents: Sequence[Path], restricted: str, remembered: Path | None) -> Knowledge:
    """Ingest documents as the service does: all for the staff, but for the `restricted` one, which is the board's.

    With `remembered`, embeddings come from that file where they can; questions are always embedded anew. Raises NotReadable.
    """
    settings = Settings(home=home, _env_file=None)
    store, encoder = Store(settings.database), E5()
    knowledge = Knowledge(store, RememberedEmbeddings(encoder, remembered) if remembered else encoder, settings)
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
