"""Prose for translators: each paragraph of a master's markdown is a gettext message, found again by its cell's id.

A catalogue lies beside its master, `source/locale/<language>/<notebook>.po`; what it does not hold, or holds as fuzzy, stays English.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

from coursekit.course import Week
from coursekit.errors import CourseError
from coursekit.master import Cell, read_master

FENCED = re.compile(r"(```.*?```|\$\$.*?\$\$)", re.DOTALL)


def paragraphs(text: str) -> list[str]:
    """A markdown text in pieces that, joined, give it again: paragraphs, and between them blank lines, code and displayed formulas."""
    pieces: list[str] = []
    for number, part in enumerate(FENCED.split(text)):
        pieces += [part] if number % 2 else re.split(r"(\n\s*\n)", part)
    return [piece for piece in pieces if piece]


def is_prose(piece: str) -> bool:
    return bool(piece.strip()) and not piece.startswith(("```", "$$"))


def catalogue_path(week: Week, notebook: str, language: str) -> Path:
    return week.source / "locale" / language / f"{notebook}.po"


def languages(week: Week, notebook: str) -> list[str]:
    """The languages for which this notebook has a catalogue."""
    return sorted(path.parent.name for path in (week.source / "locale").glob(f"*/{notebook}.po"))


def extract(cells: list[Cell], catalogue: Catalog) -> Catalog:
    """Every paragraph of the markdown cells, with its cell's id as the context."""
    for cell in cells:
        if cell.kind == "markdown":
            for piece in filter(is_prose, paragraphs(cell.source)):
                catalogue.add(piece.strip(), context=cell.id)
    return catalogue


def read_catalogue(path: Path) -> Catalog:
    """A translator's catalogue. Raises CourseError where the file is malformed."""
    try:
        with path.open("rb") as text:
            return read_po(text, abort_invalid=True)
    except Exception as error:
        raise CourseError(f"{path} can't be read as a gettext catalogue: {error}. Mend it, or take it from git again.") from None


def update(week: Week, notebook: str, language: str) -> tuple[Path, int, int]:
    """Bring a catalogue up to date with its master, or begin one; translations stay, changed ones become fuzzy.

    Returns its path, how many messages it has, and how many of them are translated.
    """
    path = catalogue_path(week, notebook, language)
    fresh = extract(read_master(week.source / f"{notebook}.py"), Catalog(project="hybrid-ai-course", charset="utf-8"))
    catalogue = read_catalogue(path) if path.is_file() else Catalog(locale=language, project="hybrid-ai-course", charset="utf-8")
    catalogue.update(fresh)
    out = io.BytesIO()
    write_po(out, catalogue, width=0, omit_header=False, ignore_obsolete=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(out.getvalue())
    messages = [message for message in catalogue if message.id]
    return path, len(messages), sum(bool(message.string) and not message.fuzzy for message in messages)


def translate(cells: list[Cell], catalogue: Catalog) -> list[Cell]:
    """The cells with their prose in the catalogue's language. Ids, code and options stay."""

    def of(cell: Cell, piece: str) -> str:
        message = catalogue.get(piece.strip(), context=cell.id) if is_prose(piece) else None
        return piece.replace(piece.strip(), message.string) if message and message.string and not message.fuzzy else piece

    return [
        Cell(cell.id, cell.kind, "".join(of(cell, piece) for piece in paragraphs(cell.source)), cell.options)
        if cell.kind == "markdown"
        else cell
        for cell in cells
    ]
