"""The state of a reader of turns, one for each user: kept, read again, and gone as soon as a turn is that it has read (`states.sql`)."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.store.database import Database
from assistant.store.turns import OF_OWNER


@dataclass(frozen=True)
class State:
    """`through` is the last turn that was read, `turns` how many there were, `data` what is carried."""

    through: int
    turns: int
    data: bytes


class States:
    """`reader` says whose a state is: what another has carried is as if it were not there."""

    def __init__(self, database: Database):
        self.database = database

    def of(self, owner: str, reader: str) -> State | None:
        row = self.database.connection.execute(
            "SELECT through, turns, state FROM states WHERE owner = ? AND reader = ?", (owner, reader)
        ).fetchone()
        return None if row is None else State(row["through"], row["turns"], row["state"])

    def keep(self, owner: str, reader: str, state: State) -> bool:
        """Store a state; not where turns up to `through` have come or gone since they were read: False, and there is none then."""
        with self.database.transaction() as write:
            counted = f"SELECT count(*) AS n {OF_OWNER} AND embedding IS NOT NULL AND messages.id <= ?"
            if write.execute(counted, (owner, state.through)).fetchone()["n"] != state.turns:
                write.execute("DELETE FROM states WHERE owner = ?", (owner,))
                return False
            values = (owner, reader, state.through, state.turns, state.data)
            write.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?)", values)
            return True

    def sizes(self) -> dict[str, int]:
        """Bytes of each owner's state."""
        rows = self.database.connection.execute("SELECT owner, length(state) AS bytes FROM states")
        return {row["owner"]: row["bytes"] for row in rows}

    def behind(self, reader: str) -> list[str]:
        """Owners with embedded turns that their state has not read, or without a state of this reader."""
        rows = self.database.connection.execute(
            "SELECT DISTINCT conversations.owner AS owner FROM messages JOIN conversations ON conversations.id = conversation "
            "LEFT JOIN states ON states.owner = conversations.owner AND reader = ? "
            "WHERE complete AND content != '' AND embedding IS NOT NULL AND messages.id > coalesce(through, 0)",
            (reader,),
        )
        return [row["owner"] for row in rows]
