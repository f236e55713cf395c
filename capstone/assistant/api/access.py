"""Who asks, and how often: bearer keys, requests per minute for each, and the limit on a body's size."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant.api.errors import Refusal, answer
from assistant.api.service import Service, service

bearer = HTTPBearer(auto_error=False, description="An API key, as `assistant keys add` makes it.")
WINDOW = 60.0  # seconds


class RateLimit:
    """So many requests in any 60 seconds, counted for each key by itself."""

    def __init__(self, per_minute: int):
        self.per_minute = per_minute
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def wait(self, who: str, now: float) -> float:
        """0 when the request may pass (and is counted); else the seconds until one may."""
        with self._lock:
            times = self._times.setdefault(who, deque())
            while times and times[0] <= now - WINDOW:
                times.popleft()
            if len(times) >= self.per_minute:
                return times[0] + WINDOW - now
            times.append(now)
            return 0.0


def owner_of(
    request: Request,
    room: Annotated[Service, Depends(service)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> str:
    """The user whose key came with the request. Raises Refusal 401, or 429 with Retry-After."""
    key = credentials.credentials if credentials else ""
    owner = room.store.keys.owner_of(key) if key else None
    if owner is None:
        said = "send `Authorization: Bearer <key>`" if not key else "this key is not valid, or was revoked"
        raise Refusal(401, "invalid_api_key", f"{said}; `assistant keys add NAME` makes one.", headers={"WWW-Authenticate": "Bearer"})
    wait = room.rates.wait(key, time.monotonic())
    if wait > 0:
        limit = room.settings.requests_per_minute
        raise Refusal(
            429,
            "rate_limit",
            f"more than {limit} requests in a minute: wait {math.ceil(wait)} s.",
            headers={"Retry-After": f"{math.ceil(wait)}"},
        )
    request.state.owner = owner
    return owner


Owner = Annotated[str, Depends(owner_of)]


class BodyLimit:
    """Refuses a body that is too large while it comes in, whatever its length claims. Uploads have a limit of their own."""

    def __init__(self, app: ASGIApp, json_bytes: int, upload_bytes: int):
        self.app, self.json_bytes, self.upload_bytes = app, json_bytes, upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        upload = scope["path"] == "/v1/documents"
        limit = self.upload_bytes + 2**16 if upload else self.json_bytes
        headers = dict(scope["headers"])
        too_large = answer(413, f"the body is larger than {limit / 2**20:.0f} MiB.", "too_large")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit:
            return await too_large(scope, receive, send)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise HTTPException(413, f"the body is larger than {limit / 2**20:.0f} MiB.")
            return message

        await self.app(scope, counted, send)


class SafeHeaders:
    """The headers that keep a browser from guessing types, framing the page, or keeping what a key has opened."""

    HEADERS = (
        (b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    )

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in self.HEADERS if pair[0] not in own)]
            await send(message)

        await self.app(scope, receive, sending)
