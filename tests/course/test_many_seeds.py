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


HEAD = """# Proofs that take too long for `make test`

Written by `make soak`.

## A right answer is never refused by chance

Every case of every check judges the reference under seeds that its author never saw.

| exercise | seeds | cases judged | refused | seconds |
| --- | ---: | ---: | ---: | ---: |
"""


@pytest.fixture(scope="module")
def report():
    """A line per exercise by its name, written when all are done; exercises that are not run this time keep their line."""
    found = (
        {line.split("`")[1]: line for line in REPORT.read_text("utf-8").splitlines() if line.startswith("| `")} if REPORT.exists() else {}
    )
    fresh: dict[str, str] = {}
    yield fresh
    if fresh:
        lines = {**found, **fresh}
        order = [exercise.id for exercise in EXERCISES if exercise.id in lines]
        REPORT.write_text(HEAD + "".join(f"{lines[name]}\n" for name in order), "utf-8")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_answer_passes_under_many_seeds(exercise: Exercise, report: dict[str, str]) -> None:
    begin = time.monotonic()
    refused = refusals(exercise, MANY)
    cases = sum(isinstance(case.get("seed"), int) for case in (*exercise.check.visible, *exercise.check.hidden)) * len(MANY)
    name = exercise.symbol.removeprefix("hybridlab.")
    report[name] = f"| `{name}` | {len(MANY)} | {cases} | {len(refused)} | {time.monotonic() - begin:.0f} |"
    assert not refused, refused[:3]
