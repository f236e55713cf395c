"""One owner's turns, laid out to be looked through: by meaning and by words, in both languages at once.

A long turn says many things, and the mean of all of them is near to none: so a turn has a vector and counted words for itself, and for
every two sentences of it; what fits best of these is how well the turn fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hybridlab.rag.sentences import sentence_spans
from hybridlab.rag.structured_query import WordIndex
from jaxtyping import Bool, Float32, Int64

from assistant.cues import is_question
from assistant.knowledge.search import dictionary, possible_words
from assistant.language import Language, language_of, passage_language
from assistant.memory.meaning import centred

TOGETHER = 2  # sentences that are a piece
MOST = 64  # pieces of one turn
LANGUAGES: tuple[Language, ...] = ("en", "vi")


def pieces(content: str) -> list[str]:
    """What of a turn is embedded: all of it, then every `TOGETHER` sentences, `MOST` pieces at most. A short turn is its only piece."""
    spans = list(sentence_spans(content, 0, len(content)))
    if len(spans) <= TOGETHER:
        return [content]
    ends = zip(spans, spans[TOGETHER - 1 :], strict=False)
    return [content, *(content[first[0] : last[1]] for first, last in ends)][:MOST]


@dataclass(frozen=True)
class Held:
    """A turn as it is kept: `vectors` are centred (meaning.py)."""

    language: Language
    asks: bool
    vectors: Float32[np.ndarray, "pieces dim"]


@dataclass(frozen=True)
class Laid:
    """All turns side by side, the oldest first; `starts` says where the pieces of each begin, `of_piece` which row a piece is of."""

    turns: Int64[np.ndarray, " turns"]
    starts: Int64[np.ndarray, " turns"]
    of_piece: Int64[np.ndarray, " pieces"]
    vectors: Float32[np.ndarray, "pieces dim"]
    languages: np.ndarray
    asks: Bool[np.ndarray, " turns"]


@dataclass(frozen=True)
class Fit:
    """How well turns, the oldest first, fit a question: `cosine` of the nearest piece (`piece` is its place in the turn, `nearest` its row
    in `vectors`), `share` of the question's words, 0 to 1; whether a turn is in the `other` language than the question, and whether it
    only `asks`. The pieces of a turn end before `ends` in `vectors`."""

    turns: Int64[np.ndarray, " turns"]
    cosine: Float32[np.ndarray, " turns"]
    share: Float32[np.ndarray, " turns"]
    other: Bool[np.ndarray, " turns"]
    asks: Bool[np.ndarray, " turns"]
    piece: Int64[np.ndarray, " turns"]
    nearest: Int64[np.ndarray, " turns"]
    ends: Int64[np.ndarray, " turns"]
    vectors: Float32[np.ndarray, "pieces dim"]

    def pieces(self) -> tuple[Float32[np.ndarray, "some dim"], Int64[np.ndarray, " some"]]:
        """The vectors of the turns' pieces, and the row of the turn that each is a piece of."""
        starts = self.nearest - self.piece
        counts = self.ends - starts
        at = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        return self.vectors[at], np.repeat(np.arange(len(counts)), counts)

    def rows(self, turns: Sequence[int]) -> dict[int, int]:
        """Turn → its row, of those that are there."""
        at = np.searchsorted(self.turns, np.asarray(turns, np.int64))
        return {turn: int(row) for turn, row in zip(turns, at, strict=True) if row < len(self.turns) and self.turns[row] == turn}


class Index:
    """Not thread-safe: who shares it locks it."""

    def __init__(self, dim: int):
        self.dim = dim
        self.words = {language: WordIndex() for language in LANGUAGES}
        self._held: dict[int, Held] = {}
        self._laid: Laid | None = None

    def __len__(self) -> int:
        return len(self._held)

    def turns(self) -> list[int]:
        return list(self._held)

    def add(self, turn: int, content: str, vectors: Float32[np.ndarray, "pieces dim"]) -> None:
        """Add a turn with the vectors of its pieces; one that is there already is what it is now."""
        if turn in self._held:
            before = self._held[turn]
            self.words[before.language].remove(list(places(turn, len(before.vectors))))
        language = passage_language(content)
        words = [dictionary().words(piece, language) for piece in pieces(content)]
        self.words[language].add(list(places(turn, len(words))), words)
        self._held[turn] = Held(language, is_question(content), centred(np.asarray(vectors, np.float32), "passage", language))
        self._laid = None

    def look(self, question: str, vector: Float32[np.ndarray, " dim"], allowed: Sequence[int] | None) -> Fit:
        """How well the allowed turns (all: None) fit a question with this vector; nothing else takes part, not even in the counts."""
        laid, asked = self._lay_out(), language_of(question)
        chosen = np.arange(len(laid.turns)) if allowed is None else np.flatnonzero(np.isin(laid.turns, np.asarray(allowed, np.int64)))
        near = laid.vectors @ centred(vector, "query", asked)  # (pieces,)
        best = np.zeros(len(laid.turns), np.int64)
        order = np.argsort(near, kind="stable")
        best[laid.of_piece[order]] = order  # the nearest piece last
        best = best[chosen]
        return Fit(
            laid.turns[chosen],
            near[best],
            self._shares(question, asked, laid, allowed)[chosen],
            laid.languages[chosen] != asked,
            laid.asks[chosen],
            best - laid.starts[chosen],
            best,
            np.append(laid.starts[1:], len(laid.vectors))[chosen],
            laid.vectors,
        )

    def _shares(self, question: str, asked: Language, laid: Laid, allowed: Sequence[int] | None) -> Float32[np.ndarray, " turns"]:
        """The share of the question's words that the best piece of each turn holds, themselves or their translations."""
        among = None
        if allowed is not None:
            among = [at for turn in allowed if turn in self._held for at in places(turn, len(self._held[turn].vectors))]
        shares = np.zeros(len(laid.turns), np.float32)
        for language, index in self.words.items():
            found = index.search(possible_words(question, asked, language), len(index), among) if len(index) else []
            for at, share in reversed(found):  # the best piece last
                shares[np.searchsorted(laid.turns, at // MOST)] = share
        return shares

    def _lay_out(self) -> Laid:
        """Done once after a change, when the next question comes."""
        if self._laid is None:
            turns = sorted(self._held)
            held = [self._held[turn] for turn in turns]
            counts = np.array([len(one.vectors) for one in held], np.int64)
            vectors = np.concatenate([one.vectors for one in held]) if held else np.zeros((0, self.dim), np.float32)
            languages, asks = np.array([one.language for one in held], "U2"), np.array([one.asks for one in held], bool)
            of_piece = np.repeat(np.arange(len(held)), counts)
            self._laid = Laid(np.array(turns, np.int64), np.cumsum(counts) - counts, of_piece, vectors, languages, asks)
        return self._laid


def places(turn: int, count: int) -> range:
    """The numbers of a turn's pieces."""
    return range(turn * MOST, turn * MOST + count)
