"""`make` builds or mends the environment, goes on after an interruption, and fails with one sentence that says what to do."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from coursekit.paths import REPO

spec = importlib.util.spec_from_file_location("bootstrap", REPO / "scripts" / "bootstrap.py")
bootstrap = importlib.util.module_from_spec(spec)
sys.modules["bootstrap"] = bootstrap
spec.loader.exec_module(bootstrap)

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout as small as it can be: nothing to download, one package to install."""
    monkeypatch.delenv("PYTHON", raising=False)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "main.txt").write_text("# nothing\n")
    (tmp_path / "requirements" / "no-deps.txt").write_text("# nothing\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '0'\n")
    return tmp_path


@pytest.fixture
def environment(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    """The checkout's environment, with pip and the project's own installation left out."""
    made = bootstrap.Environment(checkout, quiet=True)
    made.calls = []
    monkeypatch.setattr(made, "_pip_install", lambda *arguments, packages=0: made.calls.append(arguments))
    monkeypatch.setattr(made, "_run_or_fail", lambda *arguments: made.calls.append(arguments))
    return made


@pytest.fixture
def pip_says(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    """An environment whose pip prints a text and fails."""

    def make(text: str):
        made = bootstrap.Environment(checkout, quiet=True)
        folder = made.venv / "bin"
        folder.mkdir(parents=True)
        (folder / "python").write_text(f"#!/bin/sh\ncat <<'EOT'\n{text}\nEOT\nexit 1\n")
        (folder / "python").chmod(0o755)
        monkeypatch.setattr(made, "_create", lambda: False)
        return made

    return make


def sentence_of(environment) -> str:
    with pytest.raises(bootstrap.Failure) as failure:
        environment.make()
    text = str(failure.value)
    assert "\n" not in text
    return text


# --- made once, mended when needed ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_environment_is_made_once_and_again_when_the_lock_changes(environment, checkout: Path) -> None:
    environment.make()
    assert environment.is_current()
    assert ("-r", str(checkout / "requirements" / "main.txt")) in environment.calls
    environment.calls.clear()
    environment.make()
    assert environment.calls == []
    (checkout / "requirements" / "main.txt").write_text("# something else\n")
    assert not environment.is_current()
    environment.make()
    assert len(environment.calls) == 4


@pytest.mark.slow
def test_interrupted_installation_is_resumed_in_the_same_environment(environment, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments, packages=0):
        raise KeyboardInterrupt

    working = environment._pip_install
    monkeypatch.setattr(environment, "_pip_install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        environment.make()
    assert not environment.is_current()
    kept = environment.venv / "kept"
    kept.touch()
    site = next(environment.venv.glob("lib/python*/site-packages"))
    half = site / "half-1.0.dist-info"
    half.mkdir()
    (half / "METADATA").write_text("Name: half\nVersion: 1.0\n")
    lost = site / "lost-1.0.dist-info"
    lost.mkdir()
    (lost / "RECORD").write_text("lost/__init__.py,sha256=x,1\n")
    monkeypatch.setattr(environment, "_pip_install", working)
    environment.make()
    assert environment.is_current()
    assert kept.exists(), "what was installed already is kept"
    assert not half.exists(), "a package without its record is installed again"
    assert not lost.exists(), "a package whose files are missing is installed again"
    assert list(site.glob("pip-*.dist-info")), "a whole package is left alone"


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["python", "moved"])
def test_broken_environment_is_made_anew(environment, damage: str) -> None:
    environment.make()
    stale = environment.venv / "stale"
    stale.touch()
    if damage == "python":
        (environment.venv / "bin" / "python").unlink()
    else:
        pip = environment.venv / "bin" / "pip"
        pip.write_text(pip.read_text().replace(str(environment.venv), "/another/place/.venv"))
        environment.stamp.unlink()
    assert not environment.is_current()
    environment.make()
    assert environment.is_current()
    assert not stale.exists()


def test_a_finished_environment_costs_no_time() -> None:
    done = subprocess.run(["sh", "scripts/env.sh"], cwd=REPO, capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_texts_that_cannot_be_fetched_do_not_stop_the_rest(environment, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    environment.quiet = False
    environment.make()  # in this small checkout there is no hybridlab at all
    assert environment.is_current()
    assert "the plays could not be fetched now" in capsys.readouterr().out


# --- one sentence ---------------------------------------------------------------------------------------------------


def test_no_python_is_one_sentence(tmp_path: Path) -> None:
    for tool in ("sh", "dirname"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(["sh", "scripts/env.sh"], cwd=REPO, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Python 3.11" in done.stderr
    assert "install" in done.stderr


def test_no_disk_is_one_sentence(environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.shutil, "disk_usage", lambda path: Usage(10**12, 10**12, 2 * 2**30))
    assert sentence_of(environment) == "The disk has 2.0 GB free and the environment needs 6: free some space, then run this again."
    assert environment.calls == []


def test_a_link_to_another_environment_is_left_alone(environment, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    environment.venv.symlink_to(other)
    assert "delete the link" in sentence_of(environment)
    assert (other / "precious").exists()


def test_disk_that_fills_up_on_the_way_is_one_sentence(pip_says) -> None:
    text = sentence_of(pip_says("Collecting torch\nERROR: Could not install packages: [Errno 28] No space left on device"))
    assert text.startswith("The disk is full: free at least 11 GB (6 GB with TORCH=cpu), then run this again")


def test_no_network_is_one_sentence(pip_says) -> None:
    refused = "WARNING: Retrying (Retry(total=2)) after connection broken by 'NewConnectionError(Failed to establish a new connection)'"
    lines = f"{refused}\nERROR: No matching distribution found for torch==2.13.0"
    text = sentence_of(pip_says(lines))
    assert text.startswith("The package index could not be reached: check the network")


@pytest.mark.slow
def test_no_network_is_one_sentence_with_the_real_pip(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    (checkout / "requirements" / "main.txt").write_text("einops==0.8.2\n")
    text = sentence_of(bootstrap.Environment(checkout, quiet=True))
    assert text.startswith("The package index could not be reached: check the network")


def test_unknown_platform_is_one_sentence(pip_says) -> None:
    text = sentence_of(pip_says("ERROR: No matching distribution found for torch==2.13.0"))
    assert "pip found no torch==2.13.0" in text
    assert "Python 3.11" in text


def test_anything_else_names_the_log(pip_says) -> None:
    text = sentence_of(pip_says("something\nerror: the moon is full\n"))
    assert "the moon is full" in text
    assert ".venv/install.log" in text


def test_cpu_torch_asks_for_the_small_build(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bootstrap.Environment(checkout, quiet=True, cpu_torch=True)
    calls = []
    monkeypatch.setattr(made, "_create", lambda: made.venv.mkdir() or False)
    monkeypatch.setattr(made, "_pip_install", lambda *arguments, packages=0: calls.append(arguments))
    monkeypatch.setattr(made, "_run_or_fail", lambda *arguments: None)
    monkeypatch.setattr(made, "_prepare_data", lambda: None)
    made.make()
    assert calls[0][-2:] == ("--extra-index-url", "https://download.pytorch.org/whl/cpu")
