"""What the assistant keeps: one SQLite file, and one object for each kind of thing in it."""

from __future__ import annotations

from pathlib import Path

from assistant.store.conversations import Conversations
from assistant.store.database import Database, DiskFull, StoreError
from assistant.store.documents import Documents
from assistant.store.jobs import Jobs
from assistant.store.keys import Keys
from assistant.store.readings import Readings
from assistant.store.states import States
from assistant.store.turns import Turns

__all__ = ["DiskFull", "Store", "StoreError"]


class Store:
    """The database at `path`, opened or made. Raises StoreError where it can't be used."""

    def __init__(self, path: Path):
        self.database = Database(path)
        self.documents = Documents(self.database)
        self.readings = Readings(self.database)
        self.conversations = Conversations(self.database)
        self.turns = Turns(self.database)
        self.states = States(self.database)
        self.keys = Keys(self.database)
        self.jobs = Jobs(self.database)

    def close(self) -> None:
        self.database.close()
