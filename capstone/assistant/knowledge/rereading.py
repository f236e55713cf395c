"""The last word on the order of passages: the reader's, after the rankings by words, meaning and language have chosen them.

What the rankings put on their first places may only speak of the question's words; the reader tells which passage answers. It is read
from what was kept when the passages were embedded, and the question's token states come from the pass that makes its vector, so a search
waits a few milliseconds for it. A passage that was not read yet keeps its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from assistant.knowledge.across import Ranking

AMONG = 30  # places that are ordered anew: they hold nearly all that can be found at all


def read_again(ranking: Ranking, odds: Mapping[int, float], place: float) -> Ranking:
    """The ranking with what was read in the order of its log odds less `place` × the logarithm of the place that it had.

    Scores stay where they were, so that they still descend.
    """
    read = [n for n, (i, _) in enumerate(ranking[:AMONG]) if i in odds]
    best = sorted(read, key=lambda n: place * math.log(n + 1) - odds[ranking[n][0]])
    again = list(ranking)
    for there, n in zip(read, best, strict=True):
        again[there] = (ranking[n][0], ranking[there][1])
    return again
