"""Is what was found evidence? A logistic model over a few features of the best hits, calibrated on questions with and without an answer.

E5's cosines are compressed (related 0.83 to 0.87, unrelated 0.65 to 0.78), and both retrievers like a near miss: an allowance is asked
for, allowances are found, and the city is not among them. So question and passage are also read together: names and numbers are looked
for, and a small reader (`hybridlab.rag.reader`) judges whether what matters in the question has a counterpart in the passage.
Coefficients and reader are written by `assistant eval --calibrate`, on questions that the reported figures don't use.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hybridlab.rag.embed import E5
from hybridlab.rag.reader import Reader, token_states

from assistant.knowledge.search import Hit
from assistant.language import language_of
from assistant.store.words import folded, terms

CALIBRATION = Path(__file__).with_name("abstention.json")
READER = Path(__file__).with_name("reader.safetensors")  # reader.md says what it is made of
WORD = re.compile(r"\w+(?:[.'’/-]\w+)*")
LEAST_ODDS = -12.0  # of a reader that saw nothing to read


@dataclass(frozen=True)
class Features:
    """`cosine`: E5's best, of either language; `covered`: the largest share of the question's terms that one chunk holds, without
    diacritics, or translated where it is in the other language; `missing`: 1 where a name or a number of the question stands in none
    of the chunks; `vietnamese`: 1 where the question is Vietnamese, whose cosines lie elsewhere; `read`: the reader's log odds for the
    best chunk."""

    cosine: float
    covered: float
    missing: float
    vietnamese: float
    read: float

    def vector(self) -> tuple[float, ...]:
        return (self.cosine, self.covered, self.missing, self.vietnamese, self.read)


def features(question: str, hits: Sequence[Hit], read: float) -> Features:
    """`read` is what `reading` says of them."""
    wanted = set(map(folded, terms(question)))
    shares = [len(set(map(folded, terms_of(hit))) & wanted) / max(1, len(wanted)) for hit in hits]
    together = "".join(map(tight, map(text_of, hits)))
    return Features(
        cosine=max((hit.scores["e5"] for hit in hits if "e5" in hit.scores), default=0.0),
        covered=max([*shares, *(hit.scores.get("translated", 0.0) for hit in hits)], default=0.0),
        missing=float(any(tight(name) not in together for name in names(question))),
        vietnamese=float(language_of(question) == "vi"),
        read=read,
    )


def text_of(hit: Hit) -> str:
    """What a chunk says, headings and names of columns included."""
    return f"{hit.chunk.context}\n{hit.chunk.text}".strip()


def terms_of(hit: Hit) -> list[str]:
    text = text_of(hit)
    return [word for start in range(0, len(text), 400) for word in terms(text[start : start + 420])]


def names(question: str) -> list[str]:
    """The words of a question that can't be said differently: with a capital letter (but for the first word), or with a figure."""
    words = [re.sub(r"['’]s$", "", word) for word in WORD.findall(question)]
    return [word for word in words[1:] if word[0].isupper() or any(c.isdigit() for c in word)]


def tight(text: str) -> str:
    """Without diacritics and spaces, so that Hà Nội is Hanoi."""
    return re.sub(r"\s+", "", folded(text))


@cache
def calibration() -> dict:
    return json.loads(CALIBRATION.read_text("utf-8"))


@cache
def reader() -> Reader:
    return Reader.load(READER)


def reading(question: str, hits: Sequence[Hit], encoder: E5) -> float:
    """The reader's log odds that one of the hits answers the question: those of the best."""
    asked = token_states(encoder, [question], question=True)[0]
    odds = reader().score(asked, token_states(encoder, [text_of(hit) for hit in hits], question=False))
    return max(LEAST_ODDS, float(max(odds, default=LEAST_ODDS)))


def probability(question: str, hits: Sequence[Hit], encoder: E5) -> float:
    """How likely the hits hold an answer, from 0 to 1."""
    if not hits:
        return 0.0
    model = calibration()
    measured = features(question, hits, reading(question, hits, encoder)).vector()
    z = model["intercept"] + sum(w * x for w, x in zip(model["weights"], measured, strict=True))
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, z))))


def is_evidence(question: str, hits: Sequence[Hit], encoder: E5) -> bool:
    return bool(hits) and probability(question, hits, encoder) >= calibration()["threshold"]
