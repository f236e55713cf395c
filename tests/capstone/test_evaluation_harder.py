"""The harder questions: nobody has learned from them, they are near no other ones, and what is printed of them is right."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from assistant.knowledge.abstention import calibration

from capstone.evaluation import documents, evaluate, harder, questions
from capstone.evaluation.questions import alike, load

HARDER = load(harder.HARDER)
KNOWN = load() + load(questions.OF_LIBRARY)


def test_they_are_many_and_nearly_half_of_them_have_no_answer():
    kinds = Counter(question.kind for question in HARDER)
    assert len(HARDER) >= 2000
    assert 0.4 < kinds["unanswerable"] / len(HARDER) < 0.5
    assert min(kinds.values()) >= 30
    for language in ("en", "vi"):
        assert sum(question.language == language for question in HARDER) >= 700


def test_they_are_well_formed():
    assert len({question.question for question in HARDER}) == len({question.id for question in HARDER}) == len(HARDER)
    for question in HARDER:
        assert question.question.endswith("?"), question.id
        assert bool(question.answer) == bool(question.places) == question.answerable, question.id
        assert all(0 < len(answer) <= 60 for answer in question.answer), question.id


def test_nothing_learns_from_them_and_they_are_near_no_test_question():
    """`assistant eval --calibrate` takes those that are for calibration; the test parts are asked by themselves."""
    assert {question.split for question in HARDER} == {"test"}
    assert not {question.id for question in HARDER} & {question.id for question in KNOWN}
    assert not {question.question for question in HARDER} & {question.question for question in KNOWN}
    tested = [question for question in KNOWN if question.split == "test"]
    assert max(alike(one.question, other.question) for one in HARDER for other in tested) < questions.ALIKE


def test_what_is_recorded_is_of_these_questions():
    recorded = json.loads(harder.RESULTS.read_text("utf-8"))
    answerable = sum(question.answerable for question in HARDER)
    assert recorded["questions"] == {"with an answer": answerable, "without": len(HARDER) - answerable}
    assert recorded["abstention"]["all"]["questions"] == len(HARDER)
    assert recorded["retrieval"]["fused"]["all"]["questions"] == answerable


def test_a_perfect_decision_has_an_area_and_an_f1_of_one_and_a_blind_one_has_neither():
    some = [question for question in HARDER if question.language == "en"][:200] + [q for q in HARDER if q.language == "vi"][:200]
    right = np.array([0.99 if question.answerable else 0.01 for question in some])
    measured = harder.by_group(some, right)
    assert {name: (of["questions"], of["area"], of["f1"]) for name, of in measured.items()} == {
        "all": (400, 1.0, 1.0),
        "en": (200, 1.0, 1.0),
        "vi": (200, 1.0, 1.0),
    }
    blind = harder.by_group(some, np.full(len(some), calibration()["threshold"]))  # at the threshold is evidence: nothing is refused
    assert (blind["all"]["area"], blind["all"]["f1"]) == (0.5, 0.0)


def test_documents_that_are_not_there_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def none(*_: object) -> None:
        raise documents.NotFetched("the documents need apt-get, which is not here.")

    monkeypatch.setattr(documents, "fetch", none)
    monkeypatch.setattr(evaluate, "git", lambda *words: "")
    assert harder.main() == 1
    assert "need apt-get" in capsys.readouterr().err
