"""One way to write a table as text: each row a line that says its columns' names, so that no figure is cut from its heading."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .compose import Block

#: A cell that continues the one to its left (a cell over several columns).
SAME = None
Row = Sequence[str | None]

_FIGURE = re.compile(r"[\d.,:%/()+\-–\s$€£₫]*\d[\d.,:%/()+\-–\s$€£₫]*[^\W\d]{0,4}")


def header_rows(rows: Sequence[Row]) -> int:
    """How many rows on top are column names (0 or 1) in a table that doesn't say so itself.

    The first row is one when its cells are filled (one may not be) with words, and none of them is a figure.
    """
    if len(rows) < 2 or len(rows[0]) < 2:
        return 0
    first = [cell for cell in rows[0] if cell is not None]
    filled = [cell.strip() for cell in first if cell.strip()]
    worded = all(any(char.isalpha() for char in cell) and not _FIGURE.fullmatch(cell) for cell in filled)
    return int(worded and len(filled) >= max(2, len(first) - 1))


def table_block(rows: Sequence[Row], names: Sequence[Row]) -> Block:
    """A table's block: a line of column names, where there are any, and a line for each row.

    Args:
        rows: the body. A cell is text, or :data:`SAME`.
        names: the rows of column names, outermost first.
    """
    header = " | ".join(name for name in _distinct(column_names(names)) if name)
    return Block("\n".join(filter(None, [header, *rows_text(rows, names)])), header=header)


def continued_block(rows: Sequence[Row], names: Sequence[Row]) -> Block:
    """As :func:`table_block` for the rest of a table whose column names stand on an earlier page."""
    return Block("\n".join(rows_text(rows, names)), header=" | ".join(name for name in _distinct(column_names(names)) if name))


def rows_text(rows: Sequence[Row], names: Sequence[Row]) -> list[str]:
    """Each row as ``Name: cell | Name: cell``; empty cells are left out, rows without any cell too."""
    columns = column_names(names)
    lines = []
    for row in rows:
        cells = []
        for index, cell in enumerate(row):
            value = " ".join((cell or "").split())
            name = columns[index] if index < len(columns) else ""
            if value:
                cells.append(f"{name}: {value}" if name and name != value else value)
        if cells:
            lines.append(" | ".join(cells))
    return lines


def column_names(names: Sequence[Row]) -> list[str]:
    """One name for each column: the names above it from top to bottom, a name over several columns for each of them."""
    if not names:
        return []
    columns: list[list[str]] = [[] for _ in range(max(len(row) for row in names))]
    for row in names:
        current = ""
        for index, cell in enumerate(row):
            current = current if cell is None else " ".join(cell.split())
            if current and current not in columns[index]:
                columns[index].append(current)
    return [" ".join(parts).rstrip(" :") for parts in columns]


def _distinct(names: Sequence[str]) -> list[str]:
    """Without neighbours that are equal."""
    return [name for index, name in enumerate(names) if index == 0 or name != names[index - 1]]
