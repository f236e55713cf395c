"""The selective copying task and the model without a selection."""

import pytest
import torch
from hybridlab.ssm.selective_copying import NOISE, SYMBOLS, VOCAB, WRITE, accuracy, copying_batch, copying_model, train_copying


def batch(n=64, **changes):
    return copying_batch(n, generator=torch.Generator().manual_seed(0), **changes)


def test_what_has_to_be_written_stands_in_the_text_in_this_order():
    tokens, data = batch(context=20, n_data=3)
    assert tokens.shape == (64, 23)
    assert (tokens[:, 20:] == WRITE).all()
    for row, wanted in zip(tokens[:, :20], data, strict=True):
        assert row[row != NOISE].tolist() == wanted.tolist()
    assert tokens.max() < VOCAB
    assert set(data.flatten().tolist()) == set(range(SYMBOLS))


def test_places_are_drawn_anew():
    tokens, _ = batch(context=20, n_data=3)
    assert len({tuple((row != NOISE).nonzero().flatten().tolist()) for row in tokens[:, :20]}) > 50


def test_more_data_than_context_is_refused():
    with pytest.raises(ValueError, match="3 data tokens do not fit into a context of 2"):
        batch(context=2, n_data=3)


@pytest.mark.parametrize("selection", [True, False])
def test_both_models_are_causal_and_learn(selection):
    torch.manual_seed(0)
    model = copying_model(selection=selection)
    tokens, data = batch(8)
    changed = tokens.clone()
    changed[:, 10] = (changed[:, 10] + 1) % VOCAB
    assert 0 <= accuracy(model, tokens, data) <= 1
    with torch.no_grad():
        torch.testing.assert_close(model(tokens)[0][:, :10], model(changed)[0][:, :10], rtol=1e-4, atol=1e-5)
    losses = train_copying(model, 12, seed=0)
    assert sum(losses[-3:]) < sum(losses[:3])
