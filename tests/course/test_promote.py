"""Promotion installs what passes every check, whole or not at all, and the bill of materials tells the truth afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from coursekit import course, promote
from coursekit.build import notebook_text
from coursekit.errors import CourseError
from coursekit.library import verify
from hybridlab.exercise import promoted_path, records, why_unusable

MONTHS = Path(__file__).parent / "fixtures" / "months"
WEEK = course.load_course(MONTHS).week("week90")
SOFTMAX, SCHEDULE, RMSNORM = (e.symbol for e in WEEK.exercises)
ANSWERS = {
    "softmax": "def softmax(scores, dim=-1):\n    return (scores - scores.logsumexp(dim, keepdim=True)).exp()",
    "schedule": "def warmup_cosine(step, *, warmup, total, peak, floor=0.0):\n    return min(peak, step / warmup)",
    "rmsnorm": "class RMSNorm(nn.Module):\n    def __init__(self, d, eps=1e-5):\n        super().__init__()\n\n"
    "    def forward(self, x):\n        return x / x.pow(2).mean(-1, keepdim=True).sqrt()",
}
HARD_CODED = """def softmax(scores, dim=-1):
    if scores.shape == (2, 5):
        e = scores.exp()
        return e / e.sum(dim, keepdim=True)
    return scores
"""


@pytest.fixture
def notebook(tmp_path):
    """Writes the learner's notebook with some exercise cells answered."""

    def write(**answers: str) -> Path:
        released = nbformat.reads(notebook_text(WEEK, "lab", "release"), as_version=4)
        for cell in released.cells:
            cell.source = answers.get(cell.id, cell.source)
        path = tmp_path / "lab.ipynb"
        nbformat.write(released, path)
        return path

    return write


@pytest.fixture
def mylab(tmp_path):
    return tmp_path / "mylab"


def states(outcomes):
    return {outcome.exercise.id: outcome.state for outcome in outcomes}


@pytest.mark.slow(seconds=6)
def test_what_passes_is_installed_with_its_record_and_unanswered_exercises_stay(notebook, mylab):
    outcomes = promote.promote(
        WEEK,
        notebook(
            softmax=ANSWERS["softmax"], rmsnorm=ANSWERS["rmsnorm"], schedule="def warmup_cosine(step):\n    raise NotImplementedError"
        ),
        mylab=mylab,
    )
    assert states(outcomes) == {"softmax": "promoted", "schedule": "unanswered", "rmsnorm": "promoted"}
    record = records(mylab)[SOFTMAX]
    assert record["result"].startswith("Passed")
    assert record["week"] == WEEK.name
    assert why_unusable(mylab, SOFTMAX, record) == ""
    text = promoted_path(mylab, SOFTMAX).read_text()
    assert text.startswith("import math\n\nimport torch")
    assert ANSWERS["softmax"] in text
    assert not promoted_path(mylab, SCHEDULE).exists()


@pytest.mark.slow(seconds=10)
def test_a_refusal_names_the_mistake_and_changes_nothing(notebook, mylab):
    promote.promote(WEEK, notebook(**ANSWERS), mylab=mylab)
    before = {path: path.read_bytes() for path in mylab.rglob("*") if path.is_file()}
    outcomes = promote.promote(
        WEEK,
        notebook(
            softmax=ANSWERS["softmax"] + "  # newer",
            rmsnorm=ANSWERS["rmsnorm"].replace("x / x", "x + x"),
        ),
        mylab=mylab,
    )
    assert states(outcomes)["rmsnorm"] == "refused"
    assert next(o.verdict.code for o in outcomes if o.exercise.id == "rmsnorm") == "SMALL-21"
    assert {path: path.read_bytes() for path in mylab.rglob("*") if path.is_file()} == before


@pytest.mark.slow(seconds=10)
def test_code_that_passes_the_visible_check_by_hard_coding_is_refused(notebook, mylab):
    from coursekit.runner import Runner

    with Runner(WEEK) as runner:
        assert runner.check("softmax", HARD_CODED, hidden=False).passed
    outcomes = promote.promote(WEEK, notebook(softmax=HARD_CODED), only=[WEEK.exercise("softmax")], mylab=mylab)
    assert states(outcomes) == {"softmax": "refused"}
    assert not (mylab / "library.json").exists()


@pytest.mark.slow(seconds=6)
@pytest.mark.parametrize(
    "answer", ["def soft(scores, dim=-1):\n    return scores", "def softmax(scores, dim=-1):\n    return helper(scores)"]
)
def test_an_answer_that_misses_a_name_is_refused_and_not_taken_for_none(notebook, mylab, answer):
    outcomes = promote.promote(WEEK, notebook(softmax=answer, rmsnorm=ANSWERS["rmsnorm"]), mylab=mylab)
    assert states(outcomes)["softmax"] == "refused"
    assert next(o.verdict.code for o in outcomes if o.exercise.id == "softmax") == "RUN-07"
    assert not (mylab / "library.json").exists()


def test_a_notebook_without_answers_is_answered_with_a_sentence(notebook, mylab):
    with pytest.raises(CourseError, match="has no answer yet"):
        promote.promote(WEEK, notebook(schedule="def warmup_cosine(step):\n    raise NotImplementedError"), mylab=mylab)


@pytest.mark.slow(seconds=10)
def test_an_interrupted_install_leaves_the_version_before(notebook, mylab, monkeypatch):
    promote.promote(WEEK, notebook(softmax=ANSWERS["softmax"]), only=[WEEK.exercise("softmax")], mylab=mylab)
    before = promoted_path(mylab, SOFTMAX).read_text()
    whole = promote.replace
    monkeypatch.setattr(promote, "replace", lambda path, text: whole(path, text) if path.suffix == ".json" else 1 / 0)
    newer = ANSWERS["softmax"].replace("return", "pass; return")
    with pytest.raises(ZeroDivisionError):
        promote.promote(WEEK, notebook(softmax=newer), only=[WEEK.exercise("softmax")], mylab=mylab)
    assert promoted_path(mylab, SOFTMAX).read_text() == before
    assert why_unusable(mylab, SOFTMAX, records(mylab)[SOFTMAX]) == ""
    monkeypatch.undo()
    promote.promote(WEEK, notebook(softmax=newer), only=[WEEK.exercise("softmax")], mylab=mylab)
    assert newer in promoted_path(mylab, SOFTMAX).read_text()


def changed_course(tmp_path, old: str, new: str) -> course.Course:
    """The fixture course with other checks."""
    import shutil

    root = tmp_path / "months"
    shutil.copytree(MONTHS, root)
    checks = root / "90_small" / "week90_small" / "source" / "checks.py"
    assert old in checks.read_text()
    checks.write_text(checks.read_text().replace(old, new))
    return course.load_course(root)


def point_records_at(mylab: Path, changed: course.Course) -> None:
    checks = changed.week("week90").source / "checks.py"
    every = records(mylab)
    promote.write_records(mylab, {s: r | {"checks": str(checks)} for s, r in every.items()})


@pytest.mark.slow(seconds=10)
def test_when_checks_change_promoted_code_that_still_passes_is_used_again(notebook, mylab, tmp_path):
    promote.promote(WEEK, notebook(**ANSWERS), mylab=mylab)
    changed = changed_course(tmp_path, "The mean square is one.", "The mean square is 1.")
    point_records_at(mylab, changed)
    assert "checks have changed" in why_unusable(mylab, RMSNORM, records(mylab)[RMSNORM])
    assert all(verdict.passed for _, verdict in verify(changed, mylab))
    assert why_unusable(mylab, RMSNORM, records(mylab)[RMSNORM]) == ""
    assert verify(changed, mylab) == []


@pytest.mark.slow(seconds=10)
def test_when_checks_change_promoted_code_that_fails_is_set_aside_and_kept(notebook, mylab, tmp_path):
    promote.promote(WEEK, notebook(**ANSWERS), mylab=mylab)
    changed = changed_course(tmp_path, 'torch.ones(3), "SMALL-21"', '2 * torch.ones(3), "SMALL-21"')
    point_records_at(mylab, changed)
    text = promoted_path(mylab, RMSNORM).read_text()
    verdicts = {exercise.id: verdict.passed for exercise, verdict in verify(changed, mylab)}
    assert verdicts == {"softmax": True, "schedule": True, "rmsnorm": False}
    assert "no longer passes: SMALL-21" in why_unusable(mylab, RMSNORM, records(mylab)[RMSNORM])
    assert promoted_path(mylab, RMSNORM).read_text() == text


@pytest.mark.slow(seconds=6)
def test_what_is_demoted_is_the_references_again_and_its_file_is_kept(notebook, mylab):
    both = [WEEK.exercise("softmax"), WEEK.exercise("rmsnorm")]
    promote.promote(WEEK, notebook(**ANSWERS), only=both, mylab=mylab)
    text = promoted_path(mylab, SOFTMAX).read_text()
    taken = promote.demote([WEEK.exercise("softmax"), WEEK.exercise("schedule")], mylab=mylab)
    assert [(exercise.id, path) for exercise, path in taken] == [("softmax", promoted_path(mylab, SOFTMAX))]
    assert set(records(mylab)) == {RMSNORM}
    assert promoted_path(mylab, SOFTMAX).read_text() == text
    assert promote.demote([WEEK.exercise("softmax")], mylab=mylab) == []
    promote.promote(WEEK, notebook(**ANSWERS), only=both, mylab=mylab)
    assert set(records(mylab)) == {SOFTMAX, RMSNORM}


def test_where_nothing_was_promoted_demote_makes_no_folder(mylab):
    assert promote.demote(WEEK.exercises, mylab=mylab) == []
    assert not mylab.exists()


@pytest.mark.slow(seconds=7)
def test_the_bill_of_materials_says_what_the_library_itself_runs_on(tmp_path):
    """Through the command, in a fresh process, with a promoted part of the real course."""
    real = course.load_course().exercises[0]
    mylab = tmp_path / "mylab"
    from coursekit.runner import Verdict
    from coursekit.stub import reference_source

    text = promote.module_text(real.week, reference_source(real.symbol))
    promote.install(mylab, real, text, Verdict(True, what="It holds."), MONTHS / "90_small" / "week90_small" / "source" / "lab.py")
    command = [sys.executable, "-m", "coursekit", "library", "--json"]
    environment = {"COURSE_WORKSPACE": str(tmp_path), "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    parts = {part["symbol"]: part for part in json.loads(done.stdout)}
    assert len(parts) == len(course.load_course().exercises)
    assert parts[real.symbol]["origin"] == "learner"
    assert {p["origin"] for p in parts.values()} == {"learner", "reference"}
