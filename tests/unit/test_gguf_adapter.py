"""A LoRA adapter as GGUF: the order of the rows, the file, and the same probabilities in llama.cpp as in torch."""

import math
from statistics import mean

import numpy as np
import pytest
import torch
from hybridlab.llm import gguf_adapter
from hybridlab.llm.adapter import AdapterError
from hybridlab.llm.embedded import EmbeddedModel
from hybridlab.llm.gguf import GGUFError, GGUFFile
from hybridlab.llm.gguf_adapter import interleave_halves, require_adapter_fits, save_gguf_adapter
from hybridlab.llm.llama import rotary_halves
from hybridlab.llm.lora import ALL_LINEAR, LoRAConfig, inject_lora, lora_layers
from hybridlab.llm.smollm2 import gguf_path, load_model, load_tokenizer

PROMPTS = ("The capital of France is", "Water boils at a temperature of", "Hà Nội là thủ đô của", "def add(a, b):\n    return")
TOP = 10


def tiny(**changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32, "hidden_size": 16}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=40, **(shape | changes)))
    inject_lora(model, LoRAConfig(rank=4, alpha=8.0, targets=ALL_LINEAR))
    return model


def test_it_is_the_inverse_of_what_reading_a_file_does():
    weight = torch.randn(24, 5, generator=torch.Generator().manual_seed(0))
    for heads in (1, 2, 3, 4, 6):
        assert torch.equal(rotary_halves(interleave_halves(weight, heads), heads), weight)


def test_the_file_holds_the_adapters_as_llama_cpp_names_them(tmp_path):
    model = tiny()
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_B)
    file = GGUFFile(save_gguf_adapter(model, tmp_path / "a.gguf"))
    assert (file.metadata["general.architecture"], file.metadata["general.type"], file.metadata["adapter.type"]) == (
        "llama",
        "adapter",
        "lora",
    )
    assert file.metadata["adapter.lora.alpha"] == 8.0
    assert len(file.tensors) == 2 * 2 * 7
    layer = lora_layers(model)["model.layers.1.mlp.down_proj"]
    np.testing.assert_allclose(file.tensor("blk.1.ffn_down.weight.lora_a"), layer.lora_A.detach().half().float().numpy())
    query = lora_layers(model)["model.layers.0.self_attn.q_proj"].lora_B.detach()
    np.testing.assert_allclose(
        rotary_halves(torch.tensor(file.tensor("blk.0.attn_q.weight.lora_b")), 4).numpy(), query.half().float().numpy()
    )
    assert list(tmp_path.iterdir()) == [tmp_path / "a.gguf"]


@pytest.mark.slow(seconds=25)
def test_llama_cpp_gives_the_probabilities_of_torch_and_not_without_the_rows_order(tmp_path, monkeypatch):
    """The yardstick is the model without an adapter, which llama.cpp computes with 4-bit weights and 8-bit activations: with one the
    log-probabilities may differ as much from torch's. An adapter whose rows stand in torch's order must differ by far more."""
    model, tokenizer = load_model(), load_tokenizer()
    prompts = [tokenizer(text)["input_ids"] for text in PROMPTS]
    without = torch_log_probabilities(model, prompts)
    torch.manual_seed(0)  # lora_A is drawn from torch's own generator
    inject_lora(model, LoRAConfig(rank=4, alpha=8.0, targets=("q_proj", "k_proj", "v_proj", "down_proj")))
    generator = torch.Generator().manual_seed(0)
    for name, layer in lora_layers(model).items():
        strong = 0.3 if name.endswith(("q_proj", "k_proj")) else 0.01
        layer.lora_B.data.normal_(std=strong, generator=generator)
    with_adapter = torch_log_probabilities(model, prompts)
    right = save_gguf_adapter(model, tmp_path / "right.gguf")
    monkeypatch.setattr(gguf_adapter, "interleave_halves", lambda weight, n_heads: weight)
    wrong = save_gguf_adapter(model, tmp_path / "wrong.gguf")
    engine = EmbeddedModel([right, wrong], threads=1)

    def distance(adapter, expected):
        return mean(
            mean(abs(log_p[token].item() - value) for token, value in engine.next_tokens(prompt, adapter=adapter, k=TOP).items())
            for prompt, log_p in zip(prompts, expected, strict=True)
        )

    noise = distance(None, without)
    assert noise < 0.3
    assert distance(0, with_adapter) < 2 * noise
    assert distance(1, with_adapter) > 4 * noise
    assert distance(None, with_adapter) > 4 * noise  # the adapter does something
    assert distance(None, without) == pytest.approx(noise, abs=1e-3)  # and after it has been used, the base is the base


def torch_log_probabilities(model, prompts):
    with torch.no_grad():
        return [model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1) for prompt in prompts]


# ---------------------------------------------------------------- what can't be exported, or loaded


def test_a_model_without_adapters_is_refused(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 8, "hidden_size": 8}
    with pytest.raises(AdapterError, match=r"no adapters.*inject_lora"):
        save_gguf_adapter(LlamaForCausalLM(LlamaConfig(vocab_size=9, **shape)), tmp_path / "a.gguf")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e6])
def test_a_weight_that_is_no_number_in_float16_is_refused_and_leaves_no_file(tmp_path, value):
    model = tiny()
    lora_layers(model)["model.layers.0.self_attn.q_proj"].lora_B.data[0, 0] = value
    with pytest.raises(AdapterError, match=r"lora_b of model\.layers\.0\.self_attn\.q_proj is not finite"):
        save_gguf_adapter(model, tmp_path / "a.gguf")
    assert not list(tmp_path.iterdir())


def test_an_adapter_for_other_shapes_is_refused_by_name(tmp_path):
    path = save_gguf_adapter(tiny(), tmp_path / "small.gguf")
    with pytest.raises(
        AdapterError, match=r"small\.gguf: layers\.0\.self_attn\.q_proj\.weight has lora_a \(4, 16\).*model of another size"
    ):
        require_adapter_fits(GGUFFile(path), GGUFFile(gguf_path()))


@pytest.mark.slow(seconds=3)
def test_an_adapter_for_more_layers_is_refused_by_name(tmp_path):
    path = save_gguf_adapter(tiny(num_hidden_layers=31), tmp_path / "deep.gguf")
    file = GGUFFile(path)
    file.tensors = {name: info for name, info in file.tensors.items() if name.startswith("blk.30.")}
    with pytest.raises(AdapterError, match=r"changes layers\.30\..*has no such layer"):
        require_adapter_fits(file, GGUFFile(gguf_path()))


@pytest.mark.slow(seconds=2)
def test_a_model_is_no_adapter():
    with pytest.raises(AdapterError, match="holds no LoRA adapter"):
        require_adapter_fits(GGUFFile(gguf_path()), GGUFFile(gguf_path()))


def test_a_cut_off_adapter_is_refused_by_name(tmp_path):
    path = save_gguf_adapter(tiny(), tmp_path / "cut.gguf")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(GGUFError, match=r"cut\.gguf is cut off"):
        GGUFFile(path)
