"""Reciprocal rank fusion: rankings whose scores can't be compared become one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

Id = TypeVar("Id", bound=Hashable)


def reciprocal_rank_fusion(rankings: Sequence[Sequence[Id]], k: float = 60.0) -> list[tuple[Id, float]]:
    """Fuse rankings (best first) into one: each id scores the sum of 1 / (k + rank) over the rankings that hold it, rank from 1.

    Ids of equal score keep the order in which they were first met. Raises ValueError where `k` is not positive.
    Source: Cormack, Clarke, Büttcher, Reciprocal Rank Fusion outperforms Condorcet, SIGIR 2009, section 2 (k = 60).

    >>> [i for i, _ in reciprocal_rank_fusion([["a", "b", "c"], ["b", "d"]])]
    ['b', 'a', 'd', 'c']
    """
    if k <= 0:
        raise ValueError(f"k is {k}; it has to be positive, 60 as a rule")
    scores: dict[Id, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(dict.fromkeys(ranking), 1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (k + rank)
    return sorted(scores.items(), key=lambda pair: -pair[1])
