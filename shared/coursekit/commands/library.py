"""`course library`."""

from typing import Annotated

import typer


def library(
    as_json: Annotated[bool, typer.Option("--json", help="print the bill of materials as JSON")] = False,
) -> None:
    """Show which parts of the library are your own; judge again what was promoted under older checks."""
    import json

    from rich.console import Console
    from rich.table import Table

    from coursekit.course import load_course
    from coursekit.library import bill_of_materials, verify

    console, course = Console(highlight=False, stderr=as_json), load_course()
    for exercise, verdict in verify(course):
        state = "still passes" if verdict.passed else "is set aside (your file is kept), since it no longer passes:"
        console.print(f"The checks of [bold]{exercise.id}[/bold] have changed: your code {state}", end=" ")
        console.print(verdict.text, markup=False, soft_wrap=True)
    parts = bill_of_materials(course)
    if as_json:
        print(
            json.dumps(
                [
                    {"symbol": p.exercise.symbol, "week": p.exercise.week.name, "origin": p.origin, "note": p.note, "time": p.time}
                    for p in parts
                ]
            )
        )
        return
    table = Table(title="Bill of materials")
    for heading in ("week", "part of hybridlab", "whose", "since"):
        table.add_column(heading, overflow="fold")  # a narrow terminal breaks a name, it does not cut it
    colour = {"learner": "green", "set aside": "red", "reference": "dim"}
    for part in parts:
        whose = {"learner": "yours", "set aside": f"reference (yours set aside: {part.note})", "reference": "reference"}[part.origin]
        table.add_row(
            part.exercise.week.name, part.exercise.symbol.removeprefix("hybridlab."), f"[{colour[part.origin]}]{whose}", part.time
        )
    console.print(table)
    mine = sum(part.origin == "learner" for part in parts)
    console.print(f"{mine} of {len(parts)} parts are yours.")
