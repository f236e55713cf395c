"""PDFs made for the tests, and what a parsed page holds."""

from __future__ import annotations

from pathlib import Path

import typst
from hybridlab.rag.parse import Page
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

VISIBLE = "The notice period is thirty days."


def typeset(path: Path, source: str) -> Path:
    path.write_bytes(typst.compile(source.encode()))
    return path


def drawn(path: Path, draw, pages: int = 1) -> Path:
    """A PDF whose pages hold VISIBLE, and what ``draw(canvas)`` adds."""
    canvas = Canvas(str(path), pagesize=A4)
    for _ in range(pages):
        canvas.setFont("Helvetica", 12)
        canvas.drawString(72, 700, VISIBLE)
        draw(canvas)
        canvas.showPage()
    canvas.save()
    return path


def hidden(page: Page) -> list[str]:
    return [page.text[span.start : span.end] for span in page.hidden]


def visible(page: Page) -> str:
    return page.text[: page.visible_end]


def tables(page: Page) -> list[str]:
    return [page.text[span.start : span.end] for span in page.tables]
