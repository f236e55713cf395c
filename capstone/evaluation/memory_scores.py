"""Shares with their intervals, of rankings of invented talks, by ability and distance."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from capstone.evaluation.memory_probes import DISTANCES, Asked, Talk

FAR = ("50", "200")
DRAWS = 2000  # of a bootstrap


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927): where it lies for n questions of which so many were answered. Raises ValueError for none.

    >>> [round(x, 3) for x in wilson(8, 10)]
    [0.49, 0.943]
    """
    if of < 1:
        raise ValueError("a share of no questions has no interval")
    share, spread = hits / of, z * z / of
    middle, half = share + spread / 2, z * math.sqrt(share * (1 - share) / of + spread / (4 * of))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def groups(one: Asked) -> list[str]:
    """The rows of the table that a question counts in."""
    if one.ability != "follow":
        return [one.ability]
    near = next((name for name, places in DISTANCES.items() if one.distance in places), "other")
    return ["follow", f"follow {near}", *(["follow ≥ 50"] if near in FAR else [])]


def hits(talks: Sequence[Talk], rankings: Sequence[Sequence[Sequence[int]]], k: int) -> dict[str, list[tuple[int, bool]]]:
    """Group → (talk, whether a turn that answers is among the first `k`) of its questions; those that nothing answers are left out."""
    found: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for number, (talk, ranked) in enumerate(zip(talks, rankings, strict=True)):
        for one, turns in zip(talk.asked, ranked, strict=True):
            if one.ability != "never":
                for group in groups(one):
                    found[group].append((number, any(turn in one.answers for turn in turns[:k])))
    return dict(found)


def table(talks: Sequence[Talk], rankings: Sequence[Sequence[Sequence[int]]]) -> dict[str, dict[str, float]]:
    """Group → n, R@1 with its interval, R@5."""
    first, five = hits(talks, rankings, 1), hits(talks, rankings, 5)
    made = {}
    for group, of in first.items():
        right = sum(hit for _, hit in of)
        low, high = wilson(right, len(of))
        made[group] = {"n": len(of), "R@1": right / len(of), "low": low, "high": high, "R@5": float(np.mean([h for _, h in five[group]]))}
    return made


def difference(
    talks: Sequence[Talk], one: Sequence[Sequence[Sequence[int]]], other: Sequence[Sequence[Sequence[int]]], group: str, seed: int = 0
) -> tuple[float, float, float]:
    """R@1 of one way less that of another in a group, and its 95 % interval: a bootstrap over talks, whose questions hang together."""
    a, b = hits(talks, one, 1)[group], hits(talks, other, 1)[group]
    gains = np.zeros((len(talks), 2))
    for (talk, left), (_, right) in zip(a, b, strict=True):
        gains[talk] += (float(left) - float(right), 1)
    drawn = gains[np.random.default_rng(seed).integers(len(talks), size=(DRAWS, len(talks)))].sum(1)
    low, high = np.percentile(drawn[:, 0] / np.maximum(drawn[:, 1], 1), [2.5, 97.5])
    return float(gains[:, 0].sum() / gains[:, 1].sum()), float(low), float(high)


def area(said: Sequence[float], true: Sequence[bool]) -> float:
    """The area under the ROC curve: how often one of the true is scored above one of the others. Raises ValueError where there is none."""
    scores, right = np.asarray(said, float), np.asarray(true, bool)
    if right.all() or not right.any():
        raise ValueError("an area needs questions of both kinds")
    above = scores[right][:, None] - scores[~right][None]
    return float((above > 0).mean() + (above == 0).mean() / 2)


def printed(name: str, of: Mapping[str, Mapping[str, float]], order: Sequence[str]) -> str:
    """A row: R@1 of each group."""
    return f"{name:14}" + "".join(f"{of[group]['R@1']:11.2f}" if group in of else f"{'':11}" for group in order)
