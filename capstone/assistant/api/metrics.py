"""Prometheus metrics of requests, by route and never by what was asked."""

from __future__ import annotations

import time

from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("assistant_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram("assistant_request_seconds", "Time to the first byte of the answer.", ["route"])
RUNNING = Gauge("assistant_answers_running", "Answers that are being written.")
WAITING = Gauge("assistant_questions_waiting", "Questions that wait for a free stream.")
JOBS = Gauge("assistant_jobs_waiting", "Documents that are to be read or embedded.")
MEMORY_USERS = Gauge("assistant_memory_users", "Users of whom something is remembered.")
MEMORY_TURNS = Gauge("assistant_memory_turns", "Turns that are remembered.")
MEMORY_BYTES = Gauge("assistant_memory_bytes", "Bytes of the turns that are remembered, with their embeddings.")
MEMORY_STATES = Gauge("assistant_memory_states", "Users whose turns have been read into a state.")
STATE_BYTES = Gauge("assistant_memory_state_bytes", "Bytes of these states.")
METHODS = ("GET", "HEAD", "POST", "DELETE")  # others are counted together: a client may invent any


class Measured:
    """ASGI middleware that counts requests and times them to their first byte."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begin = time.monotonic()

        begun = False

        def count(status: int) -> None:
            nonlocal begun
            begun = True
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            REQUESTS.labels(method, route, status).inc()
            SECONDS.labels(route).observe(time.monotonic() - begin)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception:
            if not begun:
                count(500)  # which is answered further out
            raise
