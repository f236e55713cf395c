"""`course doctor` looks at the environment too, and says of each trouble what to do."""

from __future__ import annotations

import importlib.metadata
import json

import pytest
from coursekit import doctor, gradebook, runner
from coursekit.cli import app, register
from coursekit.errors import CourseError
from coursekit.fetch import fetch
from coursekit.grade import grade
from typer.testing import CliRunner


def test_a_stale_environment_is_named_with_the_command_that_mends_it(tmp_path):
    lock = tmp_path / "main.txt"
    lock.write_text(f"# a comment\nnbformat=={importlib.metadata.version('nbformat')}\nnumpy==0.1\nno-such-package==2.0\n")
    (trouble,) = doctor.stale_packages(lock)
    assert f"numpy {importlib.metadata.version('numpy')} (the course: 0.1)" in trouble
    assert "no-such-package missing (the course: 2.0)" in trouble
    assert "`make env`" in trouble
    assert "nbformat" not in trouble


def test_this_environment_is_the_locks(repository):
    assert doctor.stale_packages(repository / "requirements" / "main.txt") == []


def test_a_kernel_of_another_python_is_named(tmp_path):
    kernels = tmp_path / "share" / "jupyter" / "kernels" / "python3"
    assert "is not described" in doctor.kernel(str(tmp_path))[0]
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(json.dumps({"argv": ["/usr/bin/env", "-m", "ipykernel"]}))
    assert "not this environment's Python" in doctor.kernel(str(tmp_path))[0]
    (kernels / "kernel.json").write_text(json.dumps({"argv": ["python", "-m", "ipykernel"]}))
    assert doctor.kernel(str(tmp_path)) == []


def test_a_missing_sandbox_and_a_full_disk_are_said(monkeypatch):
    monkeypatch.setattr(runner, "sandbox_works", lambda: False)
    assert "sudo apt install bubblewrap" in doctor.sandbox()[0]
    assert doctor.disk(0) == []
    assert "Free some space" in doctor.disk(1e9)[0]


def test_an_empty_workspace_is_answered_with_the_first_command(fresh):
    with pytest.raises(CourseError, match="run `course fetch`"):
        doctor.require([fresh.week])


def test_the_command_mends_and_says_where_the_old_file_is(fresh):
    register()
    fetch([fresh.week])
    notebook = fresh.solved()
    notebook.metadata["kernelspec"] = {"name": "ir", "display_name": "R"}
    fresh.save(notebook)
    looked = CliRunner().invoke(app, ["doctor", "--look"])
    assert "kernel 'ir'" in looked.stdout
    mended = CliRunner().invoke(app, ["doctor"])
    assert "the file as it was: .course/backup/week90_small/lab." in mended.stdout
    assert "kernel" not in CliRunner().invoke(app, ["doctor", "week90"]).stdout
    assert fresh.answers() == fresh.right


@pytest.mark.slow(seconds=12)
def test_a_damaged_gradebook_is_named_put_aside_and_grading_goes_on(fresh):
    fresh.save(fresh.solved())
    grade(fresh.week)
    book = gradebook.folder() / "gradebook.db"
    book.write_bytes(b"SQLite format 3\0" + b"?" * 5000)
    with pytest.raises(CourseError, match="is damaged: `course doctor` puts it aside"):
        gradebook.scores(fresh.week)
    with pytest.raises(CourseError, match="is damaged"):
        grade(fresh.week)
    (said,) = doctor.mend_gradebook()
    assert "Grade your weeks again" in said
    assert doctor.mend_gradebook() == []
    assert grade(fresh.week).points == 9
