"""Hybrid search: words (BM25) and meaning (E5), fused by reciprocal ranks, over one owner's chunks and no one else's.

A passage in the other language shares no words with the question, and E5 holds two languages further apart than their meanings are:
fused like the rest it would seldom be seen. So the best of them by meaning always has a place, the fourth.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from hybridlab.rag.fusion import reciprocal_rank_fusion
from hybridlab.rag.index import DenseIndex

from assistant.language import VIETNAMESE, Language, language_of
from assistant.store import Store
from assistant.store.documents import StoredChunk
from assistant.store.words import search_words

Retriever = Literal["fused", "bm25", "e5"]
DEPTH = 50  # candidates of each retriever that are fused
OTHER_LANGUAGE_PLACE = 4  # chosen on the evaluation's calibration questions (docs/evaluation.md)
VIETNAMESE_SHARE = 0.2  # of a text's words with Vietnamese letters: a name in an English text is no Vietnamese text


@dataclass(frozen=True)
class Hit:
    """A chunk and why it was found: its fused score, rank (from 1) and score by each retriever that found it."""

    chunk: StoredChunk
    score: float
    ranks: dict[str, int]
    scores: dict[str, float]


class Search:
    """Callable; keeps FAISS indexes per owner, one for each language, filled from the database when the owner first asks."""

    def __init__(self, store: Store, encoder):
        self.store, self.encoder = store, encoder
        self._indexes: dict[str, dict[Language, DenseIndex]] = {}
        self._lock = threading.RLock()

    def __call__(self, owner: str, query: str, k: int, retriever: Retriever = "fused", documents: Sequence[str] | None = None) -> list[Hit]:
        rankings: dict[str, list[tuple[int, float]]] = {}
        depth = max(k, DEPTH)
        if retriever != "e5":
            rankings["bm25"] = search_words(self.store.database, owner, query, depth, documents)
        other: list[tuple[int, float]] = []
        if retriever != "bm25":
            near = self._by_meaning(owner, query, depth, documents)
            rankings["e5"] = sorted((hit for hits in near.values() for hit in hits), key=lambda hit: -hit[1])[:depth]
            other = near["en" if language_of(query) == "vi" else "vi"]
        fused = reciprocal_rank_fusion([[i for i, _ in ranking] for ranking in rankings.values()])
        if retriever == "fused" and other:
            rankings["e5"] += [other[0]] if other[0] not in rankings["e5"] else []
            fused = with_place(fused, other[0][0], OTHER_LANGUAGE_PLACE)
        fused = fused[:k]
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

    def _by_meaning(self, owner: str, query: str, k: int, documents: Sequence[str] | None) -> dict[Language, list[tuple[int, float]]]:
        """The nearest chunks in each language: id and cosine, best first."""
        allowed = None if documents is None else self.store.documents.chunk_ids(owner, documents)
        vector = self.encoder.query([query])[0]
        with self._lock:
            return {language: index.search(vector, k, allowed) for language, index in self._index(owner).items()}

    def _index(self, owner: str) -> dict[Language, DenseIndex]:
        """The owner's indexes: only their vectors are ever in them, so nothing else can be found."""
        if owner not in self._indexes:
            self._indexes[owner] = {"en": DenseIndex(self.encoder.dim), "vi": DenseIndex(self.encoder.dim)}
            ids, vectors = self.store.documents.vectors(owner)
            self._fill(owner, ids, vectors)
        return self._indexes[owner]

    def _fill(self, owner: str, ids: np.ndarray, vectors: np.ndarray) -> None:
        languages = {c.id: passage_language(c.text) for c in self.store.documents.chunks(owner, ids.tolist())}
        for language, index in self._indexes[owner].items():
            rows = [row for row, i in enumerate(ids.tolist()) if languages.get(i) == language]
            if rows:
                index.add(ids[rows], vectors[rows])

    def add(self, owner: str, embedded: Iterable[tuple[int, np.ndarray]]) -> None:
        """Put new embeddings into an index that is loaded; one that is not reads them from the database."""
        rows = list(embedded)
        with self._lock:
            if owner in self._indexes and rows:
                self._fill(owner, np.array([i for i, _ in rows], np.int64), np.stack([v for _, v in rows]))

    def remove(self, owner: str, ids: Sequence[int]) -> None:
        with self._lock:
            for index in self._indexes.get(owner, {}).values():
                index.remove(np.array(ids, np.int64))

    def forget(self, owner: str) -> None:
        """Drop an owner's index; the next search reads it from the database."""
        with self._lock:
            self._indexes.pop(owner, None)


def with_place(ranking: list[tuple[int, float]], wanted: int, place: int) -> list[tuple[int, float]]:
    """The ranking with `wanted` at `place` (from 1) at the latest, at the score of what stood there, so that scores still descend."""
    if wanted in [i for i, _ in ranking[:place]]:
        return ranking
    rest = [pair for pair in ranking if pair[0] != wanted]
    return [*rest[: place - 1], (wanted, rest[min(place, len(rest)) - 1][1] if rest else 0.0), *rest[place - 1 :]]


def passage_language(text: str) -> Language:
    """The language that most of a passage is in."""
    words = re.findall(r"[^\W\d_]+", text)
    return "vi" if sum(bool(VIETNAMESE.search(word)) for word in words) > VIETNAMESE_SHARE * len(words) else "en"
