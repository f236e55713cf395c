"""`course run` tells a notebook that passed from one that failed or hangs, and leaves no process behind."""

import json
import re
import time
from pathlib import Path

import psutil
import pytest
from coursekit import run as running
from coursekit.course import Course
from coursekit.errors import CourseError
from coursekit.run import Job, choose, run_all, run_notebook
from nbformat.v4 import new_code_cell, new_notebook, writes

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of these runs are not the course's."""
    monkeypatch.setattr(running, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def job(tmp_path: Path):
    def make(*sources: str, name: str = "made/notebook", seconds: int = 60) -> Job:
        cells = [new_code_cell("profile = 'none'", id="parameters", metadata={"tags": ["parameters"]})]
        cells += [new_code_cell(source, id=f"cell-{i}") for i, source in enumerate(sources, 1)]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        path = tmp_path / f"{name.replace('/', '-')}.ipynb"
        path.write_text(writes(new_notebook(cells=cells, metadata=kernel)))
        return Job(name, path, seconds)

    return make


def test_a_passing_notebook_gets_its_profile_its_threads_and_an_empty_folder(job, results: Path) -> None:
    outcome = run_notebook(
        job(
            "import os; from pathlib import Path; assert profile == 'gpu', profile",
            "assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE' and os.environ['OMP_NUM_THREADS'] == '1'",
            "assert not list(Path.cwd().iterdir())",
        ),
        "gpu",
        threads=1,
    )
    assert outcome.passed, outcome.error
    saved = json.loads((results / "made.notebook.json").read_text())
    assert saved["status"] == "passed"
    assert saved["profile"] == "gpu"


def test_memory_is_the_peak_of_the_kernel(job) -> None:
    outcome = run_notebook(job("x = bytearray(700 * 2**20); x[::4096] = b'1' * len(x[::4096]); del x"))
    assert outcome.passed, outcome.error
    assert 700 < outcome.peak < 1400  # the kernel's own memory and the 700 MiB once, not twice


def test_a_failing_cell_is_named_with_its_error(job) -> None:
    outcome = run_notebook(job("1 + 1", "raise ValueError('the loss is nan')"))
    assert outcome.status == "failed"
    assert outcome.error == "cell 'cell-2': ValueError: the loss is nan"


@pytest.mark.parametrize("source", ["import time; time.sleep(600)", "import ctypes; ctypes.PyDLL(None).sleep(600)", "while True: pass"])
def test_a_hanging_cell_is_ended_from_outside_with_all_its_processes(job, source: str) -> None:
    begin = time.monotonic()
    child = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"
    outcome = run_notebook(job(child, source), limit=12)
    assert outcome.status == "timeout"
    assert "12 s" in outcome.error
    assert "'cell-2'" in outcome.error
    assert time.monotonic() - begin < 25
    ran = Path(running.paths.REPO / outcome.output).read_text()
    pid = int(re.search(r'"(\d+)\\n"', ran)[1])
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_two_at_a_time_take_less_than_one_after_the_other(job) -> None:
    jobs = [job("import time; time.sleep(6)", name=f"made/{i}") for i in "ab"]
    begin = time.monotonic()
    outcomes = list(run_all(jobs, at_once=2))
    assert {o.name for o in outcomes} == {"made/a", "made/b"}
    assert all(o.passed for o in outcomes)
    assert time.monotonic() - begin < sum(o.wall for o in outcomes) - 3


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(CourseError, match="choose one of"):
        choose(["week99"], Course(()))


def test_a_limit_of_nothing_is_refused(job) -> None:
    with pytest.raises(ValueError, match="limit is 0"):
        run_notebook(job("1"), limit=0)
