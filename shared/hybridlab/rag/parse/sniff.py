"""What a file really is, by its content: a PDF called .docx is a PDF, and a program called .txt is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

from .types import DocumentError, Limits

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
DOCM = "application/vnd.ms-word.document.macroenabled.12"
HTML = "text/html"
MARKDOWN = "text/markdown"
TEXT = "text/plain"

_BY_SUFFIX = {
    **dict.fromkeys([".htm", ".html", ".xhtml"], HTML),
    **dict.fromkeys([".md", ".markdown"], MARKDOWN),
    **dict.fromkeys([".txt", ".text", ".log", ".rst"], TEXT),
    ".pdf": PDF,
    ".docx": DOCX,
    ".docm": DOCM,
}
_BY_TYPE = {"application/xhtml+xml": HTML, "text/x-markdown": MARKDOWN}
_OTHER_ARCHIVES = {
    "xl/workbook.xml": "a spreadsheet",
    "ppt/presentation.xml": "a presentation",
    "META-INF/manifest.xml": "an OpenDocument file",
    "META-INF/container.xml": "an EPUB book",
}
_BINARY = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"II*\x00": "a TIFF picture",
    b"MM\x00*": "a TIFF picture",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"\x1f\x8b": "a gzip archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"SQLite format 3": "a database",
    b"{\\rtf": "an RTF document",
}
READABLE = "PDF, DOCX, Markdown, HTML and plain text can be read."


def sniff(path: Path, declared: str, limits: Limits) -> str:
    """The media type of the file's content: one of this module's constants.

    ``declared`` (a media type, may be empty) and the name's ending only decide between kinds of text, and both may lie.

    Raises:
        DocumentError: ``empty``, ``too_large``, ``unsupported``, ``encrypted``, ``damaged``, ``archive_bomb``.
    """
    size = path.stat().st_size
    if size == 0:
        raise DocumentError("empty", "The file is empty (0 bytes). Choose the file again; the upload may have been cut off.")
    if size > limits.file_bytes:
        raise DocumentError(
            "too_large", f"The file has {size / 2**20:,.0f} MiB; at most {limits.file_bytes / 2**20:,.0f} MiB are read. Split it."
        )
    with path.open("rb") as handle:
        head = handle.read(4096)
    if b"%PDF-" in head[:1024]:
        return PDF
    if head.startswith(b"PK\x03\x04"):
        return _archive(path, limits)
    if head.startswith(b"PK\x05\x06"):
        raise DocumentError("empty", "The file is an empty ZIP archive. " + READABLE)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise _old_office(path)
    for magic, kind in _BINARY.items():
        if head.startswith(magic) and (magic != b"MZ" or b"\0" in head):
            raise DocumentError("unsupported", f"The file is {kind}. {READABLE}")
    return _text_type(path, declared, head)


def declared_type(path: Path, declared: str) -> str:
    """The type that sender and name claim, or ``""`` when they say nothing definite."""
    declared = declared.partition(";")[0].strip().lower()
    declared = _BY_TYPE.get(declared, declared)
    if declared in ("", "application/octet-stream", TEXT):
        return _BY_SUFFIX.get(path.suffix.lower(), declared if declared == TEXT else "")
    return declared


def _text_type(path: Path, declared: str, head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0").replace(b"\0", b"")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return HTML
    claimed = declared_type(path, declared)
    return claimed if claimed in (HTML, MARKDOWN) else TEXT


def _archive(path: Path, limits: Limits) -> str:
    """A DOCX, looked at without unpacking anything; everything else that is zipped is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            hold_archive_limits(parts, limits)
            names = {part.filename for part in parts}
            if "[Content_Types].xml" in names and any(name.startswith("word/") for name in names):
                kinds = archive.read("[Content_Types].xml")
                if b"macroEnabled" in kinds or "word/vbaProject.bin" in names:
                    return DOCM
                return DOCX
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, ValueError) as problem:
        raise DocumentError("damaged", "The file is a damaged or cut-off archive; it can't be opened. Add it again.") from problem
    kind = next((kind for name, kind in _OTHER_ARCHIVES.items() if name in names), "a ZIP archive")
    raise DocumentError("unsupported", f"The file is {kind}. {READABLE}")


def hold_archive_limits(parts: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Refuse an archive that unpacks to far more than it should, by its own list of contents.

    The list can't understate: what is read of a part ends at the size that stands there.
    """
    total = sum(part.file_size for part in parts)
    swollen = (part for part in parts if part.file_size > 2**22 and part.file_size > limits.archive_ratio * max(part.compress_size, 1))
    large = (part for part in parts if part.file_size > limits.archive_part_bytes and part.filename.endswith((".xml", ".rels")))
    if len(parts) > limits.archive_parts or total > limits.archive_bytes or any(swollen) or any(large):
        raise DocumentError(
            "archive_bomb",
            f"The file unpacks to {total / 2**20:,.0f} MiB in {len(parts):,} parts, which no ordinary document does. It was not opened.",
        )


def _old_office(path: Path) -> DocumentError:
    with path.open("rb") as handle:
        if "EncryptedPackage".encode("utf-16-le") in handle.read(2**22):
            return DocumentError("encrypted", "The document is protected by a password. Save it without one and add it again.")
    return DocumentError("unsupported", "The file is in the old Office format (.doc, .xls, .ppt). Save it as DOCX or PDF.")
