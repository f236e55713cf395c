"""Questions and passages read together by two readers: one is quick and orders what was found (`hybridlab.rag.reader`), the other is
thorough and tells whether what came out best answers (`hybridlab.rag.cross_encoder`).

A question waits for its answer, so what the quick one needs of a passage is made when the passage is embedded, from the same pass, and
kept beside it: 64 bytes a token, 13 KB a chunk, 20 MB for the 396 pages of the evaluation. A chunk that is not embedded yet is read when
it is asked of. The thorough one takes 0.1 s a chunk, so it reads one after the other, and no more once one answers.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hybridlab.rag.cross_encoder import Judged, PairReader
from hybridlab.rag.embed import E5
from hybridlab.rag.reader import DEPTH, Kept, Reader, States

from assistant.knowledge.spelling import as_written
from assistant.store import Store

if TYPE_CHECKING:
    from assistant.knowledge.search import Hit

READER, PAIRS = (Path(__file__).with_name(f"{name}.safetensors") for name in ("reader", "pairs"))  # reader.md says what they are made of
LEAST_ODDS = -12.0  # of a reader that saw nothing to read
LEAST_SHARE = 1e-6  # of an answer
ENOUGH = 0.0  # log odds of a chunk after which no other one is read
_loading = threading.Lock()


@cache
def reader() -> Reader:
    return Reader.load(READER)


def pair_reader() -> PairReader:
    """Read from its files when it is first needed, which takes a second. Raises MissingModel."""
    with _loading:  # who comes second waits, and reads no file again
        return _pair_reader()


@cache
def _pair_reader() -> PairReader:
    return PairReader(PAIRS)


@cache
def reader_id() -> str:
    """Which reader this is: another can't use what it has kept."""
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
    """A question beside the chunks that were found for it: its token states, and what `judge` has kept of theirs; and, by chunk, what the
    thorough reader said, as far as it was asked."""

    encoder: E5
    question: str
    asked: States
    hits: Sequence[Hit]
    kept: Sequence[Kept]
    judge: Reader = field(default_factory=reader)
    judged: dict[int, Judged] = field(default_factory=dict)

    def odds(self) -> float:
        """Log odds that one of the chunks answers the question: those of the best, by the quick reader."""
        return float(max(self.each, default=LEAST_ODDS))

    def pair_odds(self) -> float:
        """The same by the thorough one."""
        return float(max(self.together, default=LEAST_ODDS))

    def best_first(self, place: float) -> Reading:
        """The same, with the chunks in the order of `as_cited`. Scores stay where they were, so that they still descend."""
        order = as_cited(self.together, len(self.hits), place)
        hits = [replace(self.hits[n], score=there.score) for n, there in zip(order, self.hits, strict=True)]
        return replace(self, hits=hits, kept=[self.kept[n] for n in order])

    @cached_property
    def each(self) -> np.ndarray:
        """Log odds of each of the chunks, by the quick reader."""
        return np.maximum(LEAST_ODDS, self.judge.score(self.asked, self.kept))

    @cached_property
    def together(self) -> list[float]:
        """Log odds of the first chunks, by the thorough reader: of as many as it takes until one answers."""
        return until_enough(self._judged(hit).odds for hit in self.hits)

    def _judged(self, hit: Hit) -> Judged:
        if hit.chunk.id not in self.judged:
            passage = text_of(hit)
            self.judged[hit.chunk.id] = pair_reader().judge(as_written(self.question, passage), passage)
        return self.judged[hit.chunk.id]

    def of_parts(self, hit: int, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """How well each part of a chunk's text answers: the quick reader's log odds; where the thorough one has read the chunk, half of
        them and the logarithm of how much of the answer is there."""
        chunk, kept = self.hits[hit].chunk, self.kept[hit]
        whole = text_of(self.hits[hit])
        shift = len(whole) - len(chunk.text.rstrip())  # where the chunk's own text begins in what was read
        held = np.array(self.encoder.token_spans(whole)[: len(kept)], int).reshape(-1, 2) - shift
        parts = [kept[(held[:, 0] < end) & (held[:, 1] > start)] for start, end in spans]
        odds = np.maximum(LEAST_ODDS, self.judge.score(self.asked, parts))
        if chunk.id not in self.judged:
            return odds
        there = [self.judged[chunk.id].within(start + shift, end + shift) for start, end in spans]
        return odds / 2 + np.log(np.maximum(there, LEAST_SHARE))


def until_enough(odds: Iterable[float]) -> list[float]:
    """The first ones, up to one that answers."""
    made: list[float] = []
    for one in odds:
        made.append(max(LEAST_ODDS, one))
        if one >= ENOUGH:
            break
    return made


def as_cited(together: Sequence[float], chunks: int, place: float) -> list[int]:
    """The numbers of chunks: those that were read by their log odds less `place` × the logarithm of their place, then the others."""
    worth = np.array(together) - place * np.log1p(np.arange(len(together)))
    return [*np.argsort(-worth, kind="stable").tolist(), *range(len(together), chunks)]


def read(store: Store, owner: str, encoder: E5, question: str, hits: Sequence[Hit]) -> Reading:
    """A question read with the chunks that were found for it."""
    stored = store.readings.of(owner, [hit.chunk.id for hit in hits], reader_id())
    new = [hit for hit in hits if hit.chunk.id not in stored]
    if new:
        stored |= {hit.chunk.id: kept for hit, kept in zip(new, embed(encoder, [text_of(hit) for hit in new])[1], strict=True)}
    asked = encoder.ask(question, DEPTH)[1]
    return Reading(encoder, question, asked, hits, [kept_of(stored[hit.chunk.id]) for hit in hits])


def judged(store: Store, owner: str, asked: States, chunks: Sequence[int]) -> dict[int, float]:
    """Log odds, by chunk, that it answers the question; of those that this reader has read."""
    stored = store.readings.of(owner, chunks, reader_id())
    odds = reader().score(asked, [kept_of(one) for one in stored.values()])
    return {chunk: float(one) for chunk, one in zip(stored, odds, strict=True) if one > LEAST_ODDS}


def kept_of(stored: bytes) -> Kept:
    return np.frombuffer(stored, np.int8).reshape(-1, reader().width)
