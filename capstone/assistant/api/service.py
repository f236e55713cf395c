"""The rooms of one running assistant, made once and handed to every route."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Request

from assistant.engines import make_engine
from assistant.engines.queue import Queued
from assistant.knowledge.desk import Desk
from assistant.knowledge.reading import pair_reader
from assistant.knowledge.service import Knowledge
from assistant.memory.learned import reader_for
from assistant.memory.service import Memory
from assistant.orchestrator import Orchestrator
from assistant.settings import Settings
from assistant.store import Store

if TYPE_CHECKING:
    from assistant.api.access import RateLimit

log = logging.getLogger(__name__)

LOCAL = "local"  # the user of the page on this machine


@dataclass
class Service:
    settings: Settings
    store: Store
    engine: Queued
    knowledge: Knowledge
    memory: Memory
    orchestrator: Orchestrator
    rates: RateLimit
    local_key: str
    desk: Desk
    no_reader: str  # why turns are not read into a state; empty where they are

    async def aclose(self) -> None:
        self.knowledge.close()
        self.memory.close()
        await self.engine.aclose()
        self.store.close()


def open_service(settings: Settings, engine: Queued | None = None, encoder: Any = None) -> Service:
    """Open the database, load the models (those of the settings, where none are given), repair what a sudden end has left, begin to work.

    Raises StoreError, EngineError, MissingModel.
    """
    from hybridlab.rag.embed import E5
    from hybridlab.runtime import set_threads

    from assistant.api.access import RateLimit

    store = Store(settings.database)
    set_threads(settings.threads)  # of embedding; torch would take every core, and small matrices get slower by it
    given = encoder is not None
    with ThreadPoolExecutor(1) as beside:  # llama.cpp reads its weights while the encoder's are read
        loading = beside.submit(lambda: engine or make_engine(settings))
        encoder = encoder or E5()
        engine = loading.result()
    knowledge = Knowledge(store, encoder, settings)
    knowledge.start()  # holds the folder
    learned, why = reader_for(encoder.dim)
    if why:
        log.warning("memory: %s", why)
    memory = Memory(store, encoder, learned)
    memory.start()
    orchestrator = Orchestrator(engine, knowledge, memory, store, settings)
    rates = RateLimit(settings.requests_per_minute)
    if not given:
        threading.Thread(target=pair_reader, name="pair reader").start()  # the first question would wait a second for it
    return Service(settings, store, engine, knowledge, memory, orchestrator, rates, local_key(store, settings), Desk(), why)


def local_key(store: Store, settings: Settings) -> str:
    """The key of the page on this machine: made at the first start, kept in a file that only this user can read."""
    path = settings.home / "local.key"
    if path.is_file() and store.keys.owner_of(key := path.read_text().strip()) == LOCAL:
        return key
    key = store.keys.add(LOCAL, "the page on this machine")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(key)
    os.replace(draft, path)
    return key


def service(request: Request) -> Service:
    return request.app.state.service
