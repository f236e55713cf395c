"""DOCX to sections, with python-docx: paragraphs and tables in their order, headings as paths, footnotes where they belong.

Headers and footers are left out: they repeat on each page. Deleted text of a tracked change is left out, inserted text is in.
No macro, field or link is ever carried out, and no external part is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

from docx.document import Document
from docx.opc.constants import CONTENT_TYPE, RELATIONSHIP_TYPE
from docx.opc.exceptions import OpcError
from docx.opc.part import PartFactory
from docx.oxml.ns import qn
from docx.oxml.parser import parse_xml
from docx.package import Package
from docx.parts.document import DocumentPart
from docx.table import Table
from docx.text.paragraph import Paragraph
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue] - compiled

from .compose import Block, hold_text_limit
from .docx_look import Looks
from .sections import Sections
from .tables import SAME, Row, header_rows, rows_text, table_block
from .types import DocumentError, Limits, Parsed

_MACROS = "application/vnd.ms-word.document.macroEnabled.main+xml"
_TEMPLATE = "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml"
_MACRO_TEMPLATE = "application/vnd.ms-word.template.macroEnabledTemplate.main+xml"
_KINDS = (CONTENT_TYPE.WML_DOCUMENT_MAIN, _MACROS, _TEMPLATE, _MACRO_TEMPLATE)
for _kind in _KINDS:
    PartFactory.part_type_for[_kind] = DocumentPart

_LEFT_OUT = {qn(f"w:{name}") for name in ("del", "moveFrom", "instrText", "delText", "pPr", "rPr", "tblPr", "fldData")}
_LEFT_OUT |= {"{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"}
_MARKS = {qn("w:tab"): "\t", qn("w:br"): "\n", qn("w:cr"): "\n", qn("w:noBreakHyphen"): "-", qn("w:ptab"): "\t"}
_DEEPEST_TABLE = 6


def parse_docx(path: Path, limits: Limits) -> Parsed:
    """Read a DOCX or DOCM. Its size when unpacked has been checked by :func:`hybridlab.rag.parse.sniff.sniff`.

    Raises:
        DocumentError: ``damaged`` or ``unsafe_xml``.
    """
    try:
        document = _open(path)
        reader = _Reader(document)
        reader.read(document)
        title = " ".join((document.core_properties.title or "").split()) or reader.title
    except (OpcError, BadZipFile, KeyError, ValueError, AttributeError, etree.XMLSyntaxError, NotImplementedError, OSError) as problem:
        raise DocumentError("damaged", "The DOCX is damaged; it can't be opened. Save it again and add it.") from problem
    return Parsed(title, hold_text_limit(reader.sections.pages(), limits))


def _open(path: Path) -> Document:
    with path.open("rb") as handle:
        part = Package.open(handle).main_document_part
    if not isinstance(part, DocumentPart):
        raise ValueError(f"the main part is {part.content_type}")
    if part.element.getroottree().docinfo.internalDTD is not None:
        raise DocumentError("unsafe_xml", "The DOCX defines entities of its own, which no word processor writes. It was not read.")
    return part.document


class _Reader:
    """One pass over the body."""

    def __init__(self, document: Document) -> None:
        self.sections = Sections()
        self.title = ""
        self._looks = Looks(document)
        self._notes = _footnotes(document)
        self._document = document

    def read(self, document: Document) -> None:
        for item in _items(document.element.body, document):
            if isinstance(item, Paragraph):
                self._paragraph(item)
            else:
                self._table(item)

    def _paragraph(self, paragraph: Paragraph) -> None:
        text, notes = self._text(paragraph)
        level = self._level(paragraph)
        if level == 0 and text.strip():
            self.title = self.title or " ".join(text.split())
        if level:
            self.sections.heading(level, text)
        else:
            listed = paragraph._p.find(f".//{qn('w:numPr')}") is not None or ((paragraph.style and paragraph.style.name) or "").startswith(
                "List"
            )
            self.sections.add(Block(f"- {text}" if listed and text.strip() else text))
        for note in notes:
            self.sections.add(Block(note))

    def _text(self, paragraph: Paragraph) -> tuple[str, list[str]]:
        """The visible text, and the footnotes that it refers to. Hidden runs go to the section's hidden text."""
        words: list[str] = []
        hidden: list[str] = []
        notes: list[str] = []
        shade = self._looks.paragraph_ground(paragraph)
        for run, node in _leaves(paragraph._p):
            text = _MARKS.get(node.tag) or node.text or ""
            if node.tag == qn("w:footnoteReference"):
                note = self._notes.get(node.get(qn("w:id"), ""), "")
                notes += [f"[{len(notes) + 1}] {note}"] if note else []
                text = f" [{len(notes)}]" if note else ""
            if run is not None and self._looks.is_hidden(run, paragraph, shade):
                hidden.append(text)
            else:
                words.append(text)
                if hidden and hidden[-1] != "\n":
                    hidden.append("\n")
        for part in "".join(hidden).split("\n"):
            self.sections.hide(part)
        return re.sub(r"[ \t]+", " ", "".join(words)), notes

    def _level(self, paragraph: Paragraph) -> int | None:
        """1 … 9 for a heading, 0 for the document's title, None for text; by style's name or by outline level."""
        style = paragraph.style
        outline = paragraph._p.find(f"./{qn('w:pPr')}/{qn('w:outlineLvl')}")
        for _ in range(12):
            if outline is not None or style is None:
                break
            if found := re.fullmatch(r"[Hh]eading (\d)", style.name or ""):
                return int(found.group(1))
            if style.name == "Title":
                return 0
            outline = style.element.find(f"./{qn('w:pPr')}/{qn('w:outlineLvl')}")
            style = style.base_style
        value = outline.get(qn("w:val"), "9") if outline is not None else "9"
        return int(value) + 1 if value.isdigit() and int(value) < 9 else None

    def _table(self, table: Table) -> None:
        rows, named = self._rows(table, 0)
        if len(rows) == 1 and len(rows[0]) == 1:  # a box around text
            self.sections.add(Block(rows[0][0] or ""))
        elif rows:
            top = named or header_rows(rows)
            self.sections.add(table_block(rows[top:], rows[:top]))

    def _rows(self, table: Table, depth: int) -> tuple[list[Row], int]:
        """The rows, and how many on top are marked to be repeated as column names."""
        rows: list[Row] = []
        named = 0
        for line in table.rows:
            row: list[str | None] = [""] * line.grid_cols_before
            last = None
            for cell in line.cells:
                row.append(SAME if cell._tc is last else self._cell(cell, depth))
                last = cell._tc
            marked = line._tr.find(f"./{qn('w:trPr')}/{qn('w:tblHeader')}") is not None
            if marked and named == len(rows):
                named += 1
            rows.append(row)
        return rows, named if named < len(rows) else 0

    def _cell(self, cell, depth: int) -> str:
        """A cell on one line; a table within it as its rows, divided by semicolons."""
        parts = []
        for item in _items(cell._tc, cell):
            if isinstance(item, Paragraph):
                text, notes = self._text(item)
                parts += [text, *notes]
            elif depth < _DEEPEST_TABLE:
                rows, named = self._rows(item, depth + 1)
                top = named or header_rows(rows)
                parts.append("; ".join(line.replace(" | ", ", ") for line in rows_text(rows[top:], rows[:top])))
            else:
                parts.append(" ".join(node.text or "" for node in item._tbl.iter(qn("w:t"))))
        return " ".join(" ".join(parts).split())


def _items(container: etree._Element, parent) -> Iterator[Paragraph | Table]:
    """Paragraphs and tables in order: what ``iter_inner_content`` gives, and what stands in content controls as well."""
    for child in container.iterchildren():
        if child.tag == qn("w:p"):
            yield Paragraph(child, parent)
        elif child.tag == qn("w:tbl"):
            yield Table(child, parent)
        elif child.tag in (qn("w:sdt"), qn("w:sdtContent"), qn("w:ins"), qn("w:moveTo"), qn("w:customXml"), qn("w:smartTag")):
            yield from _items(child, parent)


def _leaves(paragraph: etree._Element) -> Iterator[tuple[etree._Element | None, etree._Element]]:
    """``(run, leaf)`` for each piece of text or break in order; a text box's paragraphs begin on a new line."""
    stack: list[tuple[etree._Element | None, etree._Element]] = [(None, paragraph)]
    while stack:
        run, node = stack.pop()
        if node.tag in _LEFT_OUT:
            continue
        if node.tag == qn("w:t") or node.tag in _MARKS or node.tag == qn("w:footnoteReference"):
            yield run, node
            continue
        inner = node if node.tag == qn("w:r") else run
        if node.tag == qn("w:p") and node is not paragraph:
            yield None, etree.Element(qn("w:br"))
        stack.extend((inner, child) for child in reversed(node) if isinstance(child.tag, str))


def _footnotes(document: Document) -> dict[str, str]:
    """The footnotes' texts by their id."""
    notes = {}
    for relation in document.part.rels.values():
        if relation.reltype == RELATIONSHIP_TYPE.FOOTNOTES and not relation.is_external:
            for note in parse_xml(relation.target_part.blob).iterchildren(qn("w:footnote")):
                notes[note.get(qn("w:id"), "")] = " ".join("".join(node.text or "" for node in note.iter(qn("w:t"))).split())
    return notes
