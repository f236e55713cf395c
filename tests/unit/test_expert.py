"""An expert's card and file: what is refused, and with which sentence."""

import dataclasses
import json

import pytest
import torch
from hybridlab.llm.expert import Card, ExpertError, load_expert, load_experts, save_expert, sha256
from hybridlab.llm.lora import LoRAConfig, inject_lora
from hybridlab.llm.smollm2 import gguf_path


def network(hidden=576, blocks=1):
    """A model of SmolLM2's shapes, with one block."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "hidden_size": hidden}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=40, num_hidden_layers=blocks, **shape))
    inject_lora(model, LoRAConfig(rank=2, targets=("q_proj", "down_proj")))
    return model


def card(**changes) -> Card:
    base = gguf_path()
    return Card(
        **(
            {"name": "notes", "use": "sources", "base": base.stem, "base_sha256": sha256(base), "licence": "Apache-2.0", "made": "a test"}
            | changes
        )
    )


def test_what_was_saved_is_loaded(tmp_path):
    saved = save_expert(network(), tmp_path, card())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.gguf", "notes.json"]
    assert load_experts([tmp_path], gguf_path()) == [saved]


def test_another_base_is_refused_with_both_names(tmp_path):
    save_expert(network(), tmp_path, card(base="Other-1B", base_sha256="ab" * 32))
    with pytest.raises(
        ExpertError, match=r"notes\.json belongs to the base model Other-1B \(abab.*this one is SmolLM2-135M-Instruct.*take the expert away"
    ):
        load_experts([tmp_path], gguf_path())


def test_a_cut_off_adapter_is_refused(tmp_path):
    path = save_expert(network(), tmp_path, card()).path
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ExpertError, match=r"the expert notes can't be read: .*notes\.gguf is cut off.*"):
        load_experts([tmp_path], gguf_path())


def test_a_missing_adapter_is_refused(tmp_path):
    save_expert(network(), tmp_path, card()).path.unlink()
    with pytest.raises(ExpertError, match=r"notes\.gguf is not there"):
        load_experts([tmp_path], gguf_path())


def test_an_adapter_of_other_shapes_is_refused(tmp_path):
    save_expert(network(hidden=288), tmp_path, card())
    with pytest.raises(ExpertError, match=r"notes\.gguf: .* has the shape.*model of another size"):
        load_experts([tmp_path], gguf_path())


@pytest.mark.parametrize("content", ["", "{", "[]", "7", json.dumps({"name": "notes"}), b"\xff\xfe"])
def test_a_card_that_is_none_is_refused_by_name(tmp_path, content):
    path = save_expert(network(), tmp_path, card()).path.with_suffix(".json")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ExpertError, match=r"notes\.json is no expert's card"):
        load_experts([tmp_path], gguf_path())


@pytest.mark.slow(seconds=2)
def test_the_earlier_folders_expert_goes_first_for_each_use(tmp_path):
    own, shipped = tmp_path / "own", tmp_path / "shipped"
    save_expert(network(), own, card(name="mine"))
    save_expert(network(), shipped, card())
    save_expert(network(), shipped, card(name="calls", use="tools"))
    assert [(e.card.name, e.card.use) for e in load_experts([own, shipped, tmp_path / "none"], gguf_path())] == [
        ("mine", "sources"),
        ("calls", "tools"),
    ]


def test_an_expert_knows_its_own_card(tmp_path):
    saved = save_expert(network(), tmp_path, card())
    assert dataclasses.asdict(load_expert(saved.path.with_suffix(".json"), gguf_path()).card) == dataclasses.asdict(card())
