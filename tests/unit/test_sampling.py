"""Temperature, top-k and top-p, held against transformers' warpers."""

import pytest
import torch
from hybridlab.transformer.sampling import filter_logits
from torch import Tensor


def warped(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    logits = TemperatureLogitsWarper(temperature)(None, logits)
    if top_k is not None:
        logits = TopKLogitsWarper(top_k)(None, logits)
    if top_p is not None:
        logits = TopPLogitsWarper(top_p)(None, logits)
    return logits


@pytest.mark.parametrize("temperature", [0.3, 1.0, 1.7])
@pytest.mark.parametrize("top_k", [None, 1, 5, 1000])
@pytest.mark.parametrize("top_p", [None, 1e-6, 0.37, 0.9])
def test_the_same_tokens_stay_as_with_transformers(temperature: float, top_k: int | None, top_p: float | None):
    logits = 3 * torch.randn(64, 100, generator=torch.Generator().manual_seed(7))
    ours = filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    torch.testing.assert_close(ours, warped(logits, temperature, top_k, top_p))


def test_the_input_is_not_changed_and_any_leading_axes_are_allowed():
    logits = torch.randn(2, 3, 10, generator=torch.Generator().manual_seed(0))
    copy = logits.clone()
    kept = filter_logits(logits, top_k=2, top_p=0.99)
    assert torch.equal(logits, copy)
    assert kept.shape == (2, 3, 10)
    assert torch.equal(filter_logits(logits[0, 0], top_k=2, top_p=0.99), kept[0, 0])


def test_ties_with_the_kth_stay():
    kept = filter_logits(torch.tensor([1.0, 3.0, 2.0, 2.0]), top_k=2)
    assert kept.isfinite().tolist() == [False, True, True, True]


def test_the_token_that_crosses_p_stays():
    probabilities = torch.tensor([0.5, 0.1, 0.3, 0.1])
    kept = filter_logits(probabilities.log(), top_p=0.6)
    assert kept.isfinite().tolist() == [True, False, True, False]


def test_top_p_of_one_keeps_even_tokens_whose_probability_is_nothing():
    assert filter_logits(torch.tensor([0.0, 90.0, -90.0]), top_p=1.0).isfinite().all()


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.01}])
def test_settings_that_mean_nothing_are_refused_with_their_value(bad: dict):
    name, value = next(iter(bad.items()))
    with pytest.raises(ValueError, match=f"{name} must be .*got {value}"):
        filter_logits(torch.zeros(4), **bad)
