"""Adapters on disk: there and back, to and from peft, and each damage with its sentence."""

import json

import pytest
import torch
from hybridlab.llm.adapter import SETTINGS, WEIGHTS, AdapterError, load_adapter, save_adapter
from hybridlab.llm.lora import LoRAConfig, inject_lora, lora_layers
from safetensors.torch import load_file, save_file

CONFIG = LoRAConfig(rank=2, alpha=6, targets=("q_proj", "down_proj"))
TOKENS = torch.arange(12)[None]


def tiny(hidden_size: int = 16, layers: int = 2):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": hidden_size}
    return LlamaForCausalLM(LlamaConfig(vocab_size=30, hidden_size=hidden_size, **shape)).eval()


@pytest.fixture
def saved(tmp_path):
    """(folder, the logits of the model that was saved)."""
    model = tiny()
    inject_lora(model, CONFIG)
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.normal_()
        logits = model(TOKENS).logits
    return save_adapter(model, tmp_path / "adapter", CONFIG, base_model="tiny"), logits


def test_an_adapter_comes_back(saved):
    folder, logits = saved
    model = tiny()
    config = load_adapter(model, folder)
    assert (config.rank, config.alpha, set(config.targets)) == (2, 6, {"q_proj", "down_proj"})
    assert torch.equal(model(TOKENS).logits, logits)
    assert sorted(path.name for path in folder.iterdir()) == sorted([SETTINGS, WEIGHTS])  # and no draft


@pytest.mark.slow(seconds=2)
def test_peft_loads_what_we_saved(saved):
    from peft import PeftModel

    folder, logits = saved
    model = PeftModel.from_pretrained(tiny(), folder)
    torch.testing.assert_close(model(TOKENS).logits, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.slow(seconds=2)
def test_we_load_what_peft_saved(tmp_path):
    from peft import LoraConfig, get_peft_model

    theirs = get_peft_model(tiny(), LoraConfig(r=3, lora_alpha=5, target_modules=["v_proj", "gate_proj"], init_lora_weights=False))
    theirs.save_pretrained(tmp_path)
    ours = tiny()
    load_adapter(ours, tmp_path)
    torch.testing.assert_close(ours(TOKENS).logits, theirs.eval()(TOKENS).logits, rtol=1e-5, atol=1e-5)


def test_an_adapter_for_other_shapes_names_file_layer_both_shapes_and_the_mend(saved):
    folder, _ = saved
    model = tiny(hidden_size=32)
    with pytest.raises(AdapterError) as refused:
        load_adapter(model, folder)
    for part in (WEIGHTS, "lora_A of layer model.layers.0", "(2, 16)", "(2, 32)", "load that one, or train an adapter for this one"):
        assert part in str(refused.value)
    assert not lora_layers(model)  # left as it was
    assert all(p.requires_grad for p in model.parameters())


def test_an_adapter_for_more_or_fewer_layers_is_refused(saved):
    folder, _ = saved
    with pytest.raises(AdapterError, match=r"layer model\.layers\.1\.\S+ is not in this model"):
        load_adapter(tiny(layers=1), folder)
    with pytest.raises(AdapterError, match=r"holds no lora_A of model\.layers\.2\.mlp\.down_proj"):
        load_adapter(tiny(layers=3), folder)


def test_a_rank_that_is_not_that_of_the_config_is_refused(saved):
    folder, _ = saved
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps(settings | {"r": 4}))
    with pytest.raises(AdapterError, match=r"shape \(2, \d+\), this model needs \(4, \d+\)"):
        load_adapter(tiny(), folder)


@pytest.mark.parametrize("cut", [0, 4, 200])
def test_a_truncated_file_is_named(saved, cut: int):
    folder, _ = saved
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:cut] if cut < 200 else whole[:-cut])
    with pytest.raises(AdapterError, match=f"{WEIGHTS} is damaged .* save the adapter anew"):
        load_adapter(tiny(), folder)


def test_a_missing_or_garbled_file_is_named(saved):
    folder, _ = saved
    (folder / SETTINGS).write_text("{")
    with pytest.raises(AdapterError, match=f"{SETTINGS} is no JSON"):
        load_adapter(tiny(), folder)
    (folder / SETTINGS).write_text('{"peft_type": "LORA"}')
    with pytest.raises(AdapterError, match=f"{SETTINGS} is not whole"):
        load_adapter(tiny(), folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(AdapterError, match=f"{WEIGHTS} is missing"):
        load_adapter(tiny(), folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"peft_type": "IA3"}, "no LoRA adapter"), ({"use_dora": True}, "use_dora"), ({"bias": "all"}, "bias"), ({"r": 0}, "rank must be")],
)
def test_kinds_that_the_library_does_not_know_are_refused(saved, change: dict, sentence: str):
    folder, _ = saved
    settings = json.loads((folder / SETTINGS).read_text())
    (folder / SETTINGS).write_text(json.dumps(settings | change))
    with pytest.raises(AdapterError, match=sentence):
        load_adapter(tiny(), folder)


def test_foreign_weights_in_the_file_are_refused(saved):
    folder, _ = saved
    weights = load_file(folder / WEIGHTS) | {"base_model.model.lm_head.weight": torch.zeros(30, 16)}
    save_file(weights, folder / WEIGHTS)
    with pytest.raises(AdapterError, match="no part of a LoRA adapter"):
        load_adapter(tiny(), folder)


def test_nothing_broken_is_saved(tmp_path):
    model = tiny()
    with pytest.raises(AdapterError, match="no adapters to save"):
        save_adapter(model, tmp_path, CONFIG)
    inject_lora(model, CONFIG)
    for other in (LoRAConfig(rank=3, alpha=9), LoRAConfig(rank=2, alpha=9)):
        with pytest.raises(AdapterError, match="has rank 2 and scaling 3, the config says rank"):
            save_adapter(model, tmp_path, other)
    with torch.no_grad():
        next(iter(lora_layers(model).values())).lora_B.fill_(float("nan"))
    with pytest.raises(AdapterError, match=r"lora_B of \S+ is not finite"):
        save_adapter(model, tmp_path, CONFIG)
    assert not any(tmp_path.iterdir())
