"""Teaching a class: nbgrader's own commands, on the folder that `course classroom init` makes."""

from __future__ import annotations

import csv
import os
import re
import shutil
import stat
import subprocess
import sys

import nbformat
import pytest
from coursekit import classroom, gradebook, paths, runner, salvage
from coursekit.course import load_course
from coursekit.errors import CourseError
from coursekit.nbgrader_checks import RunChecks
from traitlets.config.loader import PyFileConfigLoader

pytestmark = pytest.mark.slow(seconds=60)
STUDENTS = ("ann", "ben", "cut", "mad")


@pytest.fixture(scope="module")
def room(small, tmp_path_factory):
    return classroom.create(tmp_path_factory.mktemp("classes") / "spring", load_course())


@pytest.fixture(scope="module")
def nbgrader(room, tmp_path_factory):
    home = tmp_path_factory.mktemp("instructor")

    def run(*arguments, cwd=room.root):
        command = [sys.executable, "-m", "nbgrader", *arguments]
        environment = {**os.environ, "HOME": str(home), "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_DATA_DIR": str(home / "data")}
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def solved_with_script(small):
    notebook = small.solved()
    evil = "<script>alert(document.cookie)</script><img src=x onerror=alert(1)> [here](javascript:alert(2)) "
    evil += "$\\href{JavaScript:alert(3)}x$ my notes"
    notebook.cells.insert(0, nbformat.v4.new_markdown_cell(evil))
    return notebook


@pytest.fixture(scope="module")
def graded(small, room, nbgrader):
    """Release, four students' work through the exchange, collect, autograde, feedback, export; the students' points."""
    week = small.week.name
    nbgrader("generate_assignment", week)
    nbgrader("release_assignment", week)
    outbound = room.exchange / gradebook.COURSE_ID / "outbound" / week / "lab.ipynb"
    assert outbound.is_file()
    bad = {
        "softmax": "import os\n\ndef softmax(scores, dim=-1):\n    os._exit(0)",
        "schedule": "def warmup_cosine(step, **rest):\n    return open('/etc/passwd').read()",
    }
    work = {"ann": solved_with_script(small), "ben": nbformat.read(outbound, as_version=4), "mad": small.solved(**bad)}
    for student in STUDENTS:
        folder = room.root / "submitted" / student / week
        folder.mkdir(parents=True)
        if student == "cut":
            text = nbformat.writes(small.solved())
            (folder / "lab.ipynb").write_text(text[: text.index('"id": "rmsnorm"')])
        else:
            salvage.write(work[student], folder / "lab.ipynb")
    # One hands in through the exchange, from a workspace of their own.
    shutil.rmtree(room.root / "submitted" / "ann")
    workspace = room.root.with_name("ann")
    (workspace / week).mkdir(parents=True)
    salvage.write(work["ann"], workspace / week / "lab.ipynb")
    settings = [f"c.Exchange.root = {str(room.exchange)!r}", f"c.CourseDirectory.course_id = {gradebook.COURSE_ID!r}"]
    (workspace / "nbgrader_config.py").write_text("\n".join(["c = get_config()", *settings]))
    nbgrader("submit", week, cwd=workspace)
    nbgrader("collect", week)
    log = nbgrader("autograde", week)
    nbgrader("generate_feedback", week)
    nbgrader("export")
    rows = list(csv.DictReader((room.root / "grades.csv").open()))
    who = {row["student_id"]: float(row["score"]) for row in rows}
    collected = next(name for name in who if name not in ("ben", "cut", "mad"))
    return {**who, "ann": who[collected]}, collected, log


def test_the_release_that_nbgrader_makes_has_the_exercise_cells_of_the_courses_own(small, room, nbgrader):
    nbgrader("generate_assignment", small.week.name, "--force")
    made = nbformat.read(room.root / "release" / small.week.name / "lab.ipynb", as_version=4)
    ours = small.released()
    assert [(c.cell_type, c.source, c.metadata) for c in made.cells] == [(c.cell_type, c.source, c.metadata) for c in ours.cells]


def test_nbgraders_own_commands_grade_a_class(graded):
    points, _, _ = graded
    assert points["ann"] == 9
    assert points["ben"] == 0
    assert points["cut"] == 5, "what could be read of a notebook saved half is graded"
    assert points["mad"] == 4, "bad code costs its own exercises alone"


def test_what_a_student_handed_in_is_kept_when_it_is_mended(graded, small, room):
    folder = room.root / "submitted" / "cut" / small.week.name
    assert (folder / "lab.ipynb.broken").is_file()
    nbformat.validate(nbformat.read(folder / "lab.ipynb", as_version=4))


def test_feedback_names_the_mistake_and_runs_no_script(graded, small, room):
    _, collected, _ = graded
    page = (room.root / "feedback" / collected / small.week.name / "lab.html").read_text("utf-8")
    assert "my notes" in page
    assert "<script>alert" not in page
    assert not re.search(r"<[^>]*onerror", page)
    assert "javascript:alert" not in page.casefold()
    mad = (room.root / "feedback" / "mad" / small.week.name / "lab.html").read_text("utf-8")
    assert "RUN-04 it ended the process that judges it" in mad
    assert "root:" not in mad, "nothing of the machine reaches a page"


def test_nothing_of_a_class_can_be_read_by_others(room):
    assert stat.S_IMODE(room.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(room.exchange.stat().st_mode) == 0o777


def test_a_class_is_judged_in_the_sandbox_or_not_at_all(small, room, monkeypatch):
    config = PyFileConfigLoader("nbgrader_config.py", str(room.root)).load_config()
    monkeypatch.setattr(runner, "sandbox_works", lambda: False)
    with pytest.raises(CourseError, match="sudo apt install bubblewrap"):
        RunChecks(config=config).preprocess(small.solved(), {"nbgrader": {"assignment": small.week.name}})


def test_init_again_brings_the_sources_up_to_date_and_keeps_the_rest(small, room):
    (room.root / "gradebook.db").touch()
    config = room.root / "nbgrader_config.py"
    config.write_text(config.read_text() + "\n# my own settings\n")
    source = room.root / "source" / small.week.name / "lab.ipynb"
    source.write_text("{}")
    again = classroom.create(room.root, load_course())
    assert again.weeks == (small.week.name,)
    assert "BEGIN SOLUTION" in source.read_text()
    assert config.read_text().endswith("# my own settings\n")
    assert (room.root / "gradebook.db").exists()


def test_a_folder_with_other_things_in_it_is_left_alone(small, tmp_path):
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(CourseError, match="is not empty"):
        classroom.create(tmp_path, load_course())
    with pytest.raises(CourseError, match="lies in a learner's workspace"):
        classroom.create(paths.WORKSPACE / "class", load_course())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_student_joins_and_leaves_by_a_missing_folder(fresh, tmp_path):
    exchange = tmp_path / "exchange"
    exchange.mkdir()
    assert gradebook.exchange() == gradebook.folder() / "exchange"
    classroom.join(exchange)
    assert gradebook.exchange() == exchange
    assert str(exchange) in (gradebook.folder() / "nbgrader_config.py").read_text()
    exchange.rmdir()
    assert gradebook.exchange() == gradebook.folder() / "exchange", "without it, the learner goes on alone"
    with pytest.raises(CourseError, match="ask your instructor"):
        classroom.join(exchange)
