"""From an upload to an answer: versions, deletions in the middle of the work, progress, and a worker that nothing ends."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from assistant.knowledge import service
from assistant.knowledge.service import Knowledge
from assistant.settings import Settings
from assistant.store import DiskFull, Store, StoreError

TEXT = "The canteen opens at noon and the library closes at nine. " * 80


class Encoder:
    """Embeds each text as the counts of its letters; can be held (`go`), let through a batch at a time (`batches`), and can fail."""

    dim = 26

    def __init__(self):
        self.go, self.reached = threading.Event(), threading.Event()
        self.go.set()
        self.batches: threading.Semaphore | None = None
        self.failures = 0

    def query(self, texts):
        counts = np.array([[text.lower().count(chr(97 + i)) + 0.01 for i in range(26)] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    def ask(self, question, depth, *, exact=False):
        return self.query([question])[0], np.zeros((0, 384), np.float32)

    def read(self, texts, depth):
        self.reached.set()
        if not self.go.wait(30):
            raise TimeoutError
        if self.batches and not self.batches.acquire(timeout=30):
            raise TimeoutError
        if self.failures:
            self.failures -= 1
            raise RuntimeError("the encoder fell over")
        return self.query(texts), [np.ones((3, 384), np.float32)] * len(texts)


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
def make(tmp_path: Path, encoder: Encoder) -> Iterator[Callable[[], Knowledge]]:
    made: list[Knowledge] = []

    def one() -> Knowledge:
        settings = Settings(home=tmp_path / "home", _env_file=None)
        store = Store(settings.database)
        store.keys.ensure_user("mai")
        store.keys.ensure_user("an")
        made.append(Knowledge(store, encoder, settings))
        return made[-1]

    yield one
    encoder.go.set()
    for knowledge in made:
        knowledge.close()


@pytest.fixture
def knowledge(make: Callable[[], Knowledge]) -> Knowledge:
    made = make()
    made.start()
    return made


def add(knowledge: Knowledge, text: str | bytes, name: str = "notes.txt", owner: str = "mai") -> str:
    return knowledge.add(owner, name, io.BytesIO(text.encode() if isinstance(text, str) else text)).id


def eventually(true: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def found(knowledge: Knowledge, query: str, retriever: str = "fused", owner: str = "mai") -> set[str]:
    return {hit.chunk.document for hit in knowledge.search(owner, query, 50, retriever)}


def test_a_document_is_found_by_words_before_it_is_embedded_and_progress_is_seen(knowledge: Knowledge, encoder: Encoder):
    encoder.go.clear()
    document = add(knowledge, TEXT * 4)
    eventually(lambda: knowledge.document("mai", document).state == "searchable")
    assert found(knowledge, "canteen", "bm25") == {document}
    assert found(knowledge, "canteen", "e5") == set()
    seen = knowledge.document("mai", document)
    assert seen.embedded == 0 < service.BATCH < seen.chunks
    encoder.go.set()
    assert knowledge.wait(20)
    done = knowledge.document("mai", document)
    assert (done.state, done.embedded) == ("ready", done.chunks)
    assert found(knowledge, "canteen", "e5") == {document}


def test_a_new_document_is_read_while_a_long_one_is_embedded(knowledge: Knowledge, encoder: Encoder):
    encoder.batches = threading.Semaphore(0)
    first = add(knowledge, TEXT * 20, "long.txt")
    assert encoder.reached.wait(20)
    second = add(knowledge, "a short note about the ferry", "short.txt")
    encoder.batches.release()  # the batch that is being embedded, and no other
    eventually(lambda: knowledge.document("mai", second).state == "searchable")
    assert knowledge.document("mai", first).embedded == service.BATCH
    encoder.batches.release(1000)


def test_a_new_version_takes_the_old_ones_place_when_it_can_be_found(knowledge: Knowledge, encoder: Encoder):
    old = add(knowledge, "the old gate is red")
    assert knowledge.wait(20)
    encoder.go.clear()
    new = add(knowledge, "the new gate is blue")
    eventually(lambda: knowledge.document("mai", new).state == "searchable")
    assert found(knowledge, "red gate", "bm25") == {new}
    assert found(knowledge, "red gate", "e5") == set(), "the index still has the old version"
    assert [d.id for d in knowledge.documents("mai")] == [new]
    eventually(lambda: len(list(knowledge.uploads.folder.iterdir())) == 1)
    with pytest.raises(KeyError):
        knowledge.document("mai", old)


def test_a_new_version_that_fails_leaves_the_old_one_and_says_why(knowledge: Knowledge):
    old = add(knowledge, "the gate is red")
    assert knowledge.wait(20)
    failed = [add(knowledge, b"%PDF-1.7 no pages " + bytes([n]), "notes.txt") for n in range(2)]
    assert knowledge.wait(30)
    assert found(knowledge, "gate") == {old}
    left = knowledge.documents("mai")
    assert [(d.id, d.state) for d in left] == [(old, "ready"), (failed[1], "failed")], "one failure at most is kept per name"
    assert len(left[1].error) > 20
    assert left[1].error.endswith(".")
    new = add(knowledge, "the gate is green")
    assert knowledge.wait(20)
    assert [d.id for d in knowledge.documents("mai")] == [new], "old versions and failures stayed beside the new one"


def test_versions_that_come_quickly_leave_one(knowledge: Knowledge):
    for number in range(6):
        add(knowledge, b"%PDF-1.7 broken" if number == 4 else f"version {number} of the gate")
    last = knowledge.documents("mai")[-1].id
    assert knowledge.wait(60)
    assert [(d.id, d.state) for d in knowledge.documents("mai")] == [(last, "ready")]
    assert found(knowledge, "gate") == {last}
    assert len(list(knowledge.uploads.folder.iterdir())) == 1


@pytest.mark.parametrize("moment", ["parsing", "embedding"])
def test_a_document_deleted_in_the_middle_is_gone(
    knowledge: Knowledge, encoder: Encoder, moment: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    go, reached = threading.Event(), threading.Event()
    real = service.parse_limited

    def held(*args, **kwargs):
        parsed = real(*args, **kwargs)
        reached.set()
        assert go.wait(30)
        return parsed

    if moment == "parsing":
        monkeypatch.setattr(service, "parse_limited", held)
    else:
        encoder.go.clear()
        reached, go = encoder.reached, encoder.go
    knowledge.search("mai", "load the index")
    document = add(knowledge, "the zyqxsecret gate. " * 40)
    assert reached.wait(20)
    knowledge.delete("mai", document)
    go.set()
    assert knowledge.wait(20)
    assert knowledge.documents("mai") == []
    for retriever in ("bm25", "e5"):
        assert found(knowledge, "zyqxsecret", retriever) == set()
    assert not any(b"yqxsecret" in path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    other = add(knowledge, "quite another thing", "other.txt")
    assert knowledge.wait(20)
    hits = knowledge.search("mai", "the zyqxsecret gate", 5, "e5")
    assert [(hit.chunk.document, hit.ranks["e5"]) for hit in hits] == [(other, 1)], "the index still ranks what was deleted"


def test_a_deleted_document_does_not_answer(knowledge: Knowledge, tmp_path: Path):
    kept, gone = add(knowledge, "the blue gate", "a.txt"), add(knowledge, "the zyqxsecret gate", "b.txt")
    assert knowledge.wait(20)
    assert found(knowledge, "gate") == {kept, gone}
    knowledge.delete("mai", gone)
    assert found(knowledge, "zyqxsecret gate") == {kept}
    assert not any(b"yqxsecret" in path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())


def test_the_worker_outlives_every_exception(knowledge: Knowledge, encoder: Encoder, monkeypatch: pytest.MonkeyPatch):
    take, faults = knowledge.store.jobs.take, [DiskFull(), RuntimeError("take"), OSError("disk")]

    def faulty():
        if faults:
            raise faults.pop()
        return take()

    monkeypatch.setattr(service, "IDLE", 0.01)
    monkeypatch.setattr(knowledge.store.jobs, "take", faulty)
    monkeypatch.setattr(service, "parse_limited", lambda *_, **__: 1 / 0)
    broken = add(knowledge, "the gate", "broken.txt")
    eventually(lambda: knowledge.document("mai", broken).state == "failed")
    assert knowledge.document("mai", broken).error_code == "internal"
    assert "upload it again" in knowledge.document("mai", broken).error
    monkeypatch.undo()
    encoder.failures = 2
    document = add(knowledge, "the gate is red", "good.txt")
    assert knowledge.wait(20)
    assert knowledge.document("mai", document).state == "ready"


@pytest.mark.parametrize("say", ["not_embedded", "failed"])
def test_no_job_ends_before_the_reason_is_stored(knowledge: Knowledge, encoder: Encoder, monkeypatch: pytest.MonkeyPatch, say: str):
    left, store = [], getattr(knowledge.store.documents, say)

    def watched(*args):
        left.append(knowledge.store.jobs.waiting())
        return store(*args)

    monkeypatch.setattr(knowledge.store.documents, say, watched)
    encoder.failures = 3
    if say == "failed":
        monkeypatch.setattr(service, "parse_limited", lambda *_, **__: 1 / 0)
    document = add(knowledge, "the gate is red")
    assert knowledge.wait(20)
    assert left == [1]
    assert knowledge.document("mai", document).error


def test_what_could_not_be_embedded_is_found_by_words_and_embedded_when_uploaded_again(knowledge: Knowledge, encoder: Encoder):
    encoder.failures = 3
    document = add(knowledge, "the gate is red")
    assert knowledge.wait(20)
    seen = knowledge.document("mai", document)
    assert seen.state == "searchable"
    assert "by words" in seen.error
    assert found(knowledge, "gate", "bm25") == {document}
    assert add(knowledge, "the gate is red") == document
    assert knowledge.wait(20)
    assert (knowledge.document("mai", document).state, knowledge.document("mai", document).error) == ("ready", "")


def test_a_full_disk_makes_a_document_wait_and_not_fail(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch):
    full = [DiskFull() for _ in range(6)]
    parsed = knowledge.store.documents.parsed

    def faulty(*args):
        if full:
            raise full.pop()
        return parsed(*args)

    monkeypatch.setattr(service, "IDLE", 0.01)
    monkeypatch.setattr(knowledge.store.documents, "parsed", faulty)
    document = add(knowledge, "the gate is red")
    assert knowledge.wait(30)
    assert knowledge.document("mai", document).state == "ready"


def test_closing_is_quick_and_the_next_start_goes_on(make: Callable[[], Knowledge], monkeypatch: pytest.MonkeyPatch):
    def endless(*_, progress, **__):
        while True:
            progress(1, 2)
            time.sleep(0.01)

    first = make()
    first.start()
    monkeypatch.setattr(service, "parse_limited", endless)
    document = add(first, "the gate is red")
    time.sleep(0.2)
    start = time.monotonic()
    first.close()
    assert time.monotonic() - start < 1
    monkeypatch.undo()
    second = make()
    second.start()
    assert second.wait(20)
    assert second.document("mai", document).state == "ready"


def test_two_processes_do_not_work_on_one_folder(knowledge: Knowledge, make: Callable[[], Knowledge]):
    with pytest.raises(StoreError, match="another assistant works on"):
        make().start()
    with pytest.raises(StoreError, match="another assistant works on"):
        make().delete_user("mai")
    knowledge.close()
    make().start()


def test_a_deleted_users_files_go_and_shared_ones_stay(make: Callable[[], Knowledge]):
    knowledge = make()
    for owner in ("mai", "an"):
        add(knowledge, "shared", owner=owner)
    add(knowledge, "hers alone", "b.txt")
    knowledge.delete_user("mai")
    assert knowledge.documents("mai") == []
    assert [path.read_text() for path in knowledge.uploads.folder.iterdir()] == ["shared"]
