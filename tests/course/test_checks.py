"""What checks are made of: values compared to the last place that counts, evidence that names it, declarations that are whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from coursekit.checks import Mistake, check, close, must_raise
from coursekit.mistake import describe

HINTS = ("one", "two", "three")


@pytest.mark.parametrize(
    ("got", "expected", "evidence"),
    [
        (None, 1.0, "got None"),
        ("three", 3.0, "got a str where numbers were expected"),
        (torch.zeros(2, 3), torch.zeros(3, 2), "got shape (2, 3), expected (3, 2)"),
        (torch.tensor([1.0, 5.0]), torch.tensor([1.0, 2.0]), "got 5, expected 2 at [1]; 1 of 2 values differ"),
        (torch.tensor([1.0, float("nan")]), torch.tensor([1.0, 2.0]), "got nan, expected 2 at [1]"),
        (0.1 + 1e-9, 0.1, "got 0.1, expected 0.1"),
    ],
)
def test_values_that_differ_are_refused_with_the_place(got, expected, evidence):
    with pytest.raises(Mistake) as refused:
        close(got, expected, "X-01", "it differs", rtol=0.0, atol=1e-12)
    assert evidence in str(refused.value)
    assert refused.value.code == "X-01"


def test_equal_values_pass_whatever_holds_them():
    close(0.1, np.float64(0.1), "X-01", "it differs", rtol=0.0, atol=0.0)
    close(torch.tensor([1.0, float("inf"), float("nan")]), [1.0, float("inf"), float("nan")], "X-01", "it differs")


def test_an_error_that_must_come_is_told_from_none_and_from_another():
    assert str(must_raise(ValueError, lambda: int("x"), "X-02", "bad input")).startswith("invalid literal")
    with pytest.raises(Mistake, match="raised nothing and returned int"):
        must_raise(ValueError, lambda: 3, "X-02", "bad input")
    with pytest.raises(Mistake, match="TypeError in place of ValueError"):
        must_raise(ValueError, lambda: int(None), "X-02", "bad input")


@pytest.mark.parametrize(
    "changes",
    [{"visible": []}, {"hidden": []}, {"hints": ("one", "two", "")}, {"hints": ("one",)}],
    ids=["visible", "hidden", "empty", "one"],
)
def test_a_half_written_check_is_refused(changes):
    with pytest.raises(ValueError, match=r"the check of a\.b needs"):
        check("a.b", **({"visible": [{}], "hidden": [{}], "hints": HINTS} | changes))


def test_a_check_without_its_promise_is_refused():
    with pytest.raises(ValueError, match="needs a docstring"):
        check("a.b", visible=[{}], hidden=[{}], hints=HINTS)(lambda answer: None)


def test_a_mistake_reads_as_one_sentence():
    assert describe("A-01", "wrong", "got 3.", "look") == "A-01 wrong — got 3. Hint: look"
    assert describe("A-01", "wrong") == "A-01 wrong."
