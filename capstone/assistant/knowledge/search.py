"""Hybrid search: words (BM25) and meaning (E5), fused by reciprocal ranks, over one owner's chunks and no one else's.

A passage in the other language shares no words with the question, and E5 holds two languages further apart than their meanings are:
fused like the rest it would seldom be seen. So the other language is searched by itself, with translated words, and its best passages
have places of their own (across.py). Where all of an owner's documents are in the question's language, none of this changes anything.
What is best then is told by the reader, which looks at the first thirty (rereading.py).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from typing import Literal

import numpy as np
from hybridlab.rag.dictionary import Dictionary
from hybridlab.rag.fusion import reciprocal_rank_fusion
from hybridlab.rag.index import DenseIndex
from hybridlab.rag.reader import DEPTH as DEPTH_OF_READER
from hybridlab.rag.structured_query import WordIndex

from assistant.knowledge.abstention import calibration
from assistant.knowledge.across import Found, Ranking, likelihood, placed
from assistant.knowledge.reading import judged
from assistant.knowledge.rereading import AMONG, read_again
from assistant.knowledge.vocabulary import LEFT_OUT, Heard, Vocabulary
from assistant.knowledge.words import Words
from assistant.language import Language, language_of, passage_language
from assistant.store import Store
from assistant.store.documents import StoredChunk

Retriever = Literal["fused", "bm25", "e5"]
DEPTH = 50  # candidates of each retriever that are fused
FUSION_K = 8  # of reciprocal rank fusion; 5 to 10 found more of the calibration questions than the usual 60 (docs/evaluation.md)


@dataclass(frozen=True)
class Hit:
    """A chunk and why it was found: its fused score, rank (from 1) and score by each retriever that found it.

    Retrievers are `bm25`, `e5`, and, for a chunk that is not in the question's language, `translated`: the share of the question's words,
    0 to 1, that it holds by their translations.
    """

    chunk: StoredChunk
    score: float
    ranks: dict[str, int]
    scores: dict[str, float]


@dataclass
class Shelf:
    """An owner's passages in one language."""

    meaning: DenseIndex
    words: WordIndex = field(default_factory=WordIndex)


class Search:
    """Callable; keeps indexes per owner, one shelf for each language, filled from the database when the owner first asks."""

    def __init__(self, store: Store, encoder):
        self.store, self.encoder = store, encoder
        self._shelves: dict[str, dict[Language, Shelf]] = {}
        self._vocabularies: dict[str, Vocabulary] = {}
        self._words: dict[str, Words] = {}
        self._lock = threading.RLock()

    def __call__(self, owner: str, query: str, k: int, retriever: Retriever = "fused", documents: Sequence[str] | None = None) -> list[Hit]:
        """The best `k` chunks, best first. Fused, they are in the order of the reader."""
        ranking, by = self._ranked(owner, query, max(k, AMONG), retriever, documents)
        if retriever == "fused":
            odds = judged(self.store, owner, self.encoder.ask(query, DEPTH_OF_READER)[1], [i for i, _ in ranking[:AMONG]])
            ranking = read_again(ranking, odds, calibration()["place"])
        return self._hits(owner, ranking[:k], by)

    def candidates(
        self, owner: str, query: str, k: int, retriever: Retriever = "fused", documents: Sequence[str] | None = None
    ) -> list[Hit]:
        """The best `k` by words, meaning and language, before they are read."""
        return self._hits(owner, *self._ranked(owner, query, k, retriever, documents))

    def _ranked(
        self, owner: str, query: str, k: int, retriever: Retriever, documents: Sequence[str] | None
    ) -> tuple[Ranking, dict[str, Ranking]]:
        """The best `k`, and the rankings by each retriever that they come from."""
        by: dict[str, Ranking] = {}
        depth = max(k, DEPTH)
        if retriever != "e5":
            by["bm25"] = self.by_words(owner, query, depth, documents)
        found: dict[Language, Found] = {}
        if retriever != "bm25":
            found = self.found(owner, query, depth, documents, translate=retriever == "fused")
            by["e5"] = sorted((hit for of in found.values() for hit in of.meaning), key=lambda hit: -hit[1])[:depth]
        fused = reciprocal_rank_fusion([[i for i, _ in ranking] for ranking in by.values()], FUSION_K)
        if retriever == "fused":
            own = language_of(query)
            other = found["en" if own == "vi" else "vi"]
            fused = placed(fused, other.ranking(), likelihood(found[own], other))
            by["translated"] = other.words
            ranked = dict(by["e5"])
            by["e5"] += [hit for hit in other.meaning if hit[0] not in ranked]
        return fused[:k], by

    def _hits(self, owner: str, ranking: Ranking, by: Mapping[str, Ranking]) -> list[Hit]:
        """What a ranking names, as far as it is still there."""
        chunks = {c.id: c for c in self.store.documents.chunks(owner, [i for i, _ in ranking])}
        ranks = {name: {i: place for place, (i, _) in enumerate(of, 1)} for name, of in by.items()}
        scores = {name: dict(of) for name, of in by.items()}
        return [
            Hit(
                chunks[i],
                score,
                {name: of[i] for name, of in ranks.items() if i in of},
                {name: of[i] for name, of in scores.items() if i in of},
            )
            for i, score in ranking
            if i in chunks
        ]

    def by_words(self, owner: str, query: str, k: int, documents: Sequence[str] | None = None) -> Ranking:
        """The best `k` by the question's own words."""
        with self._lock:
            if owner not in self._words:
                self._words[owner] = Words(self.store, owner)
            return self._words[owner].search(query, k, documents)

    def found(self, owner: str, query: str, k: int, documents: Sequence[str] | None, *, translate: bool) -> dict[Language, Found]:
        """What each language's passages have, by meaning; and by words where `translate`, translated for the other language."""
        allowed = None if documents is None else self.store.documents.chunk_ids(owner, documents)
        vector, asked = self.encoder.ask(query, DEPTH_OF_READER)[0], language_of(query)
        with self._lock:
            return {
                language: Found(
                    shelf.meaning.search(vector, k, allowed),
                    shelf.words.search(possible_words(query, asked, language), k, allowed) if translate else [],
                )
                for language, shelf in self._shelves_of(owner).items()
            }

    def heard(self, owner: str, question: str) -> Heard:
        """What a question's words are to all of the owner's documents."""
        with self._lock:
            self._shelves_of(owner)
            return self._vocabularies[owner].heard(question)

    def _shelves_of(self, owner: str) -> dict[Language, Shelf]:
        """The owner's indexes: only their passages are ever in them, so nothing else can be found."""
        if owner not in self._shelves:
            self._shelves[owner] = {language: Shelf(DenseIndex(self.encoder.dim)) for language in ("en", "vi")}
            self._vocabularies[owner] = Vocabulary({lang: shelf.words for lang, shelf in self._shelves[owner].items()}, dictionary())
            ids, vectors = self.store.documents.vectors(owner)
            self._fill(owner, ids, vectors)
        return self._shelves[owner]

    def _fill(self, owner: str, ids: np.ndarray, vectors: np.ndarray) -> None:
        chunks = {c.id: c for c in self.store.documents.chunks(owner, ids.tolist())}
        languages = {i: passage_language(chunk.text) for i, chunk in chunks.items()}
        for language, shelf in self._shelves[owner].items():
            rows = [row for row, i in enumerate(ids.tolist()) if languages.get(i) == language]
            if rows:
                shelf.meaning.add(ids[rows], vectors[rows])
                here = [chunks[i] for i in ids[rows].tolist()]
                words = [dictionary().words(f"{c.context} {c.text}", language) for c in here]
                shelf.words.add(ids[rows].tolist(), words)
                self._vocabularies[owner].learn(language, set(chain.from_iterable(words)))

    def add(self, owner: str, embedded: Iterable[tuple[int, np.ndarray]]) -> None:
        """Put new embeddings into an index that is loaded; one that is not reads them from the database."""
        rows = list(embedded)
        with self._lock:
            if owner in self._shelves and rows:
                self._fill(owner, np.array([i for i, _ in rows], np.int64), np.stack([v for _, v in rows]))

    def remove(self, owner: str, ids: Sequence[int]) -> None:
        with self._lock:
            for shelf in self._shelves.get(owner, {}).values():
                shelf.meaning.remove(np.array(ids, np.int64))
                shelf.words.remove(ids)

    def forget(self, owner: str) -> None:
        """Drop an owner's index; the next search reads it from the database."""
        with self._lock:
            self._shelves.pop(owner, None)
            self._vocabularies.pop(owner, None)
            self._words.pop(owner, None)


@cache
def dictionary() -> Dictionary:
    """Read when it is first needed."""
    return Dictionary()


def possible_words(question: str, asked: Language, language: Language) -> list[dict[str, float]]:
    """A question's words as passages of a language may have them: themselves in its own language, translations in the other."""
    if language == asked:
        return [{word: 1.0} for word in dictionary().words(question, asked) if word not in LEFT_OUT]
    return dictionary().translate(question, asked, LEFT_OUT)
