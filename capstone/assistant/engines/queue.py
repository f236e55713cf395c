"""A bounded queue before an engine: so many answers at once, so many that wait, and a clear no to the rest."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from assistant.engines.base import AnswerTooSlow, Engine, EngineBusy, Piece, Request

RETRY_AFTER = 5.0  # seconds


class Queued:
    """An engine with at most `streams` answers at once and `waiting` requests behind them, first come, first served.

    An answer that is not whole after `seconds` (its wait not counted) is stopped.
    """

    def __init__(self, engine: Engine, *, streams: int, waiting: int, seconds: float):
        self.engine, self.seconds = engine, seconds
        self.name, self.model, self.context = engine.name, engine.model, engine.context
        self.experts, self.languages = engine.experts, engine.languages
        self.limit, self.running, self.waiting = waiting, 0, 0
        self._free = asyncio.Semaphore(streams)

    def refuse_if_full(self) -> None:
        """Raises EngineBusy where another request would find no place."""
        if self._free.locked() and self.waiting >= self.limit:
            raise EngineBusy(RETRY_AFTER)

    async def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        """As the engine's own. Raises EngineBusy, before anything else, where the queue is full, and AnswerTooSlow."""
        self.refuse_if_full()
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            async with aclosing(self.engine.stream(request)) as pieces:
                end = asyncio.get_running_loop().time() + self.seconds
                while True:
                    try:
                        async with asyncio.timeout_at(end):
                            piece = await anext(pieces)
                    except StopAsyncIteration:
                        return
                    except TimeoutError:
                        raise AnswerTooSlow(self.seconds) from None
                    yield piece
        finally:
            self.running -= 1
            self._free.release()

    async def aclose(self) -> None:
        await self.engine.aclose()
