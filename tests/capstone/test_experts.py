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
from hybridlab.llm.lora import LoRAConfig, inject_lora, lora_layers
from hybridlab.llm.smollm2 import gguf_path

from tests.capstone.conftest import QUESTION, FakeEngine


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


def test_the_settings_decide_whether_experts_answer(folder, monkeypatch):
    class Recorded:
        name, model, context = "embedded", "m", 8192

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
