"""Ruled tables of a PDF page: pdfplumber's way from lines to cells, on PDFium's geometry, filled with PDFium's characters.

pdfplumber finds the cells of ruled tables well, but its own reading of characters glues Vietnamese words together and takes
a hundred times as long. So it gets the lines only, and what stands in a cell are the characters whose middle lies in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .pdf_objects import Box
from .tables import SAME, Row, header_rows

Turn = Callable[[float, float], tuple[float, float]]

#: How PDFium writes a hyphen that it takes to divide a word, with the break behind it.
DIVIDED = re.compile(r"[\ufffe\x02]\s*")

_SNAP = 3.0  # points within which two lines are one
_MOST_RULES = 3_000
_MOST_CROSSINGS = 4_000


@dataclass
class Grid:
    """A ruled table: its box, the left edges of its columns, the tops of its rows, and its cells (all y grow downwards)."""

    box: Box  # left, top, right, bottom
    columns: list[float]
    tops: list[float]
    cells: list[Box]
    texts: dict[int, list[str]] = field(default_factory=dict)
    bold: dict[int, bool] = field(default_factory=dict)

    def cell_at(self, x: float, y: float) -> int | None:
        """The index of the cell around a point; a cell over several rows or columns is one cell."""
        if not (self.box[0] <= x < self.box[2] and self.box[1] <= y < self.box[3]):
            return None
        for index, (left, top, right, bottom) in enumerate(self.cells):
            if left <= x < right and top <= y < bottom:
                return index
        return None

    def rows(self) -> list[Row]:
        """The table's texts, row by row: a cell over several rows stands in each of them, one over several columns once."""
        rows: list[Row] = []
        for top, bottom in zip(self.tops, [*self.tops[1:], self.box[3]], strict=True):
            row: list[str | None] = []
            last = None
            for left, right in zip(self.columns, [*self.columns[1:], self.box[2]], strict=True):
                cell = self.cell_at((left + right) / 2, (top + bottom) / 2)
                same = cell is not None and cell == last
                row.append(SAME if same else "" if cell is None else self._text(cell))
                last = cell
            rows.append(row)
        return rows

    def header_rows(self) -> int:
        """0 or 1: a row of column names is bold above others that aren't; where nothing is bold, the words decide."""
        if not any(self.bold.values()):
            return header_rows(self.rows())
        first, others = list[bool](), list[bool]()
        for index, cell in enumerate(self.cells):
            if index in self.bold:
                (first if cell[1] == self.tops[0] else others).append(self.bold[index])
        return int(len(self.tops) > 1 and bool(first) and all(first) and not all(others))

    def _text(self, cell: int) -> str:
        return " ".join(DIVIDED.sub("", "".join(self.texts.get(cell, []))).split())


def find_grids(rules: Sequence[Box], turn: Turn) -> list[Grid]:
    """The tables with at least two rows and two columns among a page's ruled lines.

    ``turn`` takes a point of the page to upright reading, y upwards.
    """
    if len(rules) > _MOST_RULES:
        return []
    edges = [_edge(rule, turn) for rule in rules]
    if len({round(edge["top"]) for edge in edges if edge["orientation"] == "h"}) < 2 or all(edge["orientation"] == "h" for edge in edges):
        return []
    from pdfplumber import table as plumber

    merged = plumber.merge_edges(edges, _SNAP, _SNAP, _SNAP, _SNAP)
    merged = plumber.merge_edges([*merged, *_open_sides(merged)], _SNAP, _SNAP, _SNAP, _SNAP)
    crossings = plumber.edges_to_intersections(merged, _SNAP, _SNAP)
    if len(crossings) > _MOST_CROSSINGS:
        return []
    grids = [_grid(cells) for cells in plumber.cells_to_tables(plumber.intersections_to_cells(crossings))]
    return [grid for grid in grids if len(grid.columns) > 1 and len(grid.tops) > 1]


def _open_sides(edges: list[dict]) -> list[dict]:
    """The sides that a table without an outer frame lacks.

    Lines of the same width that a vertical line ties together are one table: it gets sides at their ends, and a top and a
    bottom where its vertical lines reach further than they.
    """
    uprights = [edge for edge in edges if edge["orientation"] == "v"]
    level: dict[tuple[int, int], list[dict]] = {}
    for edge in edges:
        if edge["orientation"] == "h":
            level.setdefault((round(edge["x0"] / _SNAP), round(edge["x1"] / _SNAP)), []).append(edge)
    added = []
    for lines in level.values():
        left, right = min(line["x0"] for line in lines), max(line["x1"] for line in lines)
        inner = [edge for edge in uprights if left + _SNAP < edge["x0"] < right - _SNAP]
        for top, bottom in _tied(sorted(line["top"] for line in lines), inner):
            touching = [edge for edge in inner if edge["top"] <= bottom + _SNAP and edge["bottom"] >= top - _SNAP]
            reach = (min([top, *(edge["top"] for edge in touching)]), max([bottom, *(edge["bottom"] for edge in touching)]))
            added += [_upright(x, *reach) for x in (left, right)]
            added += [_level(y, left, right) for y, known in zip(reach, (top, bottom), strict=True) if abs(y - known) > 2 * _SNAP]
    return added


def _tied(tops: list[float], uprights: list[dict]) -> list[tuple[float, float]]:
    """The first and last of each run of at least two lines, neighbours of which a vertical line joins."""
    runs = [[tops[0]]]
    for before, after in pairwise(tops):
        joined = any(edge["top"] <= before + _SNAP and edge["bottom"] >= after - _SNAP for edge in uprights)
        if joined:
            runs[-1].append(after)
        else:
            runs.append([after])
    return [(run[0], run[-1]) for run in runs if len(run) > 1]


def _level(y: float, left: float, right: float) -> dict:
    return {"orientation": "h", "x0": left, "x1": right, "top": y, "bottom": y, "width": right - left, "height": 0.0}


def _upright(x: float, top: float, bottom: float) -> dict:
    return {"orientation": "v", "x0": x, "x1": x, "top": top, "bottom": bottom, "width": 0.0, "height": bottom - top}


def _edge(rule: Box, turn: Turn) -> dict:
    """A line in pdfplumber's terms: y grows downwards."""
    (x0, y0), (x1, y1) = turn(rule[0], rule[1]), turn(rule[2], rule[3])
    left, right, top, bottom = min(x0, x1), max(x0, x1), -max(y0, y1), -min(y0, y1)
    if right - left >= bottom - top:
        return _level((top + bottom) / 2, left, right)
    return _upright((left + right) / 2, top, bottom)


def _grid(cells: list[Box]) -> Grid:
    box = (min(c[0] for c in cells), min(c[1] for c in cells), max(c[2] for c in cells), max(c[3] for c in cells))
    return Grid(box, sorted({cell[0] for cell in cells}), sorted({cell[1] for cell in cells}), cells)
