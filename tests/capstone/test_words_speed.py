"""The word index is searched once for a question, and not once for every chunk of the owner."""

from __future__ import annotations

from pathlib import Path

from assistant.store import Store
from assistant.store.words import search_words


def test_the_words_are_searched_once(tmp_path: Path) -> None:
    database = Store(tmp_path / "assistant.db").database
    asked: list[str] = []
    database.connection.set_trace_callback(asked.append)
    search_words(database, "mai", "orphaned package", 5)
    database.connection.set_trace_callback(None)
    plans = [row[3] for sql in asked if "chunk_words MATCH" in sql for row in database.connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
    scans = [plan for plan in plans if "chunk_words" in plan]
    assert scans
    assert not any(":=" in plan for plan in scans), scans  # "=": one search for each row id
