"""One runner gives the same verdict in Validate, `course grade`, Formgrader and the terminal, on JupyterLab's own server."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from contextlib import closing

import pytest
import websocket
from coursekit import gradebook
from coursekit.answers import judge_notebook
from coursekit.fetch import fetch
from coursekit.grade import grade
from coursekit.jupyter import CourseValidator

pytestmark = pytest.mark.slow(seconds=40)
ANSWERS = {
    "all right": {},
    "a visible mistake": {"schedule": "def warmup_cosine(step, *, warmup, total, peak, floor=0.0):\n    return 2 * peak"},
    "an exception": {"rmsnorm": "class RMSNorm(nn.Module):\n    def __init__(self, d):\n        raise KeyError(d)"},
    "a forbidden name": {"softmax": "def softmax(scores, dim=-1):\n    return torch.softmax(scores, dim)"},
    "all wrong": dict.fromkeys(("softmax", "schedule", "rmsnorm"), "x = 1"),
}
TOKEN = "verdict"


class Server:
    """JupyterLab as `course learn` starts it, on a free port."""

    def __init__(self, log):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        command = [sys.executable, "-m", "coursekit", "learn", "--no-browser", "--port", str(self.port), "--token", TOKEN]
        self.log = log
        self.process = subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.STDOUT, start_new_session=True)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.call("api/status")
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise AssertionError(log.read_text()) from None
                time.sleep(0.2)

    def call(self, address, data=None, **form):
        body = json.dumps(data).encode() if data is not None else urllib.parse.urlencode(form).encode() if form else None
        headers = {"Authorization": f"token {TOKEN}"} | ({"Content-Type": "application/json"} if data is not None else {})
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}/{address}", body, headers), timeout=60) as reply:
            return json.loads(reply.read() or "null")

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def server(small, tmp_path_factory):
    fetch([small.week])
    small.save(small.solved())
    grade(small.week)
    started = Server(tmp_path_factory.mktemp("server") / "log")
    yield started
    started.stop()


def validated(reply):
    """Exercise → mistake code, as Validate's dialog has them."""
    return {one["source"].split(" ")[0]: one["raw_error"].split(" ")[0] for one in reply.get("failed", [])}


def in_gradebook(small):
    return {score.exercise for score in gradebook.scores(small.week) if score.points < score.of}


@pytest.mark.parametrize("case", ANSWERS)
def test_validate_grade_formgrader_and_terminal_agree(small, server, case):
    small.save(small.solved(**ANSWERS[case]))
    terminal = {e.id: v.code for e, v in judge_notebook(small.lab, small.week, hidden=False) if not v.passed}
    assert set(terminal) == set(ANSWERS[case])

    report = grade(small.week)
    assert {r.exercise.id: r.text.split(" ")[0] for r in report.results if not r.passed} == terminal
    assert in_gradebook(small) == set(terminal)

    in_lab = server.call("assignments/validate", path=f"{small.week.name}/lab.ipynb")
    assert in_lab["success"], in_lab
    assert validated(in_lab["value"]) == terminal
    assert validated(CourseValidator().validate(str(small.lab))) == terminal, "nbgrader's own Python interface"

    formgrader = server.call(f"formgrader/api/submission/{small.week.name}/{gradebook.STUDENT}/autograde", data={})
    assert formgrader["success"], formgrader
    assert in_gradebook(small) == set(terminal)


def test_validate_shows_visible_cases_and_grading_counts_the_hidden_ones_too(small, server):
    small.save(small.solved(softmax="def softmax(scores, dim=-1):\n    e = scores.exp()\n    return e / e.sum(dim, keepdim=True)"))
    assert server.call("assignments/validate", path=f"{small.week.name}/lab.ipynb") == {"success": True, "value": {}}
    assert {r.exercise.id: r.text.split(" ")[0] for r in grade(small.week).results if not r.passed} == {"softmax": "SMALL-02"}


def test_the_server_answers_while_a_notebook_is_validated(small, server):
    small.save(small.solved(softmax="import time\n\ndef softmax(scores, dim=-1):\n    time.sleep(6)"))
    replies = []
    check = threading.Thread(target=lambda: replies.append(server.call("assignments/validate", path=f"{small.week.name}/lab.ipynb")))
    check.start()
    time.sleep(3)
    server.call("api/status")
    assert check.is_alive(), "the server answered only after the check had ended"
    check.join(60)
    assert validated(replies[0]["value"]) == {"softmax": "RUN-06"}


def test_assignment_list_shows_the_fetched_week(small, server):
    assert server.call("courses")["value"] == [gradebook.COURSE_ID]
    (assignment,) = server.call(f"assignments?course_id={gradebook.COURSE_ID}")["value"]
    assert (assignment["assignment_id"], assignment["status"]) == (small.week.name, "fetched")


def test_formgrader_lists_the_graded_week(small, server):
    (assignment,) = server.call("formgrader/api/assignments")
    assert (assignment["name"], assignment["num_submissions"], assignment["max_score"]) == (small.week.name, 1, 9)


def test_a_notebook_that_is_not_the_courses_is_validated_by_nbgrader_itself(small, server):
    import nbformat

    settings = {"grade": True, "solution": False, "locked": True, "points": 1, "schema_version": 3, "cell_type": "code", "task": False}
    cell = nbformat.v4.new_code_cell("assert 1 + 1 == 3", metadata={"nbgrader": {"grade_id": "sum", **settings}})
    other = nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    nbformat.write(other, small.workspace / "other.ipynb")
    reply = server.call("assignments/validate", path="other.ipynb")
    assert "AssertionError" in reply["value"]["failed"][0]["raw_error"]


def test_the_course_command_is_there_in_a_terminal_of_jupyterlab(server):
    name = server.call("api/terminals", data={})["name"]
    address = f"ws://127.0.0.1:{server.port}/terminals/websocket/{name}?token={TOKEN}"
    with closing(websocket.create_connection(address, timeout=20)) as terminal:
        terminal.send(json.dumps(["stdin", "command -v course && echo at-$((40 + 2))\r"]))
        seen = ""
        while "at-42" not in seen:
            kind, *text = json.loads(terminal.recv())
            seen += text[0] if kind == "stdout" else ""
    assert "/bin/course" in seen
