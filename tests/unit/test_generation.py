"""Generation: the same tokens with and without a cache, reproducible, and never beyond what the model can see."""

import copy

import hybridlab.transformer.generation as generation
import pytest
import torch
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.generation import generate, window_start
from hybridlab.transformer.model import MiniTransformer


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request) -> MiniTransformer:
    torch.manual_seed(0)
    config = getattr(TransformerConfig, request.param)(23, d_model=32, n_layers=2, n_heads=4, max_time=16)
    model = MiniTransformer(config)
    for weight in model.parameters():  # large enough that the choice of a token is never a near tie
        weight.data.mul_(4)
    return model


def prompt(time: int = 5, batch: int = 3):
    return torch.randint(23, (batch, time), generator=torch.Generator().manual_seed(2))


def run(model, tokens, n, seed=0, **settings):
    return generate(model, tokens, n, generator=torch.Generator().manual_seed(seed), **settings)


@pytest.mark.parametrize("n_new", [0, 1, 11, 60])  # within the window, exactly full, far beyond it
@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 0.8, "top_k": 5}, {"top_p": 0.7}])
def test_with_and_without_cache_the_tokens_are_the_same(model, n_new: int, settings: dict):
    cached = run(model, prompt(), n_new, **settings)
    assert cached.shape == (3, 5 + n_new)
    assert torch.equal(cached[:, :5], prompt())
    assert torch.equal(cached, run(model, prompt(), n_new, use_cache=False, **settings))


def test_greedy_takes_the_most_probable_token_each_time(model):
    tokens = run(model, prompt(), 6, temperature=0)
    with torch.no_grad():
        best = model.eval()(tokens[:, :-1]).argmax(dim=-1)
    assert torch.equal(tokens[:, 5:], best[:, 4:])


def test_a_seed_gives_the_same_text_again_and_the_global_state_stays(model):
    before = torch.get_rng_state()
    assert torch.equal(run(model, prompt(), 20, seed=1), run(model, prompt(), 20, seed=1))
    assert not torch.equal(run(model, prompt(), 20, seed=1), run(model, prompt(), 20, seed=2))
    assert torch.equal(before, torch.get_rng_state())


def test_top_k_of_one_is_greedy(model):
    assert torch.equal(run(model, prompt(), 9, top_k=1), run(model, prompt(), 9, temperature=0))


def test_the_mode_of_the_model_is_the_same_afterwards(model):
    for training in (True, False):
        model.train(training)
        run(model, prompt(), 1)
        assert model.training is training


def test_dropout_is_off_while_it_writes():
    torch.manual_seed(0)
    model = MiniTransformer(TransformerConfig.llama(23, d_model=32, n_layers=2, n_heads=4, max_time=16, dropout=0.5))
    assert torch.equal(run(model, prompt(), 10, temperature=0), run(model, prompt(), 10, temperature=0))


def test_a_cache_is_of_the_models_dtype_and_is_not_made_when_it_is_not_wanted(model, monkeypatch):
    made = []
    make = generation.make_caches
    monkeypatch.setattr(generation, "make_caches", lambda *a, **k: (made.append(k["dtype"]), make(*a, **k))[1])
    half = copy.deepcopy(model).bfloat16()
    run(half, prompt(), 3, use_cache=False)
    assert made == []
    run(half, prompt(), 3)
    assert made == [torch.bfloat16]


def test_a_full_window_is_built_anew_only_every_half_window():
    assert len({window_start(length, 16) for length in range(1, 161)}) == 1 + (160 - 16) // 8


def test_a_prompt_longer_than_the_window_is_allowed(model):
    assert torch.equal(run(model, prompt(40), 3), run(model, prompt(40), 3, use_cache=False))


@pytest.mark.parametrize("max_time", [1, 2, 7, 16])
def test_the_window_never_outgrows_the_model_and_keeps_at_least_half(max_time: int):
    for length in range(1, 80):
        seen = length - window_start(length, max_time)
        assert min(length, max_time // 2) <= seen <= max_time
        assert seen >= 1


def test_nonsense_is_refused(model):
    with pytest.raises(ValueError, match="prompt is empty"):
        generate(model, prompt()[:, :0], 3)
    with pytest.raises(ValueError, match="got -1"):
        generate(model, prompt(), -1)
    with pytest.raises(ValueError, match="temperature must be above 0"):
        generate(model, prompt(), 1, temperature=-1)
