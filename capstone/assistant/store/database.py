"""One SQLite file in WAL mode. A write that returned is on disk; a process killed at any moment leaves whole transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = 1
BUSY_SECONDS = 30.0


class StoreError(Exception):
    """The database could not do it; the text says why, and what to do."""


class Database:
    """A connection per thread; writes one at a time, each in a transaction of its own."""

    def __init__(self, path: Path):
        """Open the file, or make it. Raises StoreError where it is of another version or can't be written."""
        self.path = path
        self._local = threading.local()
        self._writing = threading.RLock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            version = self.connection.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._create()
            elif version != VERSION:
                raise StoreError(f"{path} is of version {version}, this program reads version {VERSION}: use the program that made it.")
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{path} can't be used as the assistant's database ({error}): restore it, or move it away.") from error

    def _create(self) -> None:
        with self._writing:
            script = (Path(__file__).parent / "schema.sql").read_text("utf-8")
            self.connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {VERSION};\nCOMMIT;")
        self.path.chmod(0o600)

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, for reading."""
        found = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            found.row_factory = sqlite3.Row
            found.execute("PRAGMA journal_mode = WAL")
            found.execute("PRAGMA synchronous = FULL")
            found.execute("PRAGMA foreign_keys = ON")
            found.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, not only forgotten
            self._local.connection = found
        return found

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Everything inside is written, or nothing. Raises StoreError where the disk is full."""
        with self._writing:
            connection = self.connection
            if connection.in_transaction:  # a transaction within one: it is the outer one's that counts
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back(connection)
                if "full" in str(error):
                    raise StoreError("the disk is full: free some space and try again; nothing that was stored is lost.") from error
                raise
            except BaseException:
                self._roll_back(connection)
                raise

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the file, so that what was deleted is gone from the disk too."""
        with self._writing:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close this thread's connection; those of ended threads close with them."""
        found = getattr(self._local, "connection", None)
        if found is not None:
            found.close()
            self._local.connection = None
