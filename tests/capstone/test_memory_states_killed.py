"""The state that reads a user's turns, killed at any moment, read by two processes at once, and after ten thousand turns."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from assistant.store import Store

from tests.capstone.told import ENCODER, embed, follow, opened, states

WORKER = """
import sys
from pathlib import Path
from tests.capstone.told import SAID, opened, states, talk
store = opened(Path(sys.argv[1]))
of = states(store)
for number in range(10_000):
    turns = talk(store, SAID[number % 20 : number % 20 + 3])
    of.follow("mai")
    if number % 5 == int(sys.argv[2]):
        store.turns.delete("mai", turns[1])
    print(number, flush=True)
"""


def work(path: Path, deletes: int) -> subprocess.Popen:
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", WORKER, str(path), str(deletes)], stdout=subprocess.PIPE, text=True, cwd=root)


def is_of_the_log(path: Path) -> None:
    """What is kept after everything was read is what is made anew from the log."""
    store = Store(path)
    embed(store)
    went_on = follow(states(store))
    store.database.connection.execute("DELETE FROM states")
    assert follow(states(store)) == went_on != b""
    store.close()


@pytest.mark.slow(seconds=40)
def test_killed_at_any_moment_the_state_is_the_one_of_the_log(tmp_path: Path):
    for lines, seconds in ((3, 0.0), (7, 0.003), (11, 0.017), (17, 0.031)):
        worker = work(tmp_path / "assistant.db", 4)
        for _ in range(lines):
            assert worker.stdout.readline()
        time.sleep(seconds)
        worker.send_signal(signal.SIGKILL)
        assert worker.wait() == -9
        is_of_the_log(tmp_path / "assistant.db")


@pytest.mark.slow(seconds=20)
def test_two_processes_that_read_and_delete_at_once_keep_the_state_of_the_log(tmp_path: Path):
    path = tmp_path / "assistant.db"
    opened(path).close()
    workers = [work(path, deletes) for deletes in (1, 4)]
    for worker in workers:
        for _ in range(25):
            assert worker.stdout.readline()
    for worker in workers:
        worker.kill()
        worker.wait()
    is_of_the_log(path)


# --- ten thousand turns ---------------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=30)
def test_ten_thousand_turns_are_read_in_the_memory_of_a_thousand(tmp_path: Path):
    store, peaks = opened(tmp_path / "assistant.db"), {}
    of = states(store)
    for owner, turns in (("tom", 1_000), ("mai", 10_000)):
        with store.database.transaction():
            conversation = store.conversations.begin(owner, "").id
            made = [store.conversations.add(owner, conversation, "user", f"turn {n}") for n in range(turns)]
            noise = np.random.default_rng(0).standard_normal((turns, 1, ENCODER.dim)).astype(np.float32) / 8
            store.turns.embedded([(turn, f"turn {n}") for n, turn in enumerate(made)], list(noise))
        tracemalloc.start()
        data = follow(of, owner)
        peaks[owner] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert store.states.of(owner, of.name).through == made[-1]
        assert len(data) == of.bytes
        assert np.isfinite(np.frombuffer(data, "<f4")).all()
    assert peaks["mai"] < 1.2 * peaks["tom"]
    store.close()
