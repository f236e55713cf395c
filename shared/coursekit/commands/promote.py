"""`course promote`."""

from typing import Annotated

import typer


def promote(
    week: Annotated[str, typer.Argument(help="the week or project whose graded answers become the library")],
    exercises: Annotated[list[str] | None, typer.Argument(help="only these exercises")] = None,
) -> None:
    """Put your graded code into the library, if it passes every check there, hidden cases too."""
    from rich.console import Console

    from coursekit.course import load_course
    from coursekit.paths import WORKSPACE
    from coursekit.promote import changed_since, graded_notebook
    from coursekit.promote import promote as install

    console, unit = Console(highlight=False), load_course().week(week)
    graded = graded_notebook(unit)
    outcomes = install(unit, graded, only=[unit.exercise(name) for name in exercises or []], folder=WORKSPACE / unit.name)
    for name in changed_since(unit, graded):
        console.print(
            f"[yellow]Note:[/yellow] {name} in your notebook is no longer what was graded; grade and promote again for the new one."
        )
    for outcome in outcomes:
        name = f"[bold]{outcome.exercise.id}[/bold]"
        if outcome.state == "promoted":
            console.print(f"[green]✓[/green] {name} is now [bold]{outcome.exercise.symbol}[/bold]; the library runs on your code.")
        elif outcome.state == "refused":
            console.print(f"[red]✗[/red] {name}", end=" ")
            console.print(outcome.verdict.text, markup=False, soft_wrap=True)
        elif outcome.state == "unanswered":
            console.print(f"· {name} has no answer yet; the reference stays.")
    if any(outcome.state == "refused" for outcome in outcomes):
        console.print(
            "Nothing was changed. Mend what is named above, `course grade` again, then promote;"
            f" or name the exercises that are right: `course promote {unit.name} <exercise>`."
        )
        raise typer.Exit(1)
    console.print("`course library` shows which parts of the library are yours.")
