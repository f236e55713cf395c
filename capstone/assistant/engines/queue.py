"""A bounded queue before an engine: so many answers at once, so many that wait, and a clear no to the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from assistant.engines.base import Engine, EngineBusy, Piece, Request

RETRY_AFTER = 5.0  # seconds


class Queued:
    """An engine with at most `streams` answers at once and `waiting` requests behind them, first come, first served."""

    def __init__(self, engine: Engine, *, streams: int, waiting: int):
        self.engine = engine
        self.name, self.model, self.context = engine.name, engine.model, engine.context
        self.limit, self.running, self.waiting = waiting, 0, 0
        self._free = asyncio.Semaphore(streams)

    async def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        """As the engine's own. Raises EngineBusy, before anything else, where the queue is full."""
        if self._free.locked() and self.waiting >= self.limit:
            raise EngineBusy(RETRY_AFTER)
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            async with aclosing(self.engine.stream(request)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self.running -= 1
            self._free.release()

    async def aclose(self) -> None:
        await self.engine.aclose()
