"""`course hint`."""

from typing import Annotated

import typer


def hint(
    week: Annotated[str, typer.Argument(help="the week")],
    exercise: Annotated[str, typer.Argument(help="the exercise in it")],
    level: Annotated[int | None, typer.Option(help="1, 2 or 3; the next one that you have not read when left out")] = None,
) -> None:
    """Read a hint. There are three levels, and none costs a point; which ones you read is noted for you."""
    from rich.console import Console

    from coursekit import hint as hints
    from coursekit.course import load_course

    console = Console(highlight=False)
    number, text = hints.hint(load_course().week(week).exercise(exercise), level)
    console.print(f"[bold]Hint {number} of {hints.LEVELS}[/bold]", end="  ")
    console.print(text, markup=False, soft_wrap=True)
    if number < hints.LEVELS:
        console.print("Not enough? The same command again gives the next one.", style="dim")
    else:
        console.print(f"That was the last one. `course solution {week} {exercise}` shows the reference.", style="dim")
