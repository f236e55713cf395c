"""What happens to an answer when its client goes away, the queue is full, or it takes too long."""

from __future__ import annotations

import threading
import time

import httpx
import pytest


def body(**more) -> dict:
    return {"messages": [{"role": "user", "content": "leave?"}], "documents": [], **more}


def test_a_client_that_goes_in_mid_stream_stops_the_engine(serve, fake_engine, until):
    running = serve(fake_engine([f"w{n} " for n in range(400)], delay=0.05), streams=1)
    with running.client() as client:
        talk = client.post("/v1/conversations", json={}).json()["id"]
        with client.stream("POST", "/v1/chat/completions", json=body(stream=True, conversation=talk)) as answer:
            lines = answer.iter_lines()
            while "w3" not in next(lines):
                pass
    assert until(lambda: running.engine.stopped and running.service.engine.running == 0) < 1.0
    until(lambda: running.service.orchestrator.active == 0)
    with running.client() as client:
        kept = client.get(f"/v1/conversations/{talk}").json()["messages"]
    assert [(m["role"], m["complete"]) for m in kept] == [("user", True), ("assistant", False)]
    assert kept[1]["content"].startswith("w0 w1 w2 w3")


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_before_the_first_word_stops_the_engine(serve, fake_engine, until, stream):
    running = serve(fake_engine(["x"], delay=30), streams=1)
    with running.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=body(stream=stream), timeout=0.5)
    assert until(lambda: running.engine.stopped and running.service.engine.running == 0) < 1.0


def give_up(running, seconds: float) -> None:
    with running.client() as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=body(), timeout=seconds)


@pytest.mark.slow(seconds=2)
def test_a_client_that_goes_while_it_waits_leaves_the_queue(serve, fake_engine, until):
    running = serve(fake_engine(["x"] * 1000, delay=0.05), streams=1)
    with running.client() as client, client.stream("POST", "/v1/chat/completions", json=body(stream=True)) as first:
        lines = first.iter_lines()  # (kept: an iterator that is thrown away closes the connection)
        next(lines)
        second = threading.Thread(target=give_up, args=(running, 2.0))
        second.start()
        until(lambda: running.service.engine.waiting == 1)
        second.join()
        assert until(lambda: running.service.engine.waiting == 0) < 1.0
    assert len(running.engine.requests) == 1


def test_an_answer_that_takes_too_long_is_stopped_and_says_so(serve, fake_engine):
    running = serve(fake_engine(["x "] * 1000, delay=0.05), answer_seconds=0.5)
    with running.client() as client:
        begin = time.monotonic()
        answer = client.post("/v1/chat/completions", json=body())
        assert answer.status_code == 503
        assert "stopped after" in answer.json()["error"]["message"]
        text = client.post("/v1/chat/completions", json=body(stream=True)).text
        assert '"content": "x "' in text
        assert "stopped after" in text
        assert text.endswith("data: [DONE]\n\n")
        assert time.monotonic() - begin < 4
    assert len(running.engine.stopped) == 2
    assert running.service.engine.running == 0


@pytest.mark.slow(seconds=6)
def test_eight_streaming_clients_meet_no_error_but_429(serve, fake_engine, until):
    running = serve(fake_engine(["word "] * 10, delay=0.005), streams=2, queue=1)
    running.upload()
    seen: list[int] = []
    wrong: list[str] = []
    end = time.monotonic() + 5

    def work(number: int) -> None:
        documents = [] if number % 2 else None  # every second one asks the engine alone, at once
        with running.client() as client:
            while time.monotonic() < end:
                with client.stream("POST", "/v1/chat/completions", json=body(stream=True, documents=documents)) as answer:
                    text = answer.read().decode()
                    seen.append(answer.status_code)
                    if answer.status_code == 429:
                        time.sleep(0.05)
                    elif answer.status_code != 200 or not text.endswith("data: [DONE]\n\n") or '"error"' in text:
                        wrong.append(text)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert set(seen) == {200, 429}
    assert seen.count(200) >= 20
    assert until(lambda: running.service.engine.running == running.service.engine.waiting == running.service.orchestrator.active == 0) < 1
