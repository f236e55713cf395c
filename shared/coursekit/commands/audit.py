"""`course audit`: how much course there is."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from coursekit.audit import audit as count

# What is counted → its heading; narrow enough for a terminal of 80 columns.
COLUMNS = {
    "notebooks": "note-\nbooks",
    "exercises": "exer-\ncises",
    "points": "points",
    "checks_visible": "shown\ncases",
    "checks_hidden": "hidden\ncases",
    "mistakes": "mis-\ntakes",
    "correct": "right\nones",
    "questions": "ques-\ntions",
}


def audit(as_json: Annotated[bool, typer.Option("--json", help="print JSON, for programs")] = False) -> None:
    """Count months, weeks, notebooks, exercises, checks and mistakes, and say whether the notebooks are built in step."""
    found = count()
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    title = f"{found['months']} month(s), {found['weeks']} weeks, {found['projects']} project(s)"
    shown = Table(title=title, box=SIMPLE_HEAD, padding=0)
    shown.add_column("", no_wrap=True)
    for heading in COLUMNS.values():
        shown.add_column(heading, justify="right", min_width=max(map(len, heading.split("\n"))))
    shown.add_column("in\nstep")
    for month in found["by_month"].values():
        for name, counts in month["units"].items():
            shown.add_row(name, *row(counts))
    shown.add_section()
    shown.add_row("all", *row(found))
    Console().print(shown)


def row(counts: dict) -> list[str]:
    """One line of the table, after its name."""
    return [*(str(counts[name]) for name in COLUMNS), "yes" if counts["in_step"] else "[red]no[/]"]
