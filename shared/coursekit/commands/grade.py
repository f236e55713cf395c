"""`course grade`."""

from typing import Annotated

import typer


def grade(week: Annotated[str, typer.Argument(help="the week or project whose notebook is graded")]) -> None:
    """Grade your notebook with nbgrader: points, named mistakes, and a feedback page."""
    from rich.console import Console

    from coursekit import home
    from coursekit.course import load_course
    from coursekit.grade import grade as grade_week

    console = Console(highlight=False)
    unit = load_course().week(week)
    with console.status(f"grading {unit.name} …"):
        report = grade_week(unit)
    for finding in report.findings:
        console.print("[yellow]•[/yellow]", end=" ")
        console.print(finding.text, markup=False, soft_wrap=True)
    for result in report.results:
        mark = "[green]✓[/green]" if result.passed else "[red]✗[/red]"
        console.print(f"{mark} [bold]{result.exercise.id}[/bold] {result.score.points:g}/{result.score.of:g}", end="  ")
        console.print(result.text, markup=False, soft_wrap=True)
    console.print(f"[bold]{unit.name}: {report.points:g} of {report.of:g} points[/bold]")
    console.print(f"feedback: {report.feedback.as_uri()}", markup=False, soft_wrap=True)
    if report.points == report.of:
        console.print(f"Everything passed. Next: course promote {unit.name}", markup=False)
    home.build()
