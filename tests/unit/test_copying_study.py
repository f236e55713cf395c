"""The copying study: what the task is, that scores are right, and who learns it first."""

import math

import pytest
import torch
from hybridlab.ssm.copying_study import MARK, MODELS, SYMBOLS, accuracy, copying_results, copying_texts, said
from torch import nn
from torch.nn import functional as F


class Copier(nn.Module):
    """Looks up what stands one string's length and the mark back: the exact answer."""

    def forward(self, texts):
        length = texts.shape[1] // 2
        answer = torch.cat([torch.zeros_like(texts[:, :length]), texts[:, :length]], 1)
        return F.one_hot(answer, SYMBOLS + 1).float()


class Guesser(nn.Module):
    """Says the token that it reads."""

    def forward(self, texts):
        return F.one_hot(texts, SYMBOLS + 1).float(), "a state"


def test_a_text_is_a_string_the_mark_and_the_string_but_for_its_end():
    texts, string = copying_texts(3, 5, torch.Generator().manual_seed(0))
    assert texts.shape == (3, 10)
    assert torch.equal(texts[:, :5], string)
    assert texts[:, 5].tolist() == [MARK] * 3
    assert torch.equal(texts[:, 6:], string[:, :-1])
    few, _ = copying_texts(50, 20, torch.Generator().manual_seed(0), n_symbols=2)
    assert set(few.unique().tolist()) == {0, 1, MARK}


@pytest.mark.parametrize("length", [1, 7, 64])
def test_who_copies_has_1_and_who_does_not_has_chance(length):
    assert accuracy(Copier(), length) == 1
    assert accuracy(Guesser(), 64) == pytest.approx(1 / SYMBOLS, abs=0.03)


@pytest.mark.parametrize("kind", MODELS)
def test_every_model_begins_with_knowing_nothing_and_sees_no_symbol_before_it_is_said(kind):
    torch.manual_seed(0)
    model, (texts, string) = MODELS[kind](), copying_texts(4, 9, torch.Generator().manual_seed(0))
    assert said(model, texts).shape == (4, 9, SYMBOLS + 1)
    loss = F.cross_entropy(said(model, texts).flatten(0, 1), string.flatten())
    assert loss.item() == pytest.approx(math.log(SYMBOLS + 1), abs=0.6)
    changed = texts.clone()
    changed[:, -1] = (changed[:, -1] + 1) % SYMBOLS
    with torch.no_grad():
        torch.testing.assert_close(said(model, changed)[:, :-1], said(model, texts)[:, :-1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"n_symbols": 0}, {"n_symbols": 9}, {"length": 0}, {"length": 257}])
def test_what_cannot_be_copied_is_refused(wrong):
    arguments = {"length": 5, "n_symbols": 3, **wrong}
    with pytest.raises(ValueError, match="symbols"):
        copying_texts(2, generator=torch.Generator(), **arguments)


@pytest.mark.slow(seconds=12)
def test_a_hybrid_copies_after_as_many_texts_as_leave_its_mamba_alone_guessing():
    hybrid, mamba = copying_results(["hybrid", "Mamba-2"])
    assert hybrid.parameters < 1.3 * mamba.parameters
    assert sum(mamba.losses[:5]) / 5 == pytest.approx(math.log(SYMBOLS), abs=0.2)
    assert hybrid.by_length[7] > 0.85
    for length in (7, 14, 28):
        assert hybrid.by_length[length] > mamba.by_length[length] + 0.3
