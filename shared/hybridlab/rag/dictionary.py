"""A small English–Vietnamese dictionary with probabilities, learned from parallel text; dictionary.md is its card.

It cuts a text into the words that an index holds, and says which words of the other language each word of a question may be.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from hybridlab.rag.alignment import JOIN

PACKAGED = Path(__file__).with_name("dictionary.json")
LONGEST = 4  # syllables of a Vietnamese word
OWN_NAME = 0.5  # how likely a Latin word of a Vietnamese question, which is in the dictionary too, is meant as it stands
WORD = re.compile(r"[^\W_]+")


def plain_words(text: str) -> list[str]:
    """A text's words, lower case and composed; in Vietnamese these are syllables."""
    return WORD.findall(unicodedata.normalize("NFC", text).casefold())


def segmented(syllables: Sequence[str], compounds: Collection[str]) -> list[str]:
    """Syllables joined to the compounds that are known, the longest first: `hệ thống tệp` becomes `hệ_thống tệp`."""
    words, at = [], 0
    while at < len(syllables):
        word = syllables[at]
        length = 1
        for n in range(min(LONGEST, len(syllables) - at), 1, -1):
            longer = JOIN.join(syllables[at : at + n])
            if longer in compounds:
                word, length = longer, n
                break
        words.append(word)
        at += length
    return words


class Dictionary:
    """`forms`: an English word → the one it is counted as (packages → package); `to_english`, `to_vietnamese`: translations of a word."""

    def __init__(self, path: Path = PACKAGED):
        """Raises ValueError where the file is not a dictionary."""
        try:
            held = json.loads(path.read_text("utf-8"))
            self.forms: dict[str, str] = held["forms"]
            self.to_english: dict[str, dict[str, float]] = held["vi"]
            self.to_vietnamese: dict[str, dict[str, float]] = held["en"]
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no dictionary ({error}): make it again with scripts/make_dictionary.py") from error
        known = {*self.to_english, *(word for meant in self.to_vietnamese.values() for word in meant)}
        self.compounds = {word for word in known if JOIN in word}

    def words(self, text: str, language: Literal["en", "vi"]) -> list[str]:
        """The text as an index counts it: English words in one form each, Vietnamese syllables joined to words, the longest first."""
        if language == "vi":
            return segmented(plain_words(text), self.compounds)
        return [self._form(word) for word in plain_words(text)]

    def _form(self, word: str) -> str:
        """The form that an English word is counted as; a plural that was never met is that of a word that was."""
        singular = word[:-1] if word.endswith("s") and word not in self.to_vietnamese and word[:-1] in self.to_vietnamese else word
        return self.forms.get(word, singular)

    def translate(self, question: str, language: Literal["en", "vi"], leave_out: Collection[str] = ()) -> list[dict[str, float]]:
        """For each word of a question, the words of the *other* language that it may be, with probabilities that add up to 1.

        A word that may be a name (`crontab`, `1000`) stands for itself. Words of `leave_out` are neither translated nor taken as
        translations, and what the dictionary does not have is passed over.
        """
        words = [word for word in self.words(question, language) if word not in leave_out]
        return [meant for word in words if (meant := self._meant(word, language, leave_out))]

    def _meant(self, word: str, language: Literal["en", "vi"], leave_out: Collection[str]) -> dict[str, float]:
        table = self.to_english if language == "vi" else self.to_vietnamese
        known = {meant: p for meant, p in table.get(word, {}).items() if meant not in leave_out}
        total = sum(known.values())
        known = {meant: p / total for meant, p in known.items()}
        if word.isascii() and word not in known:  # a name, a command, a number: the same in both languages
            itself = self._form(word) if language == "vi" else word
            known = {meant: p * (1 - OWN_NAME) for meant, p in known.items()}
            known[itself] = known.get(itself, 0.0) + (OWN_NAME if known else 1.0)
        return known
