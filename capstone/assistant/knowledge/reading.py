"""Questions and passages read together by a small reader (`hybridlab.rag.reader`).

A question waits for its answer, so what the reader needs of a passage is made when the passage is embedded, from the same pass, and
kept beside it: 64 bytes a token, 13 KB a chunk, 20 MB for the 396 pages of the evaluation. A chunk that is not embedded yet is read when
it is asked of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hybridlab.rag.embed import E5
from hybridlab.rag.reader import DEPTH, Kept, Reader, States

from assistant.store import Store

if TYPE_CHECKING:
    from assistant.knowledge.search import Hit

READER = Path(__file__).with_name("reader.safetensors")  # reader.md says what it is made of
LEAST_ODDS = -12.0  # of a reader that saw nothing to read


@cache
def reader() -> Reader:
    return Reader.load(READER)


@cache
def reader_id() -> str:
    """Which reader this is: another one can't use what it has kept."""
    return hashlib.sha256(READER.read_bytes()).hexdigest()[:16]


def text_of(hit: Hit) -> str:
    """What a chunk says, headings and names of columns included."""
    return f"{hit.chunk.context}\n{hit.chunk.text}".strip()


def embed(encoder: E5, texts: Sequence[str]) -> tuple[np.ndarray, list[bytes]]:
    """Vectors of passages [n, dim], and what the reader keeps of each."""
    vectors, states = encoder.read(texts, DEPTH)
    return vectors, [reader().keep(passage).tobytes() for passage in states]


@dataclass(frozen=True)
class Reading:
    """A question beside the chunks that were found for it: its token states, and what `judge` has kept of theirs."""

    encoder: E5
    asked: States
    hits: Sequence[Hit]
    kept: Sequence[Kept]
    judge: Reader = field(default_factory=reader)

    def odds(self) -> float:
        """Log odds that one of the chunks answers the question: those of the best."""
        return float(max(self.each(), default=LEAST_ODDS))

    def each(self) -> np.ndarray:
        """Log odds of each of the chunks."""
        return np.maximum(LEAST_ODDS, self.judge.score(self.asked, self.kept))

    def of_parts(self, hit: int, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """Log odds of each part of a chunk's text."""
        chunk, kept = self.hits[hit].chunk, self.kept[hit]
        whole = text_of(self.hits[hit])
        shift = len(whole) - len(chunk.text.rstrip())  # where the chunk's own text begins in what was read
        held = np.array(self.encoder.token_spans(whole)[: len(kept)], int).reshape(-1, 2) - shift
        parts = [kept[(held[:, 0] < end) & (held[:, 1] > start)] for start, end in spans]
        return np.maximum(LEAST_ODDS, self.judge.score(self.asked, parts))


def read(store: Store, owner: str, encoder: E5, asked: States, hits: Sequence[Hit]) -> Reading:
    """A question's token states read with the chunks that were found for it."""
    stored = store.readings.of(owner, [hit.chunk.id for hit in hits], reader_id())
    new = [hit for hit in hits if hit.chunk.id not in stored]
    if new:
        stored |= {hit.chunk.id: kept for hit, kept in zip(new, embed(encoder, [text_of(hit) for hit in new])[1], strict=True)}
    return Reading(encoder, asked, hits, [kept_of(stored[hit.chunk.id]) for hit in hits])


def judged(store: Store, owner: str, asked: States, chunks: Sequence[int]) -> dict[int, float]:
    """Log odds, by chunk, that it answers the question; of those that this reader has read."""
    stored = store.readings.of(owner, chunks, reader_id())
    odds = reader().score(asked, list(map(kept_of, stored.values())))
    return {chunk: float(one) for chunk, one in zip(stored, odds, strict=True) if one > LEAST_ODDS}


def kept_of(stored: bytes) -> Kept:
    return np.frombuffer(stored, np.int8).reshape(-1, reader().passage.shape[1])
