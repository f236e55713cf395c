"""Notebooks are made from their masters: the same bytes each time, whole for the learner, and without a line of a solution."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import nbformat
import pytest
from coursekit.build import build_week
from coursekit.catalogue import read_catalogue
from coursekit.course import load_course
from coursekit.stub import bodies, is_untouched, marked, reference_source, stub

SMALL = load_course(Path(__file__).parent / "fixtures" / "months").week("week90")
COURSE = load_course()
UNITS = pytest.mark.parametrize("unit", COURSE.units, ids=lambda unit: unit.name)


def cells(path: Path) -> dict[str, nbformat.NotebookNode]:
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


@pytest.mark.slow(seconds=3)
@UNITS
def test_committed_releases_are_what_the_masters_give(unit):
    behind = [b.path.name for b in build_week(unit) if unit.folder in b.path.parents and not b.in_step()]
    assert not behind, f"run `course build {unit.name}` and commit"


@pytest.mark.slow(seconds=7)
@UNITS
def test_building_twice_gives_the_same_bytes(unit):
    assert [b.text for b in build_week(unit)] == [b.text for b in build_week(unit)]


def solution_lines(unit) -> set[str]:
    """Lines that only a solution has: those of the references' bodies, less what the stub, the lesson or the broken code shows."""
    sources = [reference_source(exercise.symbol) for exercise in unit.exercises]
    given = {line.strip() for source in sources for line in stub(source).splitlines()}
    lines: set[str] = set()
    for source in sources:
        for body in bodies(source):
            lines |= {line.strip() for line in source.splitlines()[body.first - 1 : body.last]} - given
    shown = [a.source for a in read_catalogue(unit.source / "mistakes.py") if a.kind == "broken"]
    common = {line.strip() for source in shown for line in source.splitlines()}
    return {line for line in lines - common if len(line) > 14 and not line.startswith(("#", "return x", "raise ", "@"))}


@pytest.mark.slow(seconds=2)
@UNITS
def test_no_release_of_a_graded_notebook_holds_a_line_of_a_solution_or_a_hidden_check(unit):
    released = [cell for cell in nbformat.read(unit.release(unit.graded), as_version=4).cells if cell.cell_type == "code"]
    lines = {line.strip() for cell in released for line in cell.source.splitlines()}
    assert not lines & solution_lines(unit)
    text = "\n".join(lines)
    assert "HIDDEN" not in text
    assert "SOLUTION" not in text
    assert "hidden=True" not in text


@UNITS
def test_exercise_cells_are_solution_cells_with_a_locked_check_after_each(unit):
    released = nbformat.read(unit.release(unit.graded), as_version=4).cells
    place = {cell.id: number for number, cell in enumerate(released)}
    for exercise in unit.exercises:
        cell, check = released[place[exercise.id]], released[place[exercise.id] + 1]
        assert cell.metadata.nbgrader.solution
        assert not cell.metadata.nbgrader.locked
        assert check.metadata.nbgrader.grade
        assert check.metadata.nbgrader.locked
        assert check.metadata.nbgrader.points == exercise.points > 0
        assert f'"{exercise.id}"' in check.source


@UNITS
def test_every_notebook_has_a_profile_parameter_and_no_outputs(unit):
    for name in unit.notebooks:
        notebook = nbformat.read(unit.release(name), as_version=4)
        assert [c.id for c in notebook.cells if "parameters" in c.metadata.get("tags", [])] == ["parameters"], name
        assert 'profile = "cpu"' in next(c.source for c in notebook.cells if c.id == "parameters")
        assert all(not c.get("outputs") and not c.get("execution_count") for c in notebook.cells)
        assert notebook.metadata.course.week == unit.name


def test_the_three_variants_of_an_exercise_cell():
    release, source, solved = (
        {c["id"]: "".join(c["source"]) for c in json.loads(b.text)["cells"]} for b in build_week(SMALL) if b.path.stem == "lab"
    )
    assert is_untouched(release["softmax"])
    assert "### BEGIN SOLUTION" in source["softmax"]
    assert source["softmax"].replace("    ### BEGIN SOLUTION\n", "").replace("\n    ### END SOLUTION", "") == solved["softmax"]
    assert "cosine" in release["schedule"], "Friday's cell holds the broken code"
    assert not is_untouched(release["schedule"])
    assert "hidden=True" in source["softmax-check"]
    assert "hidden=True" not in release["softmax-check"]


CLASS = '''class Net(nn.Module):
    """What it is."""

    size = 3

    def __init__(self, d):  # given
        """Make it."""
        super().__init__()
        self.d = d

    def forward(
        self, x: Tensor
    ) -> Tensor:
        """Shapes."""
        # a remark
        y = x + self.d
        return y
'''


def test_a_stub_keeps_docstrings_attributes_and_given_methods_and_nothing_else():
    got = stub(CLASS)
    assert "self.d = d" in got
    assert "size = 3" in got
    assert '"""Shapes."""\n        # your code here\n        raise NotImplementedError' in got
    assert "remark" not in got
    assert "y = x" not in got
    ast.parse(got)
    assert "        ### BEGIN SOLUTION\n        # a remark\n        y = x + self.d\n        return y\n        ### END SOLUTION" in marked(
        CLASS
    )


def test_a_one_line_function_without_docstring_can_be_a_stub():
    assert stub("def f(x):\n    # why\n    return x") == "def f(x):\n    # your code here\n    raise NotImplementedError"
