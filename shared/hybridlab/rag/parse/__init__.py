"""Documents to pages: PDF, DOCX, Markdown, HTML and plain text, with everything hidden in them told apart.

>>> parsed = parse("handbook.pdf")                                            # doctest: +SKIP
>>> parsed.pages[0].number, parsed.pages[0].text[:20]                         # doctest: +SKIP
(1, 'Employee handbook\\n\\n')

A file from a stranger is read with :func:`hybridlab.rag.parse.limited.parse_limited`, in a process of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .sniff import DOCM, DOCX, HTML, MARKDOWN, PDF, declared_type, sniff
from .types import DocumentError, Heading, Limits, Page, Parsed, Span, TableSpan

__all__ = ["DocumentError", "Heading", "Limits", "Page", "Parsed", "Span", "TableSpan", "parse"]

Progress = Callable[[int, int], None]


def parse(path: str | os.PathLike[str], media_type: str = "", *, limits: Limits | None = None, progress: Progress | None = None) -> Parsed:
    """Read a document. The content decides what it is; ``media_type`` and the name's ending are hints.

    Args:
        progress: called with (pages done, pages in all) as a PDF is read; once at the end for other formats.

    Raises:
        DocumentError: with ``code`` one of ``empty``, ``no_text``, ``scanned``, ``unsupported``, ``binary``, ``damaged``,
            ``truncated``, ``encrypted``, ``too_many_pages``, ``too_large``, ``archive_bomb``, ``unsafe_xml``.
    """
    path, limits, progress = Path(path), limits or Limits(), progress or (lambda done, total: None)
    kind = sniff(path, media_type, limits)
    if kind == PDF:
        from .pdf import parse_pdf

        parsed = parse_pdf(path, limits, progress)
    else:
        parsed = _reader(kind)(path, limits)
        progress(len(parsed.pages), len(parsed.pages))
    if not any(page.visible_end for page in parsed.pages):
        raise DocumentError("no_text", "The document holds no text that can be read. Add a file that has text.")
    return replace(parsed, media_type=kind, flags=parsed.flags + _flags(parsed, kind, declared_type(path, media_type)))


def _reader(kind: str) -> Callable[[Path, Limits], Parsed]:
    """The formats without pages, imported as they are needed."""
    if kind in (DOCX, DOCM):
        from .docx import parse_docx as reader
    elif kind == HTML:
        from .html import parse_html as reader
    elif kind == MARKDOWN:
        from .markdown import parse_markdown as reader
    else:
        from .text import parse_text as reader
    return reader


def _flags(parsed: Parsed, kind: str, claimed: str) -> tuple[str, ...]:
    flags = []
    if any(not span.cut for page in parsed.pages for span in page.hidden):
        flags.append("hidden-text")
    for page in parsed.pages:
        if any(span.cut for span in page.hidden):
            flags.append(f"cut-line:{page.number}")
    if kind == DOCM:
        flags.append("macros")
    if claimed and claimed != kind and {claimed, kind} != {DOCX, DOCM}:
        flags.append(f"type:{kind}")
    return tuple(flags)
