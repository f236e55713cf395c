"""A right answer is never refused by chance: every check accepts the reference under seeds that its author never saw.

`make test` tries a few seeds; `make soak` tries many, and writes down how many in docs/soak.md.
"""

import importlib
import time

import pytest
from coursekit import paths
from coursekit.course import Exercise, load_course
from coursekit.mistake import Mistake

EXERCISES = [pytest.param(exercise, id=exercise.symbol.removeprefix("hybridlab.")) for exercise in load_course().exercises]
FEW, MANY = range(1_000, 1_002), range(2_000, 2_100)
REPORT = paths.REPO / "docs" / "soak.md"


def refusals(exercise: Exercise, seeds: range) -> list[str]:
    """What the check says against the reference, over all its cases that have a seed, with each seed in its place."""
    module, _, name = exercise.symbol.rpartition(".")
    reference = getattr(importlib.import_module(module), name)
    found = []
    for seed in seeds:
        for case in (*exercise.check.visible, *exercise.check.hidden):
            if isinstance(case.get("seed"), int):
                try:
                    exercise.check.judge(reference, **{**case, "seed": seed})
                except Mistake as mistake:
                    found.append(f"seed {seed}, {dict(case)}: {mistake}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_answer_passes_under_other_seeds(exercise: Exercise) -> None:
    assert not refusals(exercise, FEW)


@pytest.fixture(scope="module")
def report():
    """Collects a line per exercise; written when all are done."""
    lines: list[str] = []
    yield lines
    if lines:
        head = (
            "# Proofs that take too long for `make test`\n\n"
            "Written by `make soak`.\n\n"
            "## A right answer is never refused by chance\n\n"
            "Every case of every check judges the reference under seeds that its author never saw.\n\n"
            "| exercise | seeds | cases judged | refused | seconds |\n| --- | ---: | ---: | ---: | ---: |\n"
        )
        REPORT.write_text(head + "\n".join(lines) + "\n", "utf-8")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_answer_passes_under_many_seeds(exercise: Exercise, report: list[str]) -> None:
    begin = time.monotonic()
    refused = refusals(exercise, MANY)
    cases = sum(isinstance(case.get("seed"), int) for case in (*exercise.check.visible, *exercise.check.hidden)) * len(MANY)
    name = exercise.symbol.removeprefix("hybridlab.")
    report.append(f"| `{name}` | {len(MANY)} | {cases} | {len(refused)} | {time.monotonic() - begin:.0f} |")
    assert not refused, refused[:3]
