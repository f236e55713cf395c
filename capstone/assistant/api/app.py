"""The application: routes, limits, errors, the page; made from settings, so that a test makes its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from assistant.api import chat, conversations, documents, errors, system
from assistant.api.access import BodyLimit
from assistant.api.metrics import Measured
from assistant.api.service import open_service
from assistant.settings import Settings

WEB = Path(__file__).resolve().parents[2] / "web"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def make_app(settings: Settings) -> FastAPI:
    """The assistant as an ASGI application. Its rooms are opened when it starts, and closed when it ends."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncGenerator[None, None]:
        app.state.service = await anyio.to_thread.run_sync(open_service, settings)
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
    for room in (chat, documents, conversations, system):
        app.include_router(room.router)
    app.add_middleware(BodyLimit, json_bytes=settings.body_bytes, upload_bytes=settings.upload_bytes)
    app.add_middleware(Measured)

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> HTMLResponse:
        """The page. On this machine it is handed the local key; from elsewhere it asks for one."""
        here = (
            request.client is not None
            and request.client.host in ("127.0.0.1", "::1")
            and settings.host in ("127.0.0.1", "::1", "localhost")
        )
        host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
        key = app.state.service.local_key if here and host in ("127.0.0.1", "localhost", "::1") else ""
        text = (WEB / "index.html").read_text("utf-8").replace("{{key}}", key)
        return HTMLResponse(text, headers=HEADERS)

    app.mount("/web", StaticFiles(directory=WEB), name="web")
    return app
