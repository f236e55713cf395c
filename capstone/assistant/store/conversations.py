"""Conversations and their messages. A message that was acknowledged is on disk; a cut-off answer is kept, and marked."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

from assistant.store.citations import unquote, with_what_is_there
from assistant.store.database import Database
from assistant.store.turns import index_words
from assistant.store.words import drop_deleted

TITLE = 80  # characters of the first question


@dataclass(frozen=True)
class Conversation:
    id: str
    title: str
    created: float
    updated: float


@dataclass(frozen=True)
class StoredMessage:
    """`citations` as they were sent; `complete` is false for an answer that was stopped or cut off."""

    id: int
    role: str
    content: str
    citations: list[dict[str, Any]]
    complete: bool
    created: float


class Conversations:
    """Every call names the owner; another owner's conversation is not there (KeyError)."""

    def __init__(self, database: Database):
        self.database = database

    def begin(self, owner: str, question: str) -> Conversation:
        now, title = time.time(), " ".join(question.split())[:TITLE]
        made = Conversation(uuid.uuid4().hex, title, now, now)
        with self.database.transaction() as write:
            write.execute("INSERT INTO conversations VALUES (?, ?, ?, ?, ?)", (made.id, owner, title, now, now))
        return made

    def all(self, owner: str) -> list[Conversation]:
        """Newest first."""
        rows = self.database.connection.execute(
            "SELECT id, title, created, updated FROM conversations WHERE owner = ? ORDER BY updated DESC, rowid DESC", (owner,)
        )
        return [Conversation(**dict(row)) for row in rows]

    def get(self, owner: str, conversation: str) -> Conversation:
        row = self.database.connection.execute(
            "SELECT id, title, created, updated FROM conversations WHERE owner = ? AND id = ?", (owner, conversation)
        ).fetchone()
        if row is None:
            raise KeyError(conversation)
        return Conversation(**dict(row))

    def messages(self, owner: str, conversation: str) -> list[StoredMessage]:
        self.get(owner, conversation)
        rows = self.database.connection.execute(
            "SELECT id, role, content, citations, complete, created FROM messages WHERE conversation = ? ORDER BY id", (conversation,)
        )
        return [
            StoredMessage(r["id"], r["role"], r["content"], json.loads(r["citations"]), bool(r["complete"]), r["created"]) for r in rows
        ]

    def add(
        self, owner: str, conversation: str, role: str, content: str, citations: list[dict[str, Any]] | None = None, complete: bool = True
    ) -> int:
        """Append a message; returns its id once it is on disk."""
        now = time.time()
        with self.database.transaction() as write:
            self.get(owner, conversation)
            made = write.execute(
                "INSERT INTO messages (conversation, role, content, citations, complete, created) VALUES (?, ?, ?, ?, ?, ?)",
                (conversation, role, content, self._kept(owner, citations or []), complete, now),
            )
            index_words(write, made.lastrowid, content)
            write.execute("UPDATE conversations SET updated = ? WHERE id = ?", (now, conversation))
        return made.lastrowid

    def finish(self, owner: str, message: int, content: str, citations: list[dict[str, Any]], complete: bool) -> None:
        """Write an answer's text over the empty one with which it began; one whose conversation was deleted meanwhile stays deleted."""
        with self.database.transaction() as write:
            done = write.execute(
                "UPDATE messages SET content = ?, citations = ?, complete = ?, embedding = NULL "
                "WHERE id = ? AND conversation IN (SELECT id FROM conversations WHERE owner = ?)",
                (content, self._kept(owner, citations), complete, message, owner),
            )
            if done.rowcount:
                index_words(write, message, content)

    def _kept(self, owner: str, citations: list[dict[str, Any]]) -> str:
        return json.dumps(with_what_is_there(self.database.connection, owner, citations), ensure_ascii=False)

    def delete(self, owner: str, conversation: str) -> None:
        with self.database.transaction() as write:
            done = write.execute("DELETE FROM conversations WHERE owner = ? AND id = ?", (owner, conversation))
            unquote(write, owner, "conversation_id", conversation)
            drop_deleted(write, "turn_words")
        if not done.rowcount:
            raise KeyError(conversation)
        self.database.checkpoint()
