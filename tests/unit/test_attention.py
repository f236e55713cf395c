"""Attention against PyTorch's and transformers' own, and the edges where implementations differ."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hybridlab.transformer.attention import (
    MultiHeadAttention,
    attention_mask,
    scaled_dot_product_attention,
    softmax,
)
from hybridlab.transformer.cache import KVCache
from hybridlab.transformer.query_blocks import in_query_blocks
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

# one rounding step of the dtype, times a handful of operations
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 2e-2}


def normal(seed, *shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("shape", "dim"), [((5,), 0), ((3, 4), 0), ((3, 4), -1), ((2, 3, 4), 1)])
def test_softmax_and_its_gradient_are_torchs(shape, dim, dtype):
    ours, theirs = (normal(0, *shape, dtype=dtype).requires_grad_() for _ in range(2))
    upstream = normal(1, *shape, dtype=dtype)
    for function, scores in ((softmax, ours), (torch.softmax, theirs)):
        (function(scores, dim) * upstream).sum().backward()
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(softmax(ours, dim), torch.softmax(theirs, dim), atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(ours.grad, theirs.grad, atol=4 * tolerance, rtol=4 * tolerance)


def test_softmax_survives_scores_of_ten_thousand():
    scores = torch.tensor([[1e4, 0.0, -1e4, -torch.inf], [-1e4, -1e4, -2e4, -2e4]], requires_grad=True)
    weights = softmax(scores)
    assert weights.tolist() == [[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]
    weights.square().sum().backward()
    assert torch.isfinite(scores.grad).all()


def test_each_query_sees_itself_the_past_and_no_padding():
    real = torch.tensor([[True, True, True, False], [False, True, True, True]])
    mask = attention_mask(2, 4, causal=True, padding=real)
    assert mask.shape == (2, 1, 2, 4)
    assert mask[:, 0].int().tolist() == [[[1, 1, 1, 0], [1, 1, 1, 0]], [[0, 1, 1, 0], [0, 1, 1, 1]]]
    assert attention_mask(3, 3, causal=True)[0, 0].int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert attention_mask(2, 3, causal=False).all()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("heads", "kv_heads", "queries", "keys"), [(1, 1, 1, 1), (4, 4, 5, 5), (8, 2, 3, 9), (6, 1, 7, 7)])
def test_attention_is_torchs_with_grouped_heads_in_values_and_gradients(heads, kv_heads, queries, keys, dtype):
    mask = attention_mask(queries, keys, causal=True, padding=torch.arange(keys) < torch.tensor([[keys], [max(1, keys - queries + 1)]]))
    found = []
    for attention in (scaled_dot_product_attention, partial(F.scaled_dot_product_attention, enable_gqa=True)):
        shapes = (heads, queries), (kv_heads, keys), (kv_heads, keys)
        q, k, v = (normal(seed, 2, *shape, 16, dtype=dtype).requires_grad_() for seed, shape in enumerate(shapes))
        out = attention(q, k, v, mask)
        found.append([out, *torch.autograd.grad((out * normal(4, *out.shape, dtype=dtype)).sum(), (q, k, v))])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, atol=8 * TOLERANCE[dtype], rtol=8 * TOLERANCE[dtype])


@pytest.mark.parametrize("dead", ["first row", "every row"])
def test_a_row_that_sees_nothing_gives_zeros_and_finite_gradients(dead):
    q, k, v = (normal(s, 2, 4, 3, 8).requires_grad_() for s in range(3))
    mask = torch.ones(3, 3, dtype=torch.bool).tril(-1 if dead == "first row" else -3)[None, None]
    out = scaled_dot_product_attention(q, k, v, mask)
    assert (out[:, :, 0] == 0).all()
    assert dead == "first row" or (out == 0).all()
    for gradient in torch.autograd.grad(out.square().sum(), (q, k, v)):
        assert torch.isfinite(gradient).all()


def test_hidden_keys_do_not_matter_even_when_they_are_huge():
    q, k, v = (normal(s, 1, 2, 4, 8) for s in range(3))
    mask = attention_mask(4, 4, causal=True)
    before = scaled_dot_product_attention(q, k, v, mask)
    k[:, :, 3], v[:, :, 3] = 1e6, 1e6
    assert torch.equal(scaled_dot_product_attention(q, k, v, mask)[:, :, :3], before[:, :, :3])


@pytest.mark.parametrize(("heads", "kv_heads", "theta", "bias"), [(4, 4, 10_000.0, False), (8, 2, 500_000.0, True)])
def test_llamas_weights_load_and_give_llamas_result(heads, kv_heads, theta, bias):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=64,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        attention_bias=bias,
        attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )
    torch.manual_seed(0)
    llama, ours = LlamaAttention(config, layer_idx=0).eval(), MultiHeadAttention(64, heads, kv_heads, bias=bias, rope_theta=theta)
    ours.load_state_dict(llama.state_dict())
    x = normal(1, 2, 10, 64)
    added = torch.zeros(1, 1, 10, 10).masked_fill(~attention_mask(10, 10, causal=True), torch.finfo(torch.float32).min)
    theirs, _ = llama(x, position_embeddings=LlamaRotaryEmbedding(config)(x, torch.arange(10)[None]), attention_mask=added)
    torch.testing.assert_close(ours(x), theirs, atol=1e-6, rtol=1e-5)


def test_qwens_norms_of_queries_and_keys_come_before_the_rotation():
    from transformers import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3RotaryEmbedding

    config = Qwen3Config(hidden_size=32, num_attention_heads=4, num_key_value_heads=2, head_dim=8, attn_implementation="eager")
    torch.manual_seed(0)
    theirs = Qwen3Attention(config, layer_idx=0).eval()
    with torch.no_grad():  # a gain of 1 everywhere commutes with the rotation and would hide a wrong order
        theirs.q_norm.weight.copy_(torch.linspace(0.5, 2, 8))
    norm, theta = partial(nn.RMSNorm, eps=config.rms_norm_eps), config.rope_parameters["rope_theta"]
    ours = MultiHeadAttention(32, 4, 2, rope_theta=theta, qk_norm=norm)
    ours.load_state_dict(theirs.state_dict())
    x = normal(1, 2, 6, 32)
    added = torch.zeros(1, 1, 6, 6).masked_fill(~attention_mask(6, 6, causal=True), torch.finfo(torch.float32).min)
    expected, _ = theirs(x, position_embeddings=Qwen3RotaryEmbedding(config)(x, torch.arange(6)[None]), attention_mask=added)
    torch.testing.assert_close(ours(x), expected, atol=1e-6, rtol=1e-5)


def test_many_heads_are_torchs_own_module():
    torch.manual_seed(0)
    ours, theirs = MultiHeadAttention(32, 4, bias=True), nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([p.weight for p in (ours.q_proj, ours.k_proj, ours.v_proj)]),
            "in_proj_bias": torch.cat([p.bias for p in (ours.q_proj, ours.k_proj, ours.v_proj)]),
            "out_proj.weight": ours.o_proj.weight,
            "out_proj.bias": ours.o_proj.bias,
        }
    )
    x, real = normal(2, 3, 6, 32), torch.arange(6) < torch.tensor([[6], [3], [1]])
    hidden = ~attention_mask(6, 6, causal=True)[0, 0]
    expected, _ = theirs(x, x, x, attn_mask=hidden, key_padding_mask=~real, need_weights=False)
    torch.testing.assert_close(ours(x, padding=real), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cuts", [[9], [1] * 9, [4, 1, 4], [1, 8]])
def test_reading_through_a_cache_changes_nothing(cuts):
    torch.manual_seed(0)
    model = MultiHeadAttention(32, 4, 2, rope_theta=100.0, qk_norm=nn.RMSNorm).double()
    x, real = normal(3, 2, 9, 32, dtype=torch.float64), torch.arange(9) >= torch.tensor([[0], [3]])
    cache, parts, start = KVCache(2, 2, 9, 8, torch.float64), [], 0
    for n in cuts:
        parts.append(model(x[:, start : start + n], padding=real[:, : start + n], cache=cache))
        start += n
    torch.testing.assert_close(torch.cat(parts, 1), model(x, padding=real), atol=1e-12, rtol=1e-12)


def test_no_token_is_influenced_by_a_later_one():
    model, x = MultiHeadAttention(16, 4, 2, rope_theta=10.0), normal(4, 1, 7, 16).requires_grad_()
    for t, out in enumerate(model(x)[0]):
        influence = torch.autograd.grad(out.sum(), x, retain_graph=True)[0][0].norm(dim=-1)
        assert (influence[t + 1 :] == 0).all()
        assert (influence[: t + 1] > 0).all()


def test_grouped_heads_need_the_keys_once():
    # the scores are the only thing of size heads × queries × keys; keys and values are never copied per query head
    q, k, v = normal(5, 1, 8, 1, 64), normal(6, 1, 1, 4096, 64), normal(7, 1, 1, 4096, 64)
    held = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: held.append(t) or t, lambda t: t):
        scaled_dot_product_attention(q.requires_grad_(), k.requires_grad_(), v.requires_grad_())
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in held}
    assert sum(storages.values()) < 2 * 4096 * 64 * 4 + 8 * 4096 * 4 * 6


def test_what_does_not_fit_is_refused_with_its_value():
    q, k = torch.zeros(1, 4, 2, 8), torch.zeros(1, 3, 2, 8)
    with pytest.raises(ValueError, match="4 query heads can't share 3"):
        scaled_dot_product_attention(q, k, k)
    with pytest.raises(ValueError, match="float32"):
        scaled_dot_product_attention(q, q, q, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="5 queries"):
        attention_mask(5, 4, causal=True)
    with pytest.raises(ValueError, match="n_keys=4"):
        attention_mask(4, 4, causal=False, padding=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="30"):
        MultiHeadAttention(30, 4)
    with pytest.raises(ValueError, match="3 key/value"):
        MultiHeadAttention(32, 4, 3)


def test_the_challenge_of_week_two_can_be_met():
    """Query blocks that leave out the keys ahead of them: the same result, at little more than half the work (1,024 positions)."""

    def plain(q, k, v):
        return scaled_dot_product_attention(q, k, v, attention_mask(q.shape[2], k.shape[2], causal=True))

    def in_pieces(q, k, v, size=64):
        ends = [(i, min(i + size, q.shape[2])) for i in range(0, q.shape[2], size)]
        return torch.cat([plain(q[:, :, i:j], k[:, :, :j], v[:, :, :j]) for i, j in ends], dim=2)

    def flops(function):
        with FlopCounterMode(display=False) as counter:
            function(*inputs)
        return counter.get_total_flops()

    inputs = normal(8, 3, 1, 4, 1024, 32)
    torch.testing.assert_close(in_pieces(*inputs), plain(*inputs), atol=1e-6, rtol=1e-5)
    assert flops(in_pieces) < 0.55 * flops(plain)


MASKS = {
    "causal": lambda queries, keys: attention_mask(queries, keys, causal=True),
    "padding in front": lambda queries, keys: attention_mask(
        queries, keys, causal=True, padding=torch.arange(keys) >= torch.tensor([[0], [150]])
    ),
    "padding behind": lambda queries, keys: attention_mask(
        queries, keys, causal=False, padding=torch.arange(keys) < torch.tensor([[keys], [9]])
    ),
    "any": lambda queries, keys: torch.rand(2, 4, queries, keys, generator=torch.Generator().manual_seed(9)) < 0.01,
    "blind": lambda queries, keys: torch.zeros(1, 1, queries, keys, dtype=torch.bool),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(("queries", "keys"), [(257, 257), (300, 420)])
def test_in_blocks_of_queries_values_and_gradients_are_the_same(name, queries, keys):
    mask, found = MASKS[name](queries, keys), []
    for attention in (scaled_dot_product_attention, partial(in_query_blocks, scaled_dot_product_attention)):
        shapes = (4, queries), (2, keys), (2, keys)
        q, k, v = (normal(seed, 2, *shape, 8, dtype=torch.float64).requires_grad_() for seed, shape in enumerate(shapes))
        out = attention(q, k, v, mask)
        found.append([out, *torch.autograd.grad(out.square().sum(), (q, k, v))])
    for blocks, whole in zip(*reversed(found), strict=True):
        torch.testing.assert_close(blocks, whole, atol=1e-12, rtol=1e-12)


def test_a_long_causal_text_costs_little_more_than_half_of_the_scores():
    def flops(attention):
        with FlopCounterMode(display=False) as counter:
            attention(*inputs, attention_mask(1024, 1024, causal=True))
        return counter.get_total_flops()

    inputs = normal(8, 3, 1, 4, 1024, 32)
    assert flops(partial(in_query_blocks, scaled_dot_product_attention)) < 0.55 * flops(scaled_dot_product_attention)
    model, x = MultiHeadAttention(32, 4), normal(9, 1, 1024, 32)
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert counter.get_total_flops() < 0.55 * 4 * 1024**2 * 32 + 8 * 1024 * 32**2


def test_a_new_token_behind_a_cache_needs_no_mask(monkeypatch):
    torch.manual_seed(0)
    model, cache, x = MultiHeadAttention(16, 4, 2, rope_theta=10.0), KVCache(1, 2, 4, 4), normal(10, 1, 4, 16)
    expected = model(x)
    parts = [model(x[:, :2], cache=cache)]
    monkeypatch.setattr("hybridlab.transformer.attention.attention_mask", None)
    parts += [model(x[:, i : i + 1], cache=cache) for i in (2, 3)]
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-6, rtol=1e-5)
