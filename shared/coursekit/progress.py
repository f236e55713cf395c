"""How far the learner has come: points from nbgrader's gradebook, hints from the journal, promoted code from its records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hybridlab.exercise import records

from coursekit import gradebook, journal, paths
from coursekit.course import Course, Exercise, Week
from coursekit.gradebook import Score
from coursekit.library import unusable


@dataclass(frozen=True)
class UnitProgress:
    """One week or project. `passed` and `promoted` hold exercise ids; `graded` is False where it never was."""

    week: Week
    graded: bool
    points: float
    of: float
    passed: frozenset[str]
    promoted: frozenset[str]
    hints: int
    solutions: int

    @property
    def done(self) -> bool:
        """Whether every exercise passes and is in the library."""
        return self.all_passed and len(self.promoted) == len(self.week.exercises)

    @property
    def all_passed(self) -> bool:
        return self.graded and len(self.passed) == len(self.week.exercises)

    @property
    def open(self) -> list[Exercise]:
        return [e for e in self.week.exercises if e.id not in self.passed]


@dataclass(frozen=True)
class Sum:
    """Points and exercises of several units together."""

    points: float
    of: float
    passed: int
    exercises: int
    promoted: int


def progress(course: Course) -> list[UnitProgress]:
    """Every week and project of the course, in order."""
    scores = gradebook.all_scores(course.units)
    set_aside = unusable(course, paths.MYLAB)
    promoted = {symbol for symbol in records(paths.MYLAB) if symbol not in set_aside}
    return [of_unit(unit, scores.get(unit.name), promoted) for unit in course.units]


def of_unit(week: Week, scores: list[Score] | None, promoted: set[str]) -> UnitProgress:
    """Progress in one unit; points are counted out of what the course asks today, graded or not."""
    found = scores or []
    return UnitProgress(
        week=week,
        graded=scores is not None,
        points=sum(score.points for score in found),
        of=sum(exercise.points for exercise in week.exercises),
        passed=frozenset(score.exercise for score in found if score.points == score.of),
        promoted=frozenset(exercise.id for exercise in week.exercises if exercise.symbol in promoted),
        hints=len({(entry.get("symbol"), entry.get("level")) for entry in journal.events("hint", week=week.name)}),
        solutions=len({entry.get("symbol") for entry in journal.events("solution", week=week.name)}),
    )


def together(units: Iterable[UnitProgress]) -> Sum:
    """The sum over a month, or over the course."""
    chosen = list(units)
    return Sum(
        sum(unit.points for unit in chosen),
        sum(unit.of for unit in chosen),
        sum(len(unit.passed) for unit in chosen),
        sum(len(unit.week.exercises) for unit in chosen),
        sum(len(unit.promoted) for unit in chosen),
    )


def current(units: list[UnitProgress]) -> UnitProgress | None:
    """The unit to work on: the first that is not done; None at the end of the course."""
    return next((unit for unit in units if not unit.done), None)
