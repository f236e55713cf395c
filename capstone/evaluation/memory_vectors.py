"""E5's vectors of talks, made once: of each turn and its pieces, and of each question."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from assistant.memory.index import pieces
from hybridlab.data.cache import cache_dir
from hybridlab.rag.embed import E5
from jaxtyping import Float32, Int64

from capstone.evaluation.base import fingerprint
from capstone.evaluation.memory_probes import Talk

AT_ONCE = 512  # texts between two writes of the file


class Vectors:
    """Texts to vectors, kept in a file under the encoder's own code and precision."""

    def __init__(self, encoder: E5, folder: Path | None = None):
        self.encoder = encoder
        self.path = (folder or cache_dir()) / f"memory-vectors-{fingerprint(encoder).hex()[:12]}.npz"
        self.places: dict[str, int] = {}
        self.table = np.zeros((0, encoder.dim), np.float32)
        if self.path.is_file():
            with np.load(self.path) as kept:
                self.places = {text: i for i, text in enumerate(kept["texts"].tobytes().decode().split("\0"))}
                self.table = kept["vectors"].astype(np.float32)

    def passages(self, texts: list[str]) -> Float32[np.ndarray, "n dim"]:
        return self._of(texts, "passage: ", self.encoder.passages)

    def questions(self, texts: list[str]) -> Float32[np.ndarray, "n dim"]:
        return self._of(texts, "query: ", self.encoder.query)

    def _of(self, texts: list[str], prefix: str, encode: Callable) -> np.ndarray:
        missing = sorted({text for text in texts if prefix + text not in self.places}, key=len)
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            self.places |= {prefix + text: len(self.places) + i for i, text in enumerate(some)}
            self.table = np.concatenate([self.table, encode(some).astype(np.float16).astype(np.float32)])
            if start + AT_ONCE >= len(missing) or (start // AT_ONCE) % 8 == 7:
                self._write()
        return self.table[[self.places[prefix + text] for text in texts]]

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(f".{os.getpid()}.npz")
        texts = np.frombuffer("\0".join(self.places).encode(), np.uint8)
        np.savez(beside, texts=texts, vectors=self.table.astype(np.float16))
        beside.replace(self.path)


@dataclass(frozen=True)
class Seen:
    """A talk in vectors. `of_turn` says of each piece which turn it is a piece of; the first piece of a turn is all of it."""

    talk: Talk
    pieces: Float32[np.ndarray, "pieces dim"]
    of_turn: Int64[np.ndarray, " pieces"]
    questions: Float32[np.ndarray, "asked dim"]


def seen(talks: Iterable[Talk], vectors: Vectors) -> list[Seen]:
    """Talks with their vectors."""
    talks = list(talks)
    parts = [[pieces(one.text) for one in talk.said] for talk in talks]
    vectors.passages([piece for of in parts for turn in of for piece in turn])  # all at once, the short ones first
    made = []
    for talk, of in zip(talks, parts, strict=True):
        flat = vectors.passages([piece for turn in of for piece in turn])
        of_turn = np.repeat(np.arange(len(of)), list(map(len, of)))
        made.append(Seen(talk, flat, of_turn, vectors.questions([one.question for one in talk.asked])))
    return made
