"""Passages in the other language: found by translated words and by meaning together, and given places among those of the question's own.

E5 alone often misses them (docs/evaluation.md), and a question shares no words with them; a dictionary with probabilities finds most.
How well they fit, against how well the question's own language fits, says how many places they get and how high. The numbers are chosen
on the evaluation's calibration questions: `python -m capstone.evaluation.languages`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Ranking = list[tuple[int, float]]  # chunk id and score, best first

COSINE_WEIGHT = 2.0  # of E5's cosine beside the share of the question's words, where both rank passages in the other language
WORDS_SAY, MEANING_SAYS, BIAS = 7.1, 46.0, 2.4  # logistic: is the answer in the other language?
# How likely that is, at least → the places that the other language's best passages get; all, where the own language has nothing.
# The reader orders the first thirty anew (rereading.py): what gets none of them is never read.
PLACES: tuple[tuple[float, tuple[int, ...]], ...] = (
    (1.0, tuple(range(1, 51))),
    (0.8, (1, 3, 4, 6, 8, 10, 12, 14, 16)),
    (0.6, (2, 4, 8, 12, 16, 20)),
    (0.0, (4,)),
)


@dataclass(frozen=True)
class Found:
    """What one language has: by meaning with E5's cosine, by (translated) words with the share of the question that they make up."""

    meaning: Ranking
    words: Ranking

    def ranking(self) -> Ranking:
        """Both as one. What is in one list only gets the last score of the other, which it is at most."""
        cosines, shares = dict(self.meaning), dict(self.words)
        least_cosine, least_share = min(cosines.values(), default=0.0), min(shares.values(), default=0.0)
        both = {i: shares.get(i, least_share) + COSINE_WEIGHT * cosines.get(i, least_cosine) for i in {**shares, **cosines}}
        return sorted(both.items(), key=lambda pair: (-pair[1], pair[0]))


def likelihood(own: Found, other: Found) -> float:
    """How likely, from 0 to 1, the other language holds the answer: by how much better its best passage fits than the own one's."""
    if not own.meaning and not own.words:
        return 1.0

    def best(ranking: Ranking) -> float:
        return ranking[0][1] if ranking else 0.0

    z = WORDS_SAY * (best(other.words) - best(own.words)) + MEANING_SAYS * (best(other.meaning) - best(own.meaning)) + BIAS
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, z))))


def placed(ranking: Ranking, other: Ranking, likely: float) -> Ranking:
    """The ranking with the other language's best at their places, at scores that still descend.

    One that stands higher in the ranking already stays there.
    """
    places = next(places for least, places in PLACES if likely >= least)
    for place, (wanted, _) in zip(places, other, strict=False):
        ranking = with_place(ranking, wanted, place)
    return ranking


def with_place(ranking: Ranking, wanted: int, place: int) -> Ranking:
    """The ranking with `wanted` at `place` (from 1) at the latest, at the score of what stood there, so that scores still descend."""
    if wanted in [i for i, _ in ranking[:place]]:
        return ranking
    rest = [pair for pair in ranking if pair[0] != wanted]
    return [*rest[: place - 1], (wanted, rest[min(place, len(rest)) - 1][1] if rest else 0.0), *rest[place - 1 :]]
