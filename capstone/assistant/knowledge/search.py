"""Hybrid search: words (BM25) and meaning (E5), fused by reciprocal ranks, over one owner's chunks and no one else's."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from hybridlab.rag.fusion import reciprocal_rank_fusion
from hybridlab.rag.index import DenseIndex

from assistant.store import Store
from assistant.store.documents import StoredChunk
from assistant.store.words import search_words

Retriever = Literal["fused", "bm25", "e5"]
DEPTH = 50  # candidates of each retriever that are fused


@dataclass(frozen=True)
class Hit:
    """A chunk and why it was found: its fused score, rank (from 1) and score by each retriever that found it."""

    chunk: StoredChunk
    score: float
    ranks: dict[str, int]
    scores: dict[str, float]


class Search:
    """Callable; keeps a FAISS index per owner, filled from the database when the owner first asks."""

    def __init__(self, store: Store, encoder):
        self.store, self.encoder = store, encoder
        self._indexes: dict[str, DenseIndex] = {}
        self._lock = threading.RLock()

    def __call__(self, owner: str, query: str, k: int, retriever: Retriever = "fused", documents: Sequence[str] | None = None) -> list[Hit]:
        rankings: dict[str, list[tuple[int, float]]] = {}
        depth = max(k, DEPTH)
        if retriever != "e5":
            rankings["bm25"] = search_words(self.store.database, owner, query, depth, documents)
        if retriever != "bm25":
            rankings["e5"] = self._by_meaning(owner, query, depth, documents)
        fused = reciprocal_rank_fusion([[i for i, _ in ranking] for ranking in rankings.values()])[:k]
        chunks = {c.id: c for c in self.store.documents.chunks(owner, [i for i, _ in fused])}
        ranks = {name: {i: place for place, (i, _) in enumerate(ranking, 1)} for name, ranking in rankings.items()}
        scores = {name: dict(ranking) for name, ranking in rankings.items()}
        return [
            Hit(
                chunks[i],
                score,
                {name: of[i] for name, of in ranks.items() if i in of},
                {name: of[i] for name, of in scores.items() if i in of},
            )
            for i, score in fused
            if i in chunks
        ]

    def _by_meaning(self, owner: str, query: str, k: int, documents: Sequence[str] | None) -> list[tuple[int, float]]:
        allowed = None if documents is None else self.store.documents.chunk_ids(owner, documents)
        vector = self.encoder.query([query])[0]
        with self._lock:
            return self._index(owner).search(vector, k, allowed)

    def _index(self, owner: str) -> DenseIndex:
        """The owner's index: only their vectors are ever in it, so nothing else can be found."""
        if owner not in self._indexes:
            index = DenseIndex(self.encoder.dim)
            ids, vectors = self.store.documents.vectors(owner)
            if len(ids):
                index.add(ids, vectors)
            self._indexes[owner] = index
        return self._indexes[owner]

    def add(self, owner: str, embedded: Iterable[tuple[int, np.ndarray]]) -> None:
        """Put new embeddings into an index that is loaded; one that is not reads them from the database."""
        rows = list(embedded)
        with self._lock:
            if owner in self._indexes and rows:
                self._indexes[owner].add(np.array([i for i, _ in rows], np.int64), np.stack([v for _, v in rows]))

    def remove(self, owner: str, ids: Sequence[int]) -> None:
        with self._lock:
            if owner in self._indexes:
                self._indexes[owner].remove(np.array(ids, np.int64))

    def forget(self, owner: str) -> None:
        """Drop an owner's index; the next search reads it from the database."""
        with self._lock:
            self._indexes.pop(owner, None)
