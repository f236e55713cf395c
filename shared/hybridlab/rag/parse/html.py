"""HTML to sections. Scripts and styles are dropped; comments and what the page doesn't show are told apart as hidden.

The tree is walked without recursion, since a hostile page can be thousands of elements deep.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - compiled
from lxml import html as lxml_html

from .compose import Block, hold_text_limit
from .html_look import Look, StyleSheet
from .sections import Sections
from .tables import SAME, Row, header_rows, table_block
from .text import read_text
from .types import DocumentError, Limits, Parsed

_DROPPED = {"script", "style", "head", "title", "template", "svg", "iframe", "object", "embed", "audio", "video", "canvas", "link", "meta"}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCKS = frozenset(
    """address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure footer form
    h1 h2 h3 h4 h5 h6 header hr html legend li main menu nav ol option p pre search section select summary table tbody td tfoot
    th thead tr ul""".split()  # noqa: SIM905 - a list of them is 50 lines long
)
_CELLS = ("td", "th")
_WIDEST = 1_000


def parse_html(path: Path, limits: Limits) -> Parsed:
    """Read an HTML file: a page for each heading's section."""
    text, flags = read_text(path, limits, markup=True)
    parsed = html_sections(text)
    return Parsed(parsed.title, hold_text_limit(parsed.pages, limits), flags=flags)


def html_sections(text: str) -> Parsed:
    """The sections of a document or a fragment of HTML.

    Raises:
        DocumentError: ``damaged`` where elements lie thousands deep within each other.
    """
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", text.replace("\0", ""))
    if not text.strip():
        return Parsed("", Sections().pages())
    parser = lxml_html.HTMLParser(no_network=True, huge_tree=True)
    try:
        root = lxml_html.document_fromstring(text, parser=parser)
    except etree.ParserError:  # nothing but comments or white space
        root = lxml_html.document_fromstring(f"<body><p></p>{text}</body>", parser=parser)
    if any(error.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for error in parser.error_log):
        raise DocumentError("damaged", "The page is nested too deeply to be read: the rest of it would be lost. Save it in a simpler form.")
    reader = _Reader(StyleSheet("\n".join(style.text or "" for style in root.iter("style"))))
    reader.read(root)
    title = root.find(".//title")
    return Parsed(" ".join((title.text or "").split()) if title is not None else reader.title, reader.sections.pages())


class _Reader:
    """One walk over the tree. ``_words`` is the paragraph that is being read, ``_heading`` its level if it is a heading."""

    def __init__(self, sheet: StyleSheet) -> None:
        self.sections = Sections()
        self.title = ""
        self._sheet = sheet
        self._words: list[str] = []
        self._heading = 0
        self._raw = False

    def read(self, root: etree._Element) -> None:
        self._walk(root, Look(), tables=True)
        self._end_paragraph()

    def _walk(self, root: etree._Element, look: Look, *, tables: bool) -> None:
        looks = [look]
        walker = etree.iterwalk(root, events=("start", "end", "comment", "pi"))
        for event, element in walker:
            if event in ("comment", "pi"):
                self.sections.hide(_comment(element))
                self._take(element.tail, looks[-1])
                continue
            tag = element.tag if isinstance(element.tag, str) else ""
            if event == "start":
                inner = looks[-1].within(element.attrib, self._sheet.rules_for(tag, element.attrib))
                looks.append(inner)
                if tag in _DROPPED and tag != "head":
                    walker.skip_subtree()
                elif tables and tag == "table" and not inner.hidden and _is_data(element):
                    self._end_paragraph()
                    self._table(element, inner)
                    walker.skip_subtree()
                else:
                    self._open(tag, element, inner)
            else:
                looks.pop()
                self._shut(tag)
                if element is not root:
                    self._take(element.tail, looks[-1])

    def _open(self, tag: str, element: etree._Element, look: Look) -> None:
        if tag in _BLOCKS:
            self._end_paragraph()
            self._heading = 0 if look.hidden else _HEADINGS.get(tag, self._heading)
            self._raw = self._raw or tag == "pre"
            if tag == "li":
                self._words.append("- ")
        elif tag == "br":
            self._words.append("\n")
        self._take(element.text, look)

    def _shut(self, tag: str) -> None:
        if tag in _BLOCKS:
            self._end_paragraph()
            self._raw = self._raw and tag != "pre"
            if tag in _HEADINGS:
                self._heading = 0

    def _take(self, text: str | None, look: Look) -> None:
        if not text:
            return
        if look.hidden:
            self.sections.hide(text)
        else:
            self._words.append(text if self._raw else re.sub(r"\s+", " ", text))

    def _end_paragraph(self) -> None:
        lines = (
            "".join(self._words).strip("\n") if self._raw else re.sub(r" *\n *", "\n", re.sub(r" {2,}", " ", "".join(self._words))).strip()
        )
        bullet = lines == "-"
        if lines and not bullet:
            if self._heading:
                self.title = self.title or " ".join(lines.split())
                self.sections.heading(self._heading, lines)
            else:
                self.sections.add(Block(lines))
        self._words = ["- "] if bullet else []

    def _table(self, table: etree._Element, look: Look) -> None:
        caption = table.find("caption")
        if caption is not None:
            self.sections.add(Block(self._cell(caption, look)))
        rows, named = self._rows(table, look)
        top = 0
        while top < len(named) - 1 and named[top]:
            top += 1
        top = top or header_rows(rows)
        self.sections.add(table_block(rows[top:], rows[:top]))

    def _rows(self, table: etree._Element, look: Look) -> tuple[list[Row], list[bool]]:
        """The rows with merged cells filled in, and which of them hold column names only."""
        rows: list[Row] = []
        named = []
        below: dict[int, tuple[int, str | None]] = {}  # column -> rows still to fill, text
        for line in table.iter("tr"):
            if look.within(line.attrib, self._sheet.rules_for("tr", line.attrib)).hidden:
                self.sections.hide(" ".join(line.itertext()))
                continue
            row: list[str | None] = []
            cells = [cell for cell in line if cell.tag in _CELLS]
            for cell in cells:
                row.extend(_carried(below, len(row)))
                text = self._cell(cell, look)
                width, height = _span(cell, "colspan"), _span(cell, "rowspan")
                for offset in range(width):
                    if height > 1:
                        below[len(row)] = (height - 1, SAME if offset else text)
                    row.append(SAME if offset else text)
            row.extend(_carried(below, len(row)))
            if cells:
                rows.append(row)
                named.append(all(cell.tag == "th" for cell in cells))
        return rows, named

    def _cell(self, cell: etree._Element, look: Look) -> str:
        """A cell's visible text on one line; what is hidden in it goes to the section."""
        inner = _Reader(self._sheet)
        inner.sections = _CellText(self.sections)  # type: ignore[assignment]
        inner._walk(cell, look, tables=False)
        inner._end_paragraph()
        return " ".join(" ".join(inner.sections.parts).split())  # type: ignore[attr-defined]


class _CellText:
    """Stands for :class:`Sections` inside of a cell, where everything is one line."""

    def __init__(self, around: Sections) -> None:
        self.parts: list[str] = []
        self.hide = around.hide

    def heading(self, level: int, title: str) -> None:
        self.parts.append(title)

    def add(self, block: Block) -> None:
        self.parts.append(block.text)


def _is_data(table: etree._Element) -> bool:
    """Whether a table holds data and not the layout of a page: rows and columns, and no table or heading within."""
    if table.find(".//table") is not None or any(table.find(f".//{tag}") is not None for tag in _HEADINGS):
        return False
    widths = [sum(1 for cell in row if cell.tag in _CELLS) for row in table.iter("tr")]
    return len(widths) > 1 and max(widths) > 1


def _carried(below: dict[int, tuple[int, str | None]], column: int) -> Iterator[str | None]:
    """Cells that reach down from above, from ``column`` on."""
    while column in below:
        left, text = below.pop(column)
        if left > 1:
            below[column] = (left - 1, text)
        yield text
        column += 1


def _span(cell: etree._Element, name: str) -> int:
    value = cell.get(name, "1").strip()
    return min(max(int(value), 1), _WIDEST) if value.isascii() and value.isdigit() else 1


def _comment(node: etree._Element) -> str:
    return " ".join((node.text or "").split())
