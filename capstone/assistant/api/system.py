"""Is it alive, is it ready, what is it made of, how is it doing."""

from __future__ import annotations

import platform
import sqlite3
from functools import cache
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from assistant.api.access import Owner
from assistant.api.errors import MEANINGS, ErrorAnswer, Refusal, documented
from assistant.api.metrics import JOBS, MEMORY_BYTES, MEMORY_STATES, MEMORY_TURNS, MEMORY_USERS, RUNNING, STATE_BYTES, WAITING
from assistant.api.service import Service, service

router = APIRouter(tags=["system"])
Room = Annotated[Service, Depends(service)]


class State(BaseModel):
    status: str


class ExpertOut(BaseModel):
    """An adapter that answers for one use ("sources": from the documents' quotes)."""

    name: str
    use: str
    base: str
    licence: str


class EngineOut(BaseModel):
    name: str
    model: str
    context: int
    experts: list[ExpertOut]
    running: int
    waiting: int


class MemoryReaderOut(BaseModel):
    """What reads the stream of turns. `model`: the fingerprint of its weights, empty where there is none that can be used, and `why` says
    the reason. `state_bytes`: of one user's state, however much was said."""

    model: str
    parameters: int
    state_bytes: int
    why: str


class PartOut(BaseModel):
    """`origin`: "learner", "reference", or "set aside" (promoted once, and not used now)."""

    symbol: str
    origin: str


class SystemOut(BaseModel):
    version: str
    python: str
    engine: EngineOut
    embedding: str
    memory: MemoryReaderOut
    jobs: int
    parts: list[PartOut]


@router.get("/healthz", response_model=State)
async def alive() -> Any:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=State, responses={503: {"model": ErrorAnswer, "description": MEANINGS[503]}})
def ready(room: Room) -> Any:
    """The database answers, and the models are loaded."""
    try:
        room.store.database.connection.execute("SELECT 1").fetchone()
    except sqlite3.Error as error:
        raise Refusal(503, "database", f"the database does not answer ({error}).") from error
    return {"status": "ready"}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def metrics(room: Room) -> Response:
    """For Prometheus."""
    RUNNING.set(room.engine.running)
    WAITING.set(room.engine.waiting)
    JOBS.set(room.store.jobs.waiting())
    for gauge, value in zip((MEMORY_USERS, MEMORY_TURNS, MEMORY_BYTES), room.store.turns.size(), strict=True):
        gauge.set(value)
    for gauge, value in zip((MEMORY_STATES, STATE_BYTES), room.store.states.size(), strict=True):
        gauge.set(value)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/v1/system", response_model=SystemOut, responses=documented())
def system(owner: Owner, room: Room) -> Any:
    """The engine, and the course's bill of materials: which loaded parts of the library are the learner's own."""
    engine = room.engine
    about = {"name": engine.name, "model": engine.model, "context": engine.context, "running": engine.running, "waiting": engine.waiting}
    about["experts"] = [vars(expert.card) for expert in engine.experts]
    return {
        "version": version("hybrid-ai-course"),
        "python": platform.python_version(),
        "engine": about,
        "embedding": "multilingual-e5-small",
        "memory": memory_reader(room),
        "jobs": room.store.jobs.waiting(),
        "parts": parts(),
    }


def memory_reader(room: Service) -> dict[str, Any]:
    states = room.memory.states
    if states is None:
        return {"model": "", "parameters": 0, "state_bytes": 0, "why": room.no_reader}
    return {"model": states.name, "parameters": states.parameters, "state_bytes": states.bytes, "why": ""}


@cache
def parts() -> list[dict[str, str]]:
    """Every exercise of the course, and whose code the library has chosen. (Once: the choice is made when the library is imported.)"""
    from coursekit.course import load_course
    from coursekit.library import bill_of_materials

    return [{"symbol": part.exercise.symbol, "origin": part.origin} for part in bill_of_materials(load_course())]
