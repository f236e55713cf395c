"""The state of a reader of turns, one for each user: kept, read again, and gone as soon as a turn is that it has read (`states.sql`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.store.database import Database

LAST = 2**62  # an id beyond every turn's
WRITING = 3600.0  # seconds after which an answer of which nothing was written will not come any more


@dataclass(frozen=True)
class State:
    """`through` is the last turn that was read, `data` what is carried."""

    through: int
    data: bytes


@dataclass(frozen=True)
class Logged:
    """A turn as it is read in the stream of turns: `vector` is that of all of it, float32, little-endian."""

    turn: int
    conversation: str
    role: str
    content: str
    vector: bytes


class States:
    """`reader` says whose a state is: what another has carried is as if it were not there."""

    def __init__(self, database: Database):
        self.database = database

    def log(self, owner: str, after: int, before: int, dim: int, most: int) -> list[Logged]:
        """The first `most` embedded turns of an owner between two others, neither of which is one of them; oldest first."""
        rows = self.database.connection.execute(
            "SELECT messages.id AS turn, conversation, role, content, substr(embedding, 1, ?) AS vector "
            "FROM messages CROSS JOIN conversations ON conversations.id = conversation "  # CROSS: from one turn to the next
            "WHERE messages.id > ? AND messages.id < ? AND owner = ? AND complete AND content != '' AND embedding IS NOT NULL "
            "ORDER BY messages.id LIMIT ?",
            (4 * dim, after, before, owner, most),
        )
        return [Logged(**dict(row)) for row in rows]

    def settled(self, owner: str) -> int:
        """The turn up to which an owner's log will not change any more, unless something is deleted: before the first that has no vector
        yet, and before the first question whose answer is being written."""
        # (CROSS: SQLite looks for the few such messages first, of whomever, and not through all of the owner's.)
        mine = "FROM messages CROSS JOIN conversations ON conversations.id = conversation WHERE owner = ?"
        asked = (  # the message before, which is an older answer where the question was deleted
            "SELECT CASE asked.role WHEN 'user' THEN asked.id END FROM messages AS asked "
            "WHERE asked.conversation = messages.conversation AND asked.id < messages.id ORDER BY asked.id DESC LIMIT 1"
        )
        first = self.database.connection.execute(
            f"SELECT min(turn) FROM (SELECT messages.id AS turn {mine} AND embedding IS NULL AND complete AND content != '' UNION ALL "
            f"SELECT coalesce(({asked}), messages.id) {mine} AND NOT complete AND content = '' AND messages.created > ?)",
            (owner, owner, time.time() - WRITING),
        ).fetchone()[0]
        return LAST if first is None else first - 1

    def of(self, owner: str, reader: str) -> State | None:
        row = self.database.connection.execute(
            "SELECT through, state FROM states WHERE owner = ? AND reader = ?", (owner, reader)
        ).fetchone()
        return None if row is None else State(row["through"], row["state"])

    def keep(self, owner: str, reader: str, before: State | None, read: Sequence[Logged], data: bytes) -> bool:
        """Store what has become of a state by reading turns; not where it or one of them is not what it was meanwhile: False."""
        dim, last = len(read[-1].vector) // 4, read[-1].turn
        with self.database.transaction() as write:
            after = before.through if before else 0
            if self.of(owner, reader) != before or self.log(owner, after, last + 1, dim, len(read) + 1) != list(read):
                return False
            write.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", (owner, reader, last, data))
            return True

    def size(self) -> tuple[int, int]:
        """Of all owners together: states, and their bytes."""
        return tuple(self.database.connection.execute("SELECT count(*), coalesce(sum(length(state)), 0) FROM states").fetchone())

    def behind(self, reader: str) -> list[str]:
        """Owners with embedded turns that their state has not read, or that have no state of this reader."""
        rows = self.database.connection.execute(
            "SELECT DISTINCT conversations.owner AS owner FROM messages JOIN conversations ON conversations.id = conversation "
            "LEFT JOIN states ON states.owner = conversations.owner AND reader = ? "
            "WHERE complete AND content != '' AND embedding IS NOT NULL AND messages.id > coalesce(through, 0)",
            (reader,),
        )
        return [row["owner"] for row in rows]
