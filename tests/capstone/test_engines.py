"""The three engines behind one interface: the same promises, each on the real thing."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing

import pytest
from assistant.engines import embedded
from assistant.engines.base import EngineBusy, EngineError, Message, PromptTooLong, Request, RequestRefused
from assistant.engines.embedded import Embedded, packaged_model
from assistant.engines.openai_compatible import OpenAICompatible
from assistant.engines.queue import Queued

pytestmark = pytest.mark.slow(seconds=3)

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 99}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def ask(text: str, **more) -> Request:
    return Request((Message("user", text),), **more)


def whole(engine, request: Request):
    """Text and last piece."""

    async def run():
        pieces = [piece async for piece in engine.stream(request)]
        return "".join(piece.text for piece in pieces), pieces[-1]

    return asyncio.run(run())


@pytest.fixture(scope="module", params=["embedded", pytest.param("transformers", marks=pytest.mark.slow(seconds=60))])
def engine(request, tmp_path_factory):
    if request.param == "embedded":
        return Embedded(None, threads=1, streams=1)
    from assistant.engines.huggingface import Transformers

    return Transformers(tmp_path_factory.mktemp("models"), threads=1)


def test_greedy_answers_are_the_same_and_counted(engine):
    request = ask("Write one sentence about Hanoi.", max_tokens=12)
    (text, last), (again, _) = whole(engine, request), whole(engine, request)
    assert text == again != ""
    assert last.finish == "length"
    assert last.usage.completion_tokens == 12
    assert last.usage.prompt_tokens > 5


def test_seed_decides_what_is_sampled(engine):
    def sampled(seed: int) -> str:
        return whole(engine, ask("Tell me a story.", max_tokens=12, temperature=1.0, seed=seed))[0]

    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in (1, 2, 3)}) > 1


def test_stop_ends_the_answer_before_it_is_shown(engine):
    request = ask("Count from one to ten in words, with commas.", max_tokens=40)
    text, _ = whole(engine, request)
    word = text[len(text) // 2 :][:4]
    stopped, last = whole(engine, ask("Count from one to ten in words, with commas.", max_tokens=40, stop=(word,)))
    assert stopped == text[: text.index(word)]
    assert last.finish == "stop"


def test_a_schema_makes_valid_json(engine):
    text, _ = whole(engine, ask("Invent a person.", max_tokens=60, json_schema=SCHEMA))
    made = json.loads(text)
    assert set(made) == {"name", "age"}
    assert isinstance(made["age"], int)


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"type": 5}, {"$ref": "https://example.invalid/x"}])
def test_a_schema_that_is_none_is_refused(engine, schema):
    with pytest.raises(RequestRefused):
        whole(engine, ask("Hi", max_tokens=4, json_schema=schema))
    assert whole(engine, ask("Hi", max_tokens=2))[0]


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(engine):
    with pytest.raises(PromptTooLong) as caught:
        whole(engine, ask("a b " * 9000))
    assert caught.value.prompt > 18_000
    assert caught.value.context == engine.context == 8192


def test_closing_stops_it_within_a_second(engine):
    async def run() -> float:
        pieces = engine.stream(ask("Write a long story.", max_tokens=2000))
        await anext(pieces)
        begin = time.monotonic()
        await pieces.aclose()
        return time.monotonic() - begin

    assert asyncio.run(run()) < 1.0


def test_a_long_prompt_is_left_within_a_second():
    """While llama.cpp still reads it: 4,000 tokens take it many seconds."""
    engine = Embedded(None, threads=1, streams=1)

    async def run() -> float:
        pieces = engine.stream(ask("word and " * 2000))
        first = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0.5)
        assert not first.done()
        begin = time.monotonic()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return time.monotonic() - begin

    assert asyncio.run(run()) < 1.0


def test_a_file_that_is_no_model_is_one_sentence(tmp_path):
    with pytest.raises(EngineError, match="is not there: set ASSISTANT_MODEL"):
        Embedded(tmp_path / "none.gguf", threads=1, streams=1)
    for name, data in {"empty": b"", "noise": b"GGUF" + b"\x07" * 5000, "half": packaged_model().read_bytes()[:3_000_000]}.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(data)
        with pytest.raises(EngineError, match="can't be loaded as a GGUF model") as caught:
            Embedded(path, threads=1, streams=1)
        assert "\n" not in str(caught.value)


def test_without_room_for_eight_bits_it_answers_in_four(monkeypatch, caplog):
    def full(model):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded, "in_eight_bits", full)
    assert whole(Embedded(None, threads=1, streams=1), ask("Hello", max_tokens=2))[0]
    assert "No space left on device" in caplog.text


# --- the queue ---------------------------------------------------------------------------------------------------------


def test_the_queue_is_bounded_and_first_come_first_served(fake_engine):
    engine = fake_engine(["x"] * 3, delay=0.02)
    queued = Queued(engine, streams=1, waiting=2, seconds=60)

    async def one(name: str) -> None:
        async with aclosing(queued.stream(ask(name))) as pieces:
            async for _ in pieces:
                pass

    async def run():
        tasks = []
        for name in "abcd":
            tasks.append(asyncio.create_task(one(name)))
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(run())
    assert outcomes[:3] == [None] * 3
    assert isinstance(outcomes[3], EngineBusy)
    assert [r.messages[0].content for r in engine.requests] == ["a", "b", "c"]
    assert (queued.running, queued.waiting) == (0, 0)


# --- another server ----------------------------------------------------------------------------------------------------


@pytest.fixture
def remote(serve, fake_engine):
    running = serve(fake_engine([f"w{n} " for n in range(100)], delay=0.01), streams=1, queue=0)
    running.upload("# A\n\nTell me a word and another word.\n")
    return running


def client_of(running, key: str | None = None) -> OpenAICompatible:
    return OpenAICompatible(f"{running.url}/v1", "fake-1", running.key if key is None else key, seconds=20)


def test_openai_streams_from_another_server(remote):
    text, last = whole(client_of(remote), ask("Tell me a word", max_tokens=50, seed=3, stop=("!",), json_schema=SCHEMA))
    assert text.split() == [f"w{n}" for n in range(100)]
    assert (last.finish, last.usage.completion_tokens) == ("stop", 100)
    seen = remote.engine.requests[-1]
    assert (seen.max_tokens, seen.seed, seen.stop, seen.json_schema) == (50, 3, ("!",), SCHEMA)


def test_openai_closing_stops_the_other_server(remote, until):
    async def run() -> None:
        engine = client_of(remote)
        pieces = engine.stream(ask("Tell me a word"))
        await anext(pieces)
        await pieces.aclose()
        await engine.aclose()

    asyncio.run(run())
    assert until(lambda: remote.engine.stopped and remote.service.engine.running == 0) < 1.0


def test_openai_says_what_is_wrong(remote, tmp_path):
    with pytest.raises(EngineError, match="ASSISTANT_OPENAI_API_KEY"):
        whole(client_of(remote, "wrong"), ask("Tell me a word"))
    with pytest.raises(EngineError, match="can't be reached"):
        whole(OpenAICompatible("http://127.0.0.1:9/v1", "m", "", seconds=5), ask("Hi"))
    with pytest.raises(EngineError, match="ASSISTANT_OPENAI_MODEL"):
        OpenAICompatible("http://127.0.0.1:9/v1", "", "", seconds=5)
    with pytest.raises(PromptTooLong) as caught:
        whole(client_of(remote), Request((Message("system", "word " * 1500), Message("user", "Tell me a word"))))
    assert caught.value.prompt > 1500
    assert caught.value.context == 1000
