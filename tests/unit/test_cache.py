"""The KV cache: what was put in comes back in order, nothing old is copied, nothing runs over."""

import pytest
import torch
from hybridlab.transformer.cache import KVCache, make_caches
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer


def pieces(lengths: list[int], seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(2, 3, n, 4, generator=generator), torch.randn(2, 3, n, 4, generator=generator)) for n in lengths]


@pytest.mark.parametrize("lengths", [[1], [5, 1, 1], [1, 1, 1], [3, 4, 1], [8]])
def test_appending_in_pieces_gives_all_keys_and_values_in_order(lengths: list[int]):
    cache, parts = KVCache(2, 3, 8, 4), pieces(lengths)
    for i, (k, v) in enumerate(parts):
        all_k, all_v = cache.append(k, v)
        assert torch.equal(all_k, torch.cat([p[0] for p in parts[: i + 1]], dim=2))
        assert torch.equal(all_v, torch.cat([p[1] for p in parts[: i + 1]], dim=2))
        assert len(cache) == all_k.shape[2]


def test_old_tokens_are_not_copied():
    cache = KVCache(2, 3, 8, 4)
    places = {cache.append(k, v)[0].data_ptr() for k, v in pieces([2, 1, 1])}
    assert len(places) == 1


def test_a_full_cache_refuses_and_stays_as_it_was():
    cache = KVCache(2, 3, 4, 4)
    (k, v), more = pieces([3, 2])
    cache.append(k, v)
    with pytest.raises(ValueError, match="holds 4 tokens: 3 are there, 2 more do not fit"):
        cache.append(*more)
    assert len(cache) == 3
    assert torch.equal(cache.append(more[0][:, :, :1], more[1][:, :, :1])[0][:, :, :3], k)


def test_the_cache_keeps_its_own_dtype():
    cache = KVCache(2, 3, 8, 4, dtype=torch.bfloat16)
    (k, v) = pieces([3])[0]
    all_k, all_v = cache.append(k, v)
    assert all_k.dtype == all_v.dtype == torch.bfloat16
    assert torch.equal(all_k, k.bfloat16())


@pytest.mark.parametrize("family", [TransformerConfig.gpt2, TransformerConfig.llama])
@pytest.mark.parametrize("lengths", [[12], [5, 1, 1, 1, 4], [1] * 12])
def test_a_model_with_caches_gives_the_logits_of_the_model_without(family, lengths: list[int]):
    torch.manual_seed(0)
    config = family(17, d_model=32, n_layers=3, n_heads=4, max_time=12)
    model = MiniTransformer(config).eval()
    tokens = torch.randint(17, (2, 12), generator=torch.Generator().manual_seed(1))
    caches = make_caches(config, 2)
    with torch.no_grad():
        whole = model(tokens)
        parts = [model(piece, caches=caches) for piece in tokens.split(lengths, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)  # other order of summation


def test_every_layer_gets_a_cache_of_its_own_of_the_dtype_asked_for():
    config = TransformerConfig.llama(9, n_layers=3, max_time=7)
    caches = make_caches(config, 2, dtype=torch.bfloat16)
    assert len({id(cache) for cache in caches}) == 3
    assert {(cache.keys.dtype, cache.keys.shape[0], cache.keys.shape[2]) for cache in caches} == {(torch.bfloat16, 2, 7)}


def test_grouped_heads_make_the_cache_smaller():
    grouped, full = (
        make_caches(TransformerConfig.llama(9, n_heads=4, n_kv_heads=n), 1)[0] for n in (1, 4)
    )
    assert full.keys.numel() == 4 * grouped.keys.numel()
