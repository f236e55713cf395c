"""`course audit`: how much course there is."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from coursekit.audit import audit as count

# Heading → what is counted under it; several names are joined by "+".
COLUMNS = {
    "note-books": ("notebooks",),
    "exer-cises": ("exercises",),
    "points": ("points",),
    "check cases (visible + hidden)": ("checks_visible", "checks_hidden"),
    "wrong + right answers": ("mistakes", "correct"),
    "broken": ("broken",),
    "ques-tions": ("questions",),
}


def audit(as_json: Annotated[bool, typer.Option("--json", help="print JSON, for programs")] = False) -> None:
    """Count months, weeks, notebooks, exercises, checks and mistakes, and say whether the notebooks are built in step."""
    found = count()
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    shown = Table(title=f"{found['months']} month(s), {found['weeks']} weeks, {found['projects']} project(s)")
    shown.add_column("")
    for heading in COLUMNS:
        shown.add_column(heading, justify="right")
    shown.add_column("in step")
    for month in found["by_month"].values():
        for name, counts in month["units"].items():
            shown.add_row(name, *row(counts))
    shown.add_section()
    shown.add_row("all", *row(found))
    Console().print(shown)


def row(counts: dict) -> list[str]:
    """One line of the table, after its name."""
    numbers = [" + ".join(str(counts[name]) for name in names) for names in COLUMNS.values()]
    return [*numbers, "yes" if counts["in_step"] else "[red]no[/]"]
