"""Turns that were told and embedded, read by an untrained reader of the stream of turns: what the tests of its states share."""

from __future__ import annotations

from pathlib import Path

import torch
from assistant.memory.index import pieces
from assistant.memory.learned import Learned
from assistant.memory.states import States
from assistant.memory.stream import Shape, StreamReader
from assistant.store import Store

from tests.capstone.conftest import HashEncoder

ENCODER = HashEncoder()
SAID = [f"turn {n} about {word}" for n in range(4) for word in ("trains", "bread", "my sister Lan", "the sea", "a lamp", "the bill")]


def learned(seed: int = 0) -> Learned:
    """An untrained reader of the tests' vectors."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Learned(StreamReader(Shape(dim=ENCODER.dim)).eval().requires_grad_(False), f"reader {seed}")


def states(store: Store, seed: int = 0) -> States:
    return States(store, learned(seed))


def opened(path: Path) -> Store:
    store = Store(path)
    for owner in ("mai", "tom"):
        store.keys.ensure_user(owner)
    return store


def talk(store: Store, said: list[str], owner: str = "mai", done: int = 0) -> list[int]:
    """Embedded turns, six in a conversation; `done` had been said before in the last one."""
    made = []
    with store.database.transaction():
        for number, text in enumerate(said, done):
            begins = number % 6 == 0
            conversation = store.conversations.begin(owner, text).id if begins else store.conversations.all(owner)[0].id
            made.append(store.conversations.add(owner, conversation, ("user", "assistant")[number % 2], text))
    embed(store)
    return made


def embed(store: Store) -> None:
    while batch := store.turns.to_embed(99):
        store.turns.embedded([(turn, text) for turn, _, text in batch], [ENCODER.passages(pieces(text)) for _, _, text in batch])


def follow(of: States, owner: str = "mai") -> bytes:
    while of.follow(owner):
        pass
    kept = of.store.states.of(owner, of.name)
    return kept.data if kept else b""


def without(gone: set[int], folder: Path, said: list[str] = SAID) -> bytes:
    """The state of one who never said some of it: in another store, told the rest and nothing else."""
    (folder / "other.db").unlink(missing_ok=True)
    other = opened(folder / "other.db")
    with other.database.transaction():
        for number, text in enumerate(said):
            conversation = other.conversations.begin("mai", "").id if number % 6 == 0 else conversation
            if number not in gone:
                other.conversations.add("mai", conversation, ("user", "assistant")[number % 2], text)
    embed(other)
    data = follow(states(other))
    other.close()
    return data


def ask(client, text: str, conversation: str | None = None, **more) -> dict:
    body = {"messages": [{"role": "user", "content": text}], "conversation": conversation, **more}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def begin(client) -> str:
    return client.post("/v1/conversations", json={}).json()["id"]
