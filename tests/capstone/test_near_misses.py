"""The invented passages that the reader learns near misses from are what they say, and nothing of what the evaluation asks of."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest

from capstone.evaluation import near_misses
from capstone.evaluation.questions import OF_LIBRARY, load

HOUSES = sorted(near_misses.FOLDER.glob("*.jsonl"))
WRITTEN = [(path.stem, json.loads(line)) for path in HOUSES for line in path.read_text("utf-8").splitlines()]


def asked_of(one: dict) -> list[str]:
    return [answered["q"] for answered in one["answered"]] + one["missing"]


def test_every_passage_has_as_many_questions_with_an_answer_as_without():
    assert len(HOUSES) == 12
    assert len(WRITTEN) == 1080
    for house, one in WRITTEN:
        assert one["language"] in ("en", "vi")
        assert (len(one["answered"]), len(one["missing"])) == (4, 4), (house, one["text"])
        for answered in one["answered"]:
            assert " ".join(answered["a"].split()) in " ".join(one["text"].split()), (house, answered)
    questions = Counter(question for _, one in WRITTEN for question in asked_of(one))
    assert questions.most_common(1)[0][1] == 1


def test_the_questions_alone_do_not_tell_which_are_answered():
    answered = Counter(a["q"].split()[0].lower() for _, one in WRITTEN for a in one["answered"])
    missing = Counter(question.split()[0].lower() for _, one in WRITTEN for question in one["missing"])
    for word, count in (answered + missing).most_common(12):
        assert answered[word] == pytest.approx(count / 2, rel=0.25), word


def test_a_question_belongs_to_its_passage_and_some_are_asked_of_another_too():
    passages, pairs = near_misses.make(seed=2)
    assert (passages, pairs) == near_misses.make(seed=2)
    by_text = {one["text"]: one for _, one in WRITTEN}
    own = {pair for pair in pairs if pair.question in asked_of(by_text[passages[pair.passage]])}
    assert len(own) == 8 * len(passages)
    for pair in own:
        assert pair.answered == (pair.question not in by_text[passages[pair.passage]]["missing"])
    elsewhere = [pair for pair in pairs if pair not in own]
    assert 1000 < len(elsewhere) < 3000
    assert not any(pair.answered for pair in elsewhere)
    parts = {question: (house, one["part"]) for house, one in WRITTEN for question in asked_of(one)}
    there = {one["text"]: (house, one["part"]) for house, one in WRITTEN}
    assert all(parts[pair.question] == there[passages[pair.passage]] for pair in elsewhere)


def test_nothing_of_the_evaluation_is_in_it():
    known = {question.question for question in [*load(), *load(OF_LIBRARY)]}
    assert not known & {question for _, one in WRITTEN for question in asked_of(one)}
    assert not [one["text"] for _, one in WRITTEN if re.search(r"\b(debian|ubuntu|dpkg|lintian)", one["text"], re.IGNORECASE)]
