"""Passages of documents that don't exist, each with questions that it answers and questions that it only seems to answer.

Twelve houses (a maker of furniture, a hospital, a language's package manual, a narrow-gauge railway …), written one by one for this, in
English and Vietnamese: 1,080 passages with 4,320 questions of each kind. Every fourth question is in the other language than its passage.
The questions that are not answered speak of what the passage speaks of: a cell that its table lacks, a reason where only the rule stands,
the other direction, a name where only a role is given. Nothing here is of the documents that the evaluation asks of.

The cross-encoder (cross_train.py) learns from 44 documents more, manuals and rules of houses of other kinds: twelve in the folder
`more`, 660 passages with 2,640 questions of each kind, and 32 in `later`, 992 passages with 3,968. The questions of these are all in the
language of their passage, and they lean: *why* and *who* is asked more often of what is missing, *where* of what is there. It is asked
most of the questions in the other language too (`otherwise.json`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from capstone.evaluation.invented import Pair

FOLDER = Path(__file__).with_name("near_misses")
FOLDERS = FOLDER, FOLDER / "more", FOLDER / "later"
ELSEWHERE = 0.5  # of the answered questions that are also asked of another passage under the same heading


def make(seed: int = 0, folder: Path = FOLDER, otherwise: Mapping[str, str] | None = None) -> tuple[list[str], list[Pair]]:
    """The passages, and each question with its own; some that are answered with another passage of the same part too. `otherwise` are
    questions in the other language than they have there: these are asked of the same passages."""
    chance = random.Random(seed)
    passages: list[str] = []
    pairs: list[Pair] = []
    for path in sorted(folder.glob("*.jsonl")):
        house = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        parts: dict[str, list[int]] = {}
        for number, one in enumerate(house, len(passages)):
            parts.setdefault(one["part"], []).append(number)
        for number, one in enumerate(house, len(passages)):
            others = [other for other in parts[one["part"]] if other != number]
            for asked in one["answered"]:
                start = one["text"].find(asked["a"])
                pairs.append(Pair(asked["q"], number, True, ((start, start + len(asked["a"])),) if start >= 0 else ()))
                if others and chance.random() < ELSEWHERE:
                    pairs.append(Pair(asked["q"], chance.choice(others), False))
            pairs += [Pair(question, number, False) for question in one["missing"]]
        passages += [one["text"] for one in house]
    return passages, pairs + [replace(pair, question=other) for pair in pairs if (other := (otherwise or {}).get(pair.question))]
