"""64 clients stream answers for two minutes from the service as it is delivered: no error but 429, memory flat.

Writes docs/soak-assistant.md.

python -m pytest tests/capstone/soak.py        (`make soak` runs it)
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from statistics import median

import psutil
import pytest
from coursekit.paths import REPO

from tests.capstone.conftest import QUESTION

CLIENTS, SECONDS, GROWTH_MIB = 64, 120, 64
PAGE = """# The assistant under load

{clients} clients stream answers at once for {seconds} s from the service as it is delivered, on 127.0.0.1 (`make soak` writes this page).

| | |
| --- | --- |
| whole answers | {answers} |
| answered with 429 | {refused} |
| other errors | {wrong} |
| time of an answer, median | {median:.1f} s |
| memory after 30 s | {early:.0f} MiB |
| memory at the end | {late:.0f} MiB |
"""


@pytest.mark.soak
@pytest.mark.slow(seconds=180)
def test_many_streaming_clients_meet_no_error_but_429_and_memory_is_flat(real):
    real.upload()
    seen, taken, wrong, memory = Counter(), [], [], []
    process, begin = psutil.Process(), time.monotonic()
    body = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 16, "stream": True}

    def work() -> None:
        with real.client() as client:
            client.timeout = 120
            while time.monotonic() < begin + SECONDS:
                asked = time.monotonic()
                with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    text = answer.read().decode()
                seen[answer.status_code] += 1
                if answer.status_code == 429:
                    time.sleep(float(answer.headers["retry-after"]))
                elif answer.status_code == 200 and text.endswith("data: [DONE]\n\n") and '"error"' not in text:
                    taken.append(time.monotonic() - asked)
                else:
                    wrong.append(text[:500])

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(1)
        memory.append((time.monotonic() - begin, process.memory_info().rss / 2**20))
    early = max(size for at, size in memory if at < 40)
    late = max(size for at, size in memory if at > SECONDS - 20)
    page = PAGE.format(
        clients=CLIENTS,
        seconds=SECONDS,
        answers=len(taken),
        refused=seen[429],
        wrong=len(wrong),
        median=median(taken),
        early=early,
        late=late,
    )
    (REPO / "docs" / "soak-assistant.md").write_text(page)
    assert wrong == []
    assert len(taken) >= 20
    assert late - early < GROWTH_MIB
