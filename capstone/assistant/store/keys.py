"""Users and their API keys. A key is shown once, when it is made; only its hash is stored."""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from dataclasses import dataclass

from assistant.store.database import Database, StoreError
from assistant.store.words import drop_deleted

PREFIX = "eha-"
OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Key:
    """What is known of a key after it was made; `shown` is its beginning."""

    id: int
    owner: str
    label: str
    shown: str
    created: float
    revoked: float | None


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


class Keys:
    def __init__(self, database: Database):
        self.database = database

    def add(self, owner: str, label: str = "") -> str:
        """Make a key for a user (who is made too, where new) and return it: the only time that it can be seen.

        Raises StoreError where the user's name is malformed.
        """
        key = PREFIX + secrets.token_urlsafe(32)
        with self.database.transaction() as write:
            self.ensure_user(owner)
            write.execute(
                "INSERT INTO keys (owner, label, shown, hash, created) VALUES (?, ?, ?, ?, ?)",
                (owner, label, key[:9] + "…", hashed(key), time.time()),
            )
        return key

    def ensure_user(self, owner: str) -> None:
        """Make a user where there is none of that name. Raises StoreError where the name is malformed."""
        if not OWNER.fullmatch(owner):
            raise StoreError(f"{owner!r} can't be a user's name: take up to 64 letters, digits and . _ @ -, as in `mai.tran`.")
        with self.database.transaction() as write:
            write.execute("INSERT OR IGNORE INTO users VALUES (?, ?)", (owner, time.time()))

    def owner_of(self, key: str) -> str | None:
        """The user of a key that is valid; None for any other."""
        found = self.database.connection.execute("SELECT owner FROM keys WHERE hash = ? AND revoked IS NULL", (hashed(key),)).fetchone()
        return found["owner"] if found else None

    def all(self) -> list[Key]:
        rows = self.database.connection.execute("SELECT id, owner, label, shown, created, revoked FROM keys ORDER BY id")
        return [Key(**dict(row)) for row in rows]

    def revoke(self, key_id: int) -> None:
        """Raises StoreError where there is no such valid key."""
        with self.database.transaction() as write:
            done = write.execute("UPDATE keys SET revoked = ? WHERE id = ? AND revoked IS NULL", (time.time(), key_id))
        if not done.rowcount:
            raise StoreError(f"there is no valid key {key_id}: `assistant keys list` shows them.")

    def delete_user(self, owner: str) -> None:
        """Delete a user, and by it every key, document, conversation. Raises StoreError where there is no such user."""
        with self.database.transaction() as write:
            # Rows whose deletion fires triggers are deleted by name: a cascade fires them too, but says nothing of order.
            write.execute("DELETE FROM chunks WHERE owner = ?", (owner,))
            done = write.execute("DELETE FROM users WHERE id = ?", (owner,))
            drop_deleted(write, "turn_words")
        if not done.rowcount:
            raise StoreError(f"there is no user {owner!r}: `assistant keys list` shows them.")
        self.database.checkpoint()
