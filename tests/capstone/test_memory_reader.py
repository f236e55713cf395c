"""The reader of the stream of turns in a running assistant, and its weights: what is told of it, and what happens without it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from assistant.memory import learned as room
from assistant.memory.learned import NoReader, load, reader_for, save
from assistant.memory.service import Memory
from assistant.memory.stream import Shape, StreamReader

from tests.capstone.conftest import HashEncoder
from tests.capstone.told import SAID, ask, begin, learned, opened, talk

# --- running --------------------------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=4)
def test_metrics_and_the_system_page_tell_of_the_states_and_of_nobody(serve, monkeypatch):
    monkeypatch.setattr("assistant.api.service.reader_for", lambda dim: (learned(), ""))
    running = serve()
    tom = running.service.store.keys.add("tomofhue")
    with running.client() as client, running.client(tom) as other:
        for one in (client, other):
            ask(one, "My sister is called Lan.", begin(one))
        assert running.service.memory.wait(20)
        told = client.get("/metrics").text
        system = client.get("/v1/system").json()["memory"]
        value = {name: float(number) for name, number in re.findall(r"^(assistant_memory_\w+) (\S+)$", told, re.MULTILINE)}
        size = running.service.memory.states.bytes
        assert (value["assistant_memory_states"], value["assistant_memory_state_bytes"]) == (2, 2 * size)
        assert value["assistant_memory_read_seconds_count"] >= 4
        assert "tomofhue" not in told
        assert system == {"model": "reader 0", "parameters": running.service.memory.states.parameters, "state_bytes": size, "why": ""}
        client.delete("/v1/memories")
        told = client.get("/metrics").text
    assert "assistant_memory_states 1.0" in told


@pytest.mark.slow(seconds=4)
def test_a_state_outlives_a_restart_and_is_made_anew_after_a_deletion_over_the_api(serve, monkeypatch):
    monkeypatch.setattr("assistant.api.service.reader_for", lambda dim: (learned(), ""))
    running = serve()
    service = running.service
    with running.client() as client:
        for text in ("My sister is called Lan.", "The gate code is 12."):
            ask(client, text, begin(client))
        assert service.memory.wait(20)
        name = service.memory.states.name
        before = service.store.states.of("local", name)
        again = Memory(service.store, service.memory.encoder, learned())
        assert again.states.up_to_date()  # nothing is read twice
        assert again.states.now("local").numpy().tobytes() == before.data
        first = client.get("/v1/memories").json()["data"][-1]["id"]
        assert client.delete(f"/v1/memories/{first}").status_code == 200
        assert service.memory.wait(20)
        after = service.store.states.of("local", name)
    assert after.through == before.through
    assert after.data != before.data


def test_a_worker_that_fails_at_one_users_turns_reads_the_others_and_tries_again(tmp_path: Path, monkeypatch):
    store = opened(tmp_path / "assistant.db")
    talk(store, SAID)
    talk(store, SAID, "tom")
    memory = Memory(store, HashEncoder(), learned())
    follow, faults = memory.states.follow, [RuntimeError("it fell over")] * 2

    def faulty(owner: str) -> int:
        if owner == "mai" and faults:
            raise faults.pop()
        return follow(owner)

    monkeypatch.setattr(memory.states, "follow", faulty)
    monkeypatch.setattr("assistant.memory.service.IDLE", 0.01)
    memory.start()
    assert memory.wait(20)
    memory.close()
    assert not faults
    assert store.states.size()[0] == 2


# --- weights --------------------------------------------------------------------------------------------------------


def test_weights_are_read_as_they_were_written_and_another_reader_has_another_name(tmp_path: Path):
    names = set()
    for seed in (0, 1):
        save(tmp_path / f"{seed}.safetensors", learned(seed).reader)
        again = load(tmp_path / f"{seed}.safetensors")
        for name, value in learned(seed).reader.state_dict().items():
            assert torch.equal(again.reader.state_dict()[name], value.half().float())
        assert not any(parameter.requires_grad for parameter in again.reader.parameters())
        names.add(again.name)
    assert len(names) == 2


def sentence(path: Path) -> str:
    with pytest.raises(NoReader) as caught:
        load(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith("put the file of this version back.")
    return text


def test_weights_that_can_not_be_used_are_told_in_one_sentence(tmp_path: Path):
    path = tmp_path / "learned.safetensors"
    assert "is not there" in sentence(path)
    save(path, learned().reader)
    whole = path.read_bytes()
    others = [whole.replace(*words, 1) for words in ((rb'\"dim', rb'\"dym'), (b'"fingerprint"', b'"fingarprint"'))]
    assert whole not in others
    for harm in (whole[: len(whole) // 2], b"", b"\0" * 500, *others):
        path.write_bytes(harm)
        assert "can't be read" in sentence(path)
    path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1, whole[-1]]))
    assert "its fingerprint is" in sentence(path)


@pytest.mark.parametrize("kind", ["missing", "of other vectors"])
def test_without_weights_the_assistant_starts_says_why_and_remembers(serve, tmp_path: Path, monkeypatch, caplog, kind: str):
    path = tmp_path / "learned.safetensors"
    if kind != "missing":
        save(path, StreamReader(Shape(dim=32)))
    monkeypatch.setattr(room, "WEIGHTS", path)
    with caplog.at_level(logging.WARNING):
        running = serve()
    why = {"missing": "is not there", "of other vectors": "reads vectors of 32 numbers, the encoder makes 64"}[kind]
    assert sum(why in record.getMessage() for record in caplog.records) == 1
    assert reader_for(HashEncoder.dim)[0] is None
    with running.client() as client:
        about = client.get("/v1/system").json()["memory"]
        assert (about["model"], about["parameters"], about["state_bytes"]) == ("", 0, 0)
        assert why in about["why"]
        assert "assistant_memory_states 0.0" in client.get("/metrics").text
        ask(client, "My sister is called Lan.", begin(client))
        assert running.service.memory.wait(20)
        found = client.post("/v1/memories/search", json={"query": "And my sister?"}).json()["data"]
    assert found[0]["content"] == "My sister is called Lan."


def test_the_weights_that_are_delivered_are_whole_and_of_the_size_that_their_card_states() -> None:
    learned, why = room.reader_for(384)
    assert learned is not None, why
    card = room.WEIGHTS.with_suffix(".md").read_text("utf-8")
    assert f"{sum(p.numel() for p in learned.reader.parameters()):,} numbers" in card
    assert f"{learned.reader.begin().nbytes:,} bytes" in card
    assert f"{round(room.WEIGHTS.stat().st_size / 1e3)} KB" in card
