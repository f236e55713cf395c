"""The learner's own nbgrader course, in `workspace/.nbgrader`: generated, and never the only copy of anything."""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traitlets.config import Config

from coursekit import paths, salvage
from coursekit.build import build_week
from coursekit.course import Week
from coursekit.errors import CourseError

STUDENT = "learner"
COURSE_ID = "hybrid-ai"

CONFIG = """\
# Written by `course`; changes are overwritten. nbgrader reads it when JupyterLab or `nbgrader` is started for this folder.
from pathlib import Path

from coursekit.jupyter import install
from coursekit.nbgrader_checks import configure

root = Path(__file__).resolve().parent
configure(get_config(), root=root, course_id={course_id!r}, exchange={exchange}, assignments={assignments})  # noqa: F821
install()
"""


@dataclass(frozen=True)
class Score:
    """Points of one exercise, as nbgrader's gradebook has them."""

    exercise: str
    points: float
    of: float


def folder() -> Path:
    return paths.WORKSPACE / ".nbgrader"


def prepare() -> Path:
    """Make or renew the course folder: configuration, exchange, folders. Returns the folder."""
    root = folder()
    (root / "exchange").mkdir(parents=True, exist_ok=True)
    for name in ("source", "release", "submitted", "autograded", "feedback"):
        (root / name).mkdir(exist_ok=True)
    config = CONFIG.format(course_id=COURSE_ID, exchange=f"Path({str(exchange())!r})", assignments="root.parent")
    path = root / "nbgrader_config.py"
    if not path.is_file() or path.read_text("utf-8") != config:
        salvage.write_text(config, path)
    return root


def exchange() -> Path:
    """Where Assignment List fetches from and submits to: the learner's own folder, or that of a class that they have joined."""
    try:
        joined = json.loads((paths.WORKSPACE / ".course" / "class.json").read_text("utf-8"))["exchange"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return folder() / "exchange"
    return Path(joined) if Path(joined).is_dir() else folder() / "exchange"


def offer(weeks: list[Week]) -> None:
    """Show the fetched weeks in Assignment List, for who learns alone; in a class, the instructor releases them."""
    if exchange() != folder() / "exchange":
        return
    ours = exchange() / COURSE_ID
    (ours / "inbound").mkdir(parents=True, exist_ok=True)
    for week in weeks:
        if (paths.WORKSPACE / week.name).is_dir():
            salvage.write_text(week.release(week.graded).read_text("utf-8"), ours / "outbound" / week.name / f"{week.graded}.ipynb")


def open_course(week: Week) -> Any:
    """nbgrader's own API on the learner's course, set up to grade `week`."""
    from nbgrader.apps.api import NbGraderAPI
    from nbgrader.coursedir import CourseDirectory

    from coursekit.nbgrader_checks import configure

    require_sound()
    root = prepare()
    config = Config()
    configure(config, root=root, course_id=COURSE_ID, exchange=exchange(), assignments=paths.WORKSPACE)
    config.RunChecks.folder = str(paths.WORKSPACE / week.name)
    config.NbGraderAPI.log_level = logging.WARNING
    return NbGraderAPI(CourseDirectory(config=config), config=config)


def need(result: dict[str, Any], step: str) -> None:
    """Raise CourseError with the last lines of nbgrader's log unless a step of its API went well."""
    if not result["success"]:
        log = [line for line in result.get("log", result.get("error", "")).splitlines() if line.strip()]
        raise CourseError(f"nbgrader could not {step}: {' '.join(log[-3:])[-600:]}")


def ensure_assignment(api: Any, week: Week) -> None:
    """Have the week's assignment in the gradebook as the course has it now (nbgrader's generate_assignment).

    Where the course has changed, the week's old entry is replaced; its points come back with the grade that follows.
    """
    for built in build_week(week):
        if paths.BUILD in built.path.parents:
            built.write()
    text = week.nbgrader_source(week.graded).read_bytes()
    stamp = hashlib.sha256(text + week.release(week.graded).read_bytes()).hexdigest()
    root = folder()
    stamped = root / "source" / week.name / ".stamp"
    if stamped.is_file() and stamped.read_text() == stamp and (root / "gradebook.db").is_file():
        with api.gradebook as gradebook:
            if any(assignment.name == week.name for assignment in gradebook.assignments):
                return
    with api.gradebook as gradebook:
        if any(assignment.name == week.name for assignment in gradebook.assignments):
            gradebook.remove_assignment(week.name)
    source = root / "source" / week.name / f"{week.graded}.ipynb"
    salvage.write_text(text.decode(), source)
    need(api.generate_assignment(week.name), f"set up {week.name}")
    salvage.write_text(stamp, stamped)


def scores(week: Week) -> list[Score] | None:
    """The points of each exercise of a week, or None where it has never been graded."""
    if not (folder() / "gradebook.db").is_file():
        return None
    with open_gradebook() as gradebook:
        return read_scores(gradebook, week)


def all_scores(weeks: list[Week]) -> dict[str, list[Score]]:
    """The points of every graded week, by the week's name."""
    if not (folder() / "gradebook.db").is_file():
        return {}
    with open_gradebook() as gradebook:
        found = {week.name: read_scores(gradebook, week) for week in weeks}
    return {name: scores for name, scores in found.items() if scores is not None}


def require_sound() -> None:
    """Raise CourseError where the gradebook's file is damaged."""
    path = folder() / "gradebook.db"
    if not path.is_file():
        return
    try:
        with closing(sqlite3.connect(path)) as database:
            sound = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.DatabaseError:
        sound = False
    if not sound:
        raise CourseError(f"{path} is damaged: `course doctor` puts it aside, then grade your weeks again. Your notebooks are not touched.")


def open_gradebook() -> Any:
    from nbgrader.api import Gradebook

    require_sound()
    return Gradebook(f"sqlite:///{folder() / 'gradebook.db'}", COURSE_ID)


def read_scores(gradebook: Any, week: Week) -> list[Score] | None:
    from nbgrader.api import MissingEntry

    try:
        notebook = gradebook.find_submission_notebook(week.graded, week.name, STUDENT)
    except MissingEntry:
        return None
    by_cell = {grade.name: grade for grade in notebook.grades}
    graded = [e for e in week.exercises if e.check_id in by_cell]
    return [Score(e.id, by_cell[e.check_id].score, by_cell[e.check_id].max_score) for e in graded]
