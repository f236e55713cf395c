"""`course solution`."""

from typing import Annotated

import typer


def solution(
    week: Annotated[str, typer.Argument(help="the week")],
    exercise: Annotated[str, typer.Argument(help="the exercise in it")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Show the reference solution of an exercise. Asks first; that you read it is noted for you."""
    from rich.console import Console
    from rich.syntax import Syntax

    from coursekit import hint as hints
    from coursekit.course import load_course

    console = Console(highlight=False)
    task = load_course().week(week).exercise(exercise)
    left = hints.LEVELS - hints.taken(task)
    if left and not yes:
        console.print(f"You have {left} hint{'s' * (left > 1)} of {hints.LEVELS} left: course hint {week} {exercise}", markup=False)
    if not yes and not typer.confirm(f"Show the solution of {task.id}?"):
        console.print("Not shown.")
        raise typer.Exit(1)
    console.print(Syntax(hints.solution(task), "python", background_color="default"))
