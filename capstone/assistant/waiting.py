"""Wait for what a background worker does."""

from __future__ import annotations

import time
from collections.abc import Callable

PAUSE = 0.05  # seconds between two looks


def wait_until(done: Callable[[], bool], seconds: float) -> bool:
    """Look every `PAUSE` whether it is done; False when it took longer than `seconds`."""
    for _ in range(int(seconds / PAUSE)):
        if done():
            return True
        time.sleep(PAUSE)
    return done()
