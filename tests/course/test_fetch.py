"""`course fetch` never writes over a learner's work."""

from __future__ import annotations

import nbformat
import pytest
from coursekit import salvage
from coursekit.fetch import fetch, read_record, record_path


@pytest.fixture
def updated(fresh):
    """Fetch, then let the course release another version of the lab."""
    release = fresh.week.release("lab")
    original = release.read_text("utf-8")
    fetch([fresh.week])

    def publish(text="A second edition."):
        notebook = nbformat.reads(original, as_version=4)
        notebook.cells[0].source = text
        release.write_text(nbformat.writes(notebook) + "\n", "utf-8")
        return fetch([fresh.week])[1]

    yield publish
    release.write_text(original, "utf-8")


def test_a_new_file_arrives_byte_for_byte_and_a_second_fetch_leaves_it(fresh):
    assert [one.what for one in fetch([fresh.week])] == ["new", "new"]
    assert fresh.lab.read_bytes() == fresh.week.release("lab").read_bytes()
    before = fresh.lab.stat().st_mtime_ns
    assert [one.what for one in fetch([fresh.week])] == ["same", "same"]
    assert fresh.lab.stat().st_mtime_ns == before


def test_an_untouched_file_is_updated_though_its_cells_were_run(fresh, updated):
    notebook = nbformat.read(fresh.lab, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="an output")]
    notebook.cells[1].execution_count = 3
    fresh.save(notebook)
    one = updated()
    assert one.what == "replaced"
    assert fresh.lab.read_bytes() == fresh.week.release("lab").read_bytes()
    (kept,) = (fresh.workspace / ".course" / "backup" / fresh.week.name).iterdir()
    assert "an output" in kept.read_text("utf-8"), "even the outputs are kept"


def test_a_file_with_work_in_it_stays_and_the_update_is_put_beside_it(fresh, updated):
    fresh.save(fresh.solved())
    mine = fresh.lab.read_bytes()
    one = updated()
    assert (one.what, one.beside.name) == ("beside", "lab.new.ipynb")
    assert fresh.lab.read_bytes() == mine
    assert one.beside.read_bytes() == fresh.week.release("lab").read_bytes()


def test_an_update_beside_that_was_worked_in_stays_too(fresh, updated):
    fresh.save(fresh.solved())
    first = updated().beside
    notebook = nbformat.read(first, as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("I went on here"))
    salvage.write(notebook, first)
    worked_in = first.read_bytes()
    second = updated("A third edition.").beside
    assert second.name == "lab.new2.ipynb"
    assert first.read_bytes() == worked_in
    assert updated("A fourth edition.").beside == second, "one that nobody worked in is replaced"


def test_a_damaged_file_counts_as_work(fresh, updated):
    half = fresh.lab.read_text("utf-8")[:500]
    fresh.lab.write_text(half, "utf-8")
    assert updated().what == "beside"
    assert fresh.lab.read_text("utf-8") == half


def test_without_its_record_nothing_is_replaced(fresh, updated):
    record_path().write_text("{ cut off")
    assert read_record() == {}
    before = fresh.lab.read_bytes()
    assert updated().what == "beside"
    assert fresh.lab.read_bytes() == before


def test_a_deleted_notebook_comes_back(fresh):
    fetch([fresh.week])
    fresh.lab.unlink()
    assert [one.what for one in fetch([fresh.week])] == ["same", "new"]
