"""An adapter of the folder `experts` answers what it is for, and nothing else; what does not fit is refused at the start."""

import asyncio
import dataclasses
import shutil

import pytest
import torch
from assistant.engines import make_engine
from assistant.engines.base import EngineError, Message, Request
from assistant.engines.embedded import Embedded, body_of, experts_for
from assistant.settings import Settings
from hybridlab.llm.expert import Card, Expert, save_expert, sha256
from hybridlab.llm.grounded_prompt import NO_EVIDENCE
from hybridlab.llm.lora import LoRAConfig, inject_lora, lora_layers
from hybridlab.llm.smollm2 import gguf_path
from hybridlab.llm.span_grammar import span_grammar

from tests.capstone.conftest import QUESTION, FakeEngine, asked_about_handbook


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of experts with one that changes much: its first block is beside itself."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "hidden_size": 576}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=40, num_hidden_layers=1, **shape))
    inject_lora(model, LoRAConfig(rank=2, targets=("down_proj",)))
    for layer in lora_layers(model).values():
        layer.lora_B.data.normal_(std=1.0)
    base = gguf_path()
    home = tmp_path_factory.mktemp("home")
    save_expert(model, home / "experts", Card("mine", "sources", base.stem, sha256(base), "Apache-2.0", "a test"))
    return home


def settings(home, **changes) -> Settings:
    return Settings(home=home, threads=1, streams=1, _env_file=None, **changes)


def say(engine, request: Request) -> str:
    async def run() -> str:
        return "".join([piece.text async for piece in engine.stream(request)])

    return asyncio.run(run())


HELLO = (Message("user", "Say hello."),)


@pytest.mark.slow(seconds=4)
def test_an_expert_answers_its_own_use_and_the_base_all_else(folder):
    engine = Embedded(None, threads=1, streams=1, experts=experts_for(folder, None))
    plain = Request(HELLO, max_tokens=8)
    before = say(engine, plain)
    beside_itself = say(engine, dataclasses.replace(plain, use="sources"))
    assert beside_itself != before
    assert say(engine, plain) == before, "the base went on with the expert's keys and values"
    assert say(engine, dataclasses.replace(plain, use="poems")) == before


def test_every_request_names_every_expert_with_its_scale(folder):
    experts = experts_for(folder, None)
    other = Expert(dataclasses.replace(experts[0].card, name="calls", use="tools"), experts[0].path)
    for use, scales in (("", [0.0, 0.0]), ("sources", [1.0, 0.0]), ("tools", [0.0, 1.0])):
        assert body_of(Request(HELLO, use=use), [*experts, other])["lora"] == [{"id": i, "scale": s} for i, s in enumerate(scales)]
    assert "lora" not in body_of(Request(HELLO, use="sources"))


@pytest.mark.slow(seconds=3)
def test_an_expert_says_nothing_but_words_of_the_sources(folder):
    """This one is beside itself, and still what it says stands in the source."""
    engine = Embedded(None, threads=1, streams=1, experts=experts_for(folder, None))
    source = "The hall opens at 9:30. Dogs (on a lead) may enter."
    no_silence = span_grammar([source]).replace(f'"{NO_EVIDENCE["en"]}" | ', "")
    said = say(engine, Request(HELLO, max_tokens=40, use="sources", grammar=no_silence))
    assert said.removesuffix(" [1]") in source
    assert said.endswith(" [1]")


@pytest.fixture
def asked(folder, serve):
    """The answer to a question about the handbook, by an engine with an expert that says these pieces; its requests, too."""

    def ask(pieces, question=QUESTION, **more):
        engine = FakeEngine(pieces)
        engine.experts = experts_for(folder, None)
        return asked_about_handbook(serve(engine), question, **more), engine.requests

    return ask


def test_what_an_expert_may_say_are_spans_of_what_it_reads(asked):
    answer, requests = asked(("25 ", "days", " [1]"))
    assert answer["choices"][0]["message"]["content"] == "25 days [1]"
    sources = [line.partition("«")[2].removesuffix("»") for line in requests[0].messages[-1].content.split("\n\nQuestion")[0].splitlines()]
    assert requests[0].grammar.splitlines()[0].startswith("root ::= ")
    assert all(word in requests[0].grammar for source in sources for word in source.split()[1:2])


def test_where_an_expert_finds_nothing_the_sentence_that_answers_best_is_quoted(asked):
    """Search has found evidence, and is the better judge."""
    silence = NO_EVIDENCE["en"]
    answer, _ = asked((silence[:20], silence[20:]))
    said = answer["choices"][0]["message"]["content"]
    assert said.endswith(" [1]")
    assert said.removesuffix(" [1]") in answer["citations"][0]["quote"]
    assert "twenty-five days" in said
    assert (answer["abstained"], "answer" in answer["citations"][0]) == (False, False)


def test_a_question_in_a_language_that_no_expert_knows_gets_that_sentence_at_once(asked):
    answer, requests = asked(("25 days [1]",), "Mỗi nhân viên được nghỉ phép bao nhiêu ngày?")
    assert requests == []
    assert answer["choices"][0]["message"]["content"].removesuffix(" [1]") in answer["citations"][0]["quote"]


def test_who_asks_for_json_gets_json(asked):
    """A caller's schema goes before an expert's grammar."""
    shape = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    answer, requests = asked(("{}",), response_format=shape)
    assert answer["choices"][0]["message"]["content"] == "{}"
    assert requests[0].grammar == ""


def test_the_settings_decide_whether_experts_answer(folder, monkeypatch):
    class Recorded:
        name, model, context, languages = "embedded", "m", 8192, None

        def __init__(self, model, *, threads, streams, experts):
            self.experts = experts

    monkeypatch.setattr("assistant.engines.embedded.Embedded", Recorded)
    assert [expert.card.name for expert in make_engine(settings(folder)).experts if expert.card.use == "sources"] == ["mine"]
    assert make_engine(settings(folder, experts=False)).experts == []


def test_an_expert_that_does_not_fit_stops_the_start_with_a_sentence(folder, tmp_path):
    shutil.copytree(folder / "experts", tmp_path / "experts")
    path = tmp_path / "experts" / "mine.gguf"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(EngineError, match=r"the expert mine can't be read: .*mine\.gguf is cut off"):
        make_engine(settings(tmp_path))
    card = tmp_path / "experts" / "mine.json"
    card.write_text(card.read_text().replace(sha256(gguf_path()), "0" * 64))
    with pytest.raises(EngineError, match=r"belongs to the base model .* take the expert away"):
        make_engine(settings(tmp_path))


def test_only_questions_about_documents_ask_for_the_expert(assistant):
    assistant.upload()
    with assistant.client() as client:
        for more in ({}, {"documents": []}):
            body = {"model": "x", "messages": [{"role": "user", "content": QUESTION}], **more}
            client.post("/v1/chat/completions", json=body).raise_for_status()
    assert [request.use for request in assistant.engine.requests] == ["sources", ""]


def test_the_system_says_which_expert_is_loaded(folder, serve):
    engine = FakeEngine()
    engine.experts = experts_for(folder, None)
    with serve(engine).client() as client:
        about = client.get("/v1/system").json()["engine"]
    assert about["experts"] == [{"name": "mine", "use": "sources", "base": gguf_path().stem, "licence": "Apache-2.0"}]
