"""`course demote`."""

from typing import Annotated

import typer


def demote(
    week: Annotated[str, typer.Argument(help="the week or project whose parts the reference takes over again")],
    exercises: Annotated[list[str] | None, typer.Argument(help="only these exercises")] = None,
) -> None:
    """Undo `course promote`: the library runs on the reference again. Your files are kept."""
    from rich.console import Console

    from coursekit.course import load_course
    from coursekit.promote import demote as take_out

    console, unit = Console(highlight=False), load_course().week(week)
    taken = take_out([unit.exercise(name) for name in exercises or []] or unit.exercises)
    for exercise, path in taken:
        console.print(f"· [bold]{exercise.id}[/bold] is the reference's again; your code stays in {path}.", soft_wrap=True)
    if not taken:
        console.print("None of these is promoted; nothing was changed.")
    else:
        console.print(f"`course promote {unit.name}` puts your graded code back.")
