"""`course check`."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    what: Annotated[str, typer.Argument(help="a week, an exercise, or the path of a notebook")],
    exercise: Annotated[str | None, typer.Argument(help="one exercise of the week")] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="the hidden cases too, as `grade` and `promote` do")] = False,
) -> None:
    """Judge your answers and name what is wrong; writes nothing."""
    from rich.console import Console

    from coursekit.answers import find_notebook, judge_notebook, read_notebook, week_of
    from coursekit.course import load_course

    console, course, week, only = Console(highlight=False), load_course(), None, None
    if what.endswith(".ipynb"):
        path = Path(what)
        if exercise:
            week = week_of(read_notebook(path), path)
    elif exercise or what.startswith(("week", "month")):
        week = course.week(what)
        path = find_notebook(week)
    else:
        only = course.exercise(what)
        week = only.week
        path = find_notebook(week)
    only = week.exercise(exercise) if exercise else only
    wrong = 0
    with console.status("starting the judge …") as waiting:
        for task, verdict in judge_notebook(path, week, hidden=hidden, only=only):
            waiting.stop()
            wrong += not verdict.passed
            console.print("[green]✓[/green]" if verdict.passed else "[red]✗[/red]", f"[bold]{task.id}[/bold]", end=" ")
            console.print(verdict.text, markup=False, soft_wrap=True)
    raise typer.Exit(1 if wrong else 0)
