"""`course check`."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    what: Annotated[str, typer.Argument(help="a week, an exercise, or the path of a notebook")],
    hidden: Annotated[bool, typer.Option("--hidden", help="the hidden cases too, as `grade` and `promote` do")] = False,
) -> None:
    """Judge your answers and name what is wrong; writes nothing."""
    from rich.console import Console

    from coursekit.answers import find_notebook, judge_notebook
    from coursekit.course import load_course
    from coursekit.errors import CourseError

    console, course, only = Console(highlight=False), load_course(), None
    if what.endswith(".ipynb"):
        path = Path(what)
        week = None
    else:
        try:
            week = course.week(what)
        except CourseError:
            only = course.exercise(what)
            week = only.week
        path = find_notebook(week)
    wrong = 0
    for exercise, verdict in judge_notebook(path, week, hidden=hidden, only=only):
        wrong += not verdict.passed
        console.print("[green]✓[/green]" if verdict.passed else "[red]✗[/red]", f"[bold]{exercise.id}[/bold]", end=" ")
        console.print(verdict.text, markup=False, soft_wrap=True)
    raise typer.Exit(1 if wrong else 0)
