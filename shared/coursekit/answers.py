"""The learner's answers: read from a notebook's exercise cells, and judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat

from coursekit import paths
from coursekit.course import Exercise, Week, load_course
from coursekit.errors import CourseError
from coursekit.mend import mend_graded
from coursekit.runner import Runner, Verdict


def find_notebook(week: Week) -> Path:
    """The learner's graded notebook of a week. Raises CourseError where it was not fetched."""
    path = paths.WORKSPACE / week.name / f"{week.graded}.ipynb"
    if not path.is_file():
        raise CourseError(f"{path} is not there: run `course fetch {week.name}` first.")
    return path


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """A notebook of any version, as version 4. Raises CourseError where it can't be read."""
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise CourseError(f"{path} is not there.") from None
    except Exception as error:
        raise CourseError(f"{path} can't be read as a notebook ({type(error).__name__}): `course doctor` mends what it can.") from None


def week_of(notebook: nbformat.NotebookNode, path: Path) -> Week:
    about = notebook.metadata.get("course")
    name = (about.get("week") if isinstance(about, dict) else None) or path.resolve().parent.name
    return load_course().week(name)


def answers_in(notebook: nbformat.NotebookNode, week: Week) -> dict[str, str]:
    """Exercise id → the source of its cell. Where an id stands twice, the first cell counts; a missing one is absent."""
    found: dict[str, str] = {}
    ids = {exercise.id for exercise in week.exercises}
    for cell in notebook.cells:
        settings = cell.metadata.get("nbgrader", {})
        if settings.get("solution") and settings.get("grade_id") in ids:
            found.setdefault(settings["grade_id"], cell.source.replace("\r\n", "\n"))
    return found


def judge_notebook(
    path: Path, week: Week | None = None, *, hidden: bool, only: Exercise | None = None
) -> Iterator[tuple[Exercise, Verdict]]:
    """Judge every exercise of a notebook (or `only` one), one after the other, as each verdict is reached.

    Raises CourseError where the notebook can't be read, or is one of the course's that asks for no answers.
    """
    notebook = read_notebook(path)
    week = week or week_of(notebook, path)
    about = notebook.metadata.get("course")
    if isinstance(about, dict) and about.get("notebook", week.graded) != week.graded:
        raise CourseError(f"{path.name} has no exercises; those of {week.name} are in {week.graded}.ipynb.")
    mend_graded(notebook, week)
    answers = answers_in(notebook, week)
    with Runner(week, folder=path.resolve().parent) as runner:
        for exercise in [only] if only else week.exercises:
            yield exercise, runner.check(exercise, answers.get(exercise.id, ""), hidden=hidden)
