"""Passages as manuals and by-laws have them, with questions in other words than theirs: invented, and written by hand in
`chatbot_passages.json`.

A group has four sources of the lengths that the assistant quotes, each a piece of one passage. Most questions are about the first: there
stands what search has put first.
"""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

from hybridlab.llm.chatbot_case import Group, Part, grounded_case

LENGTHS = (480, 400, 240, 240)  # characters of the sources, at most
ABOUT_FIRST, ABOUT_OTHERS = {"train": 3, "test": 2}, {"train": 1, "test": 1}  # questions that are answered, at most, and
MISSED = {"train": 1, "test": 3}  # that are not: they ask for what a passage leaves out


@cache
def passages() -> dict[str, list[dict[str, Any]]]:
    """The passages of the "train" and the "test" part: `sentences`, `asks` (question, number of the sentence, gold) and `misses`."""
    return json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))


class Deck:
    """Passages in a random order, each once before any comes again."""

    def __init__(self, chance: random.Random, part: Part):
        self.chance, self.part, self.left = chance, part, []

    def draw(self, count: int) -> list[dict[str, Any]]:
        """`count` different passages."""
        if len(self.left) < count:
            self.left = self.chance.sample(passages()[self.part], len(passages()[self.part]))
        drawn, self.left = self.left[:count], self.left[count:]
        return drawn

    def group(self) -> Group:
        """Four sources, questions that they answer, and some that they do not."""
        drawn = self.draw(len(LENGTHS))
        pieces = [piece(self.chance, one["sentences"], length) for one, length in zip(drawn, LENGTHS, strict=True)]
        texts, asks = [], []
        for number, (one, of) in enumerate(zip(drawn, pieces, strict=True), 1):
            texts.append(("\n" if "|" in one["sentences"][0] else " ").join(one["sentences"][i] for i in of))
            asks.append([(question, gold, number) for question, place, gold in one["asks"] if place in of])
        first, others = asks[0], [ask for of in asks[1:] for ask in of]
        chosen = self.chance.sample(first, min(ABOUT_FIRST[self.part], len(first)))
        chosen += self.chance.sample(others, min(ABOUT_OTHERS[self.part], len(others)))
        cases = [grounded_case(question, texts, gold, number) for question, gold, number in chosen]
        missed = self.chance.sample([question for one in drawn for question in one["misses"]], MISSED[self.part])
        cases += [grounded_case(question, texts) for question in missed]
        return tuple(self.chance.sample(cases, len(cases)))


def piece(chance: random.Random, sentences: list[str], longest: int) -> range:
    """Neighbouring sentences, from a random one on, as many as `longest` characters hold (one at least)."""
    first = last = chance.randrange(len(sentences))

    def fits(a: int, b: int) -> bool:
        return len(" ".join(sentences[a : b + 1])) <= longest

    while last + 1 < len(sentences) and fits(first, last + 1):
        last += 1
    while first > 0 and fits(first - 1, last):
        first -= 1
    return range(first, last + 1)
