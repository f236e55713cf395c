"""The committed results are whole, and the page is the one that they give."""

import json

import pytest

from tests.benchmarks import record, table
from tests.benchmarks.__main__ import BENCHMARKS

FOUND = sorted(record.RESULTS.glob("*.json"))


def test_the_page_is_written_from_the_results():
    assert table.TARGET.read_text("utf-8") == table.page()


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.stem)
def test_a_result_says_how_and_where_it_was_measured(path):
    result = json.loads(path.read_text("utf-8"))
    name, _, kind = path.stem.partition(".")
    assert name in BENCHMARKS
    assert kind == record.kind_of(result.get("processor", []))
    assert result["command"] == f"python -m tests.benchmarks {name}"
    assert set(result["machine"]) == {"cores", "cpu", "ram_gib"}  # and nothing that names the machine
    assert {"python", "torch"} <= set(result["versions"])
    assert result["samples"].keys() == result["median"].keys()
    assert all(result["samples"].values())
    assert set(result["ratios"]) <= set(result["samples"])


def test_our_recipe_beats_nanogpts_with_a_third_of_its_operations():
    recipes = json.loads((record.RESULTS / "recipes.json").read_text("utf-8"))["recipes"]
    ours, theirs = recipes["mini_gpt"], recipes["nanogpt"]
    assert ours["loss"] <= 1.75 < theirs["loss"]
    assert ours["flops"] <= theirs["flops"] / 3


def test_the_ratio_is_taken_within_each_turn():
    samples = {"ours": [2.0, 20.0, 4.0], "base": [1.0, 10.0, 1.0]}  # the second turn met a busy moment, which hit both
    assert record.ratio(samples, "ours", "base") == 2.0


def test_turn_about_gives_every_call_the_same_number_of_turns():
    order = []
    samples = record.turn_about({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeat=3)
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]  # once each to warm up
    assert {name: len(values) for name, values in samples.items()} == {"a": 3, "b": 3}
