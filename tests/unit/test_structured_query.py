"""Probabilistic structured queries: BM25 of expected counts as in a slow loop; a filter is an index that holds nothing else."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hybridlab.rag.structured_query import WordIndex, leading

WORDS = [f"w{n}" for n in range(30)]
QUESTION = [{"w1": 0.7, "w2": 0.3}, {"w5": 1.0}, {"w9": 0.5, "nowhere": 0.5}, {"unknown": 1.0}]


def passages(seed: int, count: int = 40) -> dict[int, list[str]]:
    draw = random.Random(seed)
    return {10 * n: draw.choices(WORDS, weights=range(30, 0, -1), k=draw.randint(3, 60)) for n in range(count)}


def slow_scores(held: dict[int, list[str]], question, k1: float = 1.2, b: float = 0.75) -> dict[int, float]:
    """Darwish and Oard's counts in Robertson's BM25, one passage and one word after the other, as a share of the most there is."""
    mean, scores, most = sum(map(len, held.values())) / len(held), dict.fromkeys(held, 0.0), 0.0
    for word in question:
        holding = sum(p * sum(possible in words for words in held.values()) for possible, p in word.items())
        weight = math.log(1 + (len(held) - holding + 0.5) / (holding + 0.5))
        most += weight
        for i, words in held.items():
            frequency = sum(p * words.count(possible) for possible, p in word.items())
            scores[i] += weight * frequency / (frequency + k1 * (1 - b + b * len(words) / mean))
    return {i: score / most for i, score in scores.items() if score > 0}


def index_of(held: dict[int, list[str]]) -> WordIndex:
    index = WordIndex()
    index.add(list(held), list(held.values()))
    return index


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_the_slow_loop_s_best_first(seed: int) -> None:
    held = passages(seed)
    got = index_of(held).search(QUESTION, 100)
    assert dict(got) == pytest.approx(slow_scores(held, QUESTION), rel=1e-6)
    assert [score for _, score in got] == sorted((score for _, score in got), reverse=True)
    assert index_of(held).search(QUESTION, 3) == got[:3]


def test_what_is_not_allowed_is_not_even_counted() -> None:
    held = passages(7)
    few = {i: words for i, words in held.items() if i % 3 == 0}
    assert dict(index_of(held).search(QUESTION, 100, list(few))) == pytest.approx(slow_scores(few, QUESTION), rel=1e-6)
    assert index_of(held).search(QUESTION, 5, []) == []
    assert index_of(held).search(QUESTION, 5, [1, 2, 3]) == []


def test_removed_and_replaced_passages_leave_nothing_behind() -> None:
    held = passages(8)
    index = index_of(held)
    index.search(QUESTION, 5)
    index.remove([0, 10, 999])
    index.add([20], [["w1", "w5"]])
    left = {i: words for i, words in held.items() if i > 10} | {20: ["w1", "w5"]}
    assert dict(index.search(QUESTION, 100)) == pytest.approx(slow_scores(left, QUESTION), rel=1e-6)
    assert len(index) == len(left)
    index.remove(list(left))
    assert index.search(QUESTION, 5) == []


def test_the_best_score_there_is_is_one() -> None:
    index = index_of({1: ["a"] * 10_000, 2: ["b"] * 10_000})
    [(best, score)] = index.search([{"a": 1.0}], 5)
    assert best == 1
    assert 0.99 < score < 1.0
    assert index.search([], 5) == []


def test_the_first_k_are_those_of_the_whole_order_also_where_scores_are_equal() -> None:
    held = {i: ["w1"] * (1 + i % 3) + ["w2"] for i in range(60)}
    index = index_of(held)
    whole = index.search([{"w1": 1.0}], 60)
    assert len(whole) == 60
    for k in (1, 2, 19, 20, 21, 59):
        assert index.search([{"w1": 1.0}], k) == whole[:k]


def test_leading_rows_are_the_greatest_with_all_that_equal_the_least_of_them() -> None:
    score = np.array([0.0, 2.0, 1.0, 3.0, 1.0, 0.0])
    assert leading(score, 1).tolist() == [3]
    assert leading(score, 3).tolist() == [1, 2, 3, 4]
    assert leading(score, 9).tolist() == [1, 2, 3, 4]
    assert leading(np.zeros(4), 2).tolist() == []
