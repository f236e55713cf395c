"""A Jupyter server extension: JupyterLab's *Validate* gets its verdicts from the course's runner.

nbgrader's `Validator.preprocessors` can't be configured, so its place in nbgrader's own request handler is taken. The
checks then run in a thread: the server goes on answering while they do.
"""

from __future__ import annotations

import asyncio
import json
import textwrap
from pathlib import Path
from typing import Any

import nbgrader.apps.validateapp
import nbgrader.validator
from nbconvert.filters import ansi2html
from nbformat import NotebookNode
from nbgrader.server_extensions.validate_assignment import handlers
from tornado import web

from coursekit import salvage
from coursekit.course import Week
from coursekit.errors import CourseError
from coursekit.nbgrader_checks import MendNotebook, RunChecks, week_of

DIALOG_COLUMNS = 90


class CourseValidator(nbgrader.validator.Validator):
    """nbgrader's validator, which runs the course's visible checks where the notebook is the course's."""

    def validate(self, filename: str) -> dict[str, list[dict[str, str]]]:
        """As nbgrader's: `{"failed": [{source, error, raw_error}, …]}`, empty where everything passes."""
        path = Path(filename)
        found = salvage.read(path)
        notebook = found.notebook
        week = week_of(notebook) or week_of(notebook, path.parent.name)
        if week is None or not is_graded(notebook, week, path):
            return super().validate(filename)
        try:
            notebook, resources = MendNotebook(parent=self).preprocess(
                notebook, {"metadata": {"path": str(path.parent)}, "nbgrader": {"assignment": week.name}}
            )
            notebook, _ = RunChecks(parent=self, hidden=False).preprocess(notebook, resources)
        except CourseError as error:
            return {"failed": [{"source": "", "error": ansi2html(str(error)), "raw_error": str(error)}]}
        failed = self._get_failed_cells(notebook)
        errors = {cell.id: self._extract_error(cell) for cell in failed}
        results = [
            {"source": title(week, cell), "error": ansi2html(wrapped(errors[cell.id])), "raw_error": errors[cell.id]} for cell in failed
        ]
        return {"failed": results} if results else {}


def is_graded(notebook: NotebookNode, week: Week, path: Path) -> bool:
    """Whether this is the week's graded notebook: by what it says of itself, or, where that is lost, by its name."""
    about = notebook.metadata.get("course")
    return (about.get("notebook") if isinstance(about, dict) else path.stem) == week.graded


def title(week: Week, cell: NotebookNode) -> str:
    """What the dialog calls a check cell."""
    exercise = week.exercise(salvage.grade_id(cell).removesuffix("-check"))
    return f"{exercise.id} · {exercise.symbol.rpartition('.')[2]} · {exercise.points} point{'s' * (exercise.points != 1)}"


def wrapped(text: str) -> str:
    """The text in lines that fit into the dialog: its boxes neither wrap nor scroll, and the hint stands at the end."""
    return "\n".join(textwrap.fill(line, DIALOG_COLUMNS, subsequent_indent="  ", break_on_hyphens=False) for line in text.splitlines())


@web.authenticated
async def post(self: handlers.ValidateAssignmentHandler) -> None:
    path = self.get_argument("path", None) or self.get_json_body()["path"]
    self.finish(json.dumps(await asyncio.to_thread(self.validate_notebook, path)))


def install() -> None:
    """Put the course's validator where nbgrader's server extension and `nbgrader validate` look for theirs."""
    handlers.Validator = CourseValidator
    handlers.ValidateAssignmentHandler.post = post
    nbgrader.apps.validateapp.Validator = CourseValidator


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": "coursekit.jupyter"}]


def _load_jupyter_server_extension(app: Any) -> None:
    install()
    app.log.info("coursekit: Validate runs the course's checks")
