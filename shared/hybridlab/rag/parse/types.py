"""What a parsed document is: pages (or sections) of text, and spans that point into that text.

Every span is a pair of character offsets into its own page's text, so a quote can be checked by slicing. The text of a page
is final: NFC, without invisible characters, wrapped lines joined. What is quoted from a document is quoted from here.
"""

from __future__ import annotations

from dataclasses import dataclass


class DocumentError(Exception):
    """A document that can't be read: ``code`` for programs, ``sentence`` for people (what is wrong and what to do)."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code, sentence)
        self.code = code
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Span:
    """``text[start:end]``, in characters of one page's text."""

    start: int
    end: int


@dataclass(frozen=True)
class TableSpan(Span):
    """A table in the text, one row a line. ``header`` is the row of column names, empty where the table has none."""

    header: str = ""


@dataclass(frozen=True)
class HiddenSpan(Span):
    """Text that a reader of the document doesn't see. ``cut``: it is the end of a line that runs over the edge of its page."""

    cut: bool = False


@dataclass(frozen=True)
class Heading:
    """From character ``start`` on, a page's text belongs to the section ``path`` (outermost heading first)."""

    start: int
    path: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """One page of a PDF, or one section of a document that has no pages.

    Attributes:
        number: the page, counted from 1 as a viewer counts; None where the format has no pages.
        heading: the path of headings under which the page begins.
        text: everything readable, followed by everything hidden (see ``hidden``).
        tables: the tables in ``text``, in order, each row with the names of its columns.
        hidden: what a reader of the document doesn't see (white, tiny, covered or off-page text, comments, invisible
            characters). It stands behind the visible text, so that no visible span ever reaches into it.
        headings: the sections that begin within the page.
    """

    number: int | None
    heading: tuple[str, ...]
    text: str
    tables: tuple[Span, ...] = ()
    hidden: tuple[HiddenSpan, ...] = ()
    headings: tuple[Heading, ...] = ()

    @property
    def visible_end(self) -> int:
        """Where the visible text ends."""
        return len(self.text[: self.hidden[0].start].rstrip()) if self.hidden else len(self.text)


@dataclass(frozen=True)
class Parsed:
    """A whole document.

    Attributes:
        title: the document's own title, or ``""``.
        pages: in reading order; never empty.
        media_type: what the content is, whatever the name or the sender said.
        flags: what a person should know: ``macros``, ``hidden-text``, ``cut-line:42`` (a line runs over that page's edge),
            ``encoding:windows-1258``, ``type:…`` (the content is not of the declared type), ``unreadable-page:7``,
            ``no-text-page:3``.
    """

    title: str
    pages: tuple[Page, ...]
    media_type: str = ""
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """How large a document may be before it is refused. Bytes are of the file, characters of its text."""

    pages: int = 5_000
    file_bytes: int = 512 * 2**20
    text_chars: int = 20_000_000
    archive_bytes: int = 512 * 2**20
    archive_part_bytes: int = 64 * 2**20
    archive_ratio: int = 200
    archive_parts: int = 10_000
