"""log_softmax and cross_entropy: PyTorch's values and gradients, at any size of the logits; padding counts for nothing."""

import math

import pytest
import torch
from hybridlab.transformer.losses import cross_entropy, log_softmax

F = torch.nn.functional
# a few units in the last place of each dtype, for sums of up to a hundred terms
TOLERANCE = {torch.float32: {"rtol": 1e-6, "atol": 1e-6}, torch.float64: {"rtol": 1e-13, "atol": 1e-13}}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("shape", "dim"), [((5,), -1), ((3, 7), -1), ((3, 7), 0), ((2, 3, 100), 1), ((4, 1), -1)])
def test_log_softmax_is_pytorchs(shape, dim, dtype):
    logits = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    mine, theirs = (logits.clone().requires_grad_() for _ in range(2))
    weight = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    got, expected = log_softmax(mine, dim), torch.log_softmax(theirs, dim)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(got, expected, **TOLERANCE[dtype])
    torch.testing.assert_close(mine.grad, theirs.grad, **TOLERANCE[dtype])


@pytest.mark.parametrize("size", [88.0, 89.0, 1e4, -1e4, 3e38])
def test_log_softmax_survives_logits_of_any_size(size):
    logits = torch.tensor([size, size, -size], requires_grad=True)
    got = log_softmax(logits)
    got[0].backward()
    assert not got.isnan().any()
    assert got[:2].isfinite().all() or size < 0
    assert logits.grad.isfinite().all()


def test_log_softmax_of_forbidden_tokens_is_minus_infinity():
    got = log_softmax(torch.tensor([0.0, -math.inf, 0.0]))
    torch.testing.assert_close(got, torch.tensor([-math.log(2), -math.inf, -math.log(2)]))


@pytest.mark.parametrize("batch", [(), (5,), (4, 6), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_cross_entropy_is_pytorchs(batch, size):
    g = torch.Generator().manual_seed(2)
    logits, targets = torch.randn((*batch, 7), generator=g) * size, torch.randint(7, batch, generator=g)
    mine, theirs = (logits.clone().requires_grad_() for _ in range(2))
    got, expected = cross_entropy(mine, targets), F.cross_entropy(theirs.reshape(-1, 7), targets.reshape(-1))
    got.backward()
    expected.backward()
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ignore_index", [-100, 0, -1])
@pytest.mark.parametrize("filler", [0.0, math.inf, math.nan])
def test_padding_changes_neither_loss_nor_gradient(ignore_index, filler):
    g = torch.Generator().manual_seed(3)
    logits, targets = torch.randn(4, 5, generator=g), torch.randint(1, 5, (4,), generator=g)
    plain = logits.clone().requires_grad_()
    padded = torch.cat([logits, torch.full((6, 5), filler)]).requires_grad_()
    expected = cross_entropy(plain, targets, ignore_index)
    got = cross_entropy(padded, torch.cat([targets, torch.full((6,), ignore_index)]), ignore_index)
    got.backward()
    expected.backward()
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(padded.grad, torch.cat([plain.grad, torch.zeros(6, 5)]))


def test_a_batch_of_nothing_but_padding_has_loss_and_gradient_zero():
    logits = torch.randn(3, 5, requires_grad=True)
    loss = cross_entropy(logits, torch.full((3,), -100))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros(3, 5))


@pytest.mark.parametrize("target", [5, -1, 1000])
def test_a_target_outside_the_vocabulary_is_named(target):
    with pytest.raises(ValueError, match=f"target {target} "):
        cross_entropy(torch.zeros(3, 5), torch.tensor([0, 4, target]))


@pytest.mark.parametrize("shape", [(3, 1), (2,), ()], ids=str)
def test_targets_that_do_not_fit_the_logits_are_refused(shape):
    with pytest.raises(ValueError, match="one target per row"):
        cross_entropy(torch.zeros(3, 5), torch.zeros(shape, dtype=torch.long))
