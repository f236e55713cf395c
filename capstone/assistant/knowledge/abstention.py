"""Is what was found evidence? A logistic model over a few features of the best hits, calibrated on questions with and without an answer.

E5's cosines are compressed (related 0.83 to 0.87, unrelated 0.65 to 0.78), and a BM25 score means nothing by itself, so no single
threshold will do. The coefficients are written by `assistant eval --calibrate`, on questions that the reported figures don't use.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from assistant.knowledge.search import Hit
from assistant.language import language_of
from assistant.store.words import folded, terms

CALIBRATION = Path(__file__).with_name("abstention.json")


@dataclass(frozen=True)
class Features:
    """`cosine`: E5's best, of either language; `covered`: the largest share of the question's terms that one chunk holds, without
    diacritics; `vietnamese`: 1 where the question is Vietnamese, whose cosines lie elsewhere."""

    cosine: float
    covered: float
    vietnamese: float

    def vector(self) -> tuple[float, ...]:
        return (self.cosine, self.covered, self.vietnamese)


def features(question: str, hits: Sequence[Hit]) -> Features:
    wanted = set(map(folded, terms(question)))
    found = [set(map(folded, terms_of(hit))) & wanted for hit in hits]
    return Features(
        cosine=max((hit.scores["e5"] for hit in hits if "e5" in hit.scores), default=0.0),
        covered=max(map(len, found), default=0) / max(1, len(wanted)),
        vietnamese=float(language_of(question) == "vi"),
    )


def terms_of(hit: Hit) -> list[str]:
    text = f"{hit.chunk.context} {hit.chunk.text}"
    return [word for start in range(0, len(text), 400) for word in terms(text[start : start + 420])]


@cache
def calibration() -> dict:
    return json.loads(CALIBRATION.read_text("utf-8"))


def probability(question: str, hits: Sequence[Hit]) -> float:
    """How likely the hits hold an answer, from 0 to 1."""
    if not hits:
        return 0.0
    model = calibration()
    z = model["intercept"] + sum(w * x for w, x in zip(model["weights"], features(question, hits).vector(), strict=True))
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, z))))


def is_evidence(question: str, hits: Sequence[Hit]) -> bool:
    return bool(hits) and probability(question, hits) >= calibration()["threshold"]
