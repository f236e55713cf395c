"""From a PDF page's lines to its blocks: wrapped lines joined, divided words mended, tables and headings in place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from .compose import Block
from .pdf_lines import Line
from .pdf_tables import Grid
from .tables import Row, column_names, continued_block, table_block

_LISTED = re.compile(r"(?:[•◦▪‣·●○■–—*-]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s")
_ADDRESS_END = re.compile(r"(?:^|\s)(?:https?://|www\.|~?/)\S*(?<=[/_=&])$")
_GAP = 1.32  # of the usual distance between lines: more begins a paragraph
_SIZE = 1.12  # of the letters: more or less begins a paragraph


def page_blocks(lines: Sequence[Line], headings: Mapping[int, tuple[str, ...]], carried: TableEnd | None, words: Words) -> list[Block]:
    """The page's blocks. ``headings`` gives the path of each line (by index) that opens a section."""
    pitch = usual_pitch(lines)
    blocks: list[Block] = []
    text = ""
    opened: tuple[str, ...] | None = None
    for index, line in enumerate(lines):
        before = lines[index - 1] if index else None
        if line.grid or index in headings or before is None or before.grid or _opens_paragraph(before, line, pitch, index - 1 in headings):
            if text:
                blocks.append(Block(text, heading=opened))
            text, opened = line.text, headings.get(index)
            if line.grid:
                blocks.append(_table(line.grid, carried if index == 0 or _only_running(lines[:index]) else None))
                text = ""
        else:
            text = _join(text, before, line, _right_margin(lines, index), words)
    if text:
        blocks.append(Block(text, heading=opened))
    return blocks


class TableEnd:
    """The last table of a page that ends with it: its columns and their names, for a continuation on the next page."""

    def __init__(self, grid: Grid, names: list[Row]) -> None:
        self.columns, self.names = [*grid.columns, grid.box[2]], names

    def continues_in(self, grid: Grid) -> bool:
        columns = [*grid.columns, grid.box[2]]
        return len(columns) == len(self.columns) and all(abs(a - b) < 3 for a, b in zip(columns, self.columns, strict=True))


def table_end(lines: Sequence[Line], carried: TableEnd | None) -> TableEnd | None:
    """The table that a page ends with (but for a footer), if there is one."""
    last = next((index for index in reversed(range(len(lines))) if lines[index].grid), None)
    if last is None or not _only_running(lines[last + 1 :]):
        return None
    grid = lines[last].grid
    assert grid is not None
    rows = grid.rows()
    if carried and _only_running(lines[:last]) and carried.continues_in(grid):
        return TableEnd(grid, carried.names)
    return TableEnd(grid, list(rows[: grid.header_rows()]))


def usual_pitch(lines: Sequence[Line]) -> float:
    """The page's distance from baseline to baseline, in sizes of its letters (1.35 where there is too little to tell)."""
    ratios = [
        (before.y - after.y) / after.size
        for before, after in pairwise(lines)
        if after.size and abs(before.size - after.size) < 0.5 and 0.8 < (before.y - after.y) / after.size < 3
    ]
    return min(median(ratios), 1.9) if len(ratios) > 3 else 1.35


class Words:
    """The words of a document, to tell a divided word (infor-mation) from one with a hyphen (well-known)."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._known: set[str] | None = None

    def mend(self, head: str, tail: str) -> str:
        if self._known is None:
            self._known = {word.lower() for text in self._texts for word in re.findall(r"[\w-]+", text)}
        first = (re.findall(r"[\w-]+$", head) or [""])[-1]
        second = (re.findall(r"^[\w-]+", tail) or [""])[0]
        whole = (first + second).lower() in self._known
        hyphenated = f"{first}-{second}".lower() in self._known
        keep = (hyphenated and not whole) or (not whole and ("-" in first or not second[:1].islower() or not first.isalpha()))
        return f"{head}-{tail}" if keep else head + tail


def _table(grid: Grid, carried: TableEnd | None) -> Block:
    rows = grid.rows()
    if carried and carried.names and carried.continues_in(grid):
        own = 1 if column_names(rows[:1]) == column_names(carried.names) else 0
        return continued_block(rows[own:], carried.names)
    top = grid.header_rows()
    return table_block(rows[top:], rows[:top])


def _only_running(lines: Sequence[Line]) -> bool:
    """Whether nothing stands there but what may be a running header or footer."""
    return len(lines) <= 2 and all(not line.grid and len(line.text) < 100 for line in lines)


def _opens_paragraph(before: Line, line: Line, pitch: float, after_heading: bool) -> bool:
    gap = before.y - line.y
    if after_heading or not _alike(before.size, line.size):
        return True
    if gap <= 0:  # the next column: goes on where a sentence does
        return not (line.text[:1].islower() and before.text[-1:] not in ".!?:")
    return gap > _GAP * pitch * line.size


def _alike(one: float, other: float) -> bool:
    return one <= other * _SIZE and other <= one * _SIZE


def _right_margin(lines: Sequence[Line], index: int) -> float:
    """How far the lines around this one reach, within its column. One line alone that reaches further doesn't count."""
    line = lines[index]
    near = (
        other.right
        for other in lines[max(0, index - 12) : index + 12]
        if not other.grid and other.left < line.right and other.right > line.left
    )
    reaches = sorted(near, reverse=True)
    return next((far for far, next_far in pairwise(reaches) if far - next_far < 3), reaches[0] if reaches else line.right)


def _is_row(line: Line) -> bool:
    """Whether a line is too wide for its letters: there are gaps in it, as in a row of a table without rulings."""
    return line.right - line.left > 0.85 * line.size * len(line.text)


def _join(text: str, before: Line, line: Line, margin: float, words: Words) -> str:
    """The paragraph with one more line: joined where the line was wrapped, else on a line of its own."""
    if text.endswith(("\ufffe", "\x02")):
        return words.mend(text[:-1], line.text)
    first = line.text.split(" ", 1)[0]
    width = (line.right - line.left) / max(len(line.text), 1)
    would_fit = before.right + width * (len(first) + 1) < margin - 0.5 * width
    if would_fit or _is_row(before) or _is_row(line) or _LISTED.match(line.text):
        return f"{text}\n{line.text}"
    return text + ("" if _ADDRESS_END.search(text) else " ") + line.text
