"""Bring a learner's notebook back to what its release promises, without changing a word of an answer.

`mend` works on the notebook in memory. `course doctor` uses it on the learner's own file, grading on a copy, and
nbgrader's autograde on what students have handed in: so all of them see the same answers.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass

import nbformat
from nbformat import NotebookNode

from coursekit.course import Week
from coursekit.errors import CourseError
from coursekit.salvage import grade_id

NOTES = "notes"  # notebook.metadata.course.notes: what mending found, for the feedback
LARGE_OUTPUT = 1_000_000  # characters in one cell; a lab's own outputs stay far below


@dataclass(frozen=True)
class Finding:
    """What was wrong and what was done, in one sentence; `exercise` where it touches one."""

    text: str
    exercise: str = ""

    def __str__(self) -> str:
        return self.text


def notes(findings: list[Finding]) -> list[dict[str, str]]:
    """Findings as they travel in the notebook's metadata, from mending to the feedback."""
    return [{"text": finding.text, "exercise": finding.exercise} for finding in findings]


def mend_graded(notebook: NotebookNode, week: Week) -> list[Finding]:
    """`mend` with the week's graded release. Raises CourseError where that has not been built."""
    return mend(notebook, release_of(week), {e.id: e.symbol.rpartition(".")[2] for e in week.exercises})


def release_of(week: Week, name: str = "") -> NotebookNode:
    """The released notebook `name` (default: the graded one). Raises CourseError where it has not been built."""
    path = week.release(name or week.graded)
    if not path.is_file():
        raise CourseError(f"{path} has not been built: run `course build`.")
    return nbformat.read(path, as_version=4)


def mend(notebook: NotebookNode, release: NotebookNode, names: Mapping[str, str]) -> list[Finding]:
    """Mend `notebook` in place and say what was done; an intact notebook gives an empty list.

    `names` maps each exercise's id to the function or class that its cell defines.
    """
    wanted = {grade_id(cell): cell for cell in release.cells if grade_id(cell)}
    return [
        *_line_ends(notebook),
        *_outputs(notebook),
        *_strangers(notebook, wanted),
        *_duplicates(notebook, wanted),
        *_renamed(notebook, wanted, names),
        *_changed(notebook, wanted, names),
        *_missing(notebook, release, wanted, names),
        *_about(notebook, release),
    ]


def _line_ends(notebook: NotebookNode) -> list[Finding]:
    found = False
    for cell in notebook.cells:
        if "\r" in cell.source:
            cell.source = cell.source.replace("\r\n", "\n").replace("\r", "\n")
            found = True
    return [Finding("Windows line ends (CRLF) in the cells: changed to plain ones.")] if found else []


def _outputs(notebook: NotebookNode) -> list[Finding]:
    found = []
    for number, cell in enumerate(notebook.cells, 1):
        size = sum(map(_size, cell.get("outputs", [])))
        if size > LARGE_OUTPUT:
            text = f"[{size / 1e6:.0f} MB of output were removed; run the cell again to see it]\n"
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
            found.append(Finding(f"cell {number} held {size / 1e6:.0f} MB of output: removed. The cell's code is as it was."))
    return found


def _size(output: NotebookNode) -> int:
    text = output.get("text", "")
    pieces = [text] if text else [*output.get("data", {}).values(), output.get("traceback", "")]
    return sum(len(piece) if isinstance(piece, str) else len(json.dumps(piece)) for piece in pieces)


def _strangers(notebook: NotebookNode, wanted: Mapping[str, NotebookNode]) -> list[Finding]:
    """Cells whose nbgrader entry names nothing in the release: they become ordinary cells (an answer may be found among them)."""
    found = []
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata and grade_id(cell) not in wanted:
            name = grade_id(cell)
            del cell.metadata["nbgrader"]
            if name:
                found.append(Finding(f"a cell named {name!r} is not part of this notebook: kept as an ordinary cell."))
    return found


def _duplicates(notebook: NotebookNode, wanted: Mapping[str, NotebookNode]) -> list[Finding]:
    found = []
    for name, original in wanted.items():
        copies = [cell for cell in notebook.cells if grade_id(cell) == name]
        if len(copies) < 2:
            continue
        edited = [cell for cell in copies if cell.source.strip() not in ("", original.source.strip())]
        kept = (edited or copies)[-1]
        for cell in copies:
            if cell is not kept:
                _make_ordinary(cell)
        which = "the last one with work in it counts" if edited else "one of them counts"
        text = f"the cell {name!r} was there {len(copies)} times: {which}, the others are ordinary cells now."
        found.append(Finding(text, _exercise(name)))
    return found


def _make_ordinary(cell: NotebookNode) -> None:
    for key in ("nbgrader", "deletable", "editable"):
        cell.metadata.pop(key, None)


def _renamed(notebook: NotebookNode, wanted: Mapping[str, NotebookNode], names: Mapping[str, str]) -> list[Finding]:
    """Cells that lost their nbgrader entry: known again by their id, or (an exercise) by what they define."""
    found = []
    for name, original in wanted.items():
        ordinary = [cell for cell in notebook.cells if not grade_id(cell)]
        if any(grade_id(cell) == name for cell in notebook.cells):
            continue
        same = [cell for cell in ordinary if cell.id == original.id]
        answers = [cell for cell in ordinary if name in names and cell.cell_type != "markdown" and defines(cell.source, names[name])]
        if not same and not answers:
            continue
        cell = (same or answers)[-1]
        cell.metadata.update(nbformat.from_dict(original.metadata))
        _become(cell, original.cell_type)
        other = f"was missing, but another cell defines {names.get(name)}: that one is the answer now"
        what = "had lost its name: known again" if same else other
        found.append(Finding(f"the cell {name!r} {what}.", _exercise(name)))
    return found


def defines(source: str, name: str) -> bool:
    """Whether the top level of `source` defines the function or class `name`."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError):
        return any(line.startswith((f"def {name}(", f"class {name}(", f"class {name}:")) for line in source.splitlines())
    return any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name for node in body)


def _changed(notebook: NotebookNode, wanted: Mapping[str, NotebookNode], names: Mapping[str, str]) -> list[Finding]:
    found = []
    for cell in notebook.cells:
        name = grade_id(cell)
        if name not in wanted:
            continue
        original = wanted[name]
        if cell.cell_type != original.cell_type:
            text = f"the cell {name!r} had become a {cell.cell_type} cell: it is a {original.cell_type} cell again."
            found.append(Finding(text, _exercise(name)))
            _become(cell, original.cell_type)
        if name not in names and cell.source != original.source:
            cell.source = original.source
            text = f"the locked cell {name!r} had been edited: its own text is back. Your code belongs into the exercise cells."
            found.append(Finding(text, _exercise(name)))
        cell.metadata.update(nbformat.from_dict(original.metadata))
    return found


def _become(cell: NotebookNode, kind: str) -> None:
    cell.cell_type = kind
    if kind == "code":
        cell.setdefault("outputs", [])
        cell.setdefault("execution_count", None)
        cell.pop("attachments", None)
    else:
        cell.pop("outputs", None)
        cell.pop("execution_count", None)


def _missing(notebook: NotebookNode, release: NotebookNode, wanted: Mapping[str, NotebookNode], names: Mapping[str, str]) -> list[Finding]:
    found = []
    place = 0  # right behind the last cell of the release that is still there
    taken = {cell.id for cell in notebook.cells}
    for original in release.cells:
        name = grade_id(original)
        at = next((i for i, cell in enumerate(notebook.cells) if (grade_id(cell) == name if name else cell.id == original.id)), None)
        if at is not None:
            place = at + 1
        elif name:
            cell = nbformat.from_dict(original)
            if cell.id in taken:
                cell.id = nbformat.v4.new_code_cell().id
            taken.add(cell.id)
            notebook.cells.insert(place, cell)
            place += 1
            what = "the exercise cell" if name in names else "the locked cell"
            rest = " It is empty of your work: write it again, or take it from a copy." if name in names else ""
            found.append(Finding(f"{what} {name!r} had been deleted: put back.{rest}", _exercise(name)))
    return found


def _about(notebook: NotebookNode, release: NotebookNode) -> list[Finding]:
    found = []
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    right = release.metadata.get("kernelspec", {"name": "python3", "display_name": "Python 3", "language": "python"})
    if kernel != right["name"]:
        notebook.metadata["kernelspec"] = nbformat.from_dict(right)
        notebook.metadata.pop("language_info", None)
        found.append(Finding(f"the notebook ran with the kernel {kernel!r}: set back to {right['name']!r}."))
    if "course" in release.metadata:
        about = notebook.metadata.get("course")
        ours = release.metadata["course"]
        if not isinstance(about, dict) or any(about.get(key) != ours.get(key) for key in ("week", "notebook")):
            notebook.metadata["course"] = nbformat.from_dict(ours)
            found.append(Finding("the notebook no longer said which part of the course it is: noted in it again."))
    return found


def _exercise(name: str) -> str:
    return name.removesuffix("-check")
