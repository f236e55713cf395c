"""A process that ingests and chats until it is killed; every line that it prints acknowledges one thing that must not be lost.

`python crash_worker.py HOME SEED`: lines are `document NAME SHA256`, `deleted NAME`, `asked CONVERSATION NUMBER` and
`answered CONVERSATION NUMBER`; before the first two, `sending NAME SHA256` and `deleting NAME`. `forgetting CONVERSATION NUMBER` comes
before a question is deleted from memory, and `forgot CONVERSATION NUMBER` after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import random
import sys
from pathlib import Path

import numpy as np
import torch
from assistant import orchestrator as room
from assistant.engines.base import Message, Piece, Usage
from assistant.knowledge.service import Knowledge
from assistant.memory.learned import Learned
from assistant.memory.service import Memory
from assistant.memory.stream import Shape, StreamReader
from assistant.orchestrator import Cited, Done, Options, Orchestrator
from assistant.settings import Settings
from assistant.store import Store

OWNER = "mai"


class Encoder:
    """Texts to vectors by the counts of their letters, in about the time that a real one takes."""

    dim = 26

    def query(self, texts):
        counts = np.array([[text.lower().count(chr(97 + i)) + 0.01 for i in range(26)] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    passages = query

    def read(self, texts, depth):
        return self.query(texts), [np.zeros((9, 384), np.float32)] * len(texts)

    def token_states(self, texts, depth, *, question):
        return [np.zeros((0, 384), np.float32)] * len(texts)

    def ask(self, question, depth, *, exact=False):
        return self.query([question])[0], self.token_states([question], depth, question=True)[0]

    def token_spans(self, passage):
        return [(n, n + 1) for n in range(9)]


def reader() -> Learned:
    """An untrained reader of turns, the same in every process."""
    torch.manual_seed(0)
    return Learned(StreamReader(Shape(dim=Encoder.dim)).eval().requires_grad_(False), "reader")


class Engine:
    name = model = "fake"
    context, experts, languages = 8192, (), None

    async def stream(self, request):
        for word in request.messages[-1].content.split()[:8]:
            await asyncio.sleep(0.002)
            yield Piece(f"{word} ")
        yield Piece("", "stop", Usage(8, 8))

    async def aclose(self):
        pass


def text_of(name: str, version: int) -> bytes:
    return f"{name}, version {version}. The canteen opens at noon and the library closes at nine. \n\n".encode() * 60


def say(*words: object) -> None:
    print(*words, flush=True)


async def chat(brain: Orchestrator, conversation: str, number: int) -> None:
    events = brain.answer(OWNER, [Message("user", f"question {number} about the canteen")], Options(), conversation)
    async for event in events:
        if isinstance(event, Cited):
            say("asked", conversation, number)
        elif isinstance(event, Done):
            say("answered", conversation, number)


def main(home: str, seed: str) -> None:
    chance = random.Random(seed)
    settings = Settings(home=Path(home), _env_file=None)
    store = Store(settings.database)
    store.keys.ensure_user(OWNER)
    room.is_evidence = lambda *_: True
    knowledge = Knowledge(store, Encoder(), settings)
    knowledge.start()
    memory = Memory(store, Encoder(), reader())
    memory.start()
    brain = Orchestrator(Engine(), knowledge, memory, store, settings)
    conversation = store.conversations.begin(OWNER, seed).id
    say("ready")
    for number in range(10_000):
        draw = chance.random()
        if draw < 0.5:
            name = f"document-{chance.randrange(8)}.txt"
            data = text_of(name, chance.randrange(1000))
            say("sending", name, hashlib.sha256(data).hexdigest())
            knowledge.add(OWNER, name, io.BytesIO(data))
            say("document", name, hashlib.sha256(data).hexdigest())
        elif draw < 0.6 and (there := knowledge.documents(OWNER)):
            name = chance.choice(there).name
            say("deleting", name)
            for one in there:  # the older version before the newer one, which may have taken its place by now
                with contextlib.suppress(KeyError):
                    if one.name == name:
                        knowledge.delete(OWNER, one.id)
            say("deleted", name)
        elif draw < 0.75 and (turns := [one for one in memory.turns(OWNER, 50) if one.role == "user"]):
            one = chance.choice(turns)
            which = one.content.split()[1]
            say("forgetting", one.conversation, which)
            memory.delete(OWNER, one.id)
            say("forgot", one.conversation, which)
        else:
            asyncio.run(chat(brain, conversation, number))


if __name__ == "__main__":
    main(*sys.argv[1:])
