"""The invented talks that memory is measured on are what they say: held out, answered, and their referents as far back as stated."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import pytest

from capstone.evaluation.memory_probes import ABILITIES, DISTANCES, FOLLOWS, Known, Talk, examination, training
from capstone.evaluation.memory_scores import hits, table
from capstone.evaluation.memory_talk import KINDS, LANGUAGES, RESTS, SPLITS, tell, world

pytestmark = pytest.mark.slow(seconds=2)

SEEDS = range(200, 220)


@pytest.fixture(scope="module")
def talks() -> list[Talk]:
    return list(examination("test", SEEDS))


@pytest.fixture(scope="module", params=SPLITS)
def split(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def told(split: str, talks: list[Talk]) -> list[Talk]:
    """The examination's talks, and some of every other world."""
    return talks if split == "test" else list(training(split, range(4)))


def strings(of) -> set[str]:
    """Everything in a world that can be said, without the names of its parts and the forms of its numbers."""
    if isinstance(of, dict):
        return set().union(*(strings(value) for key, value in of.items() if key not in ("name", "form")))
    if isinstance(of, list):
        return set().union(*map(strings, of))
    return set() if of in ("date", "name", "{s}") or of.startswith("number ") else {of.casefold()}


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLITS, 2)))
def test_the_worlds_share_no_entity_no_fact_no_value_and_no_phrasing(one: str, other: str):
    assert strings(world(one)) & strings(world(other)) == set()
    facts = [{fact["name"] for kind in (*KINDS, "diary") for fact in world(split)[kind]["facts"]} for split in (one, other)]
    assert facts[0] & facts[1] == set()


def test_numbers_and_dates_of_training_validation_and_test_are_not_each_others(split: str):
    facts = [fact for kind in KINDS for fact in world(split)[kind]["facts"]]
    counted = {fact["name"] for fact in facts if fact["values"] == "date" or str(fact["values"]).startswith("number ")}
    values = [one.value for one in tell(split, 3, 150, (20,)) if one.event == "fact" and one.fact in counted]
    numbers = [int(number) for value in values for number in re.findall(r"\d+", value)]
    assert len(numbers) == len(values) > 0
    rest = RESTS["train" if split.startswith("train") else split]
    assert {n % 3 for n in numbers} == {rest}


def test_the_same_seed_tells_the_same_and_another_something_else():
    assert tell("train", 1, 150, (20,)) == tell("train", 1, 150, (20,)) != tell("train", 2, 150, (20,))
    assert next(training("train", [1])) == next(training("train", [1]))
    with pytest.raises(ValueError, match="'dev'"):
        tell("dev", 1, 150, ())


def test_there_are_enough_questions_of_every_ability_and_distance(talks: list[Talk]):
    asked = [one for talk in talks for one in talk.asked]
    assert len(asked) >= 500
    assert set(ABILITIES) == {one.ability for one in asked}
    count = Counter(one.ability for one in asked)
    assert min(count.values()) >= 50
    for places in DISTANCES.values():
        assert sum(one.distance in places for one in asked) >= 50
    assert {one.language for one in asked} == set(LANGUAGES)
    assert {one.kind for one in asked} - {""} == set(FOLLOWS)
    assert all(len(talk.said) >= 300 for talk in talks)
    assert sum(len(turn.text) > 200 for talk in talks for turn in talk.said) > 200  # long turns as people write them


def test_every_question_but_those_never_answered_is_answered_by_a_turn_before_it(told: list[Talk]):
    for talk in told:
        for one in talk.asked:
            assert bool(one.answers) == (one.ability != "never"), one
            assert all(0 <= turn < one.place <= len(talk.said) for turn in one.answers)
            assert one.session == talk.said[one.place - 1].session
            values = {(talk.said[turn].fact, talk.said[turn].value) for turn in one.answers}
            assert len(values) <= 1


def names(talk: Talk, kind: str) -> set[str]:
    return {name.casefold() for one in talk.said if one.entity and one.entity.kind == kind for name in one.entity.names.values()}


def test_what_a_question_refers_to_is_named_there_and_nothing_of_its_kind_is_named_since(told: list[Talk]):
    for talk in told:
        for one in talk.asked:
            if one.kind not in KINDS:
                continue
            named = names(talk, one.kind)
            texts = [turn.text.casefold() for turn in talk.said]
            meant = talk.said[one.referent].entity
            assert any(name.casefold() in texts[one.referent] for name in meant.names.values())
            assert not any(name in texts[turn] for turn in range(one.referent + 1, one.place) for name in named)
            assert {talk.said[turn].entity.id for turn in one.answers} == {meant.id}
            assert one.referent not in one.answers
            assert not any(name in one.question.casefold() for name in named)


def test_the_other_follow_ups_refer_to_the_last_question_or_the_last_candidates(told: list[Talk]):
    for talk in told:
        for one in talk.asked:
            if one.kind in ("", *KINDS):
                continue
            event = "option" if one.kind == "option" else "question"
            assert talk.said[one.referent].event == event
            assert not any(turn.event == event for turn in talk.said[one.referent + 1 : one.place])
            assert {talk.said[turn].event for turn in one.answers} <= {"option"} if event == "option" else {"fact", "answer"}
            if event == "question":
                assert {talk.said[turn].fact for turn in one.answers} == {talk.said[one.referent].fact}


def test_corrected_means_the_newest_and_older_the_one_before(told: list[Talk]):
    for talk in told:
        for one in talk.asked:
            if one.ability in ("corrected", "older"):
                told = talk.said[one.answers[0]]
                about = [turn for turn in talk.said[: one.place] if (turn.entity, turn.fact) == (told.entity, told.fact)]
                values = [turn.value for turn in about if turn.event == "fact"]
                assert len(values) >= 2
                assert values[-1 if one.ability == "corrected" else -2] == told.value != values[-2 if one.ability == "corrected" else -1]


def test_never_said_was_never_said_though_its_subject_was(told: list[Talk], split: str):
    for talk in told:
        for one in talk.asked:
            if one.ability == "never":
                known = Known(split, talk.said, one.place)
                (subject,) = [e for e in known.entities.values() if any(n.casefold() in one.question.casefold() for n in e.names.values())]
                facts = world(split)[subject.kind]["facts"]
                (fact,) = [f for f in facts if one.question in {q for lang in LANGUAGES for q in asked(f, lang, subject)}]
                assert (subject.id, fact["name"]) not in known.values


def asked(fact: dict, language: str, subject) -> list[str]:
    filled = [text.format(e=subject.names[language]) for text in fact["ask"][language]]
    return [text[:1].upper() + text[1:] for text in filled]


# --- the figures ----------------------------------------------------------------------------------------------------


def test_shares_and_their_intervals_are_right(talks: list[Talk]):
    right = [[list(one.answers) for one in talk.asked] for talk in talks]
    wrong = [[[one.place] for one in talk.asked] for talk in talks]
    assert {group["R@1"] for group in table(talks, right).values()} == {1.0}
    assert {group["R@5"] for group in table(talks, wrong).values()} == {0.0}
    follows = hits(talks, right, 1)
    assert len(follows["follow"]) == sum(len(follows[f"follow {name}"]) for name in DISTANCES)
    assert table(talks, right)["plain"]["low"] == pytest.approx(60 / (60 + 1.96**2), abs=1e-5)  # Wilson 1927, for all of 60


@pytest.mark.parametrize("split", [split for split in SPLITS if split.startswith("train")])
def test_a_mixed_world_speaks_its_own_way_of_every_training_worlds_matters_and_of_nothing_held_out(split: str):
    mixed = world(f"{split}+")
    for held in ("valid", "test"):
        assert strings(mixed) & strings(world(held)) == set()
    for other in (name for name in SPLITS if name.startswith("train")):
        assert strings(world(other)["person"]["nouns"]) <= strings(mixed["person"]["nouns"])
    assert mixed["person"]["facts"] == world(split)["person"]["facts"]


@pytest.mark.parametrize("split", ["test+", "valid+", "train99+"])
def test_what_is_held_out_is_not_mixed(split: str):
    with pytest.raises(ValueError, match="split is"):
        world(split)
