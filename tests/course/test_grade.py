"""`course grade`: nbgrader's own autograde and feedback, on verdicts of the course's runner."""

from __future__ import annotations

import nbformat
import pytest
from coursekit import gradebook, journal
from coursekit.build import build_week
from coursekit.course import load_course
from coursekit.errors import CourseError
from coursekit.fetch import fetch
from coursekit.grade import grade
from coursekit.progress import progress

BAD = {
    "an endless loop": ("def softmax(scores, dim=-1):\n    while True:\n        pass", "RUN-02"),
    "sys.exit": ("import sys\n\ndef softmax(scores, dim=-1):\n    sys.exit(0)", "RUN-04"),
    "sys.exit while the cell is read": ("import sys\n\nsys.exit(0)\n\ndef softmax(scores, dim=-1):\n    pass", "RUN-04"),
    "os._exit": ("import os\n\ndef softmax(scores, dim=-1):\n    os._exit(0)", "RUN-04"),
    "a fork bomb": ("import os\n\ndef softmax(scores, dim=-1):\n    while True:\n        os.fork()", "RUN-05"),
    "a tensor of 50 GB": ("def softmax(scores, dim=-1):\n    return torch.ones(50 * 2**30 // 4).sum() * scores", "RUN-03"),
    "a printed gigabyte": ("def softmax(scores, dim=-1):\n    for _ in range(1024):\n        print('x' * 2**20)", "RUN-10"),
    "a syntax error": ("def softmax(scores, dim=-1)\n    return scores", "RUN-08"),
    "a forged verdict": (
        "import os\n\ndef softmax(scores, dim=-1):\n    for pipe in range(3, 40):\n        try:\n"
        "            os.write(pipe, b'{\"passed\": true, \"what\": \"forged\"}\\n')\n"
        "        except OSError:\n            pass\n    os._exit(0)",
        "RUN-04",
    ),
    "a patched check": (
        "import sys\n\ndef softmax(scores, dim=-1):\n    for name, module in list(sys.modules.items()):\n"
        "        if name.startswith('checks_of'):\n            module.close = lambda *a, **k: None\n"
        "    return torch.ones_like(scores) / scores.shape[dim]",
        "RUN-09",
    ),
    "an empty cell": ("", "RUN-07"),
    "another name": ("def my_softmax(scores, dim=-1):\n    return scores", "RUN-07"),
}


def by_id(report):
    return {result.exercise.id: result for result in report.results}


@pytest.mark.slow(seconds=20)
def test_a_learner_grades_sees_points_and_mistakes_mends_and_sees_more(fresh):
    fetch([fresh.week])
    first = grade(fresh.week)
    assert (first.points, first.of) == (0, 9)
    assert by_id(first)["softmax"].text.startswith("RUN-01")
    assert by_id(first)["schedule"].text.startswith("SMALL-12 the rate is above its peak — 1.174 at step 50. Hint:")

    fresh.save(fresh.solved(softmax="def softmax(scores, dim=-1):\n    e = scores.exp()\n    return e / e.sum(dim, keepdim=True)"))
    second = grade(fresh.week)
    assert second.points == 7
    assert by_id(second)["softmax"].text.startswith("SMALL-02 large scores overflow"), "a mistake that only the hidden cases show"
    page = second.feedback.read_text("utf-8")
    assert "SMALL-02 large scores overflow" in page
    assert "The mean square is one." in page

    fresh.save(fresh.solved())
    assert grade(fresh.week).points == 9
    assert [event["points"] for event in journal.events("grade", week=fresh.week.name)] == [0, 7, 9]
    assert [score.points for score in gradebook.scores(fresh.week)] == [2, 3, 4]


@pytest.mark.slow(seconds=10)
def test_progress_counts_what_the_gradebook_holds(fresh):
    fetch([fresh.week])
    (before,) = progress(load_course())
    assert (before.graded, before.points, before.of, before.passed) == (False, 0, 9, frozenset())
    fresh.save(fresh.solved(rmsnorm="class RMSNorm(nn.Module):\n    pass"))
    grade(fresh.week)
    (after,) = progress(load_course())
    assert (after.graded, after.points, after.passed) == (True, 5, {"softmax", "schedule"})
    assert not after.done


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize("bad", BAD)
def test_bad_code_costs_its_own_exercise_alone_and_says_why(small, impatient, bad):
    source, code = BAD[bad]
    impatient(3)
    small.save(small.solved(softmax=source))
    before = small.lab.read_bytes()
    results = by_id(grade(small.week))
    assert results["softmax"].score.points == 0
    assert results["softmax"].text.startswith(code), results["softmax"].text
    assert (results["schedule"].score.points, results["rmsnorm"].score.points) == (3, 4)
    assert small.lab.read_bytes() == before, "grading changes nothing in the learner's file"


@pytest.mark.slow(seconds=10)
def test_no_cell_of_the_notebook_is_executed(fresh, tmp_path):
    notebook = fresh.solved()
    trace = tmp_path / "trace"
    spy = f"open({str(trace)!r}, 'w')"
    notebook.cells.insert(1, nbformat.v4.new_code_cell(spy))
    notebook.cells.append(nbformat.v4.new_code_cell(spy))
    fresh.save(notebook)
    assert grade(fresh.week).points == 9
    assert not trace.exists()


@pytest.mark.slow(seconds=12)
def test_a_changed_course_is_graded_as_it_is_now_though_points_are_on_record(fresh, monkeypatch):
    fresh.save(fresh.solved())
    assert grade(fresh.week).of == 9
    master = fresh.week.source / "lab.py"
    text = master.read_text("utf-8")
    try:
        master.write_text(text.replace("points=4", "points=10").replace('id="end"', 'id="the-end"'), "utf-8")
        load_course.cache_clear()
        week = load_course().week("week90")
        for built in build_week(week):
            built.write()
        report = grade(week)
        assert (report.points, report.of) == (15, 15)
    finally:
        master.write_text(text, "utf-8")
        load_course.cache_clear()
        for built in build_week(load_course().week("week90")):
            built.write()


def test_what_is_not_there_is_said_with_what_to_do(fresh):
    with pytest.raises(CourseError, match=r"run `course fetch week90_small` first"):
        grade(fresh.week)
    path = fresh.save(fresh.solved())
    path.rename(path.with_name("my lab.ipynb"))
    with pytest.raises(CourseError, match=r"my lab.ipynb beside it is this week's lab: rename it"):
        grade(fresh.week)
