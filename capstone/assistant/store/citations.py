"""The citations that are kept with answers: what is deleted is read there no more."""

from __future__ import annotations

import json
import sqlite3
from typing import Any


def unquote(write: sqlite3.Connection, owner: str, name: str, value: str | int) -> None:
    """Empty the quotes of those citations in an owner's kept answers in which `name` is `value`."""
    pair = json.dumps({name: value})[1:-1]
    rows = write.execute(
        "SELECT messages.id, citations FROM messages JOIN conversations ON conversations.id = conversation "
        "WHERE owner = ? AND instr(citations, ?)",
        (owner, pair),
    ).fetchall()
    for row in rows:
        citations = [{**one, "quote": ""} if one.get(name) == value else one for one in json.loads(row["citations"])]
        write.execute("UPDATE messages SET citations = ? WHERE id = ?", (json.dumps(citations, ensure_ascii=False), row["id"]))


def with_what_is_there(read: sqlite3.Connection, owner: str, citations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Citations of an answer that ends now, with no quote from what was deleted while it was written."""
    there: set[tuple[str, Any]] = set()
    if citations:
        there |= {("document_id", row["id"]) for row in read.execute("SELECT id FROM documents WHERE owner = ?", (owner,))}
        turns = json.dumps([one["turn"] for one in citations if "turn" in one])
        of_owner = "SELECT messages.id FROM messages JOIN conversations ON conversations.id = conversation WHERE owner = ?"
        rows = read.execute(f"{of_owner} AND messages.id IN (SELECT value FROM json_each(?))", (owner, turns))
        there |= {("turn", row["id"]) for row in rows}
    names = ("document_id", "turn")
    return [one if any((name, one.get(name)) in there for name in names) else {**one, "quote": ""} for one in citations]
