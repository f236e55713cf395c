"""What says that something was never said: what it learns from, where its threshold lies, and that the weights are those of the card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from assistant import remembered
from assistant.cues import is_question
from assistant.knowledge.reading import READER
from hybridlab.rag.reader import Reader

from capstone.evaluation.memory_probes import Talk, examination
from capstone.evaluation.memory_said import (
    DIRECT,
    NOTHING,
    RESULTS,
    STRANGERS,
    Case,
    Texts,
    cases,
    figures,
    learned,
    threshold,
    with_strangers,
)
from capstone.evaluation.memory_talk import KINDS, world
from capstone.evaluation.memory_vectors import Vectors, seen
from tests.capstone.test_memory_exam import Encoder


@pytest.fixture(scope="module")
def talk() -> Talk:
    return next(examination("valid", [7]))


class Told:
    """A reader whose log odds are what a turn's states hold."""

    def keep(self, states):
        return states

    def score(self, question, passages):
        return np.array([one[0, 0] for one in passages], np.float32)


def case(ability: str, *odds: float, right: int | None = None) -> Case:
    turns = [np.full((1, 1), one) for one in odds]
    return Case(ability, "Who?", np.zeros((1, 1)), ["They."] * len(odds), turns, [place == right for place in range(len(odds))])


def test_a_stranger_is_never_named_and_what_is_asked_was_told_of_others(talk: Talk) -> None:
    (made,) = with_strangers("valid", [talk])
    asked = [one for one in made.asked if one.ability == "stranger"]
    assert 0 < len(asked) <= STRANGERS
    assert {one.ability for one in made.asked} == set(DIRECT)
    known = [one.entity.names for one in talk.said if one.entity]
    nouns = [noun for kind in KINDS for noun in world("valid")[kind]["nouns"]]
    new = [noun for noun in nouns if not any(noun[0].split("{")[0] in name["en"] for name in known)]
    for one in asked:
        assert not one.answers
        assert one.place == len(talk.said)
        assert any(noun[one.language == "vi"].split("{")[0].strip().casefold() in one.question.casefold() for noun in new), one.question
    assert with_strangers("valid", [talk])[0].asked == made.asked


@pytest.mark.slow(seconds=3)
def test_what_is_read_is_what_the_person_told_and_another_value_of_a_matter_is_neither_right_nor_wrong(tmp_path: Path, talk: Talk) -> None:
    class Reading(Encoder):
        """A text's states are its number among all texts."""

        texts: tuple[str, ...] = ()

        def read(self, texts, depth):
            made = []
            for text in texts:
                self.texts += (text,)
                made.append(np.full((1, 1), len(self.texts) - 1))
            return None, made

    encoder = Reading()
    of = seen(with_strangers("valid", [talk]), Vectors(encoder, tmp_path))
    made = list(cases(of, Vectors(encoder, tmp_path), Texts(encoder)))
    assert len(encoder.texts) == len(set(encoder.texts))
    said = {one.text: one for one in talk.said}
    others = 0
    for one, asked in zip(made, of[0].talk.asked, strict=True):
        read = [said[encoder.texts[int(states[0, 0])]] for states in one.turns]
        assert len(read) <= remembered.READ
        assert all(turn.role == "user" and not is_question(turn.text) for turn in read)
        right = [talk.said[turn] for turn in asked.answers]
        for turn, marked in zip(read, one.right, strict=True):
            same = any((turn.entity, turn.fact) == (answer.entity, answer.fact) for answer in right)
            assert marked is (any(turn.text == answer.text for answer in right) or (None if same else False))
            others += marked is None
        assert one.ability not in NOTHING or not any(one.right)
    assert others


def test_the_threshold_is_where_saying_that_nothing_was_said_is_best() -> None:
    answered, scores = np.array([True, True, True, False, False]), np.array([2.0, 1.0, -3.0, -1.0, -2.0])
    assert threshold(answered, scores) == 1.0  # two of three right, none missed: F1 .8


def test_figures_tell_what_is_refused_and_what_is_kept() -> None:
    of = [case("plain", 1.0, -1.0, right=0), case("mixed", -1.0, 2.0, right=0), case("long", -3.0, right=0), case("older")]
    of[1].right[1] = None  # another value of the matter
    of += [case("never", -2.0), case("never", 0.5), case("stranger", -5.0)]
    found = figures(Told(), of, 0.0)
    assert (found["questions"], found["answered"]) == (7, 4)
    assert found["precision"] == 0.5  # "long" and "older" are refused as well
    assert found["recall"] == round(2 / 3, 3)
    assert (found["recall, never"], found["recall, stranger"]) == (0.5, 1.0)
    assert found["kept"] == 0.5
    assert found["first"] == round(2 / 3, 3)  # of "mixed" another turn stands first, "older" has none
    assert found["area, never"] == 0.5


@pytest.mark.slow(seconds=2)
def test_a_reader_learns_which_turn_answers_and_nothing_from_what_is_neither() -> None:
    chance = np.random.default_rng(0)
    question, right, wrong = (chance.standard_normal((5, 384)).astype(np.float32) for _ in range(3))

    def told_apart(reader: Reader) -> float:
        yes, no = reader.score(question, [reader.keep(right), reader.keep(wrong)])
        return float(yes - no)

    taught = told_apart(learned([Case("plain", "", question, [], [right, wrong], [True, False])]))
    assert taught > told_apart(Reader.load(READER)) + 1
    assert told_apart(learned([Case("plain", "", question, [], [right, wrong, question], [True, False, None])])) == taught


def test_the_weights_are_those_of_the_card_and_the_threshold_that_of_the_record() -> None:
    card = remembered.WEIGHTS.with_suffix(".md").read_text("utf-8")
    assert hashlib.sha256(remembered.WEIGHTS.read_bytes()).hexdigest() in card
    record = json.loads(RESULTS.read_text("utf-8"))["reader of turns"]
    assert record["least"] == remembered.LEAST
    for area in ("area, never", "area, stranger"):
        assert f"{record['test'][area]:.3f}"[1:] in card
