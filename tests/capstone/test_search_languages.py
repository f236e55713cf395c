"""Passages in the other language: told apart by most of their words, and the best of them is always seen."""

from __future__ import annotations

import pytest
from assistant.knowledge.search import passage_language, with_place

RANKING = [(1, 0.5), (2, 0.4), (3, 0.3), (4, 0.2), (5, 0.1)]


def test_a_vietnamese_name_makes_no_vietnamese_passage() -> None:
    assert passage_language("The spectrometer is in room B-112, and Nguyễn Thu Hà is responsible for its calibration every month.") == "en"
    assert passage_language("Nhà ăn mở từ 11:15 đến 13:00; suất ăn phải đăng ký trước 9:00 trên máy ở cổng B.") == "vi"
    assert passage_language("") == "en"


@pytest.mark.parametrize("wanted", [5, 9])
def test_what_is_wanted_stands_fourth_and_scores_descend(wanted: int) -> None:
    placed = with_place(RANKING, wanted, 4)
    assert [i for i, _ in placed][:4] == [1, 2, 3, wanted]
    assert {1, 2, 3, 4, 5, wanted} == {i for i, _ in placed}
    scores = [score for _, score in placed]
    assert scores == sorted(scores, reverse=True)


def test_what_stands_higher_already_is_left_there() -> None:
    assert with_place(RANKING, 2, 4) == RANKING


def test_a_short_ranking_gets_it_last() -> None:
    assert with_place([(1, 0.5)], 7, 4) == [(1, 0.5), (7, 0.5)]
    assert with_place([], 7, 4) == [(7, 0.0)]
