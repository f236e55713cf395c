"""The questions, one JSON object a line, and what is held of them: the answer stands on its page, and no question copies a sentence.

`page` counts from 1 as a viewer does; in a document without pages (DOCX) it is the heading of the section. `answer` is one or more
short strings, all of them to be found there. `also` lists further places (document, page) that state the same. `split`: what was
tuned or calibrated has seen the calibration part only; every figure of record is of the test part. The test part has two parts of its own:
the ids of the second have a 2 after their kind (`p2-en-001`), and nothing was asked of the assistant while they were written.
`library.jsonl` has more calibration questions, about another library (documents.py).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

QUESTIONS = Path(__file__).with_name("questions.jsonl")
OF_LIBRARY = QUESTIONS.with_name("library.jsonl")
OTHERWISE = QUESTIONS.with_name("otherwise.json")
ALIKE = 0.5  # share of all their words that a calibration question and one of the test part may not have in common
COPIED = 8  # words in a row that a question may not share with its page

Place = tuple[str, int | str]


@dataclass(frozen=True)
class Question:
    id: str
    language: Literal["en", "vi"]
    question: str
    document: str | None
    page: int | str | None
    answer: tuple[str, ...]
    kind: Literal["plain", "table", "crossed", "unanswerable"]
    split: Literal["calibration", "test"]
    also: tuple[Place, ...] = ()

    @property
    def answerable(self) -> bool:
        return self.kind != "unanswerable"

    @property
    def part(self) -> int:
        """1, or 2 where it is of the second test part."""
        return 2 if self.id.split("-")[0].endswith("2") else 1

    @property
    def places(self) -> frozenset[Place]:
        """Where the answer stands: documents and pages."""
        return frozenset({(self.document, self.page), *self.also}) if self.document and self.page is not None else frozenset()


def load(path: Path = QUESTIONS) -> list[Question]:
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        Question(**{**row, "answer": tuple(row["answer"]), "also": tuple((place[0], place[1]) for place in row.get("also", []))})
        for row in rows
    ]


def otherwise() -> dict[str, str]:
    """Questions in the other language: of the calibration part, the library and the near misses (near_misses.py)."""
    return json.loads(OTHERWISE.read_text("utf-8"))


def plain(text: str) -> str:
    """Lower case, composed, with single spaces and straight quotes: how answers are compared."""
    straight = unicodedata.normalize("NFKC", text).translate(str.maketrans("’‘“”", "''\"\""))
    return " ".join(straight.casefold().split())


def problems(questions: list[Question], text_of: Callable[[str, int | str], str | None]) -> list[str]:
    """What is wrong, a sentence each. `text_of(document, page)` is a page's text, None where there is no such page."""
    found = []
    for question in questions:
        for document, page in sorted(question.places, key=str):
            text = text_of(document, page)
            if text is None:
                found.append(f"{question.id}: {document} has no page {page}.")
            elif missing := [answer for answer in question.answer if not contains(text, answer)]:
                found.append(f"{question.id}: {missing} is not on page {page} of {document}.")
            elif shared := copied(question.question, text):
                found.append(f"{question.id}: the question copies “{shared}” from page {page} of {document}.")
    return found


@cache  # each question is compared with all others
def words_of(question: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", plain(question)))


def alike(one: str, other: str) -> float:
    """The share of the words of two questions that both have."""
    first, second = words_of(one), words_of(other)
    return len(first & second) / max(1, len(first | second))


def contains(text: str, answer: str) -> bool:
    """Whether the answer stands in the text as words of its own: `8` is not in `1998`."""
    return re.search(rf"(?<!\w){re.escape(plain(answer))}(?!\w)", plain(text)) is not None


def copied(question: str, text: str) -> str:
    """The words in a row that a question shares with a text, where they are too many; otherwise nothing."""
    words, whole = re.findall(r"\w+", plain(question)), " ".join(re.findall(r"\w+", plain(text)))
    runs = (" ".join(words[i : i + COPIED]) for i in range(len(words) - COPIED + 1))
    return next((run for run in runs if f" {run} " in f" {whole} "), "")
