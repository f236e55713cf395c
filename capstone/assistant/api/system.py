"""Is it alive, is it ready, what is it made of, how is it doing."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from hybridlab.exercise import REGISTRY
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from assistant.api.access import Owner
from assistant.api.errors import documented
from assistant.api.service import Service, service

router = APIRouter(tags=["system"])
Room = Annotated[Service, Depends(service)]


class State(BaseModel):
    status: str


class EngineOut(BaseModel):
    name: str
    model: str
    context: int
    running: int
    waiting: int


class PartOut(BaseModel):
    """`origin`: "learner" or "reference"."""

    symbol: str
    origin: str


class SystemOut(BaseModel):
    version: str
    python: str
    engine: EngineOut
    embedding: str
    jobs: int
    parts: list[PartOut]


@router.get("/healthz", response_model=State)
async def alive() -> Any:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=State)
def ready(room: Room) -> Any:
    """The database answers, and the models are loaded."""
    room.store.database.connection.execute("SELECT 1").fetchone()
    return {"status": "ready"}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics() -> Response:
    """For Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/system", response_model=SystemOut, responses=documented())
def system(owner: Owner, room: Room) -> Any:
    """The engine, and the course's bill of materials: which loaded parts of the library are the learner's own."""
    engine = room.engine
    about = {"name": engine.name, "model": engine.model, "context": engine.context, "running": engine.running, "waiting": engine.waiting}
    return {
        "version": version("hybrid-ai-course"),
        "python": platform.python_version(),
        "engine": about,
        "embedding": "multilingual-e5-small",
        "jobs": room.store.jobs.waiting(),
        "parts": [{"symbol": entry.symbol, "origin": entry.origin} for entry in REGISTRY.values()],
    }
