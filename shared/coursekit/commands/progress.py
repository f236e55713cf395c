"""`course progress`."""

from typing import Annotated

import typer


def progress(
    exercises: Annotated[bool, typer.Option("--exercises", "-e", help="one line for each exercise too")] = False,
) -> None:
    """Show your points by week and month, from nbgrader's gradebook."""
    from rich.console import Console
    from rich.table import Table

    from coursekit.course import load_course
    from coursekit.progress import progress as read_progress
    from coursekit.progress import together

    course = load_course()
    units = read_progress(course)
    table = Table(title="Your progress")
    for heading in ("", "points", "solved", "in the library", "hints", "solutions read"):
        table.add_column(heading, justify="left" if not heading else "right")
    for month in course.months:
        own = [unit for unit in units if unit.week.month == month.name]
        for unit in own:
            count = len(unit.week.exercises)
            points = f"{unit.points:g} / {unit.of:g}" if unit.graded else f"– / {unit.of:g}"
            colour = "green" if unit.all_passed else "default" if unit.graded else "dim"
            counts = (f"{len(unit.passed)} / {count}", f"{len(unit.promoted)} / {count}", str(unit.hints), str(unit.solutions))
            table.add_row(unit.week.name, points, *counts, style=colour)
            for exercise in unit.week.exercises if exercises else []:
                state = "solved" if exercise.id in unit.passed else ""
                mine = "yours" if exercise.id in unit.promoted else ""
                table.add_row(f"  {exercise.id}", str(exercise.points), state, mine, "", "", style="dim")
        total = together(own)
        cells = (f"{total.points:g} / {total.of:g}", f"{total.passed} / {total.exercises}", f"{total.promoted} / {total.exercises}")
        table.add_row(f"[bold]{month.name}", *cells, "", "", end_section=True)
    Console(highlight=False).print(table)
