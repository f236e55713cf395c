"""PDF to pages, with PDFium.

Each page is read once: its objects (for hidden text and rulings) and its characters (for lines). When all pages are known,
sections and paragraphs are made, since what is a heading or a divided word shows in the whole document only.

Not read: comments and other annotations, values of form fields, attachments. Not seen: a font that shows other letters than
it names.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pypdfium2 as pdfium
from pypdfium2 import raw

from .compose import clean, compose, hold_text_limit
from .pdf_headings import outline, sections
from .pdf_hidden import hidden_characters, hidden_pieces, line_ends
from .pdf_lines import Line, in_reading_order, page_characters, read_lines, upright
from .pdf_objects import page_objects
from .pdf_paragraphs import TableEnd, Words, page_blocks, table_end
from .pdf_tables import find_grids
from .types import DocumentError, Limits, Page, Parsed

_TAIL = 64 * 1024
_LINEARIZED = re.compile(rb"/Linearized\b[^>]{0,200}?/L\s+(\d+)|/L\s+(\d+)[^>]{0,200}?/Linearized\b")


@dataclass
class _Read:
    """What one page gave: its lines, its hidden texts, the ends of lines that run over its edge, and whether it shows a picture."""

    lines: list[Line] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    pictured: bool = False
    unreadable: bool = False


def parse_pdf(path: Path, limits: Limits, progress: Callable[[int, int], None]) -> Parsed:
    """Read a PDF. See :func:`hybridlab.rag.parse.parse` for errors and progress."""
    _refuse_truncated(path)
    with closing(_open(path)) as document:
        count = len(document)
        if count > limits.pages:
            raise DocumentError("too_many_pages", f"The PDF has {count:,} pages; at most {limits.pages:,} are read. Split it.")
        reads, chars = [], 0
        for index in range(count):
            reads.append(_read(document, index))
            chars += sum(len(line.text) for line in reads[-1].lines)
            if chars > limits.text_chars:
                raise DocumentError("too_large", f"The PDF holds more than {limits.text_chars:,} characters of text. Split it.")
            progress(index + 1, count)
        title = " ".join(clean(document.get_metadata_dict().get("Title", ""))[0].split())
        entries = outline(document)
    if not any(read.lines for read in reads):
        raise _nothing_to_read(reads)
    opened = sections([read.lines for read in reads], entries)
    words = Words([line.text for read in reads for line in read.lines])
    pages: list[Page] = []
    heading: tuple[str, ...] = ()
    carried: TableEnd | None = None
    for number, (read, headings) in enumerate(zip(reads, opened, strict=True), 1):
        blocks = page_blocks(read.lines, headings, carried, words)
        pages.append(compose(blocks, read.hidden, read.cut, number=number, heading=heading))
        carried = table_end(read.lines, carried)
        heading = headings[max(headings)] if headings else heading
    return Parsed(title, hold_text_limit(pages, limits), flags=_page_flags(reads))


def _open(path: Path) -> pdfium.PdfDocument:
    try:
        return pdfium.PdfDocument(path)
    except pdfium.PdfiumError as problem:
        # PDFium reports a document without pages with the error of the document before, so the file itself is asked.
        if problem.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY) and _holds(path, rb"/Encrypt\b"):
            raise DocumentError("encrypted", "The PDF is protected by a password. Save it without one and add it again.") from problem
        if _holds(path, rb"/Count\s+0\b"):
            raise DocumentError("empty", "The PDF has no pages. Export it again from the program that made it.") from problem
        raise DocumentError("damaged", "The PDF is damaged; it can't be opened. Export it again and add it.") from problem


def _holds(path: Path, pattern: bytes) -> bool:
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return re.search(pattern, data) is not None


def _refuse_truncated(path: Path) -> None:
    """PDFium repairs what it can, and would silently lose the pages that a cut-off upload lacks."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        linearized = _LINEARIZED.search(handle.read(2048))
        handle.seek(max(0, size - _TAIL))
        ended = b"%%EOF" in handle.read()
    length = int(linearized.group(1) or linearized.group(2)) if linearized else 0
    if not ended or length > size:
        raise DocumentError("truncated", "The PDF is cut off: its end is missing. Copy or export it again, then add it.")


def _read(document: pdfium.PdfDocument, index: int) -> _Read:
    """One page's lines in reading order. A page that PDFium can't read is empty, and says so."""
    try:
        page = document[index]
    except pdfium.PdfiumError:
        return _Read(unreadable=True)
    with closing(page), closing(page.get_textpage()) as textpage:
        text = page_characters(textpage)
        objects = page_objects(page)
        keys = hidden_pieces(page, objects)
        cut = line_ends(page, objects, keys) if keys else set()
        dropped = hidden_characters(textpage, len(text), keys) if keys else None
        turn = upright(textpage, text)
        grids = find_grids(objects.rules, turn) if objects.rules else []
        lines = in_reading_order(read_lines(textpage, text, dropped, turn, grids))
        hidden = _runs(text, hidden_characters(textpage, len(text), keys - cut)) if keys - cut else []
        ends = _runs(text, hidden_characters(textpage, len(text), cut)) if cut else []
        return _Read(lines, hidden, ends, bool(objects.images))


def _runs(text: str, dropped: bytearray) -> list[str]:
    """The hidden characters, one string for each unbroken run of them."""
    return [text[run.start() : run.end()].strip() for run in re.finditer(rb"\x01+", dropped)]


def _nothing_to_read(reads: list[_Read]) -> DocumentError:
    if any(read.unreadable for read in reads):
        return DocumentError("damaged", "The PDF is damaged: none of its pages can be read. Export it again and add it.")
    if any(read.pictured for read in reads):
        return DocumentError(
            "scanned",
            "The PDF holds pictures of pages and no text (a scan). Run it through text recognition, for instance ocrmypdf, "
            "and add the result.",
        )
    return DocumentError("no_text", "The PDF holds no text that can be read. Add a file that has text.")


def _page_flags(reads: list[_Read]) -> tuple[str, ...]:
    flags = []
    for number, read in enumerate(reads, 1):
        if read.unreadable:
            flags.append(f"unreadable-page:{number}")
        elif not read.lines and read.pictured:
            flags.append(f"no-text-page:{number}")
    return tuple(flags)
