"""Promises of the project's parts: cost, recipes, the loss of a whole text, a model in one file."""

import dataclasses

import pytest
import torch
from hybridlab.data.characters import CharacterVocabulary
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.cost import training_flops
from hybridlab.transformer.evaluation import text_loss
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.muon import Muon
from hybridlab.transformer.optim import AdamW
from hybridlab.transformer.pretrained import load_gpt, save_gpt
from hybridlab.transformer.recipe import BUDGET_FLOPS, BUDGET_PARAMETERS, Recipe, mini_gpt, nanogpt
from hybridlab.transformer.training import TrainConfig, train
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


@pytest.mark.parametrize(
    "config", [TransformerConfig.gpt2(31, n_layers=3), TransformerConfig.llama(31, d_model=48, n_heads=6, n_kv_heads=2)]
)
def test_the_cost_is_pytorchs_own_count(config):
    with FlopCounterMode(display=False) as counter:
        MiniTransformer(config)(torch.zeros(3, 10, dtype=torch.int64)).sum().backward()
    assert training_flops(config, 3, 10) == counter.get_total_flops()


def test_our_recipe_fits_the_budget_and_nanogpts_is_three_times_as_much():
    ours, theirs = mini_gpt(75), nanogpt(75)
    assert 0.99 * BUDGET_FLOPS < ours.flops <= BUDGET_FLOPS
    assert theirs.flops // 3 == BUDGET_FLOPS
    for recipe in (ours, theirs):
        model, _ = recipe.build()
        assert sum(p.numel() for p in model.parameters()) <= BUDGET_PARAMETERS


def test_a_recipe_counts_its_micro_batches():
    recipe = nanogpt(75)
    twice = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, micro_batches=2))
    assert twice.flops == 2 * recipe.flops


def test_a_recipe_hands_its_rates_to_the_optimizer():
    recipe = dataclasses.replace(mini_gpt(20), lr=0.011, adamw_lr=0.022, momentum=0.7, weight_decay=0.3)
    model, muon = recipe.build()
    assert isinstance(muon, Muon)
    hidden, others = muon.param_groups
    assert (hidden["lr"], hidden["momentum"], others["lr"]) == (0.011, 0.7, 0.022)
    assert hidden["weight_decay"] == others["weight_decay"] == 0.3
    model, adamw = nanogpt(20).build()
    assert isinstance(adamw, AdamW)
    decays = {p.ndim: group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
    assert decays == {2: 0.1, 1: 0.0}
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"optimizer": "sgd"}, "'sgd'"), ({"lr": 0.0}, "lr=0.0"), ({"training": TrainConfig(10, time=65, warmup=1)}, "65 tokens do not fit")],
)
def test_a_recipe_that_does_not_fit_together_is_refused_with_the_value(changes, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(mini_gpt(20), **changes)


def test_a_run_with_muon_stopped_and_resumed_equals_one_without_a_stop(tmp_path):
    tokens = torch.randint(11, (500,), generator=torch.Generator().manual_seed(0))
    plan = TrainConfig(8, 2, 16, warmup=2, eval_every=4, eval_batches=1)
    recipe = Recipe(TransformerConfig.llama(11, d_model=16, n_layers=1, max_time=16, qk_norm=True), plan)

    def start():
        torch.manual_seed(3)
        return recipe.build()

    model, optimizer = start()
    train(model, tokens, tokens, optimizer, plan, progress=False)
    first, optimizer = start()
    real_step, left = optimizer.step, iter(range(6))

    def step_until_stopped():
        if next(left, None) is None:
            raise ConnectionError("the power went out")
        real_step()

    optimizer.step = step_until_stopped
    with pytest.raises(ConnectionError):
        train(first, tokens, tokens, optimizer, plan, checkpoint=tmp_path / "run.pt", progress=False)
    second, optimizer = start()
    result = train(second, tokens, tokens, optimizer, plan, checkpoint=tmp_path / "run.pt", progress=False)
    assert result.step == 8
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("length", [2, 9, 16, 17, 18, 60])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_text_loss_predicts_each_token_once(length, batch_size):
    torch.manual_seed(0)
    model = MiniTransformer(TransformerConfig.llama(13, d_model=16, n_layers=1, max_time=8, dropout=0.5))
    tokens = torch.randint(13, (length,))
    total = 0.0
    model.eval()
    for start in range(0, length - 1, 8):
        window = tokens[start : start + 9]
        total += F.cross_entropy(model(window[None, :-1])[0], window[1:], reduction="sum").item()
    model.train()
    assert text_loss(model, tokens, time=8, batch_size=batch_size) == pytest.approx(total / (length - 1), abs=1e-5)
    assert model.training


def test_a_saved_model_writes_the_same_and_leaves_no_draft(tmp_path):
    model = MiniTransformer(TransformerConfig.llama(4, d_model=16, n_layers=1, max_time=8, dropout=0.2))
    save_gpt(tmp_path / "gpt.pt", model, CharacterVocabulary("dcba"))
    loaded, vocabulary = load_gpt(tmp_path / "gpt.pt")
    tokens = torch.tensor([[0, 1, 2, 3]])
    assert torch.equal(loaded(tokens), model.eval()(tokens))
    assert vocabulary.characters == "dcba"
    assert [path.name for path in tmp_path.iterdir()] == ["gpt.pt"]


def test_a_file_of_another_format_is_refused_by_name(tmp_path):
    torch.save({"format": "else"}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt"):
        load_gpt(tmp_path / "other.pt")
