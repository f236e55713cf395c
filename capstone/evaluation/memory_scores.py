"""Shares with their intervals, of rankings of invented talks, by ability and distance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import binomtest

from capstone.evaluation.memory_probes import DISTANCES, Asked, Talk

FAR = ("50", "200")


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
        low, high = binomtest(right, len(of)).proportion_ci(method="wilson")  # 95 %
        made[group] = {"n": len(of), "R@1": right / len(of), "low": low, "high": high, "R@5": float(np.mean([h for _, h in five[group]]))}
    return made


def printed(name: str, of: Mapping[str, Mapping[str, float]], order: Sequence[str]) -> str:
    """A row: R@1 of each group."""
    return f"{name:14}" + "".join(f"{of[group]['R@1']:11.2f}" if group in of else f"{'':11}" for group in order)
