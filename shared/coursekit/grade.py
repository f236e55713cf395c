"""`course grade`: the learner's notebook through nbgrader's own autograde and feedback, into their own gradebook."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat
from filelock import FileLock, Timeout

from coursekit import gradebook, journal, paths, salvage
from coursekit.course import Exercise, Week
from coursekit.errors import CourseError
from coursekit.gradebook import STUDENT, Score, need
from coursekit.mend import NOTES, Finding, mend_graded, notes


@dataclass(frozen=True)
class Result:
    """One exercise: its points, and what the check said (the promise that holds, or the mistake)."""

    exercise: Exercise
    score: Score
    text: str

    @property
    def passed(self) -> bool:
        return self.score.points == self.score.of


@dataclass(frozen=True)
class Report:
    """A graded week: results in order, what had to be mended in the copy that was graded, and the feedback page."""

    week: Week
    results: tuple[Result, ...]
    findings: tuple[Finding, ...]
    feedback: Path

    @property
    def points(self) -> float:
        return sum(result.score.points for result in self.results)

    @property
    def of(self) -> float:
        return sum(result.score.of for result in self.results)


def grade(week: Week) -> Report:
    """Grade the learner's notebook as it is on disk. The notebook itself is only read.

    Raises CourseError where it was never fetched, or nbgrader fails.
    """
    path = submission(week)
    with alone(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbgrader's own, about its use of SQLAlchemy
        api = gradebook.open_course(week)
        gradebook.ensure_assignment(api, week)
        findings = hand_in(week, path)
        need(api.autograde(week.name, STUDENT), f"grade {week.name}")
        need(api.generate_feedback(week.name, STUDENT), f"write the feedback for {week.name}")
    report = Report(week, tuple(results(week)), tuple(findings), publish_feedback(week))
    journal.record("grade", week=week.name, points=report.points, of=report.of, passed=[r.exercise.id for r in report.results if r.passed])
    return report


@contextmanager
def alone() -> Iterator[None]:
    """Keep a second `course grade` out of the gradebook for as long as this one takes."""
    try:
        with FileLock(gradebook.prepare() / ".lock", timeout=300):
            yield
    except Timeout:
        raise CourseError("another `course grade` has been running for five minutes: end it, then try again.") from None


def submission(week: Week) -> Path:
    """The notebook to be graded. Raises CourseError that says where it may have gone."""
    path = paths.WORKSPACE / week.name / f"{week.graded}.ipynb"
    if path.is_file():
        return path
    candidates = [p for p in sorted(path.parent.glob("*.ipynb")) if is_graded_notebook(p, week)]
    if candidates:
        found = candidates[-1].name
        raise CourseError(f"{path} is not there, but {found} beside it is this week's {week.graded}: rename it to {path.name}.")
    raise CourseError(f"{path} is not there: run `course fetch {week.name}` first.")


def is_graded_notebook(path: Path, week: Week) -> bool:
    about = salvage.read(path).notebook.metadata.get("course")
    return isinstance(about, dict) and (about.get("week"), about.get("notebook")) == (week.name, week.graded)


def hand_in(week: Week, path: Path) -> list[Finding]:
    """Put a mended copy of the learner's notebook where nbgrader looks for submissions."""
    found = salvage.read(path)
    findings = []
    if found.broken:
        findings.append(Finding(f"{path.name}: {found.broken}. What can be read was graded; `course doctor` mends the file."))
    findings += mend_graded(found.notebook, week)
    found.notebook.metadata["course"][NOTES] = notes(findings)
    for cell in found.notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    target = gradebook.folder() / "submitted" / STUDENT / week.name
    shutil.rmtree(target, ignore_errors=True)
    salvage.write(found.notebook, target / path.name)
    return findings


def results(week: Week) -> list[Result]:
    """nbgrader's points, with the text of each verdict as it stands in the autograded notebook."""
    graded = gradebook.folder() / "autograded" / STUDENT / week.name / f"{week.graded}.ipynb"
    cells = {salvage.grade_id(cell): cell for cell in nbformat.read(graded, as_version=4).cells}
    found = {score.exercise: score for score in gradebook.scores(week) or []}
    return [Result(e, found[e.id], verdict_text(cells[e.check_id])) for e in week.exercises]


def verdict_text(cell: nbformat.NotebookNode) -> str:
    for output in cell.outputs:
        if output.output_type == "error":
            return "\n".join(output.traceback)
        if output.output_type == "display_data":
            return output.data["text/plain"]
    return ""


def publish_feedback(week: Week) -> Path:
    """The feedback page, beside the notebook where JupyterLab's file browser shows it."""
    page = gradebook.folder() / "feedback" / STUDENT / week.name / f"{week.graded}.html"
    target = paths.WORKSPACE / week.name / "feedback.html"
    salvage.write_text(page.read_text("utf-8"), target)
    return target
