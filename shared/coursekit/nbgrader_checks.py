"""What nbgrader runs in place of its own steps, so that no learner's notebook is ever executed.

nbgrader's `Execute` runs a notebook from top to bottom in a kernel: an endless loop, a `sys.exit` or a deleted cell
then costs the whole notebook. `RunChecks` takes its place. For each check cell it asks the course's runner for the
verdict on the *source* of the exercise cell, and writes that verdict as the check cell's output. The rest of nbgrader
(points, gradebook, feedback, Formgrader) reads outputs and can't tell the difference.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
from nbconvert.preprocessors.sanitize import SanitizeHTML
from nbformat import NotebookNode
from nbgrader import preprocessors as given
from nbgrader import utils
from nbgrader.preprocessors import ClearSolutions, NbGraderPreprocessor
from traitlets import Bool, Unicode, default
from traitlets.config import Config

from coursekit import salvage
from coursekit.course import Week, load_course
from coursekit.errors import CourseError
from coursekit.mend import NOTES, mend_graded, notes, release_of
from coursekit.runner import Runner, Verdict
from coursekit.salvage import grade_id

PRINTED = 2_000  # characters of what an answer printed that the feedback shows


def week_of(notebook: NotebookNode, assignment: str = "") -> Week | None:
    """The week that nbgrader's assignment, or else the notebook itself, names; None for a notebook that is not the course's."""
    about = notebook.metadata.get("course")
    name = assignment or (about.get("week", "") if isinstance(about, dict) else "")
    return next((unit for unit in load_course().units if unit.name == name), None) if name else None


class MendNotebook(NbGraderPreprocessor):
    """Mends what a student handed in, before nbgrader looks at its cells; notes what it did for the feedback."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        week = week_of(nb, resources.get("nbgrader", {}).get("assignment", ""))
        if week:
            about = nb.metadata.get("course")
            earlier = about.get(NOTES, []) if isinstance(about, dict) else []
            findings = mend_graded(nb, week)
            nb.metadata["course"][NOTES] = [*earlier, *notes(findings)]
        return nb, resources


class HarmlessText(NbGraderPreprocessor, SanitizeHTML):
    """Takes scripts out of what students wrote between the exercises: instructors look at it in their own browser."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        week = week_of(nb, resources.get("nbgrader", {}).get("assignment", ""))
        self.ours = {cell.source for cell in release_of(week).cells} if week else set()
        nb.metadata = NotebookNode({key: value for key, value in nb.metadata.items() if key in ("kernelspec", "language_info", "course")})
        return super().preprocess(nb, resources)

    def preprocess_cell(self, cell: NotebookNode, resources: dict, index: int) -> tuple[NotebookNode, dict]:
        if cell.cell_type == "code" or cell.source in self.ours:
            return cell, resources
        cell.source = re.sub(r"(?i)(java|vb)\s*script\s*:", "script ", cell.source)  # a link inside a formula
        return super().preprocess_cell(cell, resources, index)


class RunChecks(NbGraderPreprocessor):
    """Writes the runner's verdict on each exercise into its check cell."""

    hidden = Bool(help="Whether the hidden checks count: not while a learner validates, always when graded.").tag(config=True)

    folder = Unicode(help="Where the notebook wrote its outcomes; default: where the notebook lies.").tag(config=True)

    sandbox_required = Bool(False, help="Refuse to judge anything where bubblewrap does not work.").tag(config=True)

    @default("hidden")
    def _hidden_default(self) -> bool:
        return os.environ.get("NBGRADER_EXECUTION") != "validate"

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        week = week_of(nb, resources.get("nbgrader", {}).get("assignment", ""))
        if week is None:
            raise CourseError("this notebook belongs to no week of the course: its metadata names none.")
        answers = {grade_id(cell): cell.source for cell in nb.cells if utils.is_solution(cell)}
        found = nb.metadata.get("course", {}).get(NOTES, [])
        folder = self.folder or resources.get("metadata", {}).get("path", "")
        with Runner(week, folder=Path(folder) if folder else None, sandbox_required=self.sandbox_required) as runner:
            for cell in nb.cells:
                if utils.is_grade(cell) and cell.cell_type == "code":
                    exercise = week.exercise(grade_id(cell).removesuffix("-check"))
                    verdict = runner.check(exercise, answers.get(exercise.id, ""), hidden=self.hidden)
                    cell.outputs = outputs(verdict, [note["text"] for note in found if note["exercise"] == exercise.id])
                    cell.execution_count = None
        return nb, resources


def outputs(verdict: Verdict, notes: list[str]) -> list[NotebookNode]:
    """A verdict as nbgrader reads it: any error output is 0 points; there is no output to stderr."""
    new = nbformat.v4.new_output
    made = [new("stream", name="stdout", text=f"{note}\n") for note in notes]
    if verdict.printed.strip():
        made.append(new("stream", name="stdout", text=f"Your code printed:\n{verdict.printed[:PRINTED].rstrip()}\n"))
    if verdict.passed:
        made.append(new("display_data", data={"text/plain": verdict.text}))
    else:
        made.append(new("error", ename=verdict.code, evalue=verdict.what, traceback=[verdict.text]))
    return made


class ReleaseCells(ClearSolutions):
    """Makes a release's exercise cells out of the source's: those that the course itself releases (Friday's broken code
    among them); a cell that an instructor has added is cleared by nbgrader's own marks."""

    def preprocess(self, nb: NotebookNode, resources: dict) -> tuple[NotebookNode, dict]:
        week = week_of(nb, resources.get("nbgrader", {}).get("assignment", ""))
        self.released = {grade_id(cell): cell.source for cell in release_of(week).cells if utils.is_solution(cell)} if week else {}
        return super().preprocess(nb, resources)

    def preprocess_cell(self, cell: NotebookNode, resources: dict, cell_index: int) -> tuple[NotebookNode, dict]:
        if utils.is_solution(cell) and grade_id(cell) in self.released:
            cell.source = self.released[grade_id(cell)]
            return cell, resources
        return super().preprocess_cell(cell, resources, cell_index)


def salvage_submissions(assignment: str, student: str, notebooks: list[str]) -> None:
    """nbgrader's hook before autograding: a submitted notebook that is no whole JSON is made one from the cells it holds.

    The file as it was handed in stays beside it, as `*.broken`.
    """
    for notebook in map(Path, notebooks):
        found = salvage.read(notebook)
        if found.broken:
            notebook.replace(notebook.with_suffix(".ipynb.broken"))
            week = week_of(found.notebook, assignment)
            if week and "course" not in found.notebook.metadata:
                found.notebook.metadata.update(release_of(week).metadata)
            salvage.write(found.notebook, notebook)


def configure(config: Config, *, root: Path, course_id: str, exchange: Path, assignments: Path, of_others: bool = False) -> None:
    """Set everything that nbgrader needs to run this course from the folder `root`.

    `of_others`: what is graded is other people's, so it is judged in a sandbox or not at all.
    """
    config.RunChecks.sandbox_required = of_others
    config.CourseDirectory.max_file_size = config.CourseDirectory.max_dir_size = 500_000  # kB: a flood of output is still collected
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.course_id = course_id
    config.CourseDirectory.db_url = f"sqlite:///{root}/gradebook.db"
    config.Exchange.root = str(exchange)
    config.Exchange.cache = str(root / ".cache")
    config.Exchange.assignment_dir = str(assignments)
    config.Autograde.pre_convert_hook = salvage_submissions
    config.Autograde.sanitize_preprocessors = [
        given.ClearOutput,
        MendNotebook,
        HarmlessText,
        given.DeduplicateIds,
        given.OverwriteKernelspec,
        given.OverwriteCells,
        given.CheckCellMetadata,
    ]
    config.Autograde.autograde_preprocessors = [
        RunChecks,
        given.LimitOutput,
        given.SaveAutoGrades,
        given.AssignLatePenalties,
        given.CheckCellMetadata,
    ]
    config.GenerateAssignment.preprocessors = [
        given.LockCells,
        ReleaseCells,
        given.ClearOutput,
        given.CheckCellMetadata,
        given.ComputeChecksums,
        given.SaveCells,
        given.ClearHiddenTests,
        given.ComputeChecksums,
        given.CheckCellMetadata,
    ]
