"""What a question's words are to an owner's documents: how rare each is there, and whether it stands anywhere at all.

A near miss finds its neighbours' passages, and what it asks for is in none of them: a city, an oscilloscope, a maternity leave. How much
it says that a word was not found depends on how rare it is: `Debian` stands on every page of Debian's manuals.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hybridlab.rag.dictionary import JOIN, Dictionary
from hybridlab.rag.structured_query import WordIndex

from assistant.language import Language, language_of
from assistant.store.words import STOP, folded

# Said in every question, and translated by everything: `không được` is no word to look for.
LEFT_OUT = STOP | frozenset("bạn cả chỉ còn cùng cần đó hơn khác lên muốn nó nữa ngoài rất sự việc xuống".split())  # noqa: SIM905
ASKING = frozenset("many much often bao_nhiêu bao_lâu bao_giờ như_thế_nào".split())  # noqa: SIM905 - what is asked with, not for
WITHOUT_MARKS = frozenset(map(folded, LEFT_OUT | ASKING))
LIKELY = 0.1  # of a translation, from which on it counts as the word
WORD = re.compile(r"\w+(?:[.'’/-]\w+)*")


@dataclass(frozen=True)
class Heard:
    """`names`: each name of the question with its rarity, 0 (in every passage) to 1 (in none: neither as it is, nor without diacritics,
    nor translated); `rarest`: the rarity of the question's rarest word."""

    names: Mapping[str, float]
    rarest: float


class Vocabulary:
    """The words of an owner's passages in both languages."""

    def __init__(self, indexes: Mapping[Language, WordIndex], dictionary: Dictionary):
        self.indexes, self.dictionary = indexes, dictionary
        self.spellings: dict[Language, dict[str, set[str]]] = {language: {} for language in indexes}  # without diacritics → as written

    def learn(self, language: Language, words: Iterable[str]) -> None:
        """Take in words of passages. Who types without diacritics types syllables, and not the words that they make up."""
        for word in words:
            for part in {word, *word.split(JOIN)}:
                self.spellings[language].setdefault(folded(part), set()).add(word)

    def heard(self, question: str) -> Heard:
        asked = language_of(question)
        words = dict.fromkeys(word for word in self.dictionary.words(question, asked) if not left_out(word, asked))
        called = {
            name: self.rarity(min((self.passages(word, asked) for word in self.dictionary.words(name, asked)), default=0))
            for name in names(question)
        }
        return Heard(called, max((self.rarity(self.passages(word, asked)) for word in words), default=0.0))

    def passages(self, word: str, asked: Language) -> int:
        """How many passages hold a word of the question: in either language with or without diacritics, or translated."""
        alike = [self.indexes[language].holding(self.spellings[language].get(folded(word), ())) for language in self.indexes]
        other: Language = "en" if asked == "vi" else "vi"
        meant = {likely for possible in self.dictionary.translate(word, asked, LEFT_OUT) for likely, p in possible.items() if p >= LIKELY}
        return max(*alike, *(self.indexes[other].holding({likely}) for likely in meant))

    def rarity(self, passages: int) -> float:
        """The logarithm of how many passages there are for one with it, as a share of that of a word that stands in none."""
        least = sum(map(len, self.indexes.values())) + 1
        return max(0.0, math.log(least / (passages + 0.5)) / math.log(least / 0.5))


def left_out(word: str, asked: Language) -> bool:
    return word in LEFT_OUT or word in ASKING or (asked == "vi" and word in WITHOUT_MARKS)


def names(question: str) -> list[str]:
    """The words of a question that can't be said differently: with a capital letter (but for the first word), or with a figure."""
    words = [re.sub(r"['’]s$", "", word) for word in WORD.findall(question)]
    return [word for word in words[1:] if word[0].isupper() or any(c.isdigit() for c in word)]
