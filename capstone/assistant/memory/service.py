"""The room of memory: turns are embedded in the background as they come to their end, recalled, listed, and deleted."""

from __future__ import annotations

import logging
import threading
import time

import numpy as np
from prometheus_client import Histogram

from assistant.cues import cue_of
from assistant.memory.index import pieces
from assistant.memory.learned import Learned
from assistant.memory.recall import Recall, Recalled
from assistant.memory.states import States
from assistant.store import Store
from assistant.store.turns import Turn
from assistant.waiting import wait_until

log = logging.getLogger(__name__)

BATCH = 8  # turns embedded between two looks at whether the service closes
IDLE = 1.0  # seconds between two looks for new turns
CLOSING = 5.0  # seconds that a batch has to come to its end when the service closes
SECONDS = Histogram(
    "assistant_memory_turn_seconds",
    "Time to take a turn into memory, once it was said: vectors made and stored.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)


class Memory:
    """`encoder` embeds (`hybridlab.rag.embed.E5`); `learned` reads the stream of turns, where there is such a reader.

    `start()` begins the background worker, `close()` ends it.

    A turn is found by its words as soon as it is stored, and by its meaning within a second or two (`pieces` says what is embedded of a
    long one; all of its words are found).
    """

    def __init__(self, store: Store, encoder, learned: Learned | None = None):
        self.store, self.encoder = store, encoder
        self.states = States(store, learned) if learned else None
        self.recall = Recall(store, encoder, self.states)
        self._changing = threading.Lock()  # between the database and the index
        self._stop = threading.Event()
        self._worker: threading.Thread | None = None

    # ---------------------------------------------------------------- for users

    def turns(self, owner: str, limit: int, before: int | None = None) -> list[Turn]:
        """What is remembered, the newest first."""
        return self.store.turns.all(owner, limit, before)

    def search(self, owner: str, question: str, k: int, conversation: str | None = None) -> list[Recalled]:
        """The turns that answer a question best."""
        cue = cue_of(question)
        return self.recall(owner, question, k, conversation=conversation, questions=bool(cue and cue.questions))

    def delete(self, owner: str, turn: int) -> None:
        """Forget a turn: in its conversation, in both indexes, on disk. Raises KeyError where the owner has no such turn."""
        with self._changing:
            self.store.turns.delete(owner, turn)
            self._forget(owner)

    def delete_all(self, owner: str) -> None:
        """Forget everything that was said."""
        with self._changing:
            self.store.turns.delete_all(owner)
            self._forget(owner)

    def delete_conversation(self, owner: str, conversation: str) -> None:
        """Delete a conversation and forget its turns. Raises KeyError where the owner has no such conversation."""
        with self._changing:
            self.store.conversations.delete(owner, conversation)
            self._forget(owner)

    def _forget(self, owner: str) -> None:
        """What was read of an owner is read again from what is left."""
        self.recall.forget(owner)
        if self.states:
            self.states.expect(owner)

    # ---------------------------------------------------------------- the worker

    def start(self) -> None:
        """Repair what an older version has left, and begin to work."""
        self.store.turns.repair()
        self._worker = threading.Thread(target=self._work, name="memory", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """End the worker; turns without an embedding get it after the next start."""
        self._stop.set()
        if self._worker:
            self._worker.join(timeout=CLOSING)

    def wait(self, seconds: float) -> bool:
        """Wait until every turn is embedded, and read into its owner's state; False when it took longer."""
        return wait_until(lambda: not self.store.turns.to_embed(1) and (not self.states or self.states.up_to_date()), seconds)

    def _work(self) -> None:
        """Embed and read until the service closes. Nothing that goes wrong ends this thread."""
        while not self._stop.is_set():
            try:
                if self._embed() or (self.states and self.states.work()):
                    continue
            except Exception:
                log.exception("memory: turns can't be taken in; trying again")
            self._stop.wait(IDLE)

    def _embed(self) -> bool:
        """Embed a batch; whether there was one."""
        batch = self.store.turns.to_embed(BATCH)
        if not batch:
            return False
        began = time.perf_counter()
        texts = [pieces(content) for _, _, content in batch]
        flat = self.encoder.passages([text for of in texts for text in of])
        vectors = np.split(flat, np.cumsum([len(of) for of in texts])[:-1])
        for _, owner, _ in batch if self.states else ():
            self.states.expect(owner)
        with self._changing:  # no deletion between the database and the index
            kept = self.store.turns.embedded([(turn, content) for turn, _, content in batch], vectors)
            for (turn, owner, content), of in zip(batch, vectors, strict=True):
                if turn in kept:
                    self.recall.add(owner, turn, content, of)
        for _ in batch:
            SECONDS.observe((time.perf_counter() - began) / len(batch))
        return True
