"""LoRA against peft: forward, gradients, the choice of layers; merge and back; what is frozen; what is refused."""

import copy
import math
from pathlib import Path

import pytest
import torch
from hybridlab.llm.lora import (
    ALL_LINEAR,
    LoRAConfig,
    LoRALinear,
    count_parameters,
    inject_lora,
    lora_layers,
    merge_lora,
    unmerge_lora,
)
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer
from torch import nn

WEEK = Path(__file__).parents[2] / "months" / "02_llm" / "week06_lora" / "source"


def tiny(seed: int = 0, dtype: torch.dtype = torch.float32) -> MiniTransformer:
    torch.manual_seed(seed)
    return MiniTransformer(TransformerConfig.llama(23, d_model=16, n_layers=2, n_heads=4, max_time=16)).to(dtype)


def filled(layer: LoRALinear, seed: int = 1) -> LoRALinear:
    """With a B that is not zero, as after training."""
    with torch.no_grad():
        layer.lora_B.normal_(generator=torch.Generator().manual_seed(seed))
    return layer


def test_an_untrained_adapter_changes_nothing_and_begins_as_pefts():
    torch.manual_seed(0)
    base = nn.Linear(12, 7)
    x = torch.randn(3, 12)
    before = base(x)
    layer = LoRALinear(base, rank=4, alpha=8)
    assert torch.equal(layer(x), before)
    assert layer.base is base
    bound = 1 / math.sqrt(12)  # kaiming_uniform with a = √5
    assert 0.5 * bound < layer.lora_A.abs().max() <= bound
    assert not layer.lora_B.any()


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("bias", [True, False])
def test_forward_and_gradients_equal_pefts_to_1e_5(bias: bool):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(12, 20, bias=bias), nn.GELU(), nn.Linear(20, 7, bias=bias))
    ours = copy.deepcopy(base)
    theirs = get_peft_model(base, LoraConfig(r=3, lora_alpha=10, target_modules=["0", "2"], lora_dropout=0.0))
    inject_lora(ours, LoRAConfig(rank=3, alpha=10, targets=("0", "2")))
    for name, layer in lora_layers(ours).items():
        peft_layer = theirs.base_model.model.get_submodule(name)
        filled(layer)
        with torch.no_grad():
            peft_layer.lora_A["default"].weight.copy_(layer.lora_A)
            peft_layer.lora_B["default"].weight.copy_(layer.lora_B)
    x = torch.randn(5, 12)
    outputs = []
    for model in (ours, theirs):
        mine = x.clone().requires_grad_()
        y = model(mine)
        y.square().sum().backward()
        outputs.append((y, mine.grad))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    for name, layer in lora_layers(ours).items():
        peft_layer = theirs.base_model.model.get_submodule(name)
        torch.testing.assert_close(layer.lora_A.grad, peft_layer.lora_A["default"].weight.grad, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(layer.lora_B.grad, peft_layer.lora_B["default"].weight.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.slow(seconds=2)
def test_the_numbers_that_the_weeks_check_holds_are_pefts():
    from coursekit.checks import load_checks
    from peft import LoraConfig, get_peft_model

    checks = load_checks(WEEK / "checks.py")["hybridlab.llm.lora.LoRALinear"]
    stored = {name: torch.tensor(values) for name, values in checks.judge.__globals__["PEFT"].items()}
    base = nn.Sequential(nn.Linear(3, 2, bias=False))
    base[0].weight.data.copy_(stored["weight"])
    model = get_peft_model(base, LoraConfig(r=2, lora_alpha=3, target_modules=["0"], lora_dropout=0.0))
    parts = {part: getattr(model.base_model.model[0], f"lora_{part}")["default"].weight for part in "AB"}
    for part, weight in parts.items():
        weight.data.copy_(stored[part])
    x = stored["x"].requires_grad_()
    y = model(x)
    (y.square().sum() / 2).backward()
    found = {"y": y, "gradient_x": x.grad, "gradient_A": parts["A"].grad, "gradient_B": parts["B"].grad}
    for name, value in found.items():
        torch.testing.assert_close(value, stored[name], rtol=1e-6, atol=1e-6)


@pytest.mark.slow(seconds=2)
@pytest.mark.parametrize("targets", [ALL_LINEAR, ("v_proj",), ("layers.1.self_attn.q_proj", "down_proj"), ("lm_head",)])
def test_the_same_layers_are_chosen_as_by_peft(targets: tuple[str, ...]):
    from peft import LoraConfig, get_peft_model

    ours = inject_lora(tiny(), LoRAConfig(targets=targets))
    theirs = get_peft_model(tiny(), LoraConfig(target_modules=list(targets))).base_model.model
    wrapped = {name.partition(".lora_A")[0] for name, _ in theirs.named_modules() if name.endswith(".lora_A")}
    assert set(ours) == wrapped
    assert ours == [name for name, _ in tiny().named_modules() if name in wrapped]  # in the model's order


def test_only_the_adapters_are_trainable_and_the_rest_gets_no_gradient():
    model = tiny()
    inject_lora(model, LoRAConfig(rank=2, targets=("q_proj", "v_proj")))
    assert {name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    for layer in lora_layers(model).values():
        filled(layer)
    model(torch.arange(10)[None]).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    trainable, _ = count_parameters(model)
    assert trainable == 2 * (2 * (16 + 16) + 2 * (16 + 8))  # two blocks; q is 16 × 16, v is 8 × 16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_gives_the_same_output_and_unmerge_the_same_bits(dtype: torch.dtype):
    model = tiny(dtype=dtype)
    inject_lora(model, LoRAConfig(rank=3, alpha=6))
    for layer in lora_layers(model).values():
        filled(layer)
    weights = {name: layer.base.weight.clone() for name, layer in lora_layers(model).items()}
    tokens = torch.arange(12)[None]
    apart = model(tokens)
    merge_lora(model)
    merge_lora(model)  # the second one changes nothing
    tolerance = {torch.float32: 1e-4, torch.bfloat16: 0.1}[dtype]  # bfloat16 rounds each merged weight to 8 bits
    torch.testing.assert_close(model(tokens), apart, rtol=tolerance, atol=tolerance)
    unmerge_lora(model)
    unmerge_lora(model)
    assert all(torch.equal(weights[name], layer.base.weight) for name, layer in lora_layers(model).items())
    assert torch.equal(model(tokens), apart)


def test_adding_and_subtracting_would_not_restore_the_weight():
    layer = filled(LoRALinear(nn.Linear(64, 64).to(torch.bfloat16), rank=4, alpha=8))
    weight = layer.base.weight.detach().clone()
    delta = (layer.scaling * layer.lora_B @ layer.lora_A).detach()
    assert not torch.equal(((weight + delta).to(torch.bfloat16) - delta).to(torch.bfloat16), weight)  # why merge keeps a copy


def test_the_adapter_is_float32_beside_a_bfloat16_base_and_learns():
    layer = LoRALinear(nn.Linear(8, 8).to(torch.bfloat16), rank=2, alpha=4)
    y = layer(torch.randn(3, 8, dtype=torch.bfloat16))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert layer.lora_A.dtype == layer.lora_B.dtype == layer.lora_B.grad.dtype == torch.float32


def test_dropout_acts_on_the_branch_alone_and_only_in_training():
    torch.manual_seed(0)
    layer = filled(LoRALinear(nn.Linear(400, 3, bias=False), rank=2, alpha=2, dropout=0.5))
    x = torch.ones(2000, 400)
    trained = layer(x)
    layer.eval()
    assert trained.std(0).min() > 0
    assert layer(x).std(0).max() < 1e-4
    torch.testing.assert_close(trained.mean(0), layer(x).mean(0), rtol=0.05, atol=0.05)  # dropout keeps the mean


def test_a_weight_of_codes_is_not_merged():
    layer = LoRALinear(nn.Linear(4, 4), rank=1, alpha=1)
    layer.base.weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match="holds codes"):
        layer.merge()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"targets": ()}, "targets must be a tuple"),
        ({"targets": "q_proj"}, "targets must be a tuple"),
    ],
)
def test_a_nonsense_config_is_refused(change: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        LoRAConfig(**change)


def test_an_unknown_target_is_named_and_the_model_stays_as_it_was():
    model = tiny()
    with pytest.raises(ValueError, match=r"no linear layer is named 'query'; this model has .*q_proj"):
        inject_lora(model, LoRAConfig(targets=("q_proj", "query")))
    assert not lora_layers(model)
    assert all(p.requires_grad for p in model.parameters())


def test_adapters_are_not_put_upon_adapters_and_merging_wants_some():
    model = tiny()
    for call in (merge_lora, unmerge_lora):
        with pytest.raises(ValueError, match="no adapters"):
            call(model)
    inject_lora(model, LoRAConfig(targets=("q_proj",)))
    with pytest.raises(ValueError, match="has adapters already"):
        inject_lora(model, LoRAConfig(targets=("v_proj",)))
