"""Read a notebook file whatever state it is in, and write one so that it is never half there.

Notable:
- a notebook that is cut off, or has lines in it that are no JSON, still gives up every whole cell that it holds;
- of the cell in which the text breaks off, the whole lines of its source are kept;
- writing goes to a file beside it first and is moved into place, so a full disk or a closed laptop leaves the old one.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4.rwbase import rejoin_lines

CELL_KINDS = ("code", "markdown", "raw")


@dataclass(frozen=True)
class Salvage:
    """A notebook as far as it could be read: `broken` says why not all of it, `cut` names the cell that was cut off."""

    notebook: NotebookNode
    broken: str = ""
    cut: NotebookNode | None = None
    crlf: bool = False


def read(path: Path) -> Salvage:
    """Read the notebook at `path`. Whole or not, it comes back with well-formed cells.

    Raises FileNotFoundError, and whatever else the disk has to say.
    """
    raw = path.read_bytes()
    text = raw.decode("utf-8-sig", errors="replace")
    return parse(text)


def parse(text: str) -> Salvage:
    crlf = "\r" in text
    if not text.strip("\0 \r\n\t"):
        return Salvage(nbformat.v4.new_notebook(), "the file is empty")
    try:
        content = json.loads(text)
    except ValueError as error:
        cells, cut = _whole_cells(text)
        notebook = _well_formed({"cells": cells, "metadata": {}})
        at = getattr(error, "lineno", 0)
        return Salvage(notebook, f"the file breaks off or is damaged at line {at}", _cell(cut) if cut else None, crlf)
    if not isinstance(content, dict) or not isinstance(content.get("cells", content.get("worksheets")), list):
        return Salvage(nbformat.v4.new_notebook(), "the file is no notebook")
    if content.get("nbformat", 4) != 4:
        content = nbformat.reads(text, as_version=4)
    notebook = _well_formed(content)
    return Salvage(notebook, crlf=crlf or any("\r" in cell.source for cell in notebook.cells))


def write(notebook: NotebookNode, path: Path) -> None:
    """Write `notebook` to `path` in one step: a reader sees the old file or the new one."""
    write_text(nbformat.writes(notebook, version=4) + "\n", path)


def write_text(text: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def checkpoint_of(path: Path) -> Path:
    """Where JupyterLab keeps the copy of the notebook as it was last saved on purpose."""
    return path.parent / ".ipynb_checkpoints" / f"{path.stem}-checkpoint.ipynb"


def grade_id(cell: NotebookNode) -> str:
    """The cell's name in nbgrader, or an empty string."""
    about = cell.metadata.get("nbgrader")
    name = about.get("grade_id", "") if isinstance(about, dict) else ""
    return name if isinstance(name, str) else ""


def _whole_cells(text: str) -> tuple[list[dict], dict | None]:
    """Every whole cell in a damaged text, and what is left of the one at which it broke off."""
    decoder = json.JSONDecoder()
    cells, at, last = [], text.find("{", text.find('"cells"') + 1), 0
    while at != -1:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            if isinstance(value, dict) and value.get("cell_type") in CELL_KINDS and "source" in value:
                cells.append(value)
                last = end
        at = text.find("{", end)
    return cells, _cut_cell(text[last:], decoder)


def _cut_cell(text: str, decoder: json.JSONDecoder) -> dict | None:
    about = re.search(r'"metadata"\s*:\s*(?={)', text)
    sources = list(re.finditer(r'"source"\s*:\s*\[', text))
    if not about or not sources or sources[-1].start() < about.start():
        return None
    try:
        metadata, _ = decoder.raw_decode(text, about.end())
    except ValueError:
        return None
    lines, at = [], text.find('"', sources[-1].end())
    while at != -1:
        try:
            line, at = decoder.raw_decode(text, at)
        except ValueError:
            break
        lines.append(line)
        at = text.find('"', at)
    return {"cell_type": "code", "metadata": metadata, "source": "".join(lines)}


def _well_formed(content: dict) -> NotebookNode:
    cells = [cell for cell in content["cells"] if isinstance(cell, dict) and cell.get("cell_type") in CELL_KINDS]
    metadata = content.get("metadata") if isinstance(content.get("metadata"), dict) else {}
    notebook = nbformat.v4.new_notebook(metadata=nbformat.from_dict(metadata))
    seen: set[str] = set()
    for raw in cells:
        cell = _cell(raw)
        if cell.id in seen:
            cell.id = nbformat.v4.new_code_cell().id
        seen.add(cell.id)
        notebook.cells.append(cell)
    return rejoin_lines(notebook)


def _cell(raw: dict) -> NotebookNode:
    kind = raw["cell_type"]
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell, "raw": nbformat.v4.new_raw_cell}[kind]
    source = raw.get("source", "")
    source = "".join(map(str, source)) if isinstance(source, list) else str(source)
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), dict) else {}
    cell = make(source=source, metadata=nbformat.from_dict(metadata))
    name = raw.get("id")
    if isinstance(name, str) and name:
        cell.id = name
    if kind == "code":
        count = raw.get("execution_count")
        cell.execution_count = count if isinstance(count, int) else None
        outputs = raw.get("outputs") if isinstance(raw.get("outputs"), list) else []
        cell.outputs = [nbformat.from_dict(one) for one in outputs if isinstance(one, dict) and "output_type" in one]
    elif isinstance(raw.get("attachments"), dict):
        cell.attachments = nbformat.from_dict(raw["attachments"])
    return cell
