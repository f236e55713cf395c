"""The application: routes, limits, errors, the page; made from settings, so that a test makes its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from assistant.api import chat, conversations, documents, errors, memories, readings, system
from assistant.api.access import BodyLimit, SafeHeaders
from assistant.api.metrics import Measured
from assistant.api.service import Service, open_service
from assistant.settings import Settings

WEB = Path(__file__).resolve().parents[2] / "web"
HERE = ("127.0.0.1", "::1", "localhost")
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")  # a proxy speaks for somebody else


def make_app(settings: Settings, opened: Callable[[], Service] | None = None) -> FastAPI:
    """The assistant as an ASGI application. Its rooms are opened when it starts (by `opened`, where given), and closed when it ends."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncGenerator[None, None]:
        app.state.service = await anyio.to_thread.run_sync(opened or partial(open_service, settings))
        yield
        await app.state.service.aclose()

    app = FastAPI(
        title="Enterprise Hybrid Assistant",
        version=version("hybrid-ai-course"),
        summary="Questions of documents, answered with their sources.",
        lifespan=life,
        docs_url=None,
        redoc_url=None,
    )
    errors.install(app)
    for room in (chat, documents, readings, conversations, memories, system):
        app.include_router(room.router)
    app.add_middleware(BodyLimit, json_bytes=settings.body_bytes, upload_bytes=settings.upload_bytes)
    app.add_middleware(SafeHeaders)
    app.add_middleware(Measured)

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> HTMLResponse:
        """The page. On this machine it is handed the local key while that is valid; from elsewhere it asks for one."""
        sender = request.client.host if request.client else ""
        named = urlsplit(f"//{request.headers.get('host', '')}").hostname  # another name means that a foreign site points here
        here = settings.host in HERE and sender in HERE and named in HERE and not any(name in request.headers for name in FORWARDED)
        key = app.state.service.local_key if here else ""
        key = key if key and app.state.service.store.keys.owner_of(key) else ""
        given = {"key": key, "prompt_characters": settings.prompt_characters, "upload_bytes": settings.upload_bytes}
        text = (WEB / "index.html").read_text("utf-8")
        for name, value in given.items():
            text = text.replace(f"{{{{{name}}}}}", str(value))
        return HTMLResponse(text)

    app.mount("/web", StaticFiles(directory=WEB), name="web")
    return app
