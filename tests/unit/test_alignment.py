"""Word translations from pairs of sentences: Model 1 as in a slow loop, both directions agreeing, and syllables joined to words."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hybridlab.rag.alignment import agreed, collocations, join, word_translations

PAIRS = [(["the", "house"], ["das", "haus"]), (["the", "book"], ["das", "buch"]), (["a", "book"], ["ein", "buch"])]


def slow_model_1(pairs, rounds):
    """Brown et al. 1993, section 4.1, in dictionaries: NULL is the empty word, every link as likely as any other beforehand."""
    t = defaultdict(lambda: 1.0)
    for _ in range(rounds):
        count, total = defaultdict(float), defaultdict(float)
        for source, target in pairs:
            candidates = ["", *source]
            for word in target:
                whole = sum(t[s, word] for s in candidates)
                for s in candidates:
                    count[s, word] += t[s, word] / whole
                    total[s] += t[s, word] / whole
        t = defaultdict(float, {(s, word): c / total[s] for (s, word), c in count.items()})
    return t


@pytest.mark.parametrize("rounds", [1, 2, 6])
def test_model_1_is_the_slow_loop_s(rounds: int) -> None:
    random.seed(rounds)
    drawn = [[random.choices(letters, k=random.randint(1, 5)) for letters in ("abcdef", "uvwxyz")] for _ in range(40)]
    pairs = PAIRS + [(source, target) for source, target in drawn]
    table, slow = word_translations(pairs, rounds, fewest=1), slow_model_1(pairs, rounds)
    assert table.keys() == {s for s, _ in slow if s}
    for source, meant in table.items():
        assert sum(meant.values()) == pytest.approx(1.0)
        for target, probability in meant.items():
            assert probability == pytest.approx(slow[source, target], rel=1e-9, abs=1e-300)


def test_words_that_meet_by_chance_are_told_apart() -> None:
    table = word_translations(PAIRS, rounds=20, fewest=1)
    assert {word: max(meant, key=meant.get) for word, meant in table.items()} == {"the": "das", "house": "haus", "book": "buch", "a": "ein"}


def test_rare_words_are_left_out_and_nothing_can_t_be_learned_from() -> None:
    assert word_translations(PAIRS, fewest=2).keys() == {"the", "book"}
    with pytest.raises(ValueError, match="no pairs"):
        word_translations([])


def test_both_directions_have_to_agree() -> None:
    forward = {"gói": {"package": 0.8, "the": 0.2}, "một": {"the": 1.0}}
    backward = {"package": {"gói": 0.5}, "the": {"một": 0.9}}
    assert agreed(forward, backward) == {"gói": {"package": 1.0}, "một": {"the": 1.0}}


def test_translations_add_up_to_one_and_the_best_stay() -> None:
    table = agreed({"a": {"x": 0.5, "y": 0.3, "z": 0.2}}, {"x": {"a": 0.5}, "y": {"a": 0.3}, "z": {"a": 0.2}}, most=2)
    assert table == {"a": {"x": pytest.approx(0.625), "y": pytest.approx(0.375)}}


def test_syllables_that_belong_together_are_joined_and_others_are_not() -> None:
    sentences = ["hệ thống tệp của máy", "máy hệ thống", "tệp của hệ thống", "của máy tệp", "tệp máy của"]
    found = collocations([s.split() for s in sentences], apart={"của"}, fewest=3, least=0.5)
    assert found == {("hệ", "thống"): pytest.approx(1.0)}  # neither stands without the other
    assert join(["hệ", "thống", "của", "hệ", "thống"], found) == ["hệ_thống", "của", "hệ_thống"]
    assert join(["máy"], found) == ["máy"]


def test_the_stronger_pair_is_joined_first() -> None:
    assert join(["a", "b", "c"], {("a", "b"): 0.4, ("b", "c"): 0.9}) == ["a", "b_c"]
