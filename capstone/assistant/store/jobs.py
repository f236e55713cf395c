"""What is still to be done to documents. A job that was running when the process ended is waiting again at the next start."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.store.database import Database

ATTEMPTS = 3


@dataclass(frozen=True)
class Job:
    """`step` is "parse" or "embed"; `attempts` counts this one too."""

    id: int
    document: str
    owner: str
    step: str
    attempts: int


class Jobs:
    def __init__(self, database: Database):
        self.database = database

    def repair(self) -> int:
        """Set what was cut off back to waiting; returns how many jobs that were. Called once, before any is taken."""
        with self.database.transaction() as write:
            return write.execute("UPDATE jobs SET state = 'waiting' WHERE state = 'running'").rowcount

    def take(self) -> Job | None:
        """The next job, marked as running: reading before embedding, then the oldest."""
        with self.database.transaction() as write:
            row = write.execute(
                "SELECT jobs.id, document, owner, step, attempts + 1 AS attempts FROM jobs JOIN documents ON documents.id = document "
                "WHERE jobs.state = 'waiting' ORDER BY step = 'embed', jobs.id LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            write.execute("UPDATE jobs SET state = 'running', attempts = ? WHERE id = ?", (row["attempts"], row["id"]))
            return Job(**dict(row))

    def done(self, job: Job) -> None:
        with self.database.transaction() as write:
            write.execute("DELETE FROM jobs WHERE id = ?", (job.id,))

    def put_back(self, job: Job) -> None:
        """Let another job go first; this is no attempt that failed."""
        with self.database.transaction() as write:
            write.execute("UPDATE jobs SET state = 'waiting', attempts = attempts - 1 WHERE id = ?", (job.id,))

    def reading(self) -> bool:
        """Whether a document waits to be read."""
        return self.database.connection.execute("SELECT 1 FROM jobs WHERE step = 'parse' AND state = 'waiting'").fetchone() is not None

    def again(self, job: Job) -> bool:
        """Put a job back that failed by no fault of its document; False when it has had its attempts."""
        with self.database.transaction() as write:
            if job.attempts >= ATTEMPTS:
                write.execute("DELETE FROM jobs WHERE id = ?", (job.id,))
                return False
            write.execute("UPDATE jobs SET state = 'waiting' WHERE id = ?", (job.id,))
            return True

    def waiting(self) -> int:
        """Jobs that wait or run."""
        return self.database.connection.execute("SELECT count(*) FROM jobs").fetchone()[0]
