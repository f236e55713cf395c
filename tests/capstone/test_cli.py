"""The assistant command: what it does, and one sentence with exit code 1 for what goes wrong."""

from __future__ import annotations

import gc
import json
import socket
import zipfile

import pytest
from assistant import cli
from assistant.settings import settings
from assistant.store import Store
from typer.testing import CliRunner


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ASSISTANT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(cli, "encoder", _encoder)
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()


def _encoder():
    from tests.capstone.conftest import HashEncoder

    return HashEncoder()


def run(*arguments, status: int = 0, **more) -> str:
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments], **more)
    assert done.exit_code == status, done.output + repr(done.exception)
    if status:
        assert "Traceback" not in done.output
        assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.output


def test_keys_are_made_shown_in_part_and_revoked(home):
    key = run("keys", "add", "mai", "--label", "laptop").strip()
    store = Store(home / "assistant.db")
    assert store.keys.owner_of(key) == "mai"
    listed = run("keys", "list")
    assert "mai" in listed
    assert key not in listed
    run("keys", "revoke", 1)
    assert store.keys.owner_of(key) is None
    assert "no valid key 1" in run("keys", "revoke", 1, status=1)
    assert "can't be a user's name" in run("keys", "add", "../x", status=1)


def test_ingest_export_delete(home, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# Leave\n\nTwenty-five days.\n")
    assert "a.md: ready" in run("ingest", tmp_path / "docs", "--user", "mai")
    run("export", "mai", tmp_path / "mai.zip")
    with zipfile.ZipFile(tmp_path / "mai.zip") as archive:
        (about,) = json.loads(archive.read("documents.json"))
        assert archive.read(f"documents/{about['id']}/a.md") == (tmp_path / "docs" / "a.md").read_bytes()
    assert "mai.zip" in run("export", "mai", tmp_path / "mai.zip", status=1)  # never written over
    run("delete-user", "mai", status=1, input="n\n")
    run("delete-user", "mai", "--yes")
    assert list((home / "uploads").iterdir()) == []
    for command in (("export", "mai", tmp_path / "again.zip"), ("delete-user", "mai", "--yes")):
        assert "no user 'mai'" in run(*command, status=1)
    assert not (tmp_path / "again.zip").exists()


@pytest.mark.slow(seconds=2)
def test_what_goes_wrong_is_one_sentence(home, tmp_path, monkeypatch):
    assert "not found: check the path" in run("ingest", tmp_path / "none.pdf", status=1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "choose another with --port" in run("serve", "--port", taken.getsockname()[1], status=1)
    monkeypatch.setenv("ASSISTANT_MODEL", str(tmp_path / "none.gguf"))
    settings.cache_clear()
    assert "set ASSISTANT_MODEL" in run("serve", "--port", free_port(), status=1)
    monkeypatch.setenv("ASSISTANT_STREAMS", "many")
    settings.cache_clear()
    assert "ASSISTANT_STREAMS is set to 'many'" in run("keys", "list", status=1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_delete_user_waits_for_the_service_to_end(home, assistant, monkeypatch):
    monkeypatch.setenv("ASSISTANT_HOME", str(assistant.service.settings.home))
    settings.cache_clear()
    assert "end it first" in run("delete-user", "local", "--yes", status=1)
    with assistant.client() as client:
        assert client.get("/v1/documents").status_code == 200


@pytest.mark.slow(seconds=4)
def test_read_marks_what_was_planted_and_says_what_search_alone_finds(home, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("amber -> 42\n" + "It is late.\n" * 300 + "amber -> 42\nraven -> 07\n" + "It is late.\n" * 30)
    told = run("read", path)
    for line in (
        "part 1, character 0: new amber -> 42",
        "repeated amber -> 42",
        "new raven -> 07",
        "2 times, 3,6",
        "search alone: 42",
        "search alone: 07",
        "tokens",
    ):
        assert line in told
    told = run("read", path, "--question", "What of raven and cedar?")
    assert "cedar: nothing; search alone: nothing" in told
    assert "amber: " not in told
    (tmp_path / "b.txt").write_bytes(b"MZ\0\0" * 50)
    assert "b.txt has no text to read. The" in run("read", tmp_path / "b.txt", status=1)
    assert "c.txt: No such file" in run("read", tmp_path / "c.txt", status=1)
    monkeypatch.setattr("assistant.read_aloud.read_document", interrupted)
    assert "Interrupted: the file is stored" in run("read", path)


@pytest.mark.slow(seconds=4)
def test_read_takes_any_text_and_refuses_what_is_none_in_a_line(home, tmp_path):
    def told(content, **more):
        (tmp_path / "a.txt").write_bytes(content)
        return run("read", tmp_path / "a.txt", **more)

    assert "the file is empty" in told(b"", status=1)
    assert "holds binary data" in told(bytes(range(256)) * 40, status=1)
    assert "->" not in told(b"a")
    pair = "Vua Lear nói: amber -> 42\n"
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le"):
        assert "new amber -> 42" in told(pair.encode(encoding)), encoding
    assert "new amber -> 42" in told(b"K\xf6nig L\xe4ar \xff\xfe: amber -> 42\n")  # no encoding at all: the odd bytes alone are lost
    assert "character 20,001: new amber -> 42" in told(b"x" * 20_000 + b" amber -> 42 " + b"x" * 20_000)  # one line, over several pieces
    assert "Is a directory" in run("read", tmp_path, status=1)


def interrupted(*of):
    raise KeyboardInterrupt


def test_what_stays_to_the_end_is_not_looked_through_for_garbage():
    from assistant.cli import uncollected

    gc.unfreeze()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
    with pytest.raises(ZeroDivisionError), uncollected():
        1 / 0  # noqa: B018
    assert gc.isenabled()
    gc.unfreeze()
