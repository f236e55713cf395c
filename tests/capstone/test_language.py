"""Which language a question is in: names of the other one, missing diacritics, words that both have."""

from __future__ import annotations

import unicodedata

import pytest
from assistant.language import language_of
from assistant.store.words import folded

from capstone.evaluation.questions import OF_LIBRARY, load, otherwise


@pytest.mark.parametrize(
    ("question", "language"),
    [
        ("What is the daily allowance in Hà Nội?", "en"),
        ("Who stands in for Mr Khúc Văn Điền when he's ill?", "en"),
        ("Does anyone know Đà Nẵng?", "en"),
        ("Đà Nẵng?", "vi"),
        ("Ai quản lý trang mentors.debian.net?", "vi"),
        ("Debian Policy là gì?", "vi"),
        ("Nó màu gì?", "vi"),  # only accents that French has too
        ("What is a café?", "en"),
        ("Café?", "en"),
        ("chinh sach nghi phep la gi", "vi"),
        ("how many days is nghi phep", "en"),
        ("gh-3417", "en"),
        ("Does the file `goi/sach` accept asterisks?", "en"),
        ("", "en"),
    ],
)
def test_of_a_question(question: str, language: str) -> None:
    assert language_of(question) == language
    assert language_of(unicodedata.normalize("NFD", question)) == language


def test_of_every_question_of_the_evaluation_and_its_translation() -> None:
    """The 1,152 questions, and those of the calibration in the other language."""
    own = {one.question: one.language for one in [*load(), *load(OF_LIBRARY)]}
    other = otherwise()
    known = own | {other[question]: "vi" if language == "en" else "en" for question, language in own.items() if question in other}
    assert len(known) > 1900
    assert [question for question, language in known.items() if language_of(question) != language] == []


def test_typed_without_diacritics_it_is_known_for_nearly_all() -> None:
    asked = [one for one in [*load(), *load(OF_LIBRARY)] if one.language == "vi"]
    bare = [folded(one.question) for one in asked]
    known = [question for question in bare if language_of(question) == "vi"]
    assert len(known) / len(bare) > 0.94
