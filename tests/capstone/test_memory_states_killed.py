"""The state that reads a user's turns, killed at any moment, read by two processes at once, and after ten thousand turns."""

from __future__ import annotations

import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from assistant.store import Store
from assistant.store.states import LAST

from tests.capstone.told import ENCODER, SAID, embed, follow, opened, states, talk

MOMENTS = """  # before the first change of the log or the state, before it is on disk, before the second, …
import os, signal, sys
from itertools import count
from pathlib import Path
from tests.capstone.told import SAID, follow, opened, states, talk
for moment in count():
    if not (child := os.fork()):
        store = opened(Path(sys.argv[1]))
        before = iter(range(moment))
        def kill(statement):
            if statement.startswith(("BEGIN", "COMMIT")) and next(before, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)
        store.database.connection.set_trace_callback(kill)
        turns = talk(store, SAID[moment % 20 : moment % 20 + 3])
        follow(states(store))
        store.turns.delete("mai", turns[1])
        follow(states(store))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
    sys.stdin.readline()
"""
WORKER = """  # a pause behind what is read: the other process deletes meanwhile
import sys, time
from pathlib import Path
from tests.capstone.told import SAID, opened, states, talk
store, back, turns = opened(Path(sys.argv[1])), int(sys.argv[2]), []
of = states(store)
read = of._read
of._read = lambda *one: (read(*one), time.sleep(0.02))[0]
for number in range(10_000):
    turns += talk(store, SAID[number % 20 : number % 20 + 3])
    of.follow("mai")
    if number % 5 == back % 5:
        store.turns.delete("mai", turns.pop(-back))
    print(number, flush=True)
"""


@contextmanager
def work(script: str, *arguments: object) -> Iterator[subprocess.Popen]:
    """A process that is killed at the end, whatever comes."""
    command, root = [sys.executable, "-c", script, *map(str, arguments)], Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root) as worker:
        try:
            yield worker
        finally:
            worker.kill()


def found_is_of_the_log(store: Store) -> bool:
    """What is on disk right now is what is made of the log that is there right now; whether anything is."""
    of = states(store)
    with store.database.transaction():  # nobody writes in between
        found = store.states.of("mai", of.name)
        log = store.states.log("mai", 0, found.through + 1, ENCODER.dim, LAST) if found else []
    assert not found or found.data == of._read(of.reader.begin(), log, None).numpy().tobytes()
    return found is not None


def goes_on_as_made_anew(store: Store) -> None:
    """What goes on from what is on disk is what is made anew from the log."""
    embed(store)
    went_on = follow(states(store))
    store.database.connection.execute("DELETE FROM states")
    assert follow(states(store)) == went_on != b""


@pytest.mark.slow(seconds=5)
def test_killed_at_any_moment_the_state_is_the_one_of_the_log(tmp_path: Path):
    store = opened(tmp_path / "assistant.db")
    talk(store, SAID)
    follow(states(store))
    found = []
    with work(MOMENTS, tmp_path / "assistant.db") as worker:
        for line in worker.stdout:
            found.append(found_is_of_the_log(store))
            goes_on_as_made_anew(store)
            if int(line) != signal.SIGKILL:
                assert int(line) == 0
                break
            print(file=worker.stdin, flush=True)
    store.close()
    assert len(found) > 10
    assert set(found) == {True, False}  # a deletion takes it away


@pytest.mark.slow(seconds=12)
def test_two_processes_that_read_and_delete_at_once_keep_the_state_of_the_log(tmp_path: Path):
    path, found = tmp_path / "assistant.db", 0
    store = opened(path)
    with work(WORKER, path, 2) as one, work(WORKER, path, 9) as other:
        for _ in range(25):
            for worker in (one, other):
                assert worker.stdout.readline()
                found += found_is_of_the_log(store)
    assert found >= 5
    found_is_of_the_log(store)
    goes_on_as_made_anew(store)
    store.close()


# --- ten thousand turns ---------------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=30)
def test_ten_thousand_turns_are_read_in_the_memory_of_a_thousand(tmp_path: Path):
    store, peaks = opened(tmp_path / "assistant.db"), {}
    of = states(store)
    # Long turns: what is read at once (1.4 MB) is far above what tracemalloc still counts of tensors that torch has freed (up to 0.07 MB).
    long = " and so on" * 200
    for owner, turns in (("tom", 1_000), ("mai", 10_000)):
        with store.database.transaction():
            conversation = store.conversations.begin(owner, "").id
            made = [store.conversations.add(owner, conversation, "user", f"turn {n}{long}") for n in range(turns)]
            noise = np.random.default_rng(0).standard_normal((turns, 1, ENCODER.dim)).astype(np.float32) / 8
            store.turns.embedded([(turn, f"turn {n}{long}") for n, turn in enumerate(made)], list(noise))
        tracemalloc.start()
        data = follow(of, owner)
        peaks[owner] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert store.states.of(owner, of.name).through == made[-1]
        assert len(data) == of.bytes
        assert np.isfinite(np.frombuffer(data, "<f4")).all()
    assert peaks["mai"] < 1.2 * peaks["tom"]
    store.close()
