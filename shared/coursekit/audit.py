"""Count what the course consists of, from its sources alone: nothing is run and no number is kept by hand."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from coursekit import paths
from coursekit.build import build_week
from coursekit.catalogue import read_catalogue
from coursekit.course import Course, Week, load_course


@dataclass(frozen=True)
class Count:
    """One week, project, or sum of them. `checks_*` count cases; `in_step`: the built notebooks are those of the masters."""

    weeks: int = 0
    projects: int = 0
    notebooks: int = 0
    exercises: int = 0
    points: int = 0
    minutes: int = 0
    checks_visible: int = 0
    checks_hidden: int = 0
    mistakes: int = 0
    correct: int = 0
    broken: int = 0
    questions: int = 0
    in_step: bool = True

    def __add__(self, other: Count) -> Count:
        summed = {name: getattr(self, name) + getattr(other, name) for name in vars(self) if name != "in_step"}
        return Count(**summed, in_step=self.in_step and other.in_step)


def count_week(week: Week) -> Count:
    """What one week or project holds. Raises CourseError where its sources are malformed."""
    checks = [exercise.check for exercise in week.exercises]
    answers = read_catalogue(week.source / "mistakes.py") if week.exercises else []
    kinds = [answer.kind for answer in answers]
    review = week.source / "review.toml"
    return Count(
        weeks=int(not week.is_project),
        projects=int(week.is_project),
        notebooks=len(week.notebooks),
        exercises=len(week.exercises),
        points=sum(exercise.points for exercise in week.exercises),
        minutes=sum(exercise.minutes for exercise in week.exercises),
        checks_visible=sum(len(check.visible) for check in checks),
        checks_hidden=sum(len(check.hidden) for check in checks),
        mistakes=kinds.count("mistake"),
        correct=kinds.count("correct"),
        broken=kinds.count("broken"),
        questions=sum(line.startswith("[q") for line in review.read_text("utf-8").splitlines()) if review.is_file() else 0,
        in_step=all(built.in_step() for built in build_week(week) if built.path.is_relative_to(week.folder)),
    )


def audit(course: Course | None = None) -> dict:
    """The counts of the whole course, its months and its weeks, as plain data."""
    course = course or load_course()
    months = {}
    total = Count()
    for month in course.months:
        units = {unit.name: count_week(unit) for unit in month.units}
        summed = sum(units.values(), Count())
        total += summed
        months[month.name] = {**vars(summed), "units": {name: vars(count) for name, count in units.items()}}
    built = [month for month in months.values() if month["notebooks"]]
    return {"revision": revision(), "months": len(built), **vars(total), "by_month": months}


def revision() -> str:
    """The commit that is counted, with a `+` where the working tree differs from it; empty outside a git checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=12"], cwd=paths.REPO, capture_output=True, text=True, check=False
    )
    return described.stdout.strip()
