"""Is what was found evidence? A logistic model over a few features of the best hits, calibrated on questions with and without an answer.

E5's cosines are compressed (related 0.83 to 0.87, unrelated 0.65 to 0.78), and both retrievers like a near miss: an allowance is asked
for, allowances are found, and the city is not among them. So question and passage are read together: by a cross-encoder
(`hybridlab.rag.cross_encoder`), which knows best, and by a small reader (`hybridlab.rag.reader`); and the question's words are weighed by
how rare they are in the documents (vocabulary.py). Coefficients are written by `assistant eval --calibrate`, on questions that the reported
figures don't use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.knowledge.reading import Reading, text_of
from assistant.knowledge.spelling import tight
from assistant.knowledge.vocabulary import Heard
from assistant.language import language_of
from assistant.store.words import terms

if TYPE_CHECKING:
    from assistant.knowledge.search import Hit

CALIBRATION = Path(__file__).with_name("abstention.json")


@dataclass(frozen=True)
class Features:
    """`missing`: how rare the rarest name or number of the question is that stands in none of the chunks, 0 where all do; `rarest`: how
    rare the question's rarest word is in all documents, 1 where none has it; `vietnamese`: 1 where the question is Vietnamese; `words`: the
    logarithm of how many it has, for each of them costs the readers' judgement a little; `read` and `together`: the quick and the thorough
    reader's log odds for the best chunk."""

    missing: float
    rarest: float
    vietnamese: float
    words: float
    read: float
    together: float

    def vector(self) -> tuple[float, ...]:
        return astuple(self)


def features(question: str, hits: Sequence[Hit], heard: Heard, read: float, together: float) -> Features:
    """`heard` is what `Knowledge.heard` says of the question, `read` and `together` the readers' log odds."""
    held = "".join(map(tight, map(text_of, hits)))
    return Features(
        missing=max((rarity for name, rarity in heard.names.items() if tight(name) not in held), default=0.0),
        rarest=heard.rarest,
        vietnamese=float(language_of(question) == "vi"),
        words=math.log(1 + len(terms(question))),
        read=read,
        together=together,
    )


@cache
def calibration() -> dict:
    return json.loads(CALIBRATION.read_text("utf-8"))


def probability(question: str, hits: Sequence[Hit], heard: Heard, reading: Reading) -> float:
    """How likely the hits hold an answer, from 0 to 1."""
    if not hits:
        return 0.0
    model = calibration()
    measured = features(question, hits, heard, reading.odds(), reading.pair_odds()).vector()
    z = model["intercept"] + sum(w * x for w, x in zip(model["weights"], measured, strict=True))
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, z))))


def best_first(reading: Reading) -> Reading:
    """What was read, in the order in which it is cited."""
    return reading.best_first(calibration()["place_in_citations"])


def is_evidence(question: str, hits: Sequence[Hit], heard: Heard, reading: Reading) -> bool:
    return bool(hits) and probability(question, hits, heard, reading) >= calibration()["threshold"]
