"""Find again what was said: words (BM25) and meaning (E5), fused by reciprocal ranks, over one owner's turns and no one else's.

It is the floor that a learned memory may add to and never replaces.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from hybridlab.rag.fusion import reciprocal_rank_fusion
from hybridlab.rag.index import DenseIndex

from assistant.history import REFUSALS
from assistant.memory.when import when
from assistant.store import Store
from assistant.store.turns import Turn

DEPTH = 50  # candidates of each retriever that are fused


@dataclass(frozen=True)
class Recalled:
    """A turn and why it was found: its fused score and its rank (from 1) by each retriever that found it (`bm25`, `e5`)."""

    turn: Turn
    score: float
    ranks: dict[str, int]


class Recall:
    """Callable; keeps one index of meanings per owner, filled from the database when the owner first asks."""

    def __init__(self, store: Store, encoder):
        self.store, self.encoder = store, encoder
        self._indexes: dict[str, DenseIndex] = {}
        self._lock = threading.RLock()

    def __call__(
        self, owner: str, question: str, k: int, *, conversation: str | None = None, now: datetime | None = None
    ) -> list[Recalled]:
        """The best `k` turns, best first. `conversation` is the present one: "the last session" is the one before it."""
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
        fused = dict(reciprocal_rank_fusion(list(rankings.values())))
        turns = [turn for turn in self.store.turns.get(owner, list(fused)) if turn.content not in REFUSALS]
        return [
            Recalled(turn, fused[turn.id], {name: of.index(turn.id) + 1 for name, of in rankings.items() if turn.id in of})
            for turn in turns[:k]
        ]

    def _by_meaning(self, owner: str, question: str, k: int, allowed: list[int] | None) -> list[int]:
        vector = self.encoder.query([question])[0]
        with self._lock:
            return [turn for turn, _ in self._index_of(owner).search(vector, k, allowed)]

    def _index_of(self, owner: str) -> DenseIndex:
        if owner not in self._indexes:
            self._indexes[owner] = DenseIndex(self.encoder.dim)
            ids, vectors = self.store.turns.vectors(owner)
            if len(ids):
                self._indexes[owner].add(ids, vectors)
        return self._indexes[owner]

    def add(self, owner: str, embedded: Iterable[tuple[int, np.ndarray]]) -> None:
        """Put new embeddings into an index that is loaded; one that is not reads them from the database."""
        rows = list(embedded)
        with self._lock:
            if owner in self._indexes and rows:
                self._indexes[owner].add(np.array([i for i, _ in rows], np.int64), np.stack([v for _, v in rows]))

    def forget(self, owner: str) -> None:
        """Drop an owner's index, after a deletion: the next question reads what is left from the database."""
        with self._lock:
            self._indexes.pop(owner, None)
