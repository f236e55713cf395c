"""Hints, level by level, and the solution for who asks for it. Both are recorded; neither costs points."""

from __future__ import annotations

from coursekit import journal
from coursekit.course import Exercise
from coursekit.errors import CourseError
from coursekit.stub import reference_source

LEVELS = 3


def taken(exercise: Exercise) -> int:
    """The highest hint level that the learner has read so far."""
    return max((entry.get("level", 0) for entry in journal.events("hint", symbol=exercise.symbol)), default=0)


def hint(exercise: Exercise, level: int | None = None) -> tuple[int, str]:
    """A hint's level and text: the next one not read yet, or the `level` asked for. Records it.

    Raises CourseError for a level that is not 1, 2 or 3.
    """
    level = min(taken(exercise) + 1, LEVELS) if level is None else level
    if not 1 <= level <= LEVELS:
        raise CourseError(f"there is no hint {level}: the levels are 1, 2 and 3.")
    text = exercise.check.hints[level - 1]
    journal.record("hint", week=exercise.week.name, symbol=exercise.symbol, level=level)
    return level, text


def solution(exercise: Exercise) -> str:
    """The reference solution's source. Records that it was read."""
    text = reference_source(exercise.symbol)
    journal.record("solution", week=exercise.week.name, symbol=exercise.symbol)
    return text
