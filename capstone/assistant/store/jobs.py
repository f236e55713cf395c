"""What is still to be done to documents. One worker does the jobs; what it did not end is taken again."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.store.database import Database
from assistant.store.documents import give_jobs

ATTEMPTS = 3


@dataclass(frozen=True)
class Job:
    """`step` is "parse" or "embed"; `attempts` counts this one too."""

    id: int
    document: str
    owner: str
    step: str
    attempts: int

    @property
    def last(self) -> bool:
        """Whether the job, if it fails now, has had its attempts."""
        return self.attempts >= ATTEMPTS


class Jobs:
    def __init__(self, database: Database):
        self.database = database

    def repair(self) -> None:
        """Called at the start: each document that isn't done has its job."""
        with self.database.transaction() as write:
            give_jobs(write)

    def take(self) -> Job | None:
        """The next job: reading before embedding, then the oldest. It stays until `done`, so a process that is killed takes it again."""
        with self.database.transaction() as write:
            row = write.execute(
                "SELECT jobs.id, document, owner, step, attempts + 1 AS attempts FROM jobs JOIN documents ON documents.id = document "
                "ORDER BY step = 'embed', jobs.id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            write.execute("UPDATE jobs SET attempts = ? WHERE id = ?", (row["attempts"], row["id"]))
            return Job(**dict(row))

    def done(self, job: Job) -> None:
        with self.database.transaction() as write:
            write.execute("DELETE FROM jobs WHERE id = ?", (job.id,))

    def put_back(self, job: Job) -> None:
        """Let another job go first; this is no attempt that failed."""
        with self.database.transaction() as write:
            write.execute("UPDATE jobs SET attempts = attempts - 1 WHERE id = ?", (job.id,))

    def reading(self) -> bool:
        """Whether a document waits to be read."""
        return self.database.connection.execute("SELECT 1 FROM jobs WHERE step = 'parse'").fetchone() is not None

    def waiting(self) -> int:
        """Jobs that are not done."""
        return self.database.connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
