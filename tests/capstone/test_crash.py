"""Killed with SIGKILL at random moments of ingestion and chat: nothing acknowledged is lost, and the next start repairs the rest."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from assistant.knowledge.service import Knowledge
from assistant.memory.service import Memory
from assistant.settings import Settings
from assistant.store import Store

WORKER = Path(__file__).with_name("crash_worker.py")
FAULTS = Path(__file__).parents[2] / "docs" / "faults.md"
OWNER = "mai"


@dataclass
class Told:
    """What the killed processes acknowledged, and what they were about to do."""

    documents: dict[str, set[str]] = field(default_factory=dict)  # name -> contents of which one must be there
    gone: set[str] = field(default_factory=set)  # names that may be gone
    deleted: set[str] = field(default_factory=set)  # names that must be gone
    asked: set[tuple[str, str]] = field(default_factory=set)
    answered: set[tuple[str, str]] = field(default_factory=set)
    forgetting: set[tuple[str, str]] = field(default_factory=set)  # questions that may be forgotten
    forgot: set[tuple[str, str]] = field(default_factory=set)  # and those that must be
    uploads: int = 0

    def read(self, line: str) -> None:
        what, *rest = line.split()
        if what == "sending":
            self.deleted.discard(rest[0])
            # Either the old content or this one, until it is acknowledged.
            self.documents.setdefault(rest[0], set()).add(rest[1])
            if len(self.documents[rest[0]]) == 1:
                self.gone.add(rest[0])
        elif what == "document":
            self.documents[rest[0]] = {rest[1]}
            self.uploads += 1
            self.gone.discard(rest[0])
        elif what == "deleting":
            self.gone.add(rest[0])
        elif what == "deleted":
            del self.documents[rest[0]]
            self.gone.discard(rest[0])
            self.deleted.add(rest[0])
        elif what == "asked":
            self.asked.add((rest[0], rest[1]))
        elif what == "answered":
            self.answered.add((rest[0], rest[1]))
        elif what == "forgetting":
            self.forgetting.add((rest[0], rest[1]))
        elif what == "forgot":
            self.forgot.add((rest[0], rest[1]))


def run_and_kill(home: Path, seed: int, seconds: float, told: Told) -> None:
    """Let the worker run for `seconds` after it is ready, kill it, and read what it told."""
    with subprocess.Popen(
        [sys.executable, str(WORKER), str(home), str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        ready = run.stdout.readline()
        if ready != "ready\n":
            _, error = run.communicate()
            raise AssertionError(f"the worker did not start: {error}")
        threading.Timer(seconds, run.kill).start()
        lines = run.stdout.read().splitlines(keepends=True)
        assert run.wait() == -9
    for line in lines:
        if line.endswith("\n"):
            told.read(line)


def check(home: Path, told: Told) -> None:
    """Everything acknowledged is there, in a database that is whole; after the repair every document is ready, and no file is left over."""
    import runpy

    worker = runpy.run_path(str(WORKER))
    encoder = worker["Encoder"]()
    settings = Settings(home=home, _env_file=None)
    store = Store(settings.database)
    assert [row[0] for row in store.database.connection.execute("PRAGMA integrity_check")] == ["ok"]
    store.database.connection.execute("INSERT INTO turn_words (turn_words) VALUES ('integrity-check')")
    knowledge = Knowledge(store, encoder, settings)
    knowledge.start()
    memory = Memory(store, encoder, worker["reader"]())
    memory.start()
    try:
        assert knowledge.wait(60)
        there = {document.name: document for document in knowledge.documents(OWNER)}
        assert len(there) == len(knowledge.documents(OWNER)), "two versions of one document are left"
        for name, contents in told.documents.items():
            if name not in there:
                assert name in told.gone, f"{name} was acknowledged and is lost"
                continue
            document = there[name]
            assert document.sha256 in contents, f"{name} is not as it was acknowledged"
            assert hashlib.sha256(knowledge.uploads.path(document.sha256).read_bytes()).hexdigest() == document.sha256
            assert (document.state, document.embedded) == ("ready", document.chunks)
        assert not told.deleted & set(there), "a deletion was acknowledged and is undone"
        for retriever in ("bm25", "e5"):
            hits = knowledge.search(OWNER, "canteen", 500, retriever)
            assert {hit.chunk.document for hit in hits} == {document.id for document in there.values()}
        assert {path.name for path in knowledge.uploads.folder.iterdir()} == {document.sha256 for document in there.values()}
        told.documents = {name: {document.sha256} for name, document in there.items()}  # what was open is settled now
        told.gone.clear()
        messages = {one.id: store.conversations.messages(OWNER, one.id) for one in store.conversations.all(OWNER)}
        asked = {(one, m.content.split()[1]) for one, many in messages.items() for m in many if m.role == "user"}
        assert told.asked - told.forgetting <= asked, "a question was acknowledged and is lost"
        assert not told.forgot & asked, "a memory was acknowledged as forgotten and is there"
        for conversation, number in told.answered & asked:
            place = next(i for i, m in enumerate(messages[conversation]) if m.content.startswith(f"question {number} "))
            answer = messages[conversation][place + 1]
            assert (answer.role, answer.complete) == ("assistant", True), "an answer was acknowledged and is cut"
            assert answer.content.strip()
        assert memory.wait(60)
        turns = {one.id: (one.conversation, one.content.split()[1]) for one in memory.turns(OWNER, 10_000) if one.role == "user"}
        assert set(turns.values()) == asked, "what was asked is not what is remembered"
        found = {one.turn.id for one in memory.recall(OWNER, "question about the canteen", 10_000) if one.ranks.keys() == {"bm25", "e5"}}
        assert turns.keys() <= found, "a memory is not found by words and meaning"
        words = store.database.connection.execute("SELECT count(*) FROM turn_words WHERE rowid NOT IN (SELECT id FROM messages)")
        assert words.fetchone()[0] == 0, "words of a forgotten turn are left"
        assert len(memory.recall._index_of(OWNER)) == len(memory.turns(OWNER, 10_000))
        kept = store.states.of(OWNER, memory.states.name)
        store.database.connection.execute("DELETE FROM states")
        while memory.states.follow(OWNER):
            pass
        assert kept == store.states.of(OWNER, memory.states.name), "what was read of the turns is not what the log makes of it"
    finally:
        memory.close()
        knowledge.close()
        store.close()


def kill_often(home: Path, times: int, seed: int) -> tuple[int, int, int, int]:
    """Kill `times` times at moments that `seed` gives; returns how many documents, questions and answers were acknowledged, and how many
    memories as forgotten."""
    chance, told = random.Random(seed), Told()
    for number in range(times):
        run_and_kill(home, seed * 1000 + number, chance.uniform(0.05, 2.0), told)
        check(home, told)
    return told.uploads, len(told.asked), len(told.answered), len(told.forgot)


@pytest.mark.slow(seconds=20)
def test_four_kills_lose_nothing(tmp_path: Path):
    documents, asked, answered, forgotten = kill_often(tmp_path / "home", 4, seed=3)
    assert documents
    assert asked
    assert answered
    assert forgotten


@pytest.mark.soak
@pytest.mark.slow(seconds=120)
def test_twenty_kills_lose_nothing(tmp_path: Path):
    start = time.monotonic()
    documents, asked, answered, forgotten = kill_often(tmp_path / "home", 20, seed=20)
    FAULTS.write_text(
        "# Faults\n\n"
        "Written by `make soak`. A process that ingests, replaces and deletes documents, answers questions (with a fake engine, which\n"
        "answers at once) and forgets some of them is killed with SIGKILL at random moments; after each kill the database is checked, the\n"
        "service is started again, and everything that was acknowledged is looked for: what is remembered is found by words and by\n"
        "meaning, and nothing that was forgotten is there.\n\n"
        "| kills | uploads acknowledged | questions acknowledged | answers acknowledged | memories forgotten | lost | seconds |\n"
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        f"| 20 | {documents} | {asked} | {answered} | {forgotten} | 0 | {time.monotonic() - start:.0f} |\n",
        "utf-8",
    )
