"""Pages to chunks: pieces of about a paragraph or two that are embedded, found and quoted.

A chunk never leaves its page, so that its page number is right; it never reaches into hidden text, so that nothing hidden is
found or quoted; and it is never cut from its heading, nor a table's row from the names of its columns: these are its context.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .parse.types import Page, Parsed, TableSpan
from .sentences import estimate_tokens, sentence_spans

TARGET = 240  # tokens of a chunk
MOST = 300  # a chunk grows up to here if that lets its paragraph end
OVERLAP = 40  # tokens of the last chunk's end that the next one repeats
LEAST = 60  # tokens below which a section isn't worth a chunk of its own
_LONGEST_CAPTION = 200  # characters
_RUNNING = 0.3  # the share of pages on which a line makes it a running header


@dataclass(frozen=True)
class Chunk:
    """``pages[page].text[start:end]``; ``context`` (headings, a table's caption and columns) goes before it and isn't quoted."""

    page: int
    start: int
    end: int
    kind: Literal["prose", "table"]
    context: str


@dataclass(frozen=True)
class _Unit:
    """A sentence, or what is left of one that is too long; ``last`` where its paragraph ends."""

    start: int
    end: int
    tokens: int
    last: bool


def chunk(parsed: Parsed) -> list[Chunk]:
    """The chunks of a document, in order. All visible text is in them but for running headers, which are kept once."""
    running = _running_lines(parsed.pages)
    chunks: list[Chunk] = []
    for index, page in enumerate(parsed.pages):
        text, path = page.text, page.heading
        for start, end, own_path, table in _regions(page):
            path = own_path if own_path is not None else path
            if table is not None:
                chunks += _table_chunks(index, page, table, path)
                continue
            units = [unit for unit in _units(text, start, end) if (index, unit.start) not in running]
            chunks += [Chunk(index, a, b, "prose", _context(path, text[a:b])) for a, b in _packed(units, gaps=running, page=index)]
    return chunks


def _regions(page: Page) -> Iterator[tuple[int, int, tuple[str, ...] | None, TableSpan | None]]:
    """``(start, end, path if a section begins here, table)``: the page cut at tables, and at headings that are worth it."""
    cuts: list[tuple[int, int, tuple[str, ...] | None, TableSpan | None]] = [
        *((table.start, 1, None, table if isinstance(table, TableSpan) else TableSpan(table.start, table.end)) for table in page.tables),
        *((heading.start, 0, heading.path, None) for heading in page.headings),
    ]
    start, path = 0, None
    for at, _, heading, table in sorted(cuts, key=lambda cut: cut[:2]):
        small = estimate_tokens(page.text[start:at]) < LEAST
        if table is not None:
            yield start, at, path, None
            yield table.start, table.end, None, table
            start, path = table.end, None
        elif not small or not page.text[start:at].strip():
            yield start, at, path, None
            start, path = at, heading
        else:
            path = _common(path if path is not None else page.heading, heading or ()) or heading
    yield start, page.visible_end, path, None


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    """What two paths share: the context of a piece that holds the end of one section and the beginning of another."""
    shared = 0
    while shared < min(len(one), len(other)) and one[shared] == other[shared]:
        shared += 1
    return other[:shared]


def _units(text: str, start: int, end: int) -> Iterator[_Unit]:
    """The sentences of a region; one that is longer than a chunk is cut between words."""
    for paragraph in re.compile(r"\S(?:.*\S)?(?:\n(?!\s*\n).*\S)*").finditer(text, start, end):
        spans = [piece for span in sentence_spans(text, *paragraph.span()) for piece in _cut(text, *span)]
        for number, (begin, stop) in enumerate(spans, 1):
            yield _Unit(begin, stop, estimate_tokens(text[begin:stop]), number == len(spans))


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """``(start, end)`` as it is, or in pieces of at most ``TARGET`` tokens; a word without end is cut by letters."""
    if estimate_tokens(text[start:end]) <= MOST:
        yield start, end
        return
    begin, tokens, stop = start, 0, start
    for word in re.compile(r"\S{1,200}\s*").finditer(text, start, end):
        count = estimate_tokens(word.group())
        if tokens and tokens + count > TARGET:
            yield begin, stop
            begin, tokens = word.start(), 0
        tokens += count
        stop = word.start() + len(word.group().rstrip())
    yield begin, stop


def _packed(units: Sequence[_Unit], gaps: set[tuple[int, int]], page: int) -> Iterator[tuple[int, int]]:
    """Spans of neighbouring units. Each but the first begins with the last sentences of the one before."""
    first = 0
    while first < len(units):
        stop, tokens = first, 0
        while stop < len(units):
            grown = tokens + units[stop].tokens
            if stop > first and (
                grown > MOST or (tokens >= TARGET - OVERLAP and grown > TARGET and not _can_end(units, stop, MOST - tokens))
            ):
                break
            tokens = grown
            stop += 1
            if tokens >= TARGET and units[stop - 1].last:
                break
        yield units[first].start, units[stop - 1].end
        if stop == len(units):
            return
        repeated, back = 0, stop
        while back - 1 > first and repeated + units[back - 1].tokens <= OVERLAP:
            back -= 1
            repeated += units[back].tokens
        first = back


def _can_end(units: Sequence[_Unit], index: int, room: int) -> bool:
    """Whether the paragraph of ``units[index]`` ends within ``room`` tokens."""
    for unit in units[index:]:
        room -= unit.tokens
        if room < 0:
            return False
        if unit.last:
            return True
    return False


def _table_chunks(index: int, page: Page, table: TableSpan, path: tuple[str, ...]) -> Iterator[Chunk]:
    """Groups of rows, each with the caption and the names of the columns before it."""
    text = page.text
    rows = [
        piece
        for row in re.compile(r"[^\n]+").finditer(text, table.start, table.end)
        if row.group().strip()
        for piece in _cut(text, *row.span())
    ]
    caption = _caption(page, table)
    group: list[tuple[int, int]] = []
    tokens = 0
    for row in [*rows, None]:
        count = estimate_tokens(text[row[0] : row[1]]) if row else 0
        if group and (row is None or tokens + count > TARGET):
            start, end = group[0][0], group[-1][1]
            header = table.header if not text.startswith(table.header, start) else ""
            yield Chunk(index, start, end, "table", "\n".join(filter(None, [_context(path, text[start:end]), caption, header])))
            group, tokens = [], 0
        if row:
            group.append(row)
            tokens += count


def _caption(page: Page, table: TableSpan) -> str:
    """The sentence before a table, if it is short enough to be about it and not the heading itself."""
    before = len(page.text[: table.start].rstrip())
    if any(other.start < before <= other.end for other in page.tables):
        return ""
    start = page.text.rfind("\n", 0, before) + 1
    sentence = [page.text[a:b] for a, b in sentence_spans(page.text, start, before)][-1:]
    known = {part for heading in page.headings for part in heading.path} | set(page.heading)
    return sentence[0] if sentence and len(sentence[0]) <= _LONGEST_CAPTION and sentence[0] not in known else ""


def _context(path: tuple[str, ...], text: str) -> str:
    """The headings, without the last one where the chunk itself begins with it."""
    if path and text.startswith(path[-1]):
        path = path[:-1]
    return " › ".join(path)


def _running_lines(pages: Sequence[Page]) -> set[tuple[int, int]]:
    """``(page, start)`` of the first and last lines that repeat from page to page, but for their first appearance.

    A line repeats when it is the same without its figures, or when a number in it counts along with the pages.
    """
    numbered = [index for index, page in enumerate(pages) if page.number is not None]
    if len(numbered) < 5:
        return set()
    ends = [(index, *span) for index in numbered for span in _end_lines(pages[index])]
    shapes: Counter[str] = Counter()
    shifts: Counter[int] = Counter()
    for index, start, end in ends:
        line = pages[index].text[start:end]
        shapes[_shape(line)] += 1
        shifts.update({number - (pages[index].number or 0) for number in _numbers(line)})
    least = max(4, _RUNNING * len(numbered))
    shift = {value for value, count in shifts.most_common(1) if count >= least}
    running: set[tuple[int, int]] = set()
    seen: set[str] = set()
    for index, start, end in ends:
        line = pages[index].text[start:end]
        shape = _shape(line)
        counted = bool({number - (pages[index].number or 0) for number in _numbers(line)} & shift)
        if counted or shapes[shape] >= least:
            if shape in seen or not any(char.isalpha() for char in line):
                running.add((index, start))
            seen.add(shape)
    return running


def _end_lines(page: Page) -> set[tuple[int, int]]:
    """The spans of a page's first and last line that stand alone and are short, and are no heading."""
    opened = {heading.start for heading in page.headings}
    blocks = [block.span() for block in re.compile(r"\S.*").finditer(page.text, 0, page.visible_end)]
    ends = {blocks[0], blocks[-1]} if blocks else set()
    return {(start, end) for start, end in ends if end - start <= 100 and start not in opened and _alone(page.text, start, end)}


def _alone(text: str, start: int, end: int) -> bool:
    return text[max(0, start - 2) : start] in ("", "\n\n") and text[end : end + 2] in ("", "\n\n")


def _shape(line: str) -> str:
    return re.sub(r"\d+", "#", line.casefold())


def _numbers(line: str) -> set[int]:
    """The numbers at a line's two ends: where page numbers stand."""
    return {int(number) for number in re.findall(r"^\d{1,4}\b|\b\d{1,4}$", line)}
