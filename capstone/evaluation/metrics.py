"""The measures, each a function of plain values, so that each can be checked by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from hybridlab.llm.chatbot_scores import token_f1 as word_f1

from capstone.evaluation.questions import contains, plain


def recall_at(ranks: Sequence[int | None], k: int) -> float:
    """The share of questions whose page is among the first `k`. A rank counts from 1; None: not found."""
    return sum(rank is not None and rank <= k for rank in ranks) / len(ranks) if ranks else 0.0


def mean_reciprocal_rank(ranks: Sequence[int | None]) -> float:
    return sum(1.0 / rank for rank in ranks if rank is not None) / len(ranks) if ranks else 0.0


def token_f1(given: str, golds: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over words (SQuAD, arXiv 1606.05250, section 6.1), of all golds together."""
    return word_f1(plain(given), plain(" ".join(golds)))


def contained(given: str, golds: Sequence[str]) -> bool:
    """Whether every gold string stands in the answer."""
    return bool(golds) and all(contains(given, gold) for gold in golds)


@dataclass(frozen=True)
class Detection:
    """How well one class is told from the other."""

    precision: float
    recall: float
    f1: float


def detection(said: Sequence[bool], true: Sequence[bool]) -> Detection:
    """Precision, recall and F1 of the positive class; 0 where nothing was said, or nothing was there to be found."""
    both = sum(a and b for a, b in zip(said, true, strict=True))
    precision, recall = both / max(1, sum(said)), both / max(1, sum(true))
    return Detection(precision, recall, 2 * precision * recall / (precision + recall) if both else 0.0)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the values lie, interpolated."""
    return float(np.quantile(np.asarray(values, float), share)) if len(values) else 0.0
