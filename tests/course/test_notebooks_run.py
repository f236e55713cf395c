"""Every lesson, project and solved lab runs from top to bottom, on one thread, in the time that it states; month 2 without a network.

Month 1's project, which trains for minutes, is run whole by test_learner.py, with a learner's answers: not here again.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from coursekit.course import load_course
from coursekit.run import PATIENCE, Job, jobs_of, run_notebook

OFFLINE = Path(__file__).with_name("offline")  # its sitecustomize.py refuses, and notes, whatever leaves this machine
WITHOUT_NETWORK = "02_llm"
RUN_BY_A_LEARNER = "month01_project/project"
UNITS = [(unit, job) for unit in load_course().units for job in jobs_of(unit)]
JOBS = [pytest.param(unit.month, job, id=job.name, marks=pytest.mark.slow(seconds=job.seconds)) for unit, job in UNITS]


def offline(log: Path) -> dict[str, str]:
    """What makes a process, and all Python processes that it starts, refuse the network and write down what was tried."""
    paths = [str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), "OFFLINE_LOG": str(log)}


@pytest.mark.parametrize(("month", "job"), [job for job in JOBS if job.id != RUN_BY_A_LEARNER])
@pytest.mark.timeout(900)
def test_notebook_runs_within_twice_its_stated_time(month: str, job: Job, tmp_path: Path) -> None:
    if not job.path.is_file():
        pytest.fail(f"{job.path} is not built: run `course build`")
    log = tmp_path / "tried"
    outcome = run_notebook(job, threads=1, environment=offline(log) if month == WITHOUT_NETWORK else None)
    assert outcome.passed, f"{outcome.name}: {outcome.error}"
    assert outcome.wall <= PATIENCE * job.seconds
    assert not log.exists(), f"{job.name} tried the network:\n{log.read_text()}"


@pytest.mark.parametrize(("month", "job"), JOBS)
def test_notebook_has_the_profile_that_papermill_sets(month: str, job: Job) -> None:
    cells = json.loads(job.path.read_text("utf-8"))["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert "profile" in "".join(tagged[0]["source"])


# ---------------------------------------------------------------- the guard itself


def tried(tmp_path: Path, code: str) -> tuple[subprocess.CompletedProcess, str]:
    """Run code under the guard, in a process that a process has started; what it said, and what the guard noted."""
    log = tmp_path / "tried"
    outer = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {code!r}]).returncode)"
    ended = subprocess.run([sys.executable, "-c", outer], env=os.environ | offline(log), capture_output=True, text=True, timeout=60)
    return ended, log.read_text() if log.exists() else ""


@pytest.mark.slow(seconds=24)
@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)",
        "import socket; socket.getaddrinfo('huggingface.co', 443)",
        "import socket; socket.gethostbyname('huggingface.co')",
        "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "import urllib.request; urllib.request.urlopen('http://192.0.2.1/', timeout=1)",
        "import huggingface_hub; huggingface_hub.hf_hub_download('gpt2', 'config.json')",
    ],
)
def test_the_guard_refuses_and_notes_what_leaves_the_machine(tmp_path: Path, code: str) -> None:
    ended, log = tried(tmp_path, code)
    assert ended.returncode != 0
    assert "offline: socket." in ended.stderr
    assert "192.0.2.1" in log or "huggingface.co" in log


def test_the_guard_notes_what_the_code_swallows(tmp_path: Path) -> None:
    ended, log = tried(
        tmp_path, "import socket, contextlib\nwith contextlib.suppress(OSError): socket.create_connection(('192.0.2.1', 80))"
    )
    assert ended.returncode == 0
    assert "192.0.2.1" in log


def test_the_guard_lets_the_machine_talk_to_itself(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended, log = tried(tmp_path, f"import socket; socket.create_connection(('localhost', {port})); a, b = socket.socketpair()")
    assert (ended.returncode, log) == (0, ""), ended.stderr
