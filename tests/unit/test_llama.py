"""The claim of month 2: the MiniTransformer of month 1 runs a real Llama, to transformers' own logits."""

import json
import socket

import gguf
import pytest
import torch
from hybridlab.llm.gguf import GGUFError
from hybridlab.llm.llama import config_of_transformers, from_transformers, load_folder, load_gguf, require_fit, rotary_halves
from hybridlab.llm.safetensors_file import SafetensorsError
from hybridlab.llm.smollm2 import gguf_path, load_model, model_folder
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.transformer.generation import generate
from transformers import LlamaConfig, LlamaForCausalLM

SHAPE = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 64}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
SHAPE |= {"rope_parameters": {"rope_type": "default", "rope_theta": 5e4}}
TOKENS = torch.randint(96, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def network(request) -> LlamaForCausalLM:
    torch.manual_seed(0)
    made = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=request.param)).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # norms too, or their places could be exchanged unseen
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def to_gguf_rows(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp's own permutation, as its conversion does it."""
    rows, width = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)


def write_gguf(network: LlamaForCausalLM, path) -> None:
    writer, config = gguf.GGUFWriter(path, "llama"), network.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in network.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if "q_proj" in name or "k_proj" in name:
            weight = to_gguf_rows(weight, config.num_attention_heads if "q_proj" in name else config.num_key_value_heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), weight.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_small_llama_has_the_logits_of_transformers_on_every_way(network, tmp_path):
    network.save_pretrained(tmp_path / "folder")
    write_gguf(network, tmp_path / "model.gguf")
    with torch.no_grad():
        expected = network(TOKENS).logits
        for own in (load_folder(tmp_path / "folder"), load_gguf(tmp_path / "model.gguf"), from_transformers(network)):
            assert own.config.tie_embeddings == network.config.tie_word_embeddings == (own.lm_head.weight is own.embed_tokens.weight)
            torch.testing.assert_close(own(TOKENS), expected, rtol=1e-4, atol=1e-4)  # float32, two layers


def test_rows_come_back_from_the_order_of_llama_cpp():
    weight = torch.randn(24, 5)
    for heads in (1, 2, 3, 4, 6):
        assert torch.equal(rotary_halves(to_gguf_rows(weight, heads), heads), weight)


@pytest.mark.slow(seconds=40)
def test_smollm2_has_the_logits_of_transformers_and_needs_no_network(monkeypatch):
    def no_network(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    own, network = load_gguf(gguf_path(), max_time=64), load_model()
    prompt = torch.tensor([[1, 9690, 198, 2683, 359, 253, 5356, 5646, 11173, 3365, 3511, 308]])
    with torch.no_grad():
        expected = network(prompt).logits
        assert (own(prompt) - expected).abs().max() < 1e-3
        assert (from_transformers(network)(prompt) - expected).abs().max() < 1e-3
    greedy = network.generate(prompt, max_new_tokens=12, min_new_tokens=12, do_sample=False)
    assert torch.equal(generate(own, prompt, 12, temperature=0), greedy)


@pytest.mark.slow(seconds=3)
def test_the_packages_folder_is_read_by_hand_as_well():
    own = load_folder(model_folder(), max_time=32, dtype=torch.bfloat16)
    assert own.lm_head.weight.dtype == torch.bfloat16
    assert sum(parameter.numel() for parameter in own.parameters()) == 134_515_008


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "qwen2"}, "model_type='qwen2'"),
        ({"attention_bias": True}, "biases"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5}}, r"scaled rotary positions \(llama3\)"),
        ({"rope_parameters": None, "rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 2}}, "scaled rotary"),
        ({"head_dim": 32}, "heads of 32 features"),
    ],
)
def test_a_model_of_another_kind_is_refused_by_what_it_has(change, said):
    with pytest.raises(ValueError, match=said):
        config_of_transformers(LlamaConfig(**SHAPE).to_dict() | change)


def test_what_does_not_fit_together_is_said(network, tmp_path):
    own = from_transformers(network)
    with pytest.raises(ValueError, match="the tokenizer has 256 tokens and the model 96 rows: they don't belong together"):
        require_fit(BytePairTokenizer.trained([]), own)
    network.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, said in (
        ({"num_hidden_layers": 1}, "no such place"),
        ({"num_hidden_layers": 3}, "lacks 9 tensors"),
        ({"intermediate_size": 80}, "has the shape"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=said):
            load_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SafetensorsError, match=r"config\.json can't be read .*fetch the repository again"):
        load_folder(tmp_path)


def test_a_gguf_of_another_architecture_or_without_its_sizes_is_named(tmp_path):
    for architecture, said in (("mamba", "architecture 'mamba'"), ("llama", "does not say its")):
        path = tmp_path / f"{architecture}.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        writer.add_tensor("token_embd.weight", torch.zeros(2, 2).numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(GGUFError, match=said):
            load_gguf(path)
