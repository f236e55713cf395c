"""Files on their way in: what is acknowledged is whole and on disk, what is refused leaves nothing and says why."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path

import pytest
from assistant.knowledge.service import Knowledge
from assistant.knowledge.uploads import Uploads, safe_name
from assistant.settings import Settings
from assistant.store import DiskFull, Store, StoreError
from hybridlab.rag.parse import DocumentError

LIMIT = 1000


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path / "uploads", LIMIT)


@pytest.fixture
def knowledge(tmp_path: Path) -> Knowledge:
    settings = Settings(home=tmp_path / "home", _env_file=None)
    store = Store(settings.database)
    store.keys.ensure_user("mai")
    store.keys.ensure_user("an")
    return Knowledge(store, None, settings)


def files(uploads: Uploads) -> list[str]:
    return sorted(path.name for path in uploads.folder.iterdir())


def refused(uploads: Uploads, stream) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        uploads.receive(stream)
    assert files(uploads) == []
    assert caught.value.sentence.endswith(".")
    return caught.value


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.pdf", "passwd.pdf"),
        ("C:\\Users\\Mai\\kế hoạch.docx", "kế hoạch.docx"),
        ("a\x00b\n.pdf", "ab.pdf"),
        ("🚀 báo cáo 👩‍💻.md", "🚀 báo cáo 👩‍💻.md"),
        ("\u202efdp.exe", "fdp.exe"),
        ("\ud800x.txt", "x.txt"),
        ("  .hidden. ", "hidden"),
        ("bo\u0302\u0301 tri\u0301.txt", "bố trí.txt"),
    ],
)
def test_a_name_is_cleaned(given: str, kept: str):
    assert safe_name(given) == kept


@pytest.mark.parametrize("ending", [".pdf", "", ".a-very-long-ending"])
def test_a_name_of_300_characters_is_cut_and_keeps_its_ending(ending: str):
    name = safe_name("đ" * (300 - len(ending)) + ending)
    assert 190 <= len(name) <= 200
    assert name.endswith(".pdf") == (ending == ".pdf")


@pytest.mark.parametrize("name", ["", "..", "../..", "/", " . ", "\x00", "\u200d"])
def test_a_name_of_nothing_is_refused(name: str):
    with pytest.raises(DocumentError, match="letter in it"):
        safe_name(name)


def test_an_empty_file_is_refused(uploads: Uploads):
    assert refused(uploads, io.BytesIO()).code == "empty"


def test_a_file_that_is_too_large_is_cut_off(uploads: Uploads):
    class Endless:
        read_bytes = 0

        def read(self, size: int) -> bytes:
            self.read_bytes += size
            return b"x" * size

    endless = Endless()
    assert refused(uploads, endless).code == "too_large"
    assert endless.read_bytes <= 2**21, "it read on after the limit"


def test_a_file_of_the_limit_is_taken(uploads: Uploads):
    assert uploads.receive(io.BytesIO(b"x" * LIMIT)).bytes == LIMIT


class Broken:
    """A stream that ends in an error after one piece."""

    def __init__(self, error: BaseException):
        self.pieces = [b"x"]
        self.error = error

    def read(self, size: int) -> bytes:
        if self.pieces:
            return self.pieces.pop()
        raise self.error


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), KeyboardInterrupt()])
def test_an_upload_that_is_cut_off_leaves_nothing(uploads: Uploads, error: BaseException):
    with pytest.raises(type(error)):
        uploads.receive(Broken(error))
    assert files(uploads) == []


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_told_and_leaves_nothing(uploads: Uploads, monkeypatch: pytest.MonkeyPatch, call: str):
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
        stream = io.BytesIO(b"x")
    else:
        stream = Broken(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    error = refused(uploads, stream)
    assert error.code == "disk_full"
    assert "disk is full" in error.sentence


def test_what_a_killed_upload_left_is_swept_and_what_is_wanted_stays(uploads: Uploads):
    upload = uploads.receive(io.BytesIO(b"kept"))
    uploads.place(upload)
    uploads.receive(io.BytesIO(b"never placed"))
    assert uploads.sweep([upload.sha256]) == 1
    assert files(uploads) == [upload.sha256]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another"):
        Uploads(tmp_path / "file" / "uploads", LIMIT)


# --- with the database -----------------------------------------------------------------------------------------------


def test_one_file_uploaded_many_times_at_once_is_one_document(knowledge: Knowledge):
    ids: list[str] = []
    start = threading.Barrier(8)

    def upload() -> None:
        start.wait()
        ids.append(knowledge.add("mai", "plan.txt", io.BytesIO(b"the plan")).id)

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert len(knowledge.documents("mai")) == len(files(knowledge.uploads)) == knowledge.store.jobs.waiting() == 1


def test_the_same_file_of_two_owners_is_independent(knowledge: Knowledge):
    one, other = (knowledge.add(owner, "plan.txt", io.BytesIO(b"the plan")) for owner in ("mai", "an"))
    assert one.id != other.id
    knowledge.delete("mai", one.id)
    assert knowledge.uploads.path(other.sha256).read_bytes() == b"the plan"
    knowledge.delete("an", other.id)
    assert files(knowledge.uploads) == []


def test_a_file_whose_row_does_not_fit_leaves_nothing(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch):
    first = knowledge.add("mai", "a.txt", io.BytesIO(b"first"))
    monkeypatch.setattr(knowledge.store.documents, "receive", lambda *_: (_ for _ in ()).throw(DiskFull()))
    with pytest.raises(DiskFull, match="disk is full"):
        knowledge.add("mai", "b.txt", io.BytesIO(b"second"))
    with pytest.raises(DiskFull):
        knowledge.add("mai", "c.txt", io.BytesIO(b"first"))  # the file of another document is not taken with it
    assert files(knowledge.uploads) == [first.sha256]


SMALL_DISK = """
import io, os, sys
from pathlib import Path
from assistant.knowledge.service import Knowledge
from assistant.settings import Settings
from assistant.store import Store, StoreError
from hybridlab.rag.parse import DocumentError

settings = Settings(home=Path(sys.argv[1]) / "home", _env_file=None)
store = Store(settings.database)
store.keys.ensure_user("mai")
knowledge = Knowledge(store, None, settings)
knowledge.reserve.take()
kept, sentences = [], set()
for number in range(500):
    try:
        kept.append(knowledge.add("mai", f"{number}.txt", io.BytesIO(os.urandom(400_000 if number < 60 else 900))).id)
    except (DocumentError, StoreError) as error:
        sentences.add(str(error))
assert kept and sentences, (len(kept), sentences)
assert all("disk is full" in sentence for sentence in sentences), sentences
assert [d.id for d in knowledge.documents("mai")] == kept
assert {p.name for p in knowledge.uploads.folder.iterdir()} == {d.sha256 for d in knowledge.documents("mai")}
store.close()
again = Store(settings.database)
assert [d.id for d in again.documents.all("mai")] == kept
knowledge = Knowledge(again, None, settings)
for one in kept[: len(kept) // 2]:
    knowledge.delete("mai", one)
assert knowledge.add("mai", "after.txt", io.BytesIO(b"x" * 20_000)).state == "received"
print("held", len(kept))
"""


@pytest.mark.slow(seconds=4)
def test_a_disk_that_fills_up_loses_nothing_and_gives_its_room_back(tmp_path: Path):
    import subprocess
    import sys

    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=16m tmpfs {disk} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mount, "-", sys.executable, "-c", SMALL_DISK, str(disk)]
    if os.geteuid():
        command[1] = "-rm"
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this machine does not let a test mount a small disk: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("held")
