"""The invented passages that the readers learn near misses from are what they say, and nothing of what the evaluation asks of."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from assistant.language import language_of

from capstone.evaluation import near_misses
from capstone.evaluation.harder import HARDER
from capstone.evaluation.questions import ALIKE, OF_LIBRARY, alike, load, otherwise

Written = list[tuple[str, dict]]  # passages, each with the name of its file


def written(folder: Path) -> Written:
    return [(path.stem, json.loads(line)) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]


WRITTEN, MORE, LATER = (written(folder) for folder in near_misses.FOLDERS)
ALL = WRITTEN + MORE + LATER
each_folder = pytest.mark.parametrize(
    ("folder", "held"), zip(near_misses.FOLDERS, (WRITTEN, MORE, LATER), strict=True), ids=["twelve houses", "twelve more", "the last 32"]
)


def asked_of(one: dict) -> list[str]:
    return [answered["q"] for answered in one["answered"]] + one["missing"]


def test_every_passage_has_as_many_questions_with_an_answer_as_without():
    assert [(len({house for house, _ in held}), len(held)) for held in (WRITTEN, MORE, LATER)] == [(12, 1080), (6, 660), (16, 992)]
    for house, one in ALL:
        assert one["language"] in ("en", "vi")
        assert (len(one["answered"]), len(one["missing"])) == (4, 4), (house, one["text"])
        for answered in one["answered"]:
            assert " ".join(answered["a"].split()) in " ".join(one["text"].split()), (house, answered)
    questions = Counter(question for _, one in ALL for question in asked_of(one))
    assert questions.most_common(1)[0][1] == 1


@pytest.mark.parametrize("held", [WRITTEN, MORE], ids=["twelve houses", "twelve more documents"])
def test_the_questions_alone_do_not_tell_which_are_answered(held: Written):
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
    if held is LATER:
        assert elsewhere == [], "there each passage has a heading of its own"
    else:
        assert 1 < len(elsewhere) / len(passages) < 2.8
    assert not any(pair.answered for pair in elsewhere)
    parts = {question: (house, one["part"]) for house, one in held for question in asked_of(one)}
    there = {one["text"]: (house, one["part"]) for house, one in held}
    assert all(parts[pair.question] == there[passages[pair.passage]] for pair in elsewhere)


def test_questions_in_the_other_language_are_asked_of_the_same_passages():
    known = {"How many days?": "Bao nhiêu ngày?", WRITTEN[0][1]["missing"][0]: "Ai biết?", WRITTEN[0][1]["answered"][0]["q"]: "Mấy ngày?"}
    passages, alone = near_misses.make(2)
    same, pairs = near_misses.make(2, otherwise=known)
    assert same == passages
    assert pairs[: len(alone)] == alone
    more = pairs[len(alone) :]
    assert {pair.question for pair in more} == {"Ai biết?", "Mấy ngày?"}
    own = [(pair.answered, pair.spans) for pair in alone if pair.question in known]
    assert [(pair.answered, pair.spans) for pair in more] == own
    assert [pair.passage for pair in more] == [pair.passage for pair in alone if pair.question in known]


@pytest.mark.slow(seconds=5)  # two million pairs of questions are compared
def test_what_is_asked_otherwise_is_asked_in_the_other_language_and_is_no_test_question():
    other = otherwise()
    calibration = {one.question for one in [*load(), *load(OF_LIBRARY)] if one.split == "calibration"}
    assert set(other) <= calibration | {question for _, one in ALL for question in asked_of(one)}
    assert len(set(other) & calibration) > 800
    same = [question for question, said in other.items() if language_of(question) == language_of(said)]
    assert len(same) <= 2, same  # a Vietnamese question with an English one in it
    unseen = [one.question for one in [*load(), *load(HARDER)] if one.split == "test"]
    assert not set(other.values()) & set(unseen)
    for question in set(other) & calibration:
        assert not [one for one in unseen if alike(other[question], one) >= ALIKE], question


def test_nothing_of_the_evaluation_is_in_it():
    known = {question.question for question in [*load(), *load(OF_LIBRARY)]}
    assert not known & {question for _, one in ALL for question in asked_of(one)}
    foreign = re.compile(r"\b(debian|ubuntu|dpkg|lintian)", re.IGNORECASE)
    assert not [text for _, one in ALL for text in (one["text"], *asked_of(one)) if foreign.search(text)]
