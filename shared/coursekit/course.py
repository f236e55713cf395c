"""The course as it stands in `months/`: months, their weeks and projects, and the exercises of each."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from coursekit import paths
from coursekit.checks import Check, load_checks
from coursekit.errors import CourseError
from coursekit.master import Cell, imports_of, read_master


@dataclass(frozen=True)
class Exercise:
    """One thing that a learner writes. `id` is its cell's id (and nbgrader's grade_id), `symbol` its place in hybridlab."""

    id: str
    symbol: str
    points: int
    minutes: int
    difficulty: int
    week: Week = field(repr=False, compare=False)

    @property
    def check_id(self) -> str:
        return f"{self.id}-check"

    @property
    def check(self) -> Check:
        try:
            return self.week.checks[self.symbol]
        except KeyError:
            raise CourseError(f"{self.week.source / 'checks.py'} has no check of {self.symbol}.") from None


@dataclass(frozen=True)
class Week:
    """A week (lesson and graded lab) or a month's project (one graded notebook), with its masters in `source/`."""

    name: str
    folder: Path
    month: str
    is_project: bool = False

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def notebooks(self) -> tuple[str, ...]:
        """The names of its notebooks, in the order in which they are worked through."""
        return ("project",) if self.is_project else ("lesson", "lab")

    @property
    def graded(self) -> str:
        return "project" if self.is_project else "lab"

    @property
    def seconds(self) -> int:
        """The time that each of its notebooks may take on two CPU cores: a minute, or what a project itself states."""
        if not self.is_project:
            return 60
        stated = re.search(r"runs in less than (\d+) s on two CPU cores", (self.source / "project.py").read_text("utf-8"))
        if not stated:
            raise CourseError(f"{self.source / 'project.py'} does not say that it “runs in less than … s on two CPU cores”.")
        return int(stated.group(1))

    def release(self, notebook: str) -> Path:
        """What a reader opens: no solutions, no hidden checks, no outputs."""
        return self.folder / f"{notebook}.ipynb"

    def nbgrader_source(self, notebook: str) -> Path:
        return paths.BUILD / "nbgrader" / "source" / self.name / f"{notebook}.ipynb"

    def solved(self, notebook: str) -> Path:
        """What papermill runs: the release itself for a lesson, the solved notebook where there are exercises."""
        return self.release(notebook) if notebook == "lesson" else paths.BUILD / "solved" / self.name / f"{notebook}.ipynb"

    @cached_property
    def cells(self) -> list[Cell]:
        return read_master(self.source / f"{self.graded}.py")

    @cached_property
    def imports(self) -> str:
        return imports_of(self.cells)

    @cached_property
    def exercises(self) -> list[Exercise]:
        return [
            Exercise(cell.id, cell.symbol, int(cell.options["points"]), int(cell.options["minutes"]), int(cell.options["difficulty"]), self)
            for cell in self.cells
            if cell.symbol
        ]

    @cached_property
    def checks(self) -> dict[str, Check]:
        return load_checks(self.source / "checks.py")

    def exercise(self, name: str) -> Exercise:
        """The exercise of that cell id, symbol, or last part of a symbol. Raises CourseError that lists them."""
        for exercise in self.exercises:
            if name in (exercise.id, exercise.symbol, exercise.symbol.rpartition(".")[2]):
                return exercise
        raise CourseError(f"{self.name} has no exercise {name!r}; it has: {', '.join(e.id for e in self.exercises)}.")


@dataclass(frozen=True)
class Month:
    name: str
    folder: Path
    weeks: tuple[Week, ...]
    project: Week | None

    @property
    def units(self) -> tuple[Week, ...]:
        """Everything with a notebook, in order: the weeks, then the project."""
        return self.weeks + ((self.project,) if self.project else ())


@dataclass(frozen=True)
class Course:
    months: tuple[Month, ...]

    @property
    def units(self) -> list[Week]:
        return [unit for month in self.months for unit in month.units]

    @property
    def exercises(self) -> list[Exercise]:
        return [exercise for unit in self.units for exercise in unit.exercises]

    def week(self, name: str) -> Week:
        """The week or project of that name or unambiguous beginning of one. Raises CourseError that lists them."""
        wanted = name.strip().rstrip("/")
        found = [u for u in self.units if u.name == wanted] or [u for u in self.units if wanted and u.name.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(u.name for u in self.units)
        problem = "could be several" if found else "is not in the course"
        raise CourseError(f"{name!r} {problem}; choose one of: {known}.")

    def exercise(self, name: str) -> Exercise:
        """An exercise by its symbol (whole or last part). Raises CourseError where none or several fit."""
        found = [e for e in self.exercises if name in (e.symbol, e.id, e.symbol.rpartition(".")[2])]
        if len(found) == 1:
            return found[0]
        problem = "stands in " + " and ".join(e.week.name for e in found) if found else "is no exercise of the course"
        raise CourseError(f"{name!r} {problem}; `course progress --exercises` lists all of them.")


def read_month(folder: Path) -> Month:
    weeks = tuple(
        Week(week.name, week, folder.name)
        for week in sorted(folder.iterdir())
        if re.match(r"week\d\d_", week.name) and (week / "source" / "lab.py").is_file()
    )
    project = folder / "project"
    has_project = (project / "source" / "project.py").is_file()
    name = f"month{folder.name[:2]}_project"
    return Month(folder.name, folder, weeks, Week(name, project, folder.name, is_project=True) if has_project else None)


@functools.cache
def load_course(months: Path | None = None) -> Course:
    """Read the course from `months/` (or another root). Raises CourseError where a master is malformed."""
    root = months or paths.MONTHS
    folders = [f for f in sorted(root.iterdir()) if re.match(r"\d\d_", f.name)] if root.is_dir() else []
    return Course(tuple(read_month(folder) for folder in folders))
