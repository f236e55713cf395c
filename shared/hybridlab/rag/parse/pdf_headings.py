"""The sections of a PDF: from its outline, or, where it has none, from the size of its letters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from pypdfium2 import PdfDocument, PdfiumError

from .compose import clean
from .pdf_lines import Line

_LARGER = 1.15  # than the body's letters
_LONGEST = 120  # characters
_LEVELS = 4
_MOST_ENTRIES = 20_000
_NUMBER = re.compile(
    r"^(?:(?:chapter|section|appendix|chương|phần|mục|phụ lục)\s+)?(?:[\dA-Z]{1,3}\.)*[\dA-Z]{1,3}[.:)]?\s+", re.IGNORECASE
)


@dataclass(frozen=True)
class Entry:
    """One heading of the outline: its path, the page (from 0) and how high on the page it stands, if that is said."""

    path: tuple[str, ...]
    page: int
    y: float | None


def outline(document: PdfDocument) -> list[Entry]:
    """The outline's entries in order; an entry that leads nowhere only lends its title to those below it."""
    entries: list[Entry] = []
    path: list[str] = []
    try:
        for bookmark in document.get_toc(max_depth=6):
            if len(entries) >= _MOST_ENTRIES:
                break
            title = " ".join(clean(bookmark.get_title())[0].split())
            path[bookmark.level :] = [title]
            target = bookmark.get_dest()
            page = target.get_index() if target else None
            if page is None or not title:
                continue
            _, view = target.get_view() if target else (0, [])
            entries.append(Entry(tuple(part for part in path if part), page, view[1] if len(view) >= 2 else None))
    except (PdfiumError, ValueError):
        pass  # a broken outline is no reason to refuse the text
    return entries


def sections(pages: Sequence[Sequence[Line]], entries: Sequence[Entry]) -> list[dict[int, tuple[str, ...]]]:
    """For each page, the lines (by index) that open a section, with the section's path."""
    return _from_outline(pages, entries) if entries else _from_sizes(pages)


def _from_outline(pages: Sequence[Sequence[Line]], entries: Sequence[Entry]) -> list[dict[int, tuple[str, ...]]]:
    found: list[dict[int, tuple[str, ...]]] = [{} for _ in pages]
    for entry in entries:
        if 0 <= entry.page < len(pages):
            lines = pages[entry.page]
            after = max(found[entry.page], default=-1)
            index = _line_of(lines, entry, after)
            if index is not None:
                found[entry.page][index] = entry.path
    return found


def _line_of(lines: Sequence[Line], entry: Entry, after: int) -> int | None:
    """The line that shows the title, looked for behind the last heading; else the first line at the place that is named."""
    wanted = _bare(entry.path[-1])
    for index, line in enumerate(lines):
        shown = _bare(line.text)
        if index <= after or line.grid or not shown or len(line.text) > _LONGEST + 40:
            continue
        if shown == wanted or (len(shown) > 12 and wanted.startswith(shown)):
            return index
    if entry.y is not None:
        return next((index for index, line in enumerate(lines) if index > after and line.y <= entry.y and not line.grid), None)
    return None


def _bare(title: str) -> str:
    """A title without its number, case and spaces, for comparison."""
    return re.sub(r"\W+", "", _NUMBER.sub("", title).casefold())


def _from_sizes(pages: Sequence[Sequence[Line]]) -> list[dict[int, tuple[str, ...]]]:
    """Short lines in letters larger than the body's; the larger, the higher."""
    used: Counter[float] = Counter()
    for lines in pages:
        for line in lines:
            used[round(line.size)] += len(line.text)
    found: list[dict[int, tuple[str, ...]]] = [{} for _ in pages]
    if not used:
        return found
    body = used.most_common(1)[0][0]
    sizes = sorted(
        {round(line.size) for lines in pages for line in lines if _is_large(line, body)},
        reverse=True,
    )
    level = {size: min(rank, _LEVELS - 1) for rank, size in enumerate(sizes)}
    path: list[str] = []
    for number, lines in enumerate(pages):
        large = [(index, line) for index, line in enumerate(lines) if _is_large(line, body)]
        for _, group in groupby(enumerate(large), key=lambda item: (item[1][0] - item[0], round(item[1][1].size))):
            run = [entry for _, entry in group]
            title = " ".join(clean(" ".join(line.text for _, line in run))[0].split())
            if 1 < len(title) <= _LONGEST and any(char.isalpha() for char in title):
                path[level[round(run[0][1].size)] :] = [title]
                found[number][run[0][0]] = tuple(path)
    return found


def _is_large(line: Line, body: float) -> bool:
    return line.grid is None and line.size > body * _LARGER and len(line.text) <= _LONGEST
