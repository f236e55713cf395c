"""A class: the instructor's nbgrader course, and how a student's workspace joins it.

What students hand in is judged only by the course's runner, inside bubblewrap: no notebook is executed, no file of
theirs imported, and the pages that an instructor looks at are stripped of scripts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from coursekit import gradebook, paths, salvage
from coursekit.build import build_week
from coursekit.course import Course
from coursekit.errors import CourseError
from coursekit.server import SERVER, SETTINGS

CONFIG = """\
# The class's nbgrader. Paths follow this file, so the folder may be moved; settings of your own go below the last line.
from pathlib import Path

from coursekit.jupyter import install
from coursekit.nbgrader_checks import configure

root = Path(__file__).resolve().parent
configure(get_config(), root=root, course_id={course_id!r}, exchange=Path({exchange!r}), assignments=root, of_others=True)  # noqa: F821
install()
"""


@dataclass(frozen=True)
class Classroom:
    """The instructor's folder, the exchange, and the weeks whose source was written."""

    root: Path
    exchange: Path
    weeks: tuple[str, ...]


def create(root: Path, course: Course, exchange: Path | None = None) -> Classroom:
    """Make the instructor's course in `root`, or bring one that is there up to date; grades and submissions stay.

    Raises CourseError where `root` holds something else.
    """
    root = root.resolve()
    if root.is_relative_to(paths.WORKSPACE):
        raise CourseError(f"{root} lies in a learner's workspace: choose a folder of its own, such as ~/classes/spring.")
    ours = (root / "nbgrader_config.py").is_file() and "coursekit" in (root / "nbgrader_config.py").read_text("utf-8")
    if root.is_dir() and any(root.iterdir()) and not ours:
        raise CourseError(f"{root} is not empty and is no class of this course: choose a new folder.")
    exchange = (exchange or root.with_name(f"{root.name}-exchange")).resolve()
    open_folder(root, 0o700)
    open_folder(exchange, 0o777)
    for name in ("source", "release", "submitted", "autograded", "feedback"):
        (root / name).mkdir(exist_ok=True)
    for unit in course.units:
        for built in build_week(unit):
            if built.path == unit.nbgrader_source(unit.graded):
                salvage.write_text(built.text, root / "source" / unit.name / built.path.name)
    if not ours:
        salvage.write_text(CONFIG.format(course_id=gradebook.COURSE_ID, exchange=str(exchange)), root / "nbgrader_config.py")
    salvage.write_text(json.dumps(SERVER, indent=1) + "\n", root / "jupyter_server_config.json")
    salvage.write_text(json.dumps(SETTINGS, indent=1) + "\n", root / "settings" / "overrides.json")
    readme = files("coursekit").joinpath("classroom.md").read_text("utf-8")
    first = course.units[0].name if course.units else "week01"
    salvage.write_text(readme.replace("WEEK", first).replace("EXCHANGE", str(exchange)).replace("CLASS", str(root)), root / "README.md")
    return Classroom(root, exchange, tuple(unit.name for unit in course.units))


def open_folder(path: Path, mode: int) -> None:
    """Make the folder with exactly these permissions; an existing one of somebody else is left as it is."""
    path.mkdir(parents=True, exist_ok=True)
    try:
        path.chmod(mode)
    except PermissionError:
        if mode & 0o002:
            return
        raise CourseError(f"{path} belongs to somebody else: choose a folder of your own.") from None


def join(exchange: Path) -> Path:
    """Let the workspace's Assignment List fetch from and submit to a class's exchange. Returns the exchange.

    Raises CourseError where that folder is not there or can't be written.
    """
    exchange = exchange.resolve()
    if not exchange.is_dir():
        raise CourseError(f"{exchange} is not there: ask your instructor for the folder's path.")
    salvage.write_text(json.dumps({"exchange": str(exchange)}) + "\n", paths.WORKSPACE / ".course" / "class.json")
    gradebook.prepare()
    return exchange
