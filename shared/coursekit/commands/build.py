"""`course build`."""

from typing import Annotated

import typer


def build(
    names: Annotated[list[str] | None, typer.Argument(help="weeks or projects; all when none is named")] = None,
    check: Annotated[bool, typer.Option("--check", help="write nothing; fail where a committed notebook is out of step")] = False,
) -> None:
    """Make the notebooks from their masters: release, nbgrader source, solved."""
    import os

    from rich.console import Console

    from coursekit import paths
    from coursekit.build import build_week
    from coursekit.course import load_course
    from coursekit.errors import CourseError

    console, course = Console(highlight=False), load_course()
    behind = []
    for week in [course.week(name) for name in names] if names else course.units:
        for built in build_week(week):
            committed = paths.MONTHS in built.path.parents
            if check and committed:
                behind += [] if built.in_step() else [os.path.relpath(built.path, paths.REPO)]
            elif built.write():
                console.print(f"built {os.path.relpath(built.path, paths.REPO)}")
    if behind:
        raise CourseError(f"{', '.join(behind)} out of step with the master: run `course build` and commit what it changes.")
    console.print("every notebook is in step with its master")
