"""What was said, as one stream: the turns of all of an owner's conversations, oldest first; listed, searched by words, deleted.

A turn is a message that came to its end. A session is a conversation; sessions follow each other by their first turns.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from assistant.store.citations import unquote
from assistant.store.database import Database
from assistant.store.words import drop_deleted, folded, ranked

OF_OWNER = "FROM messages JOIN conversations ON conversations.id = conversation WHERE owner = ? AND complete AND content != ''"
TURN = "messages.id, conversation, role, content, messages.created"


@dataclass(frozen=True)
class Turn:
    """`role` is "user" or "assistant"; `created` in seconds since 1970."""

    id: int
    conversation: str
    role: str
    content: str
    created: float


@dataclass(frozen=True)
class Session:
    """A conversation with the times of its first and its last turn."""

    id: str
    first: float
    last: float


def index_words(write: sqlite3.Connection, message: int, content: str) -> None:
    """Make a message found by the words that it has now, and by no others."""
    write.execute("DELETE FROM turn_words WHERE rowid = ?", (message,))
    if content:
        write.execute("INSERT INTO turn_words (rowid, words, folded) VALUES (?, ?, ?)", (message, content, folded(content)))


class Turns:
    """Every call that a user's request leads to names the owner; another owner's turn is not there (KeyError)."""

    def __init__(self, database: Database):
        self.database = database

    def repair(self) -> None:
        """Called at the start: messages from before there was a memory get their words."""
        with self.database.transaction() as write:
            wordless = "SELECT id, content FROM messages WHERE content != '' AND id NOT IN (SELECT rowid FROM turn_words)"
            for row in write.execute(wordless).fetchall():
                index_words(write, row["id"], row["content"])

    def all(self, owner: str, limit: int, before: int | None = None) -> list[Turn]:
        """The newest first, at most `limit`; with `before`, those older than that turn."""
        values = (owner, 2**62 if before is None else before, limit)
        rows = self.database.connection.execute(f"SELECT {TURN} {OF_OWNER} AND messages.id < ? ORDER BY messages.id DESC LIMIT ?", values)
        return [Turn(**dict(row)) for row in rows]

    def get(self, owner: str, turns: Sequence[int]) -> list[Turn]:
        """Those of these turns that are there, in their order."""
        rows = self.database.connection.execute(
            f"SELECT {TURN} {OF_OWNER} AND messages.id IN (SELECT value FROM json_each(?))", (owner, json.dumps(list(turns)))
        )
        found = {row["id"]: Turn(**dict(row)) for row in rows}
        return [found[turn] for turn in turns if turn in found]

    def sessions(self, owner: str) -> list[Session]:
        """Oldest first."""
        rows = self.database.connection.execute(
            f"SELECT conversation AS id, min(messages.created) AS first, max(messages.created) AS last {OF_OWNER} "
            "GROUP BY conversation ORDER BY min(messages.id)",
            (owner,),
        )
        return [Session(**dict(row)) for row in rows]

    def ids(self, owner: str, sessions: Sequence[str] | None, since: float, until: float) -> list[int]:
        """The turns of some sessions (of all: None) from `since` on and before `until`."""
        among = "" if sessions is None else "AND conversation IN (SELECT value FROM json_each(?))"
        values = [owner, since, until, *([] if sessions is None else [json.dumps(list(sessions))])]
        rows = self.database.connection.execute(
            f"SELECT messages.id {OF_OWNER} AND messages.created >= ? AND messages.created < ? {among} ORDER BY messages.id", values
        )
        return [row["id"] for row in rows]

    def search_words(self, owner: str, question: str, k: int, allowed: Sequence[int] | None = None) -> list[tuple[int, float]]:
        """The best `k` turns of an owner by BM25, of equal ones the newest: id and score, larger is better."""
        among, values = f"SELECT messages.id {OF_OWNER}", [owner]
        if allowed is not None:
            among += " AND messages.id IN (SELECT value FROM json_each(?))"
            values.append(json.dumps(list(allowed)))
        return ranked(self.database, "turn_words", question, k, among, values, ties="id DESC")

    def size(self) -> tuple[int, int, int]:
        """Of all owners together: users who have said something, turns, and the bytes of the turns with their embeddings."""
        row = self.database.connection.execute(
            "SELECT count(DISTINCT owner), count(*), coalesce(sum(length(CAST(content AS BLOB)) + coalesce(length(embedding), 0)), 0) "
            "FROM messages JOIN conversations ON conversations.id = conversation WHERE complete AND content != ''"
        ).fetchone()
        return tuple(row)

    # ---------------------------------------------------------------- meaning

    def to_embed(self, limit: int) -> list[tuple[int, str, str]]:
        """Turns of any owner without an embedding: id, owner, content."""
        rows = self.database.connection.execute(
            "SELECT messages.id, owner, content FROM messages JOIN conversations ON conversations.id = conversation "
            "WHERE embedding IS NULL AND complete AND content != '' ORDER BY messages.id LIMIT ?",
            (limit,),
        )
        return [(row["id"], row["owner"], row["content"]) for row in rows]

    def embedded(self, turns: Sequence[tuple[int, str]], vectors: Sequence[np.ndarray]) -> set[int]:
        """Store the vectors [pieces, dim] of each turn (id, the content that was embedded); returns those that still say that."""
        with self.database.transaction() as write:
            return {
                turn
                for (turn, content), of in zip(turns, vectors, strict=True)
                if write.execute(
                    "UPDATE messages SET embedding = ? WHERE id = ? AND content = ?", (of.astype("<f4").tobytes(), turn, content)
                ).rowcount
            }

    def vectors(self, owner: str, dim: int) -> Iterator[tuple[int, str, np.ndarray]]:
        """Every embedded turn of an owner: id, content, float32 vectors [pieces, dim]."""
        rows = self.database.connection.execute(
            f"SELECT messages.id, content, embedding {OF_OWNER} AND embedding IS NOT NULL ORDER BY messages.id", (owner,)
        )
        for row in rows.fetchall():
            yield row["id"], row["content"], np.frombuffer(row["embedding"], "<f4").reshape(-1, dim)

    # ---------------------------------------------------------------- deletion

    def delete(self, owner: str, turn: int) -> None:
        """Delete a turn: from its conversation too, from its title where that quotes it, and from the citations of kept answers."""
        with self.database.transaction() as write:
            row = write.execute(f"SELECT conversation, content {OF_OWNER} AND messages.id = ?", (owner, turn)).fetchone()
            if row is None:
                raise KeyError(turn)
            write.execute("DELETE FROM messages WHERE id = ?", (turn,))
            quoted = " ".join(row["content"].split())
            untitle = "UPDATE conversations SET title = '' WHERE id = ? AND title != '' AND instr(?, title) = 1"
            write.execute(untitle, (row["conversation"], quoted))
            unquote(write, owner, "turn", turn)
            drop_deleted(write, "turn_words")
        self.database.checkpoint()

    def delete_all(self, owner: str) -> None:
        """Delete everything that was said, and the conversations with it."""
        with self.database.transaction() as write:
            write.execute("DELETE FROM conversations WHERE owner = ?", (owner,))
            drop_deleted(write, "turn_words")
        self.database.checkpoint()
