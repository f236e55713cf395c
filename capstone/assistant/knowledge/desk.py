"""Where one document at a time is read to its end: a reading takes a core for as long as it lasts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class DeskTaken(Exception):
    """A document is being read; for about `seconds_left` more."""

    def __init__(self, seconds_left: float):
        self.seconds_left = seconds_left
        super().__init__("another document is being read.")


class Desk:
    """`seconds_left`: what the reading at it will still take, as far as it has told."""

    def __init__(self) -> None:
        self.seconds_left = 0.0
        self._place = threading.Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Raises DeskTaken where it is taken already."""
        if not self._place.acquire(blocking=False):
            raise DeskTaken(self.seconds_left)
        try:
            yield
        finally:
            self.seconds_left = 0.0
            self._place.release()
