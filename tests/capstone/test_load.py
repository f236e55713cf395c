"""Many streaming clients at once against the service as it is delivered: no error but 429, and memory that stays flat.

A few seconds of it run in `make test`; `make soak` runs two minutes and writes docs/soak-assistant.md.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest
from coursekit.paths import REPO

from tests.capstone.conftest import HANDBOOK, QUESTION
from tests.capstone.process import Served, serving_process

CLIENTS, SECONDS, WARM, GROWTH_MIB = 64, 120, 40, 64
PAGE = """# The assistant under load

Written by `make soak`: {clients} clients stream answers at once for {seconds} s from `assistant serve` with its own engine and encoder,
two streams and a queue of 32 as by default (only the requests per minute are not limited). Half of them ask a document, half only talk.
What finds no place is answered with 429, and comes again after `Retry-After`. Memory is that of the service's process.

| | |
| --- | ---: |
| whole answers | {answers} |
| answered with 429 | {refused} |
| other errors | {wrong} |
| time of a whole answer, its wait included, median | {median:.1f} s |
| memory, most in the first {warm} s | {early:.0f} MiB |
| memory, most in the last {warm} s | {late:.0f} MiB |
"""


@dataclass
class Load:
    """What the clients met: statuses, seconds of whole answers, what was wrong, and the service's memory (seconds, MiB) each second."""

    statuses: Counter = field(default_factory=Counter)
    taken: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)


def put_under_load(served: Served, clients: int, seconds: float) -> Load:
    """Every second client asks the documents; the others talk to the engine alone, which has the say whatever counts as evidence."""
    load, process, together = Load(), psutil.Process(served.pid), threading.Barrier(clients + 1)

    def work(number: int) -> None:
        body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 16, "stream": True}
        if number % 2:
            body["documents"] = []
        together.wait()
        end = time.monotonic() + seconds
        while True:
            asked = time.monotonic()
            with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                text = answer.read().decode()
            load.statuses[answer.status_code] += 1
            if answer.status_code == 200 and text.endswith("data: [DONE]\n\n") and '"error"' not in text:
                load.taken.append(time.monotonic() - asked)
            elif answer.status_code != 429:
                load.wrong.append(text[:500])
            wait = float(answer.headers.get("retry-after", 0))
            if time.monotonic() + wait > end:
                return
            time.sleep(wait)

    def guarded(number: int) -> None:
        try:
            work(number)
        except Exception as error:  # a connection that broke is an error like any other
            load.wrong.append(repr(error))

    with served.client(timeout=None, limits=httpx.Limits(max_connections=None)) as client:
        threads = [threading.Thread(target=guarded, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        together.wait()
        begin = time.monotonic()
        while any(thread.is_alive() for thread in threads):
            load.memory.append((time.monotonic() - begin, process.memory_info().rss / 2**20))
            time.sleep(0.2)
    return load


@contextmanager
def delivered(home: Path, **chosen: object) -> Iterator[Served]:
    """The service with one document that is found by meaning."""
    with serving_process(home, requests_per_minute=1_000_000, **chosen) as served:
        served.wait(served.upload("handbook.md", HANDBOOK.encode()))
        yield served


@pytest.mark.slow(seconds=15)
def test_sixty_four_clients_at_once_meet_no_error_but_429(tmp_path: Path):
    with delivered(tmp_path / "home", queue=8) as served:
        load = put_under_load(served, CLIENTS, seconds=0)
        assert load.wrong == []
        assert set(load.statuses) == {200, 429}
        with served.client() as client:
            metrics = client.get("/metrics").text
        assert "assistant_answers_running 0.0" in metrics
        assert "assistant_questions_waiting 0.0" in metrics


@pytest.mark.soak
@pytest.mark.slow(seconds=240)
def test_sixty_four_clients_for_two_minutes_meet_no_error_but_429_and_memory_is_flat(tmp_path: Path):
    with delivered(tmp_path / "home") as served:
        load = put_under_load(served, CLIENTS, SECONDS)
    assert load.wrong == []
    early = max(size for at, size in load.memory if at < WARM)
    late = max(size for at, size in load.memory if at > SECONDS - WARM)
    (REPO / "docs" / "soak-assistant.md").write_text(
        PAGE.format(
            clients=CLIENTS,
            seconds=SECONDS,
            answers=len(load.taken),
            refused=load.statuses[429],
            wrong=len(load.wrong),
            median=median(load.taken),
            warm=WARM,
            early=early,
            late=late,
        ),
        "utf-8",
    )
    assert set(load.statuses) == {200, 429}
    assert late - early < GROWTH_MIB
