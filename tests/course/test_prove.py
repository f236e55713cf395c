"""Every exercise of the course, one case each: the stub fails, right answers pass, each mistake is refused by its own code, mutants die."""

from __future__ import annotations

import functools
import re

import pytest
from coursekit.catalogue import read_catalogue
from coursekit.course import load_course
from coursekit.prove import prove_exercise
from coursekit.runner import Runner

COURSE = load_course()
EXERCISES = [pytest.param(e, id=f"{e.week.name}-{e.id}", marks=pytest.mark.xdist_group(e.week.name)) for e in COURSE.exercises]


@functools.cache
def runner_of(week: str) -> Runner:
    unit = COURSE.week(week)
    return Runner(unit, folder=unit.folder)


@pytest.fixture(scope="module", autouse=True)
def close_runners():
    yield
    for unit in COURSE.units:
        runner_of(unit.name).close()


@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_exercise(exercise):
    proof = prove_exercise(exercise, runner_of(exercise.week.name))
    assert not proof.faults, "\n".join(proof.faults)


@pytest.mark.slow(seconds=2)
def test_codes_name_one_mistake_of_one_exercise_each():
    seen: dict[str, str] = {}
    for unit in COURSE.units:
        for answer in read_catalogue(unit.source / "mistakes.py"):
            if answer.kind != "correct":
                assert re.fullmatch(r"[A-Z0-9]+-\d\d", answer.code), str(answer)
                prefix, place = answer.code.split("-")[0], f"{unit.name}: {answer.name}"
                if prefix != "RUN":
                    assert seen.setdefault(prefix, place) == place, f"{prefix} stands for {seen[prefix]} and for {place}"


@pytest.mark.slow(seconds=2)
@pytest.mark.parametrize("unit", COURSE.units, ids=lambda unit: unit.name)
def test_every_catalogued_answer_belongs_to_an_exercise_of_its_week(unit):
    names = {e.symbol.rpartition(".")[2] for e in unit.exercises}
    assert {a.name for a in read_catalogue(unit.source / "mistakes.py")} == names


@pytest.mark.slow(seconds=2)
@pytest.mark.parametrize("month", COURSE.months, ids=lambda month: month.name)
def test_every_lab_has_three_to_six_exercises_and_one_more_that_is_broken(month):
    for week in month.weeks:
        assert 3 <= len(week.exercises) - 1 <= 6, week.name
        assert [a.kind for a in read_catalogue(week.source / "mistakes.py")].count("broken") == 1, week.name
