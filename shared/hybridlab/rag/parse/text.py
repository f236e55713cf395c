"""Plain text, and the decoding of bytes that every text format shares.

What is tried, in order: a byte order mark, the encoding that the text itself names, UTF-8, UTF-16 without a mark, and at
last the Windows code pages 1258 (Vietnamese) or 1252 (Western). The last two can't fail, so a document read with them is flagged.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from .compose import Block, compose, hold_text_limit
from .sections import Sections
from .types import DocumentError, Limits, Parsed

_MARKS = [
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
]
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_SAMPLE = 2**16
#: In code page 1258 the five tones are characters of their own that follow their vowel.
_TONE = re.compile("[\u0300\u0301\u0303\u0309\u0323]")
_TONED_VOWEL = re.compile("[aăâeêioôơuưyAĂÂEÊIOÔƠUƯY][\u0300\u0301\u0303\u0309\u0323]")


def parse_text(path: Path, limits: Limits) -> Parsed:
    """Paragraphs of a text file. Form feeds divide it into numbered pages; without any it has none."""
    text, flags = read_text(path, limits)
    sheets = text.split("\f")
    if len(sheets) > 1 and not sheets[-1].strip():
        sheets.pop()
    if len(sheets) > 1:
        pages = tuple(compose(_paragraphs(sheet), number=number) for number, sheet in enumerate(sheets, 1))
    else:
        sections = Sections()
        for block in _paragraphs(text):
            sections.add(block)
        pages = sections.pages()
    return Parsed("", hold_text_limit(pages, limits), flags=flags)


def read_text(path: Path, limits: Limits, *, markup: bool = False) -> tuple[str, tuple[str, ...]]:
    """A file's text, and ``("encoding:…",)`` where its encoding was guessed.

    Raises:
        DocumentError: ``too_large`` before anything is read, or ``binary``.
    """
    if path.stat().st_size > 4 * limits.text_chars:
        raise DocumentError("too_large", f"The file holds more than {limits.text_chars:,} characters of text. Split it.")
    text, guessed = decode(path.read_bytes(), markup=markup)
    if len(text) > limits.text_chars:
        raise DocumentError("too_large", f"The file holds more than {limits.text_chars:,} characters of text. Split it.")
    return text, (f"encoding:{guessed}",) if guessed else ()


def decode(data: bytes, *, markup: bool = False) -> tuple[str, str | None]:
    """``(text, guessed)``: ``guessed`` is the code page where there was nothing better than a guess, else None.

    Args:
        markup: believe a ``charset=`` near the beginning.

    Raises:
        DocumentError: ``binary`` when the bytes are no text.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors="replace"), None
    if unmarked := _unmarked_utf16(data[:_SAMPLE]):
        return data.decode(unmarked, errors="replace"), None
    if len(_NO_TEXT.findall(data[:_SAMPLE])) > 2 + len(data[:_SAMPLE]) // 1000:
        raise DocumentError("binary", "The file is no text: it holds binary data. PDF, DOCX, Markdown, HTML and plain text can be read.")
    for encoding in [*([_named(data)] if markup else []), "utf-8"]:
        try:
            return data.decode(encoding), None
        except UnicodeDecodeError:
            continue
    vietnamese = _from_1258(data)
    if vietnamese is not None:
        return vietnamese, "windows-1258"
    return data.decode("cp1252", errors="replace"), "windows-1252"


def _named(data: bytes) -> str:
    """The encoding that HTML names, where Python knows it as one of text."""
    found = re.search(rb"""(?:charset|encoding)\s*=\s*["']?([\w.:-]{2,40})""", data[:4096])
    try:
        codec = codecs.lookup(found.group(1).decode("ascii")) if found else None
    except LookupError:
        return "utf-8"
    return codec.name if codec and codec._is_text_encoding and not codec.name.startswith("utf-16") else "utf-8"


def _unmarked_utf16(sample: bytes) -> str | None:
    """UTF-16 by its zeros, which fall on every second byte of Western text; Vietnamese has enough of that."""
    half = len(sample) // 2
    if half < 2:
        return None
    even, odd = sample[0 : 2 * half : 2].count(0) / half, sample[1 : 2 * half : 2].count(0) / half
    if odd > 0.3 and even < odd / 3:
        return "utf-16-le"
    return "utf-16-be" if even > 0.3 and odd < even / 3 else None


def _from_1258(data: bytes) -> str | None:
    """The text, if it is Vietnamese: tones are frequent in it, and each follows a vowel."""
    try:
        text = data.decode("cp1258")
    except UnicodeDecodeError:
        return None
    tones, toned = len(_TONE.findall(text)), len(_TONED_VOWEL.findall(text))
    if tones >= 2 and toned >= 0.97 * tones and toned * 80 >= len(text):
        return unicodedata.normalize("NFC", text)
    return None


def _paragraphs(text: str) -> list[Block]:
    return [Block(part) for part in re.split(r"\n[ \t]*(?:\n[ \t]*)+", text.replace("\r\n", "\n").replace("\r", "\n")) if part.strip()]
