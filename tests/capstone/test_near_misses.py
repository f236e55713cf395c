"""The invented passages that the readers learn near misses from are what they say, and nothing of what the evaluation asks of."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from capstone.evaluation import near_misses
from capstone.evaluation.questions import OF_LIBRARY, load

Written = list[tuple[str, dict]]  # passages, each with the name of its file


def written(folder: Path) -> Written:
    return [(path.stem, json.loads(line)) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]


WRITTEN, MORE = written(near_misses.FOLDER), written(near_misses.MORE)
each_folder = pytest.mark.parametrize(
    ("folder", "held"), [(near_misses.FOLDER, WRITTEN), (near_misses.MORE, MORE)], ids=["twelve houses", "more documents"]
)


def asked_of(one: dict) -> list[str]:
    return [answered["q"] for answered in one["answered"]] + one["missing"]


def test_every_passage_has_as_many_questions_with_an_answer_as_without():
    assert [(len({house for house, _ in held}), len(held)) for held in (WRITTEN, MORE)] == [(12, 1080), (6, 660)]
    for house, one in WRITTEN + MORE:
        assert one["language"] in ("en", "vi")
        assert (len(one["answered"]), len(one["missing"])) == (4, 4), (house, one["text"])
        for answered in one["answered"]:
            assert " ".join(answered["a"].split()) in " ".join(one["text"].split()), (house, answered)
    questions = Counter(question for _, one in WRITTEN + MORE for question in asked_of(one))
    assert questions.most_common(1)[0][1] == 1


@each_folder
def test_the_questions_alone_do_not_tell_which_are_answered(folder: Path, held: Written):
    answered = Counter(a["q"].split()[0].lower() for _, one in held for a in one["answered"])
    missing = Counter(question.split()[0].lower() for _, one in held for question in one["missing"])
    for word, count in (answered + missing).most_common(12):
        assert answered[word] == pytest.approx(count / 2, rel=0.25), word


@each_folder
def test_a_question_belongs_to_its_passage_and_some_are_asked_of_another_too(folder: Path, held: Written):
    passages, pairs = near_misses.make(2, folder)
    assert (passages, pairs) == near_misses.make(2, folder)
    assert passages == [one["text"] for _, one in held]
    by_text = {one["text"]: one for _, one in held}
    own = {pair for pair in pairs if pair.question in asked_of(by_text[passages[pair.passage]])}
    assert len(own) == 8 * len(passages)
    for pair in own:
        assert pair.answered == (pair.question not in by_text[passages[pair.passage]]["missing"])
    elsewhere = [pair for pair in pairs if pair not in own]
    assert 1 < len(elsewhere) / len(passages) < 2.8
    assert not any(pair.answered for pair in elsewhere)
    parts = {question: (house, one["part"]) for house, one in held for question in asked_of(one)}
    there = {one["text"]: (house, one["part"]) for house, one in held}
    assert all(parts[pair.question] == there[passages[pair.passage]] for pair in elsewhere)


def test_nothing_of_the_evaluation_is_in_it():
    known = {question.question for question in [*load(), *load(OF_LIBRARY)]}
    assert not known & {question for _, one in WRITTEN + MORE for question in asked_of(one)}
    foreign = re.compile(r"\b(debian|ubuntu|dpkg|lintian)", re.IGNORECASE)
    assert not [text for _, one in WRITTEN + MORE for text in (one["text"], *asked_of(one)) if foreign.search(text)]
