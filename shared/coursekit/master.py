"""Masters: py:percent text (jupytext) to cells. An id and an exercise's options stand in the cell's marker line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coursekit.errors import CourseError

ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Cell:
    """One cell of a master: `kind` is "markdown" or "code"; `options` holds what its marker line says beyond the id."""

    id: str
    kind: str
    source: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def symbol(self) -> str | None:
        return self.options.get("exercise")


def read_master(path: Path) -> list[Cell]:
    """The cells of a master, in order.

    Raises CourseError where a cell has no id, a malformed one, or one that stands twice.
    """
    import jupytext

    notebook = jupytext.reads(path.read_text("utf-8"), fmt="py:percent")
    cells: list[Cell] = []
    seen: set[str] = set()
    for number, raw in enumerate(notebook.cells, 1):
        options = dict(raw.metadata)
        name = options.pop("id", "")
        if not ID.fullmatch(name):
            raise CourseError(f"{path}: cell {number} ({raw.source[:40]!r}) needs an id of lower-case words joined by '-', got {name!r}.")
        if name in seen:
            raise CourseError(f"{path}: the id {name!r} stands twice; give cell {number} another.")
        seen.add(name)
        cells.append(Cell(name, raw.cell_type, raw.source.rstrip(), options))
    return cells


def imports_of(cells: list[Cell]) -> str:
    """The source of the lab's import cell, which is promoted with each exercise; empty where there is none."""
    return next((cell.source for cell in cells if cell.id == "imports"), "")
