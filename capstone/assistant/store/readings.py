"""What the reader keeps of each chunk's tokens, made together with its embedding and deleted with the chunk."""

from __future__ import annotations

import json
from collections.abc import Sequence

from assistant.store.database import Database


class Readings:
    """`reader` says which one's they are: another can't use them."""

    def __init__(self, database: Database):
        self.database = database

    def keep(self, chunks: Sequence[int], tokens: Sequence[bytes], reader: str) -> None:
        """Store readings; those of chunks that are gone are passed over."""
        with self.database.transaction() as write:
            for chunk, kept in zip(chunks, tokens, strict=True):
                if write.execute("UPDATE chunks SET reader = ? WHERE id = ?", (reader, chunk)).rowcount:
                    write.execute("INSERT OR REPLACE INTO readings VALUES (?, ?)", (chunk, kept))

    def of(self, owner: str, chunks: Sequence[int], reader: str) -> dict[int, bytes]:
        """An owner's readings by chunk, as far as this reader has made them."""
        rows = self.database.connection.execute(
            "SELECT chunk, tokens FROM readings JOIN chunks ON chunks.id = chunk "
            "WHERE owner = ? AND reader = ? AND chunk IN (SELECT value FROM json_each(?))",
            (owner, reader, json.dumps(list(map(int, chunks)))),
        )
        return {row["chunk"]: row["tokens"] for row in rows}

    def outdate(self, reader: str) -> None:
        """Let what another reader has kept, or an older version did not, be made again. What was embedded is found meanwhile as before."""
        with self.database.transaction() as write:
            write.execute("UPDATE chunks SET reader = '' WHERE reader NOT IN ('', ?)", (reader,))
            write.execute(
                "UPDATE documents SET state = 'searchable' WHERE state = 'ready' AND id IN (SELECT document FROM chunks WHERE reader = '')"
            )
