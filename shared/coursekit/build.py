"""Masters to notebooks: the release (committed), nbgrader's source and the solved one (both in .build). Byte for byte reproducible."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from coursekit.catalogue import broken_source
from coursekit.course import Exercise, Week
from coursekit.master import Cell, read_master
from coursekit.messages import catalogue_path, languages, read_catalogue, translate
from coursekit.stub import marked, reference_source, stub

Variant = Literal["release", "nbgrader", "solved"]
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"}


@dataclass(frozen=True)
class Built:
    path: Path
    text: str

    def in_step(self) -> bool:
        return self.path.is_file() and self.path.read_bytes() == self.text.encode()

    def write(self) -> bool:
        """Write the file where it differs; True when it did."""
        if self.in_step():
            return False
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(self.text.encode())
        return True


def build_week(week: Week) -> list[Built]:
    """Every notebook of a week or project, in all its variants."""
    built = []
    for name in week.notebooks:
        built.append(Built(week.release(name), notebook_text(week, name, "release")))
        for language in languages(week, name):
            built.append(Built(week.release(f"{name}.{language}"), notebook_text(week, name, "release", language)))
        if name == week.graded:
            built.append(Built(week.nbgrader_source(name), notebook_text(week, name, "nbgrader")))
            built.append(Built(week.solved(name), notebook_text(week, name, "solved")))
    return built


def notebook_text(week: Week, name: str, variant: Variant, language: str = "") -> str:
    """A notebook's JSON; its prose in `language`, where one is given that has a catalogue."""
    masters = read_master(week.source / f"{name}.py")
    if language:
        masters = translate(masters, read_catalogue(catalogue_path(week, name, language)))
    cells = []
    for cell in masters:
        cells += render(cell, week, variant, graded=name == week.graded)
    notebook = new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "language_info": LANGUAGE})
    course = {"week": week.name, "notebook": name}
    if variant == "release":
        course["release"] = hashlib.sha256(nbformat.writes(notebook).encode()).hexdigest()
    notebook.metadata["course"] = course
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def render(cell: Cell, week: Week, variant: Variant, graded: bool) -> list[nbformat.NotebookNode]:
    """The notebook's cells for one of the master: an exercise becomes its cell and its check's."""
    if cell.symbol:
        exercise = week.exercise(cell.id)
        return [exercise_cell(exercise, variant), check_cell(exercise, variant)]
    if cell.kind == "markdown":
        return [new_markdown_cell(cell.source, id=cell.id)]
    node = new_code_cell(cell.source, id=cell.id, metadata=dict(cell.options))
    if graded and cell.id == "imports":
        nbgrader(node, cell.id, locked=True)
    return [node]


def exercise_cell(exercise: Exercise, variant: Variant) -> nbformat.NotebookNode:
    reference = reference_source(exercise.symbol)
    broken = broken_source(exercise.week.source / "mistakes.py", exercise.symbol)
    task = "This code runs, and it is wrong: find the bug and mend it" if broken else "Write this"
    dots = "●" * exercise.difficulty + "○" * (5 - exercise.difficulty)
    points = f"{exercise.points} point" + "s" * (exercise.points != 1)
    header = f"# {task}. Difficulty {dots} · {exercise.minutes} minutes · {points}"
    body = {"release": broken or stub(reference), "nbgrader": marked(reference), "solved": reference}[variant]
    node = new_code_cell(f"{header}\n{body}", id=exercise.id)
    nbgrader(node, exercise.id, solution=True)
    return node


def check_cell(exercise: Exercise, variant: Variant) -> nbformat.NotebookNode:
    week = exercise.week.name.split("_")[0] if not exercise.week.is_project else exercise.week.name
    lines = ["from coursekit.notebook import check", "", f'check("{week}", "{exercise.id}")']
    if variant != "release":
        lines += ["### BEGIN HIDDEN TESTS", f'check("{week}", "{exercise.id}", hidden=True)', "### END HIDDEN TESTS"]
    node = new_code_cell("\n".join(lines), id=exercise.check_id)
    nbgrader(node, exercise.check_id, grade=True, locked=True, points=exercise.points)
    return node


def nbgrader(node: nbformat.NotebookNode, grade_id: str, **flags) -> None:
    """Put nbgrader's metadata (schema 3) on a cell, with the checksum by which it later sees a changed one."""
    from nbgrader.utils import compute_checksum

    settings = {"grade": False, "solution": False, "locked": False, "task": False} | flags
    node.metadata["nbgrader"] = {"grade_id": grade_id, "schema_version": 3, "cell_type": node.cell_type, **settings}
    node.metadata["nbgrader"]["checksum"] = compute_checksum(node)
    node.metadata["deletable"] = False
    if settings["locked"]:
        node.metadata["editable"] = False
