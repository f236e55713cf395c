"""An assistant for tests: its rooms are real, its engine writes fixed pieces, its encoder hashes words; and one with the real models."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import uvicorn
from assistant.api.app import make_app
from assistant.api.service import open_service
from assistant.engines.base import Piece, PromptTooLong, Request, Usage
from assistant.engines.queue import Queued
from assistant.settings import Settings

HANDBOOK = "# Leave\n\nEvery employee has twenty-five days of paid leave in a year.\n\n# Travel\n\nTravel by train is paid in full.\n"
QUESTION = "How many days of paid leave has every employee?"


class HashEncoder:
    """Words to places by hash: equal words are near, nothing is learned, no model is needed."""

    dim = 64

    def query(self, texts):
        vectors = np.full((len(texts), self.dim), 1e-3, np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row[hashlib.sha256(word.encode("utf-8", "replace")).digest()[0] % self.dim] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def passages(self, texts, progress=None):
        return self.query(texts)

    def read(self, texts, depth):
        """No token is kept: what is quoted is chosen by its words."""
        return self.query(texts), [np.zeros((0, 384), np.float32)] * len(texts)

    def token_states(self, texts, depth, *, question):
        return [np.zeros((0, 384), np.float32)] * len(texts)

    def ask(self, question, depth, *, exact=False):
        return self.query([question])[0], self.token_states([question], depth, question=True)[0]

    def token_spans(self, passage):
        return []


class FakeEngine:
    """Writes `pieces`, one each `delay` seconds; remembers its requests, and when it was stopped before the end."""

    name, model, context, experts, languages = "fake", "fake-1", 1000, (), None
    finish = "stop"

    def __init__(self, pieces=("Twenty-five ", "days", "."), delay: float = 0.0):
        self.pieces, self.delay = pieces, delay
        self.requests: list[Request] = []
        self.stopped: list[float] = []

    async def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        self.requests.append(request)
        words = sum(len(message.content.split()) for message in request.messages)
        if words > self.context:
            raise PromptTooLong(words, self.context)
        whole = False
        try:
            for text in self.pieces:
                await asyncio.sleep(self.delay)
                yield Piece(text)
            whole = True
            yield Piece("", self.finish, Usage(words, len(self.pieces)))
        finally:
            if not whole:
                self.stopped.append(time.monotonic())

    async def aclose(self) -> None:
        pass


class Running(SimpleNamespace):
    """`url`, `app`, `service`, `engine` (the fake one), `key` (the local user's)."""

    def client(self, key: str | None = None, **more) -> httpx.Client:
        """A client with the local key, or with another (empty: none)."""
        key = self.key if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, **more)

    def upload(self, text: str = HANDBOOK, name: str = "handbook.md", key: str | None = None) -> str:
        """The id of a document that is ready."""
        with self.client(key) as client:
            answer = client.post("/v1/documents", files={"file": (name, text.encode())})
            assert answer.status_code == 201, answer.text
            assert self.service.knowledge.wait(20)
            return answer.json()["id"]


def asked_about_handbook(running: Running, question: str, **more) -> dict:
    """The API's answer to a question, after the handbook was put there."""
    running.upload()
    with running.client() as client:
        body = {"model": "x", "messages": [{"role": "user", "content": question}], **more}
        return client.post("/v1/chat/completions", json=body).raise_for_status().json()


@contextmanager
def serving(home: Path, engine=None, encoder=None, **chosen) -> Iterator[Running]:
    """An assistant behind uvicorn on a free port of 127.0.0.1."""
    settings = Settings(_env_file=None, **{"home": home, "threads": 1, "requests_per_minute": 100_000, **chosen})
    queued = None
    if engine is not None:
        queued = Queued(engine, streams=settings.streams, waiting=settings.queue, seconds=settings.answer_seconds)
    app = make_app(settings, partial(open_service, settings, queued, encoder))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        end = time.monotonic() + 60
        while not server.started:
            assert thread.is_alive(), "the service did not start"
            assert time.monotonic() < end, "the service did not start in time"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        service = app.state.service
        yield Running(url=f"http://127.0.0.1:{port}", app=app, service=service, engine=engine, key=service.local_key)
    finally:
        server.should_exit = True
        thread.join(20)


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Start an assistant with the fake models: `serve(engine=…, **settings)`; whatever is found counts as evidence."""
    monkeypatch.setattr("assistant.orchestrator.is_evidence", lambda question, hits, *_: bool(hits))
    started = []

    def start(engine=None, **chosen) -> Running:
        context = serving(tmp_path / f"home{len(started)}", engine or FakeEngine(), HashEncoder(), **chosen)
        started.append(context)
        return context.__enter__()

    yield start
    for context in reversed(started):
        context.__exit__(None, None, None)


@pytest.fixture
def assistant(serve) -> Running:
    return serve()


@pytest.fixture(scope="session")
def real(tmp_path_factory) -> Iterator[Running]:
    """The assistant as it is delivered: embedded engine, E5."""
    with serving(tmp_path_factory.mktemp("real")) as running:
        yield running


def until(condition, seconds: float = 5.0) -> float:
    """Wait for a condition; the seconds that it took. Fails when it does not come."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, f"not within {seconds} s"
        time.sleep(0.01)
    return time.monotonic() - begin


@pytest.fixture(name="until")
def _until():
    return until


@pytest.fixture
def fake_engine():
    return FakeEngine


@pytest.fixture
def question() -> str:
    return QUESTION
