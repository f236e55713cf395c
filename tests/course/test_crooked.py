"""Crooked notebooks: whatever happened to the file, it ends mended or with a clear message, and no answer is lost."""

from __future__ import annotations

import json
import shutil

import nbformat
import pytest
from coursekit import salvage
from coursekit.answers import judge_notebook
from coursekit.doctor import examine
from coursekit.errors import CourseError
from coursekit.fetch import fetch
from coursekit.grade import grade

# --- ways in which a notebook goes crooked: each takes the solved notebook and leaves a file ------------------------


def cell(notebook, name):
    return next(c for c in notebook.cells if salvage.grade_id(c) == name)


def out_of_order(small, notebook):
    notebook.cells.reverse()
    for count, one in enumerate(c for c in notebook.cells if c.cell_type == "code"):
        one.execution_count = 100 - count
    small.save(notebook)


def duplicated(small, notebook):
    copy = nbformat.from_dict(cell(notebook, "softmax"))
    copy.id, copy.source = "copied", small.released().cells[4].source
    notebook.cells.append(copy)
    check = nbformat.from_dict(cell(notebook, "rmsnorm-check"))
    check.id = "copied-check"
    notebook.cells.insert(0, check)
    small.save(notebook)


def check_deleted(small, notebook):
    notebook.cells = [c for c in notebook.cells if salvage.grade_id(c) not in ("softmax-check", "imports", "rmsnorm-check")]
    small.save(notebook)


def renamed_cell(small, notebook):
    cell(notebook, "softmax").metadata.nbgrader["grade_id"] = "my-softmax"
    del cell(notebook, "rmsnorm").metadata["nbgrader"]
    cell(notebook, "schedule").id = "other-id"
    small.save(notebook)


def retyped_cell(small, notebook):
    one = cell(notebook, "softmax")
    text = nbformat.v4.new_raw_cell(one.source, metadata=one.metadata, id=one.id)
    notebook.cells[notebook.cells.index(one)] = text
    small.save(notebook)


def locked_edited(small, notebook):
    cell(notebook, "softmax-check").source = "print('passed')"
    cell(notebook, "softmax-check").metadata.nbgrader["points"] = 1000
    cell(notebook, "imports").source = ""
    small.save(notebook)


def other_kernel(small, notebook):
    notebook.metadata["kernelspec"] = {"name": "ir", "display_name": "R", "language": "R"}
    notebook.metadata["language_info"] = {"name": "R"}
    small.save(notebook)


def crlf_cells(small, notebook):
    for one in notebook.cells:
        one.source = one.source.replace("\n", "\r\n")
    small.lab.write_bytes(nbformat.writes(notebook).encode())


def crlf_file(small, notebook):
    small.save(notebook)
    small.lab.write_bytes(small.lab.read_bytes().replace(b"\n", b"\r\n"))


def huge_output(small, notebook):
    one = cell(notebook, "softmax")
    one.outputs = [nbformat.v4.new_output("stream", name="stdout", text="x" * 1023 + "\n") for _ in range(1)]
    one.outputs[0].text *= 100 * 1024
    small.save(notebook)


def cut_in_outputs(small, notebook):
    """Saved half: the text breaks off in the last exercise's check, with no checkpoint."""
    text = nbformat.writes(notebook)
    small.lab.write_text(text[: text.index('"id": "rmsnorm-check"')])


def merge_marks(small, notebook):
    text = nbformat.writes(notebook)
    at = text.index('   "id": "schedule-why"')
    small.lab.write_text(text[:at] + "<<<<<<< HEAD\n" + text[at:])


def old_format(small, notebook):
    small.lab.write_text(nbformat.writes(nbformat.convert(nbformat.from_dict(notebook), 3), version=3))


def other_metadata(small, notebook):
    notebook.metadata["course"] = "mine"
    notebook.cells[0].metadata["nbgrader"] = "?"
    small.save(notebook)


KEEPS_EVERYTHING = [
    out_of_order, duplicated, check_deleted, renamed_cell, retyped_cell, locked_edited, other_kernel,
    crlf_cells, crlf_file, huge_output, cut_in_outputs, merge_marks, other_metadata,
]  # fmt: skip


@pytest.fixture
def crook(small):
    """Spoil the solved notebook; the week's other files are as they were fetched."""
    shutil.rmtree(small.lab.parent, ignore_errors=True)
    shutil.rmtree(small.workspace / ".course", ignore_errors=True)
    fetch([small.week])

    def spoil(how):
        how(small, small.solved())
        return small

    return spoil


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize("how", KEEPS_EVERYTHING, ids=lambda how: how.__name__)
def test_it_is_graded_as_if_nothing_had_happened_and_the_doctor_mends_it(crook, how):
    small = crook(how)
    spoilt = small.lab.read_bytes()
    report = grade(small.week)
    assert {r.exercise.id: r.score.points for r in report.results} == {"softmax": 2, "schedule": 3, "rmsnorm": 4}, report.findings
    assert small.lab.read_bytes() == spoilt, "grading only reads"

    (diagnosis,) = [d for d in examine(small.week) if d.path == small.lab]
    if how is out_of_order:
        assert not diagnosis.findings, "cells in another order are no fault"
        return
    assert diagnosis.findings
    assert diagnosis.backup.read_bytes() == spoilt, "the file as it was is kept"
    assert small.answers() == small.right
    nbformat.validate(nbformat.read(small.lab, as_version=4))
    intact = {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.checksum for c in small.released().cells if "nbgrader" in c.metadata}
    found = nbformat.read(small.lab, as_version=4)
    assert {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.checksum for c in found.cells if "nbgrader" in c.metadata} == intact
    assert found.metadata.kernelspec.name == "python3"
    assert b"\r" not in small.lab.read_bytes()
    assert small.lab.stat().st_size < 100_000
    (again,) = [d for d in examine(small.week) if d.path == small.lab]
    assert not again.findings, "mended once is mended"


def test_a_notebook_of_format_3_is_read(crook):
    small = crook(old_format)
    examine(small.week)
    assert set(small.answers()) == set(small.right)


def test_of_two_answers_in_cells_of_one_name_the_last_with_work_counts_and_both_stay(crook):
    def twice(small, notebook):
        copy = nbformat.from_dict(cell(notebook, "softmax"))
        copy.id, copy.source = "copied", small.right["softmax"] + "  # newer"
        notebook.cells.append(copy)
        small.save(notebook)

    small = crook(twice)
    findings = [str(f) for d in examine(small.week) for f in d.findings]
    assert findings == ["the cell 'softmax' was there 2 times: the last one with work in it counts, the others are ordinary cells now."]
    assert small.answers()["softmax"].endswith("# newer")
    assert small.right["softmax"] in [c.source for c in nbformat.read(small.lab, as_version=4).cells]


@pytest.mark.slow(seconds=10)
def test_a_deleted_exercise_costs_its_points_and_comes_back_as_it_was_released(crook):
    def deleted(small, notebook):
        notebook.cells = [c for c in notebook.cells if salvage.grade_id(c) != "softmax"]
        small.save(notebook)

    small = crook(deleted)
    report = grade(small.week)
    assert report.points == 7
    assert "the exercise cell 'softmax' had been deleted: put back." in str(report.findings[0])
    assert "had been deleted" in report.feedback.read_text("utf-8"), "the feedback says it too"
    examine(small.week)
    found = nbformat.read(small.lab, as_version=4)
    names = [salvage.grade_id(c) for c in found.cells]
    assert names.index("softmax") == names.index("softmax-check") - 1, "in its own place"
    assert cell(found, "softmax").source == cell(small.released(), "softmax").source


@pytest.mark.slow(seconds=10)
def test_an_emptied_cell_and_an_emptied_notebook_are_named(crook):
    def emptied(small, notebook):
        cell(notebook, "softmax").source = ""
        small.save(notebook)

    small = crook(emptied)
    results = {r.exercise.id: r for r in grade(small.week).results}
    assert results["softmax"].text.startswith("RUN-07 the cell of `softmax` is empty")
    small.lab.write_text("")
    report = grade(small.week)
    assert report.points == 0
    assert str(report.findings[0]).startswith("lab.ipynb: the file is empty.")
    diagnosis = examine(small.week)[1]
    assert "the file is empty" in str(diagnosis.findings[0])
    assert small.answers() == {e: cell(small.released(), e).source for e in small.right}


def test_a_notebook_saved_half_takes_the_rest_from_the_checkpoint(crook):
    def half(small, notebook):
        older = nbformat.from_dict(notebook)
        cell(older, "softmax").source += "  # older"
        older.cells.append(nbformat.v4.new_markdown_cell("my own remark", id="remark"))
        salvage.write(older, salvage.checkpoint_of(small.lab))
        text = nbformat.writes(notebook)
        small.lab.write_text(text[: text.index("class RMSNorm")])

    small = crook(half)
    (diagnosis,) = [d for d in examine(small.week) if d.path == small.lab]
    assert "the file breaks off" in str(diagnosis.findings[0])
    assert "JupyterLab's checkpoint" in str(diagnosis.findings[0])
    assert small.answers() == small.right, "what could be read wins over the checkpoint, which fills the rest"
    assert "my own remark" in [c.source for c in nbformat.read(small.lab, as_version=4).cells]


def test_of_the_cell_in_which_a_half_saved_file_breaks_off_the_whole_lines_are_kept(crook):
    def half(small, notebook):
        text = nbformat.writes(notebook)
        small.lab.write_text(text[: text.index("return x * (x.pow(2)")])

    small = crook(half)
    (diagnosis,) = [d for d in examine(small.week) if d.path == small.lab]
    assert "only the first lines could be read" in str(diagnosis.findings[0])
    assert small.answers()["rmsnorm"] == small.right["rmsnorm"].split("        return x *")[0]


def test_a_renamed_notebook_gets_its_name_back(crook):
    def renamed(small, notebook):
        small.save(notebook).rename(small.lab.with_name("lab (1).ipynb"))

    small = crook(renamed)
    with pytest.raises(CourseError, match=r"lab \(1\).ipynb beside it is this week's lab"):
        grade(small.week)
    (diagnosis,) = [d for d in examine(small.week) if d.path == small.lab]
    assert "was called lab (1).ipynb" in str(diagnosis.findings[0])
    assert small.answers() == small.right
    assert not small.lab.with_name("lab (1).ipynb").exists()


def test_something_that_is_no_notebook_is_kept_and_replaced(crook):
    small = crook(lambda small, _: small.lab.write_text(json.dumps({"a": 1})))
    (diagnosis,) = [d for d in examine(small.week) if d.path == small.lab]
    assert "the file is no notebook" in str(diagnosis.findings[0])
    assert json.loads(diagnosis.backup.read_text()) == {"a": 1}


def test_looking_changes_nothing(crook):
    small = crook(locked_edited)
    before = small.lab.read_bytes()
    (diagnosis,) = [d for d in examine(small.week, repair=False) if d.path == small.lab]
    assert len(diagnosis.findings) == 2
    assert small.lab.read_bytes() == before


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("how", [duplicated, renamed_cell, retyped_cell, crlf_cells], ids=lambda how: how.__name__)
def test_course_check_reads_the_same_answers_as_grading(crook, how):
    small = crook(how)
    assert all(verdict.passed for _, verdict in judge_notebook(small.lab, small.week, hidden=True))
