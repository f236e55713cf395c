"""Questions and passages read together by two small readers: one is quick and orders what was found (`hybridlab.rag.reader`), the other
looks for the place of an answer in what came out best (`hybridlab.rag.span_reader`).

A question waits for its answer, so what the readers need of a passage is made when the passage is embedded, from the same pass, and
kept beside it: 64 and 128 bytes a token, 39 KB a chunk, 60 MB for the 396 pages of the evaluation. A chunk that is not embedded yet is
read when it is asked of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from hybridlab.rag.embed import E5
from hybridlab.rag.reader import DEPTH, Kept, Reader, States
from hybridlab.rag.span_reader import SpanReader

from assistant.store import Store

if TYPE_CHECKING:
    from assistant.knowledge.search import Hit

READER, SPANS = (Path(__file__).with_name(f"{name}.safetensors") for name in ("reader", "spans"))  # reader.md says what they are made of
LEAST_ODDS = -12.0  # of a reader that saw nothing to read


@cache
def reader() -> Reader:
    return Reader.load(READER)


@cache
def span_reader() -> SpanReader:
    return SpanReader.load(SPANS)


@cache
def reader_id() -> str:
    """Which readers these are: others can't use what they have kept."""
    return hashlib.sha256(READER.read_bytes() + SPANS.read_bytes()).hexdigest()[:16]


def text_of(hit: Hit) -> str:
    """What a chunk says, headings and names of columns included."""
    return f"{hit.chunk.context}\n{hit.chunk.text}".strip()


def embed(encoder: E5, texts: Sequence[str]) -> tuple[np.ndarray, list[bytes]]:
    """Vectors of passages [n, dim], and what the readers keep of each."""
    vectors, states = encoder.read(texts, DEPTH)
    return vectors, [np.hstack([reader().keep(passage), span_reader().keep(passage)]).tobytes() for passage in states]


@dataclass(frozen=True)
class Reading:
    """A question beside the chunks that were found for it: its token states, and what `judge` has kept of theirs, and `spans` behind it."""

    encoder: E5
    asked: States
    hits: Sequence[Hit]
    kept: Sequence[Kept]
    judge: Reader = field(default_factory=reader)
    spans: SpanReader = field(default_factory=span_reader)

    def odds(self) -> float:
        """Log odds that one of the chunks answers the question: those of the best."""
        return float(max(self.each, default=LEAST_ODDS))

    def span_odds(self) -> float:
        """Log odds that an answer stands somewhere in one of the chunks: those of the best."""
        return float(max(self._spanned, default=LEAST_ODDS))

    def best_first(self, place: float, spans: float) -> Reading:
        """The same, with the chunks in the order of `as_cited`. Scores stay where they were, so that they still descend."""
        order = as_cited(self.each, self._spanned, place, spans)
        hits = [replace(self.hits[n], score=there.score) for n, there in zip(order, self.hits, strict=True)]
        return replace(self, hits=hits, kept=[self.kept[n] for n in order])

    @cached_property
    def each(self) -> np.ndarray:
        """Log odds of each of the chunks."""
        return np.maximum(LEAST_ODDS, self.judge.score(self.asked, list(map(self._judged, self.kept))))

    @cached_property
    def _spanned(self) -> np.ndarray:
        return np.maximum(LEAST_ODDS, self.spans.score(self.asked, [kept[:, self.judge.width :] for kept in self.kept]))

    def _judged(self, kept: Kept) -> Kept:
        return kept[:, : self.judge.width]

    def of_parts(self, hit: int, spans: Sequence[tuple[int, int]]) -> np.ndarray:
        """Log odds of each part of a chunk's text."""
        chunk, kept = self.hits[hit].chunk, self.kept[hit]
        whole = text_of(self.hits[hit])
        shift = len(whole) - len(chunk.text.rstrip())  # where the chunk's own text begins in what was read
        held = np.array(self.encoder.token_spans(whole)[: len(kept)], int).reshape(-1, 2) - shift
        parts = [self._judged(kept)[(held[:, 0] < end) & (held[:, 1] > start)] for start, end in spans]
        return np.maximum(LEAST_ODDS, self.judge.score(self.asked, parts))


def as_cited(read: np.ndarray, spanned: np.ndarray, place: float, spans: float) -> list[int]:
    """The numbers of chunks by the reader's log odds and `spans` × the span reader's, less `place` × the logarithm of their place."""
    worth = read + spans * spanned - place * np.log1p(np.arange(len(read)))
    return np.argsort(-worth, kind="stable").tolist()


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
    odds = reader().score(asked, [kept_of(one)[:, : reader().width] for one in stored.values()])
    return {chunk: float(one) for chunk, one in zip(stored, odds, strict=True) if one > LEAST_ODDS}


def kept_of(stored: bytes) -> Kept:
    return np.frombuffer(stored, np.int8).reshape(-1, reader().width + 2 * span_reader().width)
