"""Search by words that are not certain: each word of the question is a handful of possible words with probabilities.

Darwish and Oard, Probabilistic Structured Query Methods, SIGIR 2003: how often a word of the question stands in a passage is the
*expected* count of its translations there, and so is the number of passages that hold it. BM25 then ranks as it does in one language.
With probability 1 for each word itself this is BM25, so scores of two languages can be compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int64

K1, B = 1.2, 0.75  # as in SQLite's FTS5


class WordIndex:
    """Passages by id, as counted words. Not thread-safe: who shares it locks it."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._passages: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # id → its words' numbers, their counts
        self._settled = False

    def __len__(self) -> int:
        return len(self._passages)

    def add(self, ids: Sequence[int], passages: Sequence[Sequence[str]]) -> None:
        """Add passages as lists of words; an id that is there already gets the new one."""
        for i, words in zip(ids, passages, strict=True):
            counts = Counter(words)
            numbers = [self._numbers.setdefault(word, len(self._numbers)) for word in counts]
            self._passages[i] = np.asarray(numbers, np.int32), np.asarray(list(counts.values()), np.float32)
        self._settled = False

    def remove(self, ids: Sequence[int]) -> None:
        """Remove passages; ids that are not there are passed over."""
        for i in ids:
            self._passages.pop(i, None)
        self._settled = False

    def holding(self, words: Collection[str]) -> int:
        """How many passages hold a word, or, summed up, words."""
        self._settle()
        numbers = [number for word in words if (number := self._numbers.get(word)) is not None and number + 1 < len(self._starts)]
        return int(sum(self._starts[number + 1] - self._starts[number] for number in numbers))

    def search(
        self, question: Sequence[Mapping[str, float]], k: int, allowed: Sequence[int] | Int64[np.ndarray, " n"] | None = None
    ) -> list[tuple[int, float]]:
        """The `k` best that hold any of the words: (id, score). With `allowed`, nothing else takes part, not even in the counts.

        `question` has for each of its words the words that it may be, with probabilities. The score is BM25's share of what a passage
        that is full of every word would get: 0 to 1, comparable between questions and between languages.
        """
        self._settle()
        among = np.ones(len(self._ids), bool) if allowed is None else np.isin(self._ids, np.asarray(allowed, np.int64))
        n = int(among.sum())
        if not n:
            return []
        saturation = K1 * (1 - B + B * self._lengths / max(1.0, self._lengths[among].mean()))
        score, most = np.zeros(len(self._ids)), 0.0
        for word in question:
            frequency, passages = self._expected(word, among)
            weight = np.log1p((n - passages + 0.5) / (passages + 0.5))
            score += weight * frequency / (frequency + saturation)
            most += weight
        score[~among] = 0.0
        found = leading(score, k)
        best = found[np.argsort(-score[found], kind="stable")][:k]
        return [(int(self._ids[row]), float(score[row] / most)) for row in best]

    def _expected(self, word: Mapping[str, float], among: np.ndarray) -> tuple[Float64[np.ndarray, " n"], float]:
        """The expected count of a word in each passage, and of passages with it: equations (4) and (5) of the paper."""
        frequency, passages = np.zeros(len(self._ids)), 0.0
        for possible, probability in word.items():
            number = self._numbers.get(possible)
            if number is not None:
                held = slice(self._starts[number], self._starts[number + 1])
                frequency[self._rows[held]] += probability * self._counts[held]
                passages += probability * float(among[self._rows[held]].sum())
        return frequency, passages

    def _settle(self) -> None:
        """Lay all postings out, sorted by word; done once after a change, when the next question comes."""
        if self._settled:
            return
        held = list(self._passages.values())
        words = np.concatenate([numbers for numbers, _ in held]) if held else np.zeros(0, np.int32)
        counts = np.concatenate([counts for _, counts in held]) if held else np.zeros(0, np.float32)
        rows = np.repeat(np.arange(len(held), dtype=np.int32), [len(numbers) for numbers, _ in held])
        order = np.argsort(words, kind="stable")
        self._counts, self._rows = counts[order], rows[order]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(words, minlength=len(self._numbers)))])  # of each word's postings
        self._ids = np.fromiter(self._passages, np.int64, len(held))
        self._lengths = np.array([float(counts.sum()) for _, counts in held])
        self._settled = True


def leading(score: Float64[np.ndarray, " n"], k: int) -> Int64[np.ndarray, " m"]:
    """The rows of the `k` greatest scores above 0, and of those that equal the least of them, in the order of rows."""
    found = np.flatnonzero(score)
    return found[score[found] >= np.partition(score[found], -k)[-k]] if len(found) > k else found
