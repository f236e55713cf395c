"""Month 3's project is graded by what the state of the learner's own reading answers; and a scripted learner does the whole of it."""

from __future__ import annotations

import shutil

import pytest
from coursekit import paths
from coursekit.course import load_course
from coursekit.fetch import fetch
from coursekit.mistake import Mistake
from hybridlab.ssm.long_reader import LongReader
from hybridlab.ssm.needle import needle_model
from hybridlab.ssm.planted import draw_pairs, plant
from safetensors.torch import load_file, save_file

from tests.course.test_learner import on_the_learners_library, project_done

PROJECT = load_course().week("month03_project")
CHECK = PROJECT.checks["hybridlab.ssm.answers.rank_answers"]
PROSE = "The king said no more of it, and went to the river.\nIt was late.\n" * 300
pytestmark = [pytest.mark.xdist_group("learner"), pytest.mark.slow(seconds=20)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_NOTEBOOK_FOLDER", str(tmp_path))
    return tmp_path


def saved(folder, pairs, *, tokens="600000", reader=None, **metadata):
    """The state of a reader that has read these pairs, with the metadata of a long reading."""
    reader = reader or LongReader.load()
    reader.read([plant(PROSE, pairs, seed=1)])
    path = folder / "plays.state"
    reader.save_state(path)
    told = {"format": "x", "model": reader.model_hash, "tokens": tokens, "source": "null"} | metadata
    save_file(load_file(path), path, told)


def judged():
    """The code of the mistake that the outcome is answered with; None where it passes."""
    try:
        CHECK.judge(None, outcome=True)
    except Mistake as mistake:
        return mistake.code


def test_a_state_that_answers_what_was_planted_passes(folder):
    saved(folder, draw_pairs(16, seed=2026))
    assert judged() is None


def test_what_falls_short_is_named(folder):
    planted = draw_pairs(16, seed=2026)
    assert judged() == "RANK-20"
    (folder / "plays.state").write_bytes(b"no state")
    assert judged() == "RANK-21"
    saved(folder, planted, reader=LongReader(needle_model("relu", seed=1)))
    assert judged() == "RANK-21"
    saved(folder, planted, tokens="499999")
    assert judged() == "RANK-22"
    saved(folder, planted, source='{"file": {}}')
    assert judged() == "RANK-22"
    saved(folder, dict(list(planted.items())[:13]))
    assert judged() == "RANK-23"
    saved(folder, {key: f"{(int(value) + 1) % 100:02}" for key, value in planted.items()})
    assert judged() == "RANK-23"
    others = [key for key in draw_pairs(64, seed=0) if key not in planted]
    saved(folder, dict(list(planted.items())[:15]) | {others[0]: "17"})
    assert judged() == "RANK-24"


READS = """
from pathlib import Path
from tempfile import TemporaryDirectory

from hybridlab.exercise import REGISTRY
from hybridlab.ssm.long_reader import LongReader
from hybridlab.ssm.planted import draw_pairs, plant

reader, again, pairs = LongReader.load(), LongReader.load(), draw_pairs(12, seed=4)
text = plant("The king said no more of it.\\n" * 2000, pairs, seed=4)
reader.read([text[:30_000]])
with TemporaryDirectory() as folder:
    reader.save_state(Path(folder) / "learner.state")
    again.load_state(Path(folder) / "learner.state")
again.read([text[30_000:]])
print(sum(again.planted().get(key) == value for key, value in pairs.items()))
print(sorted({entry.origin for symbol, entry in REGISTRY.items() if symbol.split(".")[2] in ("chunk_grid", "reader_state", "answers")}))
"""


@pytest.mark.slow(seconds=300)
@pytest.mark.timeout(900)
def test_a_learner_does_the_project_in_another_style_and_then_reads_with_their_own_code():
    shutil.rmtree(paths.WORKSPACE, ignore_errors=True)
    fetch([PROJECT])
    project_done(PROJECT)
    found, origins = on_the_learners_library(READS).splitlines()
    assert int(found) >= 11
    assert origins == "['learner']"
    shutil.rmtree(paths.WORKSPACE, ignore_errors=True)
