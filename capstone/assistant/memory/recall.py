"""Find again what was said: words (BM25) and meaning (E5), fused by reciprocal ranks, over one owner's turns and no one else's.

A long turn says many things, and the mean of all of them is near to none: so a turn has a vector for itself, and one for every two
sentences of it; the nearest of these is how near the turn is.

It is the floor that a learned memory may add to and never replaces.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from hybridlab.rag.fusion import reciprocal_rank_fusion
from hybridlab.rag.index import DenseIndex
from hybridlab.rag.sentences import sentence_spans

from assistant.history import REFUSALS
from assistant.memory.when import when
from assistant.store import Store
from assistant.store.turns import Turn

DEPTH = 50  # candidates of each retriever that are fused
TOGETHER = 2  # sentences that have a vector of their own
MOST = 64  # vectors of one turn


@dataclass(frozen=True)
class Recalled:
    """A turn and why it was found: its fused score and its rank (from 1) by each retriever that found it (`bm25`, `e5`)."""

    turn: Turn
    score: float
    ranks: dict[str, int]


def pieces(content: str) -> list[str]:
    """What of a turn is embedded: all of it, then every `TOGETHER` sentences, `MOST` pieces at most. A short turn is its only piece."""
    spans = list(sentence_spans(content, 0, len(content)))
    if len(spans) <= TOGETHER:
        return [content]
    ends = zip(spans, spans[TOGETHER - 1 :], strict=False)
    return [content, *(content[first[0] : last[1]] for first, last in ends)][:MOST]


class Index:
    """One owner's turns by the vectors of their pieces."""

    def __init__(self, dim: int):
        self.vectors = DenseIndex(dim)
        self.count: dict[int, int] = {}  # pieces of a turn

    def __len__(self) -> int:
        return len(self.count)

    def add(self, turn: int, vectors: np.ndarray) -> None:
        """Vectors [pieces, dim] of a turn."""
        self.count[turn] = len(vectors)
        self.vectors.add(np.array(self._places(turn), np.int64), vectors)

    def search(self, vector: np.ndarray, k: int, allowed: Sequence[int] | None) -> list[int]:
        """The `k` turns whose nearest piece is nearest."""
        among = None if allowed is None else [place for turn in allowed if turn in self.count for place in self._places(turn)]
        nearest = self.vectors.search(vector, k * MOST, among)
        return list(dict.fromkeys(place // MOST for place, _ in nearest))[:k]

    def _places(self, turn: int) -> range:
        return range(turn * MOST, turn * MOST + self.count[turn])


class Recall:
    """Callable; keeps one index of meanings per owner, filled from the database when the owner first asks."""

    def __init__(self, store: Store, encoder):
        self.store, self.encoder = store, encoder
        self._indexes: dict[str, Index] = {}
        self._lock = threading.RLock()

    def __call__(
        self,
        owner: str,
        question: str,
        k: int,
        *,
        conversation: str | None = None,
        before: int | None = None,
        now: datetime | None = None,
    ) -> list[Recalled]:
        """The best `k` turns, best first. `conversation` is the present one: "the last session" is the one before it. `before` is the
        turn that asks: neither it nor what follows it is recalled."""
        sessions = [session for session in self.store.turns.sessions(owner) if session.id != conversation]
        asked = when(question, sessions, now or datetime.now())
        allowed = None if asked.everything else self.store.turns.ids(owner, asked.sessions, asked.since, asked.until)
        if allowed == []:
            return []
        wanted, depth = asked.question or question, max(k, DEPTH)
        rankings = {
            "bm25": [turn for turn, _ in self.store.turns.search_words(owner, wanted, depth, allowed)],
            "e5": self._by_meaning(owner, wanted, depth, allowed),
        }
        if before is not None:
            rankings = {name: [turn for turn in of if turn < before] for name, of in rankings.items()}
        fused = dict(reciprocal_rank_fusion(list(rankings.values())))
        turns = [turn for turn in self.store.turns.get(owner, list(fused)) if turn.content not in REFUSALS]
        return [
            Recalled(turn, fused[turn.id], {name: of.index(turn.id) + 1 for name, of in rankings.items() if turn.id in of})
            for turn in turns[:k]
        ]

    def _by_meaning(self, owner: str, question: str, k: int, allowed: list[int] | None) -> list[int]:
        vector = self.encoder.query([question])[0]
        with self._lock:
            return self._index_of(owner).search(vector, k, allowed)

    def _index_of(self, owner: str) -> Index:
        if owner not in self._indexes:
            self._indexes[owner] = Index(self.encoder.dim)
            for turn, vectors in self.store.turns.vectors(owner, self.encoder.dim):
                self._indexes[owner].add(turn, vectors)
        return self._indexes[owner]

    def add(self, owner: str, turn: int, vectors: np.ndarray) -> None:
        """Put a turn's new vectors into an index that is loaded; one that is not reads them from the database."""
        with self._lock:
            if owner in self._indexes:
                self._indexes[owner].add(turn, vectors)

    def forget(self, owner: str) -> None:
        """Drop an owner's index, after a deletion: the next question reads what is left from the database."""
        with self._lock:
            self._indexes.pop(owner, None)
