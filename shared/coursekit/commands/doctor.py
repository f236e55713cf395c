"""`course doctor`."""

from typing import Annotated

import typer


def doctor(
    weeks: Annotated[list[str] | None, typer.Argument(help="weeks or projects; all when none is named")] = None,
    look: Annotated[bool, typer.Option("--look", help="only say what is wrong, change nothing")] = False,
) -> None:
    """Find and mend what went wrong with your notebooks; look at the environment. Your answers are kept."""
    from rich.console import Console

    from coursekit import doctor as surgery
    from coursekit import home, paths
    from coursekit.course import load_course

    console, course = Console(highlight=False), load_course()
    chosen = [course.week(name) for name in weeks] if weeks else course.units
    surgery.require(chosen)
    sick = 0
    for diagnosis in [d for week in chosen for d in surgery.examine(week, repair=not look)]:
        sick += bool(diagnosis.findings)
        for finding in diagnosis.findings:
            console.print("[yellow]•[/yellow]", end=" ")
            console.print(f"{diagnosis.path.relative_to(paths.WORKSPACE)}: {finding.text}", markup=False, soft_wrap=True)
        if diagnosis.backup:
            console.print(f"  the file as it was: {diagnosis.backup.relative_to(paths.WORKSPACE)}", markup=False, soft_wrap=True)
    troubles = [*surgery.mend_gradebook(repair=not look), *surgery.environment()]
    for trouble in troubles:
        console.print("[yellow]•[/yellow]", end=" ")
        console.print(trouble, markup=False, soft_wrap=True)
    if not look:
        home.build()
    if not sick and not troubles:
        console.print("[green]All is well.[/green]")
    elif sick and not look:
        console.print("Close the mended notebooks in JupyterLab and open them again (or File → Reload Notebook from Disk).")
