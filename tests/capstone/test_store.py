"""The database: whole transactions, one sentence for what can't be used, and nothing left of what was deleted."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
from assistant.knowledge.words import Words
from assistant.store import Store, StoreError
from assistant.store.words import TOKENIZER
from hybridlab.rag.chunk import Chunk
from hybridlab.rag.parse import Page, Parsed


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "home" / "assistant.db")
    made.keys.ensure_user("mai")
    made.keys.ensure_user("an")
    return made


def put(store: Store, owner: str, name: str, text: str) -> str:
    """A document that is read and embedded, its one page of `text` in chunks of 400 characters."""
    document, _ = store.documents.receive(owner, name, "text/plain", f"{hash((owner, name, text)) & (2**64 - 1):064x}", len(text))
    chunks = [Chunk(0, start, min(start + 400, len(text)), "prose", "Heading") for start in range(0, len(text), 400)]
    store.documents.parsed(document.id, Parsed("Title", (Page(1, ("Heading",), text),)), chunks)
    ids = [i for i, _ in store.documents.to_embed(document.id, 10_000)]
    store.documents.embedded(ids, np.ones((len(ids), 384), np.float32))
    store.readings.keep(ids, [f"read of {text[:40]} ".encode()] * len(ids), "reader")
    store.documents.ready(document.id)
    return document.id


def bytes_on_disk(store: Store) -> bytes:
    return b"".join(path.read_bytes() for path in store.database.path.parent.rglob("*") if path.is_file())


SECRET = "zyqxsecretword wvkjanotherone"


@pytest.mark.parametrize("copies", [1, 200])
def test_a_deleted_document_is_in_no_byte_of_the_database(store: Store, copies: int):
    kept = put(store, "mai", "kept.txt", "what stays is here. " * 300)
    gone = put(store, "mai", "gone.txt", f"the {SECRET} is here. " * copies)
    other = put(store, "an", "other.txt", "another user's text. " * 100)
    store.database.checkpoint()
    assert b"read of the zyqxsecretword" in bytes_on_disk(store)
    assert b"zyqxsecretword" in bytes_on_disk(store)
    store.documents.delete("mai", gone)
    left = bytes_on_disk(store)
    assert b"zyqxsecretword" not in left
    assert b"yqxsecretword" not in left
    assert b"wvkjanotheron" not in left
    assert Words(store, "mai").search("zyqxsecretword", 5) == []
    assert Words(store, "mai").search("stays", 5), "what was not deleted is still found"
    assert [d.id for d in store.documents.all("mai")] == [kept]
    (chunk, *_), theirs = store.documents.chunk_ids("mai", [kept]), store.documents.chunk_ids("an", [other])
    assert store.readings.of("mai", [chunk, *theirs], "reader") == {chunk: b"read of what stays is here. what stays is here. "[:48] + b" "}
    assert store.readings.of("mai", [chunk], "another") == {}


def test_a_deleted_user_is_in_no_byte_of_the_database(store: Store):
    put(store, "mai", "gone.txt", f"the {SECRET} is here. " * 100)
    conversation = store.conversations.begin("mai", SECRET)
    store.conversations.add("mai", conversation.id, "user", SECRET)
    put(store, "an", "other.txt", "another user's text. " * 100)
    store.keys.delete_user("mai")
    assert b"yqxsecretword" not in bytes_on_disk(store)
    assert Words(store, "an").search("another", 5)


def test_a_deleted_conversation_is_in_no_byte_of_the_database(store: Store):
    conversation = store.conversations.begin("mai", SECRET)
    for _ in range(50):
        store.conversations.add("mai", conversation.id, "assistant", f"{SECRET} " * 50)
    store.conversations.delete("mai", conversation.id)
    assert b"yqxsecretword" not in bytes_on_disk(store)


def test_a_deleted_documents_quotes_leave_the_kept_answers(store: Store):
    gone, kept = put(store, "mai", "a.txt", SECRET), put(store, "mai", "b.txt", "what stays")
    conversation = store.conversations.begin("mai", "?").id
    citations = [{"document_id": gone, "quote": SECRET}, {"document_id": kept, "quote": "what stays"}]
    message = store.conversations.add("mai", conversation, "assistant", "", citations)
    store.documents.delete("mai", gone)
    assert [c["quote"] for c in store.conversations.messages("mai", conversation)[0].citations] == ["", "what stays"]
    store.conversations.finish("mai", message, "answer", citations, True)  # an answer that ends after the deletion
    assert [c["quote"] for c in store.conversations.messages("mai", conversation)[0].citations] == ["", "what stays"]
    assert b"yqxsecretword" not in bytes_on_disk(store)


def test_a_deletion_that_a_reader_holds_up_is_folded_later(store: Store):
    gone = put(store, "mai", "gone.txt", f"the {SECRET} is here. " * 100)
    store.database.connection.execute("PRAGMA busy_timeout = 50")
    reader = sqlite3.connect(store.database.path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM documents").fetchone()
    store.documents.delete("mai", gone)
    reader.close()
    store.database.checkpoint_owed()
    assert b"yqxsecretword" not in bytes_on_disk(store)


def test_a_transaction_that_fails_leaves_nothing(store: Store):
    def half() -> None:
        with store.database.transaction() as write:
            write.execute("INSERT INTO users VALUES ('half', 0)")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    with pytest.raises(StoreError, match="there is no user"):
        store.keys.delete_user("half")


def test_threads_write_at_once_and_none_is_lost(store: Store):
    conversation = store.conversations.begin("mai", "?").id
    threads = [
        threading.Thread(target=lambda: [store.conversations.add("mai", conversation, "user", "x") for _ in range(20)]) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.conversations.messages("mai", conversation)) == 160


# --- what can't be used is told in one sentence ---------------------------------------------------------------------


def sentence(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        Store(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def test_a_database_of_another_version_is_told(store: Store):
    store.database.connection.execute("PRAGMA user_version = 7")
    assert "version 7" in sentence(store.database.path)


def test_a_database_of_the_first_version_is_brought_up_to_date(store: Store):
    document = put(store, "mai", "a.txt", "some text.")
    conversation = store.conversations.begin("mai", "hello").id
    store.conversations.add("mai", conversation, "user", "the gate is red")
    for older in (
        "DROP TRIGGER states_without_turn",
        "DROP TRIGGER states_without_conversation",
        "DROP TRIGGER states_of_other_turns",
        "DROP TABLE states",
        "DROP INDEX messages_to_write",
        "ALTER TABLE documents DROP COLUMN error_code",
        "DROP TRIGGER turn_words_follow",
        "DROP TABLE turn_words",
        "DROP INDEX messages_to_embed",
        "ALTER TABLE messages DROP COLUMN embedding",
        "DROP TABLE readings",
        "DROP INDEX chunks_to_embed",
        "ALTER TABLE chunks DROP COLUMN reader",
        "CREATE INDEX chunks_to_embed ON chunks(document, id) WHERE embedding IS NULL",
        f"CREATE VIRTUAL TABLE chunk_words USING fts5(words, folded, tokenize = '{TOKENIZER}')",
        "CREATE TRIGGER chunk_words_follow AFTER DELETE ON chunks BEGIN DELETE FROM chunk_words WHERE rowid = old.id; END",
        "INSERT INTO chunk_words (rowid, words, folded) SELECT id, 'some zyqxsecretword', 'text' FROM chunks",
        "PRAGMA user_version = 1",
    ):
        store.database.connection.execute(older)
    for _ in range(2):
        now = Store(store.database.path)
        kept = now.documents.get("mai", document)
        assert (kept.name, kept.error_code) == ("a.txt", "")
        now.turns.repair()
        assert [turn.content for turn in now.turns.all("mai", 9)] == ["the gate is red"]
        assert len(now.turns.search_words("mai", "gate", 9)) == len(now.turns.to_embed(9)) == 1
        assert len(now.documents.to_embed(document, 9)) == kept.chunks  # what it had not kept is made
        assert now.states.size() == (0, 0)
        assert Words(now, "mai").search("text", 5)
    assert not now.database.connection.execute("SELECT 1 FROM sqlite_schema WHERE name LIKE 'chunk_words%'").fetchall()
    now.database.checkpoint()
    assert b"yqxsecretword" not in bytes_on_disk(now)
    now.documents.delete("mai", document)
    assert Words(now, "mai").search("text", 5) == []


def test_another_programs_database_is_left_alone(tmp_path: Path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    assert "another program" in sentence(path)
    assert [row[0] for row in sqlite3.connect(path).execute("SELECT name FROM sqlite_schema")] == ["theirs"]


def test_a_file_that_is_no_database_is_told(tmp_path: Path):
    path = tmp_path / "assistant.db"
    path.write_bytes(b"this is a letter, not a database. " * 200)
    assert "not a database" in sentence(path)


@pytest.mark.parametrize("harm", ["cut", "overwritten"])
def test_a_damaged_database_is_told(store: Store, harm: str):
    put(store, "mai", "a.txt", "some text. " * 5000)
    store.database.checkpoint()
    store.close()
    path = store.database.path
    data = path.read_bytes()
    middle = len(data) // 2 // 4096 * 4096
    path.write_bytes(data[:middle] if harm == "cut" else data[:middle] + b"\xa5" * 8192 + data[middle + 8192 :])
    assert "restore it, or move it away" in sentence(path)


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert "folder" in sentence(tmp_path / "file" / "assistant.db")
    assert "folder" in sentence(Path("/proc/nowhere/assistant.db"))


def test_two_programs_that_make_the_database_at_once_both_get_it(tmp_path: Path):
    made: list[Store | Exception] = []

    def make() -> None:
        try:
            made.append(Store(tmp_path / "assistant.db"))
        except Exception as error:
            made.append(error)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(store, Store) for store in made), made


def test_the_database_is_readable_by_its_user_alone(store: Store):
    assert store.database.path.stat().st_mode & 0o077 == 0
    assert store.database.path.parent.stat().st_mode & 0o077 == 0
