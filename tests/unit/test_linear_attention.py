"""Linear attention's three forms, the token shift, and attention in a window."""

import pytest
import torch
from hybridlab.ssm.linear_attention import (
    LinearState,
    chunked_linear_attention,
    feature_map,
    linear_attention,
    quadratic_linear_attention,
)
from hybridlab.ssm.token_shift import token_shift
from hybridlab.ssm.window_attention import WindowAttention, window_attention
from torch.nn import functional as F

FORMS = {"recurrent": linear_attention, "chunked": chunked_linear_attention}


def qkv(time, *, d_value=7, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(2, 3, time, 5, generator=g, dtype=dtype) for _ in range(2))
    return q, k, torch.randn(2, 3, time, d_value, generator=g, dtype=dtype)


def by_hand(q, k, v):
    """The definition with Python's loops, one query and one key at a time, and torch's own elu."""
    out = torch.zeros_like(v)
    for t in range(q.shape[2]):
        total, count = 0, 0
        for i in range(t + 1):
            weight = ((F.elu(q[:, :, t]) + 1) * (F.elu(k[:, :, i]) + 1)).sum(-1, keepdim=True)
            total, count = total + weight * v[:, :, i], count + weight
        out[:, :, t] = total / count
    return out


# ---------------------------------------------------------------- three forms of linear attention


def test_the_quadratic_form_is_the_definition():
    q, k, v = qkv(17)
    torch.testing.assert_close(quadratic_linear_attention(q, k, v), by_hand(q, k, v))


@pytest.mark.parametrize("time", [1, 2, 63, 64, 65, 200])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_recurrent_chunked_and_quadratic_form_are_one(time, chunk):
    q, k, v = qkv(time)
    y, state = linear_attention(q, k, v)
    chunked, chunked_state = chunked_linear_attention(q, k, v, chunk=chunk)
    torch.testing.assert_close(y, quadratic_linear_attention(q, k, v))
    torch.testing.assert_close(chunked, y)
    torch.testing.assert_close(tuple(chunked_state), tuple(state))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cuts", [[1] * 75, [1, 2, 3, 68, 1], [33, 42]], ids=["ones", "mixed", "two"])
def test_linear_attention_goes_on_from_its_state(form, cuts):
    q, k, v = qkv(75)
    whole, end = FORMS[form](q, k, v)
    state, ys = None, []
    for part in zip(*(tensor.split(cuts, 2) for tensor in (q, k, v)), strict=True):
        y, state = FORMS[form](*part, state)
        ys.append(y)
    torch.testing.assert_close(torch.cat(ys, 2), whole)
    torch.testing.assert_close(tuple(state), tuple(end))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_linear_attention_are_those_of_the_quadratic_form(form):
    inputs = [tensor.requires_grad_() for tensor in qkv(21)]
    wanted = torch.autograd.grad(quadratic_linear_attention(*inputs).square().sum(), inputs)
    got = torch.autograd.grad(FORMS[form](*inputs)[0].square().sum(), inputs)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_is_counted_in_float32(form):
    """Counting 2,000 equal weights in bfloat16 would stop at 256."""
    q = k = torch.zeros(1, 1, 2000, 4, dtype=torch.bfloat16)
    v = torch.arange(2000.0)[None, None, :, None].bfloat16()
    y, state = FORMS[form](q, k, v)
    assert y.dtype == torch.bfloat16
    assert state.weight.dtype == state.memory.dtype == torch.float32
    assert state.weight.flatten().tolist() == [2000.0] * 4
    assert y[0, 0, -1, 0].float().item() == pytest.approx(1000, rel=0.01)


def test_the_feature_map_is_elus_and_keeps_small_weights():
    x = torch.linspace(-10, 10, 101, dtype=torch.float64)
    torch.testing.assert_close(feature_map(x), F.elu(x) + 1)
    torch.testing.assert_close(feature_map(torch.tensor([-30.0])), torch.tensor([-30.0]).exp())
    big = torch.tensor([1e4, -1e4], requires_grad=True)
    feature_map(big).sum().backward()
    assert big.grad.tolist() == [1, 0]


@pytest.mark.parametrize("form", FORMS)
def test_what_linear_attention_refuses(form):
    q, k, v = qkv(6)
    run = FORMS[form]
    for wrong, message in (
        ((q[:, :, :0], k, v), r"q has shape \(2, 3, 0, 5\): there is nothing to read"),
        ((q, k[..., :4], v), r"k has shape \(2, 3, 6, 4\), expected \(2, 3, 6, 5\)"),
        ((q, k, v[:, :, :5]), r"v has shape \(2, 3, 5, 7\)"),
        ((q, k, v, LinearState(torch.zeros(2, 3, 5, 6), torch.zeros(2, 3, 5))), r"memory has shape \(2, 3, 5, 6\)"),
        ((q, k, v, LinearState(torch.zeros(2, 3, 5, 7), torch.zeros(2, 3, 4))), r"weight has shape \(2, 3, 4\)"),
        ((q * 0 - 1e4, k, v), "36 queries have no key of a weight above 0"),
        ((q, k, v * torch.nan), "252 of 252 numbers of v are NaN or infinite"),
        ((q, k, v * torch.inf), "numbers of v are NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            run(*wrong)
    with pytest.raises(ValueError, match="chunk is 0"):
        chunked_linear_attention(q, k, v, chunk=0)


@pytest.mark.parametrize("form", FORMS)
def test_large_queries_and_keys_give_numbers(form):
    q, k, v = qkv(50, dtype=torch.float32)
    y, _ = FORMS[form](q.abs() * 1e6, k.abs() * 1e6, v * 1e6)
    assert torch.isfinite(y).all()


# ---------------------------------------------------------------- the token shift


def test_the_shift_gives_the_token_before_and_goes_on():
    x = torch.arange(12.0).view(2, 3, 2)
    before, last = token_shift(x)
    assert before.tolist() == [[[0, 0], [0, 1], [2, 3]], [[0, 0], [6, 7], [8, 9]]]
    assert last.tolist() == [[4, 5], [10, 11]]
    assert last.untyped_storage().nbytes() == last.nbytes  # not a view that keeps the text in memory
    again, last = token_shift(x[:, :1], last)
    assert again.tolist() == [[[4, 5]], [[10, 11]]]
    assert torch.equal(last, x[:, 0])
    assert token_shift(x.bfloat16(), last)[0].dtype == torch.bfloat16


def test_what_the_shift_refuses():
    with pytest.raises(ValueError, match="there is nothing to read"):
        token_shift(torch.zeros(2, 0, 3))
    with pytest.raises(ValueError, match=r"last has shape \(1, 3\), expected \(2, 3\)"):
        token_shift(torch.zeros(2, 4, 3), torch.zeros(1, 3))


# ---------------------------------------------------------------- attention in a window


@pytest.mark.parametrize("window", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("block", [1, 4, 128])
@pytest.mark.parametrize("past", [0, 6])
def test_window_attention_is_torchs_with_a_mask_made_by_hand(window, block, past):
    g = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 19, 8, generator=g)
    k, v = (torch.randn(2, 2, 19 + past, 8, generator=g) for _ in range(2))
    mask = torch.zeros(19, 19 + past, dtype=torch.bool)
    for i in range(19):
        for j in range(19 + past):
            distance = i + past - j
            mask[i, j] = distance >= 0 and (window is None or distance < window)
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    torch.testing.assert_close(window_attention(q, k, v, window, block), wanted, rtol=0, atol=1e-6)


def test_a_window_is_given_no_key_that_it_cannot_see(monkeypatch):
    """10,000 tokens with a window of 16: no block of 128 queries is handed more than 143 keys."""
    from hybridlab.ssm import window_attention as module

    handed = []

    def attend(q, k, v, mask):
        handed.append(k.shape[2])
        return q

    monkeypatch.setattr(module, "scaled_dot_product_attention", attend)
    q = torch.zeros(1, 1, 10_000, 2)
    window_attention(q, q, q, 16)
    assert max(handed) == 128 + 15


def test_what_window_attention_refuses():
    q = torch.zeros(1, 1, 3, 4)
    with pytest.raises(ValueError, match="3 queries can't be the last of 2 keys"):
        window_attention(q, q[:, :, :2], q[:, :, :2])
    with pytest.raises(ValueError, match="window=0"):
        window_attention(q, q, q, 0)
    with pytest.raises(ValueError, match="block=0"):
        window_attention(q, q, q, 4, 0)
    with pytest.raises(ValueError, match="d_model=10 must be a multiple of n_heads=4"):
        WindowAttention(10, 4, 2)
