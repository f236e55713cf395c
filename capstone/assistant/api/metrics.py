"""Prometheus metrics of requests, by route and never by what was asked."""

from __future__ import annotations

import time

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("assistant_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("assistant_request_seconds", "Time to the first byte of the answer.", ["route"])


class Measured:
    """ASGI middleware that counts requests and times them to their first byte."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begin = time.monotonic()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "other")
                REQUESTS.labels(scope["method"], route, message["status"]).inc()
                SECONDS.labels(route).observe(time.monotonic() - begin)
            await send(message)

        await self.app(scope, receive, sending)
