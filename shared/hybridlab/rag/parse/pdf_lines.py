"""From PDFium's characters to lines, and from lines to paragraphs.

PDFium gives characters in the order in which they are drawn, line by line. That is the order of reading in nearly all
documents; where it isn't (a footer drawn first, columns drawn row by row) the lines are put in order by their places.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pypdfium2 import PdfTextPage, raw

from .pdf_tables import Grid, Turn

_RUN = re.compile(r"[^\r\n\ufffe\x02]*[\ufffe\x02]|[^\r\n\ufffe\x02]+")  # PDFium puts no break behind a hyphen that divides a word
_TURNS: dict[int, Turn] = {
    0: lambda x, y: (x, y),
    1: lambda x, y: (y, -x),
    2: lambda x, y: (-x, -y),
    3: lambda x, y: (-y, x),
}


@dataclass(slots=True)
class Line:
    """One line of text, or a whole table in its place. ``y`` is the baseline (y upwards), ``top`` the upper end."""

    text: str
    left: float
    right: float
    y: float
    top: float
    size: float
    grid: Grid | None = None


def page_characters(textpage: PdfTextPage) -> str:
    """The page's text, one character for each of PDFium's indices."""
    count = textpage.count_chars()
    text = textpage.get_text_range() if count else ""
    if len(text) != count:  # PDFium leaves some out of the text, and counts in UTF-16
        text = "".join(chr(code) if 0 < (code := raw.FPDFText_GetUnicode(textpage, index)) < 0x110000 else " " for index in range(count))
    return text


def upright(textpage: PdfTextPage, text: str) -> Turn:
    """How the page has to be turned for most of its lines to run from left to right."""
    votes = [0, 0, 0, 0]
    for run in _RUN.finditer(text):
        angle = raw.FPDFText_GetCharAngle(textpage, (run.start() + run.end()) // 2)
        if angle >= 0:  # clockwise
            votes[-round(angle / (math.pi / 2)) % 4] += len(run.group())
    return _TURNS[votes.index(max(votes))]


def read_lines(textpage: PdfTextPage, text: str, dropped: bytearray | None, turn: Turn, grids: Sequence[Grid]) -> list[Line]:
    """The page's lines in PDFium's order, without ``dropped`` characters; the tables' characters go into their cells."""
    lines: list[Line] = []
    placed: set[int] = set()
    for run in _RUN.finditer(text):
        kept = [i for i in range(run.start(), run.end()) if not (dropped and dropped[i])]
        if not kept:
            continue
        if grids:
            kept = _fill_cells(textpage, text, kept, turn, grids, lines, placed)
        inked = [i for i in kept if not text[i].isspace()]
        if inked:
            words = "".join(text[i] for i in kept) if len(kept) < len(run.group()) else run.group()
            lines.append(_line(textpage, " ".join(words.split()), inked, turn))
    return lines


def in_reading_order(lines: list[Line]) -> list[Line]:
    """The lines as they are, or by their places where one stands above an earlier one of the same column."""
    if any(_above(later, earlier) for index, later in enumerate(lines) for earlier in lines[max(0, index - 80) : index]):
        lines = _cut(lines, depth=0)
    return _rejoined(lines)


def _fill_cells(
    textpage: PdfTextPage, text: str, kept: list[int], turn: Turn, grids: Sequence[Grid], lines: list[Line], placed: set[int]
) -> list[int]:
    """Put the characters of tables into their cells; return the others. A table takes its place at its first character."""
    outside: list[int] = []
    last: tuple[int, int] | None = None
    for index in kept:
        if text[index].isspace():
            if last is None:
                outside.append(index)
            else:
                grids[last[0]].texts[last[1]].append(" ")
            continue
        x, y = _middle(textpage, index, turn)
        here = next(((n, cell) for n, grid in enumerate(grids) if (cell := grid.cell_at(x, -y)) is not None), None)
        if here is None:
            outside.append(index)
        else:
            grid = grids[here[0]]
            if here[1] not in grid.texts:
                grid.bold[here[1]] = _is_bold(textpage, index)
            grid.texts.setdefault(here[1], []).append(text[index] if here == last else f" {text[index]}")
            if here[0] not in placed:
                placed.add(here[0])
                left, top, right, bottom = grid.box
                lines.append(Line("", left, right, -bottom, -top, 0.0, grid))
        last = here
    return outside


def _middle(textpage: PdfTextPage, index: int, turn: Turn) -> tuple[float, float]:
    left, right, bottom, top = (ctypes.c_double() for _ in range(4))
    raw.FPDFText_GetCharBox(textpage, index, left, right, bottom, top)
    return turn((left.value + right.value) / 2, (bottom.value + top.value) / 2)


def _line(textpage: PdfTextPage, text: str, inked: list[int], turn: Turn) -> Line:
    box = raw.FS_RECTF()
    ends = []
    for index in (inked[0], inked[-1]):
        raw.FPDFText_GetLooseCharBox(textpage, index, box)
        ends += [turn(box.left, box.bottom), turn(box.right, box.top)]
    x, y = ctypes.c_double(), ctypes.c_double()
    middle = inked[len(inked) // 2]
    raw.FPDFText_GetCharOrigin(textpage, middle, x, y)
    _, baseline = turn(x.value, y.value)
    xs = [x for x, _ in ends]
    return Line(text, min(xs), max(xs), baseline, max(y for _, y in ends), _size(textpage, middle))


def _size(textpage: PdfTextPage, index: int) -> float:
    """The size of a character's font as it comes out, in points."""
    matrix = raw.FS_MATRIX()
    size = raw.FPDFText_GetFontSize(textpage, index)
    if raw.FPDFText_GetMatrix(textpage, index, matrix):
        size *= math.sqrt(abs(matrix.a * matrix.d - matrix.b * matrix.c))
    return round(size, 1)


def _above(one: Line, other: Line) -> bool:
    """Whether ``one`` lies wholly above ``other`` and over it."""
    return one.y > other.top and min(one.right, other.right) - max(one.left, other.left) > 1.0


def _cut(lines: list[Line], depth: int) -> list[Line]:
    """Recursive XY-cut: columns first, where a clear gutter runs through, then bands from top to bottom."""
    if len(lines) < 2 or depth > 24:
        return sorted(lines, key=lambda line: (-line.y, line.left))
    for axis, least in (("x", 9.0), ("y", 0.0)):
        low, high = (lambda l: l.left, lambda l: l.right) if axis == "x" else (lambda l: -l.top, lambda l: -l.y)  # noqa: E741
        ordered = sorted(lines, key=low)
        reach = high(ordered[0])
        gaps = []
        for index, line in enumerate(ordered[1:], 1):
            if low(line) - reach > least:
                gaps.append((low(line) - reach, index))
            reach = max(reach, high(line))
        if axis == "x":
            gaps = [gap for gap in gaps if min(gap[1], len(ordered) - gap[1]) >= 3]
        if gaps:
            _, index = max(gaps)
            return _cut(ordered[:index], depth + 1) + _cut(ordered[index:], depth + 1)
    return sorted(lines, key=lambda line: (-round(line.y), line.left))


def _rejoined(lines: list[Line]) -> list[Line]:
    """Neighbours on one baseline, left to right, are one line (a label and its figure, a chapter and its page)."""
    joined: list[Line] = []
    for line in lines:
        last = joined[-1] if joined else None
        level = last and not last.grid and not line.grid and abs(last.y - line.y) < 0.25 * max(last.size, line.size)
        if last and level and line.left >= last.right - 1:
            joined[-1] = Line(f"{last.text} {line.text}", last.left, line.right, last.y, max(last.top, line.top), max(last.size, line.size))
        else:
            joined.append(line)
    return joined


def _is_bold(textpage: PdfTextPage, index: int) -> bool:
    name, flags = (ctypes.c_char * 128)(), ctypes.c_int()
    raw.FPDFText_GetFontInfo(textpage, index, name, ctypes.sizeof(name), flags)
    return raw.FPDFText_GetFontWeight(textpage, index) >= 600 or b"bold" in name.value.lower()
