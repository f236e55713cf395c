"""The word index of turns is searched once for a question, and not once for every turn of the owner."""

from __future__ import annotations

from pathlib import Path

from assistant.store import Store


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
