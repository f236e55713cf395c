"""One SQLite file in WAL mode. A write that returned is on disk; a process killed at any moment leaves whole transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = 6
BUSY_SECONDS = 30.0
FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE")


class StoreError(Exception):
    """The database could not do it; the text says why, and what to do."""


class DiskFull(StoreError):
    """There was no room to write; nothing of the write is kept, and nothing else is touched."""

    def __init__(self):
        super().__init__("the disk is full: free some space and try again; nothing that was stored is lost.")


class Database:
    """A connection per thread; writes one at a time, each in a transaction of its own."""

    def __init__(self, path: Path):
        """Open the file, or make it. Raises StoreError where it is another program's, of another version, damaged, or can't be written."""
        self.path = path
        self._local = threading.local()
        self._writing = threading.RLock()
        self._folded = True
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open()
        except OSError as error:
            raise StoreError(f"{path.parent} can't be used as the assistant's folder ({error.strerror}): choose another.") from error
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{path} can't be used as the assistant's database ({error}): restore it, or move it away.") from error

    def _open(self) -> None:
        with self.transaction() as write:  # also shows whether it can be written
            version = write.execute("PRAGMA user_version").fetchone()[0]
            if version > VERSION:
                raise StoreError(f"{self.path} is of version {version}, this program reads {VERSION}: use the program that made it.")
            if version == 0:
                self._create(write)
            if version == 1:
                write.execute("ALTER TABLE documents ADD COLUMN error_code TEXT NOT NULL DEFAULT ''")
            if version < 3:
                _execute(write, "memory.sql")
            if version < 4:
                _execute(write, "readings.sql")
            if version < 5:
                _execute(write, "states.sql")
            if 0 < version < 6:  # words of chunks are counted in memory since
                write.execute("DROP TRIGGER chunk_words_follow")
                write.execute("DROP TABLE chunk_words")
            if version < VERSION:  # else nothing is written: a full disk can be opened, and something deleted
                write.execute(f"PRAGMA user_version = {VERSION}")
        damage = self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if damage != "ok":
            raise StoreError(f"{self.path} is damaged ({' '.join(damage.split())}): restore it, or move it away.")

    def _create(self, write: sqlite3.Connection) -> None:
        if write.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise StoreError(f"{self.path} is the database of another program: choose another folder, or move it away.")
        _execute(write, "schema.sql")
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
        """Everything inside is written, or nothing. Raises DiskFull where there is no room."""
        with self._writing:
            connection = self.connection
            if connection.in_transaction:  # a transaction within one: it is the outer one's that counts
                yield connection
                return
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back(connection)
                if error.sqlite_errorname in FULL:
                    raise DiskFull from error
                raise
            except BaseException:
                self._roll_back(connection)
                raise

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def checkpoint(self) -> bool:
        """Fold the write-ahead log into the file, so that what was deleted is gone from the disk too.

        False where a reader was in the way for long, or the disk is full; `checkpoint_owed` does it later.
        """
        with self._writing:
            try:
                self._folded = not self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()["busy"]
            except sqlite3.OperationalError:
                self._folded = False
            return self._folded

    def checkpoint_owed(self) -> None:
        """Do what the last checkpoint could not."""
        if not self._folded:
            self.checkpoint()

    def close(self) -> None:
        """Close this thread's connection; those of ended threads close with them."""
        found = getattr(self._local, "connection", None)
        if found is not None:
            found.close()
            self._local.connection = None


def _execute(write: sqlite3.Connection, script: str) -> None:
    """Run a file of statements within the transaction (`executescript` would end it)."""
    statement = ""
    for line in (Path(__file__).parent / script).read_text("utf-8").splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            write.execute(statement)
            statement = ""
