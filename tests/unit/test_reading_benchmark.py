"""What the benchmark of reading plants is what it says, and what it counts as found was found."""

import re
from itertools import pairwise

import pytest
from hybridlab.ssm.planted import KEYS

from tests.benchmarks import reading

pytestmark = pytest.mark.slow(seconds=5)

TEXT = "It was late, and the boat lay in the reeds.\n" * 4_000
TRUTH = reading.planted("a text", TEXT, 16, 6, seed=1)
SAID = [(m[1], m[2], m.start()) for m in re.finditer(rf"^({'|'.join(KEYS)}) -> (\d\d)$", TRUTH.text, re.MULTILINE)]


def test_pairs_stand_at_all_depths_and_some_again_half_the_file_further_on():
    assert re.sub(r"\n\w+ -> \d\d(?=\n)", "", TRUTH.text) == TEXT
    assert len(SAID) == 16 + 6
    assert len(TRUTH.value) == 16
    depths = [at / len(TRUTH.text) for _, _, at in SAID]
    assert depths[0] < 0.05
    assert depths[-1] > 0.95
    assert max(b - a for a, b in pairwise(depths)) < 0.06
    for key in TRUTH.earlier:
        (first, before), (second, after) = [(value, at) for said, value, at in SAID if said == key]
        assert (first, second) == (TRUTH.earlier[key], TRUTH.value[key])
        assert (after - before) / len(TRUTH.text) == pytest.approx(0.5, abs=0.01)
    assert len(TRUTH.repeated) == 4


def test_what_reading_found_is_counted():
    marks = [{"key": key, "kind": "new", "value": value, "earlier": None} for key, value in TRUTH.value.items()]
    marks += [{"key": key, "kind": "repeated", "value": TRUTH.value[key], "earlier": TRUTH.value[key]} for key in TRUTH.repeated]
    answers = {key: {"key": key, "value": value, "marked": value} for key, value in TRUTH.value.items()}
    told = {"marks": marks, "answers": answers, "held": {**TRUTH.value, "nonsense": "11"}}
    assert reading.found_by_reading(told, TRUTH) == ["16 / 16", "16 / 16", "4 / 4", "0 / 2", "0 (the bare state: 1)"]
    other = TRUTH.earlier.keys() - TRUTH.repeated
    changed = [{"key": key, "kind": "changed", "value": TRUTH.value[key], "earlier": TRUTH.earlier[key]} for key in other]
    answers.pop(next(iter(TRUTH.value)))
    assert reading.found_by_reading({**told, "marks": changed}, TRUTH)[:4] == ["15 / 16", "15 / 16", "0 / 4", "2 / 2"]


def test_what_search_found_is_counted():
    asked = {key: [[], [], [], []] for key in KEYS}
    assert reading.found_by_search(asked, TRUTH) == ["0 / 16", "0 / 16", "0 / 4", "0 / 2", "0"]
    for key, value in TRUTH.value.items():
        asked[key] = [[], [(1, 5, value)], [], [(9, 5, TRUTH.earlier[key])] if key in TRUTH.earlier else []]
    assert reading.found_by_search(asked, TRUTH) == ["0 / 16", "16 / 16", "4 / 4", "2 / 2", "0"]
    for key, value in TRUTH.value.items():
        asked[key] = [[(1, 5, value)], [(1, 5, value)]]  # one statement, in two chunks that overlap
    assert reading.found_by_search(asked, TRUTH) == ["16 / 16", "16 / 16", "0 / 4", "0 / 2", "0"]
