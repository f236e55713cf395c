"""Codes and scales against torch's own quantiser and bitsandbytes' int8 matmul; packing; layers in 8 and 4 bits; what is refused."""

import copy
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hybridlab.llm.int_codes import largest_code, unpack_int4
from hybridlab.llm.perplexity import bits_per_weight, block_linears, changed_weights, perplexity, rounded
from hybridlab.llm.quantize import absmax_quantize, dequantize, outlier_matmul, pack_int4
from hybridlab.llm.quantized_linear import QuantizedLinear, quantize_linears
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer
from torch import nn

WEEK = Path(__file__).parents[2] / "months" / "02_llm" / "week07_quantisation" / "source"


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny() -> MiniTransformer:
    torch.manual_seed(0)
    return MiniTransformer(TransformerConfig.llama(23, d_model=16, n_layers=2, n_heads=4, max_time=16)).eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_are_those_of_torchs_per_channel_quantiser(bits: int, dtype: torch.dtype):
    weight = normal(6, 40).to(dtype)
    codes, scales = absmax_quantize(weight, bits, 40)
    assert scales.dtype == torch.float32
    largest = largest_code(bits)
    zeros = torch.zeros(6, dtype=torch.int32)
    theirs = torch.fake_quantize_per_channel_affine(weight.float(), scales[:, 0], zeros, 0, -largest, largest)
    torch.testing.assert_close(dequantize(codes, scales, 40), theirs)
    assert codes.dtype == torch.int8
    assert codes.abs().max() == largest


@pytest.mark.parametrize(("d_in", "group_size"), [(40, 8), (40, 32), (7, 3), (5, 64), (6, 1)])
def test_each_group_is_as_if_it_stood_alone_also_the_short_last_one(d_in: int, group_size: int):
    weight = normal(3, d_in)
    codes, scales = absmax_quantize(weight, 4, group_size)
    parts = weight.split(group_size, dim=1)
    assert scales.shape == (3, len(parts))
    for g, part in enumerate(parts):
        theirs, scale = absmax_quantize(part, 4, part.shape[1])
        assert torch.equal(codes.split(group_size, dim=1)[g], theirs)
        assert torch.equal(scales[:, g : g + 1], scale)
    error = (dequantize(codes, scales, group_size) - weight).abs()
    assert (error <= scales.repeat_interleave(group_size, 1)[:, :d_in] / 2 * 1.0001).all()


def test_groups_of_zeros_and_of_the_smallest_numbers_stay_what_they_are():
    weight = torch.zeros(2, 8)
    weight[1, 4:] = torch.tensor([190, -190, 0, 95]) * 1.4e-45  # the scale is the smallest float32, and a quotient is 190
    codes, scales = absmax_quantize(weight, 8, 4)
    assert codes.tolist() == [[0] * 8, [0, 0, 0, 0, 127, -127, 0, 95]]
    assert scales[0].tolist() == [0, 0]
    assert not dequantize(codes, scales, 4)[0].any()


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_nan_and_inf_are_refused_with_their_number(spoilt: float):
    weight, x = normal(4, 6), normal(2, 6)
    weight[1, 2] = spoilt
    for refused in (lambda: absmax_quantize(weight, 8, 3), lambda: outlier_matmul(x, weight), lambda: outlier_matmul(weight, x)):
        with pytest.raises(ValueError, match=r"1 of 24 numbers of (weight|x) are NaN or infinite"):
            refused()


def test_sizes_that_make_no_sense_are_refused():
    weight = normal(4, 6)
    for bits in (1, 9):
        with pytest.raises(ValueError, match=f"bits is {bits}"):
            absmax_quantize(weight, bits, 3)
    with pytest.raises(ValueError, match="group_size is 0"):
        absmax_quantize(weight, 8, 0)
    with pytest.raises(ValueError, match="6 codes a row in groups of 4 do not go with 3 scales"):
        dequantize(weight.to(torch.int8), torch.ones(4, 3), 4)
    with pytest.raises(ValueError, match="8"):
        pack_int4(torch.tensor([[8]], dtype=torch.int8))
    with pytest.raises(ValueError, match="3 bytes a row do not hold 7 codes"):
        unpack_int4(torch.zeros(1, 3, dtype=torch.uint8), 7)
    with pytest.raises(ValueError, match="x has 6 features and weight has 5"):
        outlier_matmul(weight, normal(3, 5))
    with pytest.raises(ValueError, match="bits is 3"):
        QuantizedLinear(nn.Linear(4, 4), 3, 4)
    with pytest.raises(ValueError, match=r"no nn\.Linear"):
        quantize_linears(nn.Embedding(3, 3), 8, 4)


@pytest.mark.parametrize("d_in", [1, 16, 7])
def test_sixteen_codes_go_into_half_bytes_and_come_back(d_in: int):
    codes = torch.arange(-8, 8, dtype=torch.int8).repeat(3, 2)[:, :d_in]
    packed = pack_int4(codes)
    assert packed.dtype == torch.uint8
    assert packed.shape == (3, (d_in + 1) // 2)
    for j in range(d_in):
        assert (packed[0, j // 2].item() >> 4 * (j % 2)) % 16 == codes[0, j].item() % 16
    assert torch.equal(unpack_int4(packed, d_in), codes)


@pytest.mark.slow(seconds=2)
def test_the_integer_matmul_is_that_of_bitsandbytes():
    import bitsandbytes as bnb

    x, weight = normal(5, 64), normal(32, 64, seed=1)
    x[2, 7], x[:, 20] = 9.0, 30.0  # two outlier features
    layer = bnb.nn.Linear8bitLt(64, 32, bias=False, has_fp16_weights=False, threshold=6.0)
    layer.weight = bnb.nn.Int8Params(weight.clone(), requires_grad=False, has_fp16_weights=False)
    theirs = layer.to("cpu")(x.half()).float()
    exact = x @ weight.T
    ours = outlier_matmul(x, weight)
    # bitsandbytes keeps the outliers' weights in the 8 bits of the whole row, and works in float16: a little worse
    assert (ours - exact).norm() < 1.05 * (theirs - exact).norm() < 0.02 * exact.norm()
    assert (outlier_matmul(x, weight, torch.inf) - exact).norm() > 5 * (ours - exact).norm()
    torch.testing.assert_close(outlier_matmul(x, weight, 0.0), exact)
    assert outlier_matmul(x.bfloat16(), weight.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantized_layer_is_the_layer_with_rounded_weights_in_fewer_bytes(bits: int):
    linear, x = nn.Linear(70, 9), normal(2, 5, 70)
    layer = QuantizedLinear(linear, bits, 32)
    linear.weight.data = rounded(linear.weight.data, bits, 32)
    torch.testing.assert_close(layer(x), linear(x))
    assert layer.n_bytes == 9 * (70 * bits // 8 + 3 * 4) + 9 * 4
    assert layer.n_bytes == round(9 * 70 * bits_per_weight(70, bits, 32) / 8) + 9 * 4
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))
    assert not list(layer.parameters())


def test_every_linear_but_the_head_is_replaced_and_the_model_still_runs():
    model, tokens = tiny(), torch.arange(12)[None]
    before = model(tokens)
    names = quantize_linears(model, 8, 16)
    assert len(names) == 2 * 7
    assert isinstance(model.layers[1].mlp.up_proj, QuantizedLinear)
    assert 0 < (model(tokens) - before).abs().max() < 0.05


def test_perplexity_is_that_of_transformers_loss_and_of_guessing():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=23, **sizes)).eval()
    tokens = torch.randint(23, (3, 9))
    with torch.no_grad():
        assert perplexity(model, tokens) == pytest.approx(model(tokens, labels=tokens).loss.exp().item(), rel=1e-5)
    assert perplexity(lambda row: torch.zeros(*row.shape, 23), tokens) == pytest.approx(23)
    with pytest.raises(ValueError, match="rows of 1 token"):
        perplexity(model, tokens[:, :1])
    model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        perplexity(model, tokens)


def test_weights_are_changed_within_the_block_alone_and_come_back_after_an_error():
    model = tiny()
    before = {name: linear.weight.clone() for name, linear in block_linears(model)}
    with changed_weights(model, lambda w: rounded(w, 2, 16)):
        assert model.layers[0].self_attn.q_proj.weight.unique().numel() <= 2 * 16 + 1
    with pytest.raises(ValueError, match="bits"), changed_weights(model, lambda w: rounded(w, 1, 16)):
        pass
    assert all(torch.equal(linear.weight, before[name]) for name, linear in block_linears(model))


def test_bits_per_weight_count_the_scales():
    assert bits_per_weight(576, 8, 576) == pytest.approx(8 + 32 / 576)
    assert bits_per_weight(576, 4, 64) == 4.5
    assert bits_per_weight(100, 4, 64) == pytest.approx(4 + 64 / 100)  # the short group has a whole scale


@pytest.mark.slow(seconds=7)
def test_a_promoted_exercise_is_used_whichever_module_is_imported_first(tmp_path: Path):
    """Promoted code brings the lab's import cell along: it must not ask for a module that is just being imported."""
    cell = re.search(r'^# %% id="imports"\n(.*?)^# %%', (WEEK / "lab.py").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    promoted = tmp_path / "hybridlab" / "llm" / "quantize" / "absmax_quantize.py"
    promoted.parent.mkdir(parents=True)
    promoted.write_text(cell[1] + "\ndef absmax_quantize(weight, bits, group_size):\n    return 'mine'\n", "utf-8")
    record = {"source_sha256": hashlib.sha256(promoted.read_bytes()).hexdigest(), "checks": "none", "checks_sha256": ""}
    (tmp_path / "library.json").write_text(json.dumps({"hybridlab.llm.quantize.absmax_quantize": record}), "utf-8")
    first = "import hybridlab.llm.{}\nfrom hybridlab.llm.quantize import absmax_quantize\nprint(absmax_quantize(0, 0, 0))"
    for module in ("hessian", "gptq"):
        environment = {**os.environ, "HYBRIDLAB_MYLAB": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", first.format(module)], env=environment, capture_output=True, text=True)
        assert done.stdout.strip() == "mine", done.stderr
