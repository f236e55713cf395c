"""What is read once, and not once for every turn or chunk."""

from __future__ import annotations

from pathlib import Path

from assistant.store import Store
from hybridlab.rag.chunk import Chunk
from hybridlab.rag.parse import Page, Parsed


def test_the_words_are_searched_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "assistant.db")
    database = store.database
    asked: list[str] = []
    database.connection.set_trace_callback(asked.append)
    store.turns.search_words("mai", "orphaned package", 5)
    database.connection.set_trace_callback(None)
    plans = [row[3] for sql in asked if "turn_words MATCH" in sql for row in database.connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    scans = [plan for plan in plans if "turn_words" in plan]
    assert scans
    assert not any(":=" in plan for plan in scans), scans  # "=": one search for each row id


def test_a_page_is_read_once_for_all_of_its_chunks(tmp_path: Path) -> None:
    """A text file is one page: read from its beginning for every chunk, ten megabytes took minutes. Characters count, not bytes."""
    store = Store(tmp_path / "assistant.db")
    text = "".join(f"Dòng {number} của một tệp rất dài 🦜. " for number in range(400))
    chunks = [Chunk(0, start, min(start + 400, len(text)), "prose", "Heading") for start in range(0, len(text), 400)]
    store.keys.ensure_user("mai")
    document = store.documents.receive("mai", "long.txt", "text/plain", 64 * "0", len(text))[0].id
    store.documents.parsed(document, Parsed("Title", (Page(None, (), text),)), chunks)
    asked: list[str] = []
    store.database.connection.set_trace_callback(asked.append)
    ids, words = store.documents.words(document)
    embed = store.documents.to_embed(document, 7)
    found = store.documents.chunks("mai", ids[::-1])
    store.database.connection.set_trace_callback(None)
    wanted = [text[start : start + 400] for start in range(0, len(text), 400)]
    assert words == [f"Heading\n{piece}" for piece in wanted]
    assert embed == [(chunk, word.strip()) for chunk, word in zip(ids[:7], words, strict=False)]
    assert [chunk.text for chunk in found] == wanted[::-1]
    assert len([sql for sql in asked if "FROM pages" in sql or "JOIN pages" in sql]) == 4  # of them, one for the pages' numbers
    assert not any("substr" in sql for sql in asked)
