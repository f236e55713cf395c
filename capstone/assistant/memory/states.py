"""Each user's turns read as one stream, in the order in which they were said, with a state that is kept between them.

One turn at a time, always: so a state that was saved and goes on, one that was made anew from the log, and one that never saw a turn that
has been deleted are the same to the last bit (`store/states.sql` says when a state is made anew). A turn is read from the vector that
the index keeps of it; nothing is embedded again.
"""

from __future__ import annotations

import threading
import time

import numpy as np
import torch
from jaxtyping import Float32
from prometheus_client import Histogram
from torch import Tensor

from assistant.language import passage_language
from assistant.memory.learned import Learned
from assistant.memory.meaning import centred
from assistant.memory.stream import mark
from assistant.store import Store
from assistant.store.states import LAST, Logged, State

AT_ONCE = 256  # turns between two times that a state is kept
BEHIND = 64  # turns that a question waits for
SECONDS = Histogram(
    "assistant_memory_read_seconds",
    "Time to read one turn into its user's state.",
    buckets=(0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1),
)

Carried = Float32[Tensor, "heads dim"]


class States:
    """`learned` reads. Thread-safe: what is kept is kept in the store, and nowhere else."""

    def __init__(self, store: Store, learned: Learned):
        self.store, self.reader, self.name = store, learned.reader, learned.name
        self.bytes = self.reader.begin().nbytes
        self.parameters = sum(parameter.numel() for parameter in self.reader.parameters())
        self._waiting = dict.fromkeys(store.states.behind(self.name))  # in the order in which they came
        self._working: str | None = None
        self._lock = threading.Lock()

    # ---------------------------------------------------------------- reading

    def expect(self, owner: str) -> None:
        """There may be turns of this owner that the state has not read."""
        with self._lock:
            self._waiting[owner] = None

    def work(self) -> bool:
        """Bring on the state of an owner of whom there may be something to read; whether there was one. For one thread."""
        with self._lock:
            owner = self._working = next(iter(self._waiting), None)
            if owner is None:
                return False
            del self._waiting[owner]
        again = True
        try:
            again = self.follow(owner) > 0
        finally:
            if again:
                self.expect(owner)
            self._working = None
        return True

    def up_to_date(self) -> bool:
        """Whether nobody waits to be read."""
        with self._lock:
            return not self._waiting and self._working is None

    def follow(self, owner: str) -> int:
        """Read what the kept state has not, `AT_ONCE` turns at most, and keep the new one; how many were read."""
        kept = self.store.states.of(owner, self.name)
        through = kept.through if kept else 0
        read = self.store.states.log(owner, through, self.store.states.settled(owner) + 1, self.reader.dim, AT_ONCE)
        if read:
            carried = self._read(self._carried(kept), read, self._conversation_of(owner, through))
            self.store.states.keep(owner, self.name, kept, read, carried.numpy().astype("<f4").tobytes())
        return len(read)

    def now(self, owner: str, before: int | None = None) -> Carried | None:
        """What is carried of all that was said before a turn, read or not yet read. What is kept stays as it was.

        None where the state is far behind what was said (it is being made), or has read that turn already.
        """
        kept = self.store.states.of(owner, self.name)
        through, end = kept.through if kept else 0, before or LAST
        missed = self.store.states.log(owner, through, end, self.reader.dim, BEHIND + 1)
        if len(missed) > BEHIND or through >= end:
            self.expect(owner)
            return None
        return self._read(self._carried(kept), missed, self._conversation_of(owner, through))

    def _read(self, carried: Carried, turns: list[Logged], conversation: str | None) -> Carried:
        """What is carried after some turns; `conversation` is that of the turn before them."""
        with torch.inference_mode():
            for one in turns:
                began = time.perf_counter()
                vector = centred(np.frombuffer(one.vector, "<f4"), "passage", passage_language(one.content))
                marks = mark(one.role, one.content, one.conversation != conversation)
                # A copy of the vector, aligned as every other: so its sums are the same.
                carried = self.reader.read(torch.tensor(vector)[None], marks[None], carried)
                conversation = one.conversation
                SECONDS.observe(time.perf_counter() - began)
        return carried

    def _conversation_of(self, owner: str, turn: int) -> str | None:
        return next((one.conversation for one in self.store.turns.get(owner, [turn])), None)

    def _carried(self, kept: State | None) -> Carried:
        """What is carried, from its bytes."""
        begin = self.reader.begin()
        return begin if kept is None else torch.tensor(np.frombuffer(kept.data, "<f4")).reshape(begin.shape)
