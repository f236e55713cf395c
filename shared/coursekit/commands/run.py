"""`course run`: the notebooks from top to bottom, with the time and memory of each."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from coursekit.errors import CourseError
from coursekit.run import Outcome, choose, run_all

console = Console()


def run(
    names: Annotated[list[str] | None, typer.Argument(help="weeks (week02), notebooks (week02/lesson), files, or all")] = None,
    profile: Annotated[str, typer.Option(help="sizes for which machine: cpu or gpu")] = "cpu",
    at_once: Annotated[int, typer.Option("--at-once", "-n", min=1, help="how many notebooks at a time")] = 1,
    limit: Annotated[float | None, typer.Option(min=1, help="seconds until a notebook is ended (default: twice what it states)")] = None,
) -> None:
    """Run notebooks from top to bottom: lessons as they are released, labs and projects with their solutions."""
    if profile not in ("cpu", "gpu"):
        raise CourseError(f"there is no profile {profile!r}; choose cpu or gpu.")
    jobs = choose(names or [])
    outcomes: list[Outcome] = []
    columns = (SpinnerColumn(), TextColumn("{task.completed}/{task.total} {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("notebooks", total=len(jobs))
        for outcome in run_all(jobs, profile, at_once=at_once, limit=limit):  # type: ignore[arg-type]
            outcomes.append(outcome)
            progress.update(task, advance=1, description=f"notebooks, last {outcome.name}: {outcome.status}")
    console.print(table(sorted(outcomes, key=lambda o: o.name)))
    failed = [o for o in outcomes if not o.passed]
    for outcome in failed:
        console.print(f"[red]{outcome.name}[/red] ", end="")
        console.print(outcome.error, markup=False, highlight=False)
    if failed:
        raise typer.Exit(1)


def table(outcomes: list[Outcome]) -> Table:
    """Name, verdict, times and memory of each run."""
    shown = Table(title="Notebooks")
    shown.add_column("notebook")
    for heading in ("", "seconds", "CPU seconds", "states", "peak MiB"):
        shown.add_column(heading, justify="right")
    for o in outcomes:
        colour = "green" if o.passed else "red"
        late = "[yellow]" if o.wall > o.stated else ""
        shown.add_row(o.name, f"[{colour}]{o.status}[/]", f"{late}{o.wall:.1f}", f"{o.cpu:.1f}", f"{o.stated}", f"{o.peak:.0f}")
    return shown
