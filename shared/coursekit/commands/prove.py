"""`course prove`."""

from typing import Annotated

import typer


def prove(
    names: Annotated[list[str] | None, typer.Argument(help="weeks, projects, or exercises; all weeks when none is named")] = None,
    mutants: Annotated[bool, typer.Option(help="kill mutants of the reference, too (the longer part)")] = True,
) -> None:
    """For maintainers: show that a week's checks tell right answers from wrong ones."""
    from rich.console import Console

    from coursekit.course import load_course
    from coursekit.errors import CourseError
    from coursekit.prove import prove_exercise, prove_week
    from coursekit.runner import Runner

    console, course, faults = Console(highlight=False), load_course(), 0

    def proofs():
        for name in names or [unit.name for unit in course.units]:
            try:
                week = course.week(name)
            except CourseError:
                exercise = course.exercise(name)
                with Runner(exercise.week, folder=exercise.week.folder) as runner:
                    yield prove_exercise(exercise, runner, with_mutants=mutants)
            else:
                yield from prove_week(week, with_mutants=mutants)

    for proof in proofs():
        faults += bool(proof.faults)
        killed = f", {proof.killed} of {proof.killed + len(proof.alive)} mutants killed, {proof.equivalent} equivalent" if mutants else ""
        mark = "[red]✗[/red]" if proof.faults else "[green]✓[/green]"
        name = f"{proof.exercise.week.name} [bold]{proof.exercise.id}[/bold]"
        console.print(f"{mark} {name}: {proof.mistakes} mistakes{killed}, {proof.seconds:.1f} s a check")
        for line in [*proof.faults, *(f"alive: {label}" for label in proof.alive)]:
            console.print(f"    {line}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if faults else 0)
