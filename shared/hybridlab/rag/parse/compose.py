"""From blocks to a page: clean the text, put tables and headings in place, and hidden text behind everything else."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from .types import DocumentError, Heading, HiddenSpan, Limits, Page, Span, TableSpan

#: Characters that show nothing but break words, searches and quotes: zero-width, joiners of no script here, bidi controls.
_DROPPED = dict.fromkeys([0xAD, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF, 0xFFFE, 0xFFFF])
_DROPPED |= dict.fromkeys(code for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\t\n")
_REPLACED = {0xA0: " ", 0x202F: " ", 0x2007: " ", 0x2028: "\n", 0x2029: "\n", 0x0B: "\n", 0x0C: "\n", 0x85: "\n"}
_LIGATURES = {0xFB00: "ff", 0xFB01: "fi", 0xFB02: "fl", 0xFB03: "ffi", 0xFB04: "ffl", 0xFB05: "st", 0xFB06: "st"}
_TABLE = {**_DROPPED, **_REPLACED, **_LIGATURES}
_SURROGATE = re.compile("[\ud800-\udfff]")
_TAGS = re.compile("[\U000e0000-\U000e007f]+")
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007f]{2,8}")


@dataclass(frozen=True)
class Block:
    """A paragraph; a table where ``header`` is a string (its rows are the lines); the opening of a section with ``heading``."""

    text: str
    header: str | None = None
    heading: tuple[str, ...] | None = None


def clean(text: str) -> tuple[str, str]:
    """``(visible, smuggled)``: NFC without invisible characters, and what was written in Unicode's invisible tag letters."""
    if _SURROGATE.search(text):  # halves of one character, as UTF-16 has them
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    smuggled = ""
    if _TAGS.search(text):
        text = _FLAG.sub("\U0001f3f4", text)
        smuggled = "".join(chr(ord(char) - 0xE0000) for run in _TAGS.findall(text) for char in run)
        text = _TAGS.sub("", text)
        smuggled = clean(smuggled)[0].strip()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii() or not text.isprintable():
        text = unicodedata.normalize("NFC", text.translate(_TABLE))
    return text, smuggled


def compose(
    blocks: Iterable[Block], hidden: Iterable[str] = (), cut: Iterable[str] = (), *, number: int | None, heading: tuple[str, ...] = ()
) -> Page:
    """A page of ``blocks``, with a blank line between any two, then the ``hidden`` texts and the ``cut`` ends of lines, one a line."""
    length, parts = 0, list[str]()
    tables: list[Span] = []
    headings: list[Heading] = []
    concealed: list[str] = []
    for block in blocks:
        visible, smuggled = clean(block.text)
        visible = visible.strip("\n") if block.header is not None else visible.strip()
        if smuggled:
            concealed.append(smuggled)
        if not visible:
            continue
        start = length + 2 if parts else 0
        parts.append(visible)
        length = start + len(visible)
        if block.heading is not None:
            headings.append(Heading(start, block.heading))
        if block.header is not None:
            tables.append(TableSpan(start, length, clean(block.header)[0].strip()))
    page = "\n\n".join(parts)
    spans: list[HiddenSpan] = []
    for piece, is_cut in [*((one, False) for one in (*hidden, *concealed)), *((one, True) for one in cut)]:
        visible, smuggled = clean(piece)
        piece = " ".join(f"{visible} {smuggled}".split())
        if any(char.isalnum() for char in piece):
            page += "\n" if spans else "\n\n" if page else ""
            spans.append(HiddenSpan(len(page), len(page) + len(piece), is_cut))
            page += piece
    return Page(number, heading, page, tuple(tables), tuple(spans), tuple(headings))


def hold_text_limit(pages: Iterable[Page], limits: Limits) -> tuple[Page, ...]:
    """The pages as a tuple.

    Raises:
        DocumentError: ``too_large``, as soon as there are more characters than allowed.
    """
    kept, total = [], 0
    for page in pages:
        total += len(page.text)
        if total > limits.text_chars:
            raise DocumentError(
                "too_large", f"The document holds more than {limits.text_chars:,} characters of text. Split it and add its parts."
            )
        kept.append(page)
    return tuple(kept)
