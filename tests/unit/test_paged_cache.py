"""The paged cache: what is read is what was written, blocks are shared and copied on write, and the books are right after any calls."""

import pytest
import torch
from hybridlab.llm.kv_memory import kv_cache_bytes
from hybridlab.llm.paged_cache import BlockPool, PagedKVCache, cache_slots
from hybridlab.llm.paged_forward import forward_paged, make_paged_cache
from hybridlab.llm.request import OutOfBlocks
from hybridlab.transformer.cache import make_caches
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer
from hypothesis import given, settings
from hypothesis import strategies as st

CONFIG = TransformerConfig.llama(23, d_model=32, n_layers=2, n_heads=4, max_time=64)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "qk_norm"])
def model(request) -> MiniTransformer:
    torch.manual_seed(0)
    config = TransformerConfig.llama(23, d_model=32, n_layers=2, n_heads=4, max_time=64, qk_norm=request.param)
    made = MiniTransformer(config).double().eval()
    for weight in made.parameters():
        weight.data.mul_(4)
    return made


def tokens(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(23, (1, n), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bytes_are_those_of_month_1s_caches_and_of_transformers(dtype: torch.dtype):
    from transformers import DynamicCache

    caches = make_caches(CONFIG, 3, dtype=dtype)  # three rows of max_time
    assert kv_cache_bytes(CONFIG, [64] * 3, dtype=dtype) == sum(c.keys.nbytes + c.values.nbytes for c in caches)
    theirs = DynamicCache()
    for layer in range(CONFIG.n_layers):
        theirs.update(*(torch.zeros(1, CONFIG.n_kv_heads, 10, CONFIG.d_head, dtype=dtype) for _ in range(2)), layer)
    assert kv_cache_bytes(CONFIG, [10], dtype=dtype) == sum(layer.keys.nbytes + layer.values.nbytes for layer in theirs.layers)
    assert kv_cache_bytes(CONFIG, [10], block_size=16, dtype=dtype) == PagedKVCache(CONFIG, 1, 16, dtype=dtype).nbytes


@pytest.mark.parametrize("block_size", [1, 3, 16])
@pytest.mark.parametrize("cut", [[9], [4, 5], [1] * 9, [3, 1, 5]])
def test_logits_are_those_of_the_model_without_a_cache_whatever_the_neighbours(model, block_size: int, cut: list[int]):
    """Two sequences that stand at different places, in turn and together."""
    cache = make_paged_cache(model, 40, block_size)
    one, other = cache.add(), cache.add()
    mine, theirs = tokens(9), tokens(16, seed=1)
    with torch.no_grad():
        forward_paged(model, theirs[:, :7], cache, [other])
        rows = []
        for piece, beside in zip(mine.split(cut, dim=1), theirs[:, 7:].split(cut, dim=1), strict=True):
            rows.append(model.lm_head(forward_paged(model, torch.cat([piece, beside]), cache, [one, other])))
        got = torch.cat(rows, dim=1)
        torch.testing.assert_close(got[:1], model(mine), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(got[1:], model(theirs)[:, 7:], rtol=1e-9, atol=1e-9)


def test_a_fork_shares_its_blocks_until_it_writes(model):
    cache = make_paged_cache(model, 10, 4)
    first, text = cache.add(), tokens(6)
    forward_paged(model, text, cache, [first])
    twin = cache.fork(first)
    assert cache.blocks_in_use == 2
    one, two = torch.tensor([[1]]), torch.tensor([[2]])
    with torch.no_grad():
        hidden = forward_paged(model, torch.cat([one, two]), cache, [first, twin])
        assert cache.blocks_in_use == 3  # the half-filled block was copied, the full one is shared
        for row, last in enumerate((one, two)):
            torch.testing.assert_close(model.lm_head(hidden[row]), model(torch.cat([text, last], 1))[0, -1:], rtol=1e-9, atol=1e-9)
    cache.drop(first)
    assert cache.blocks_in_use == 2
    cache.drop(twin)
    assert cache.blocks_in_use == 0


def test_what_is_cut_off_is_forgotten_and_its_blocks_are_free(model):
    cache = make_paged_cache(model, 10, 4)
    sequence, text = cache.add(), tokens(9)
    forward_paged(model, text, cache, [sequence])
    cache.truncate(sequence, 4)
    assert cache.blocks_in_use == 1
    again = tokens(3, seed=5)
    with torch.no_grad():
        got = model.lm_head(forward_paged(model, again, cache, [sequence]))
        torch.testing.assert_close(got, model(torch.cat([text[:, :4], again], 1))[:, 4:], rtol=1e-9, atol=1e-9)
    for bad in (-1, 8):
        with pytest.raises(ValueError, match="has 7 tokens and can't be cut"):
            cache.truncate(sequence, bad)


def test_where_the_blocks_run_out_nothing_has_changed(model):
    cache = make_paged_cache(model, 3, 4)
    a, b = cache.add(), cache.add()
    forward_paged(model, tokens(4), cache, [a])
    forward_paged(model, tokens(4), cache, [b])
    before = cache.keys.clone()
    with pytest.raises(OutOfBlocks, match="2 blocks are asked for, and 1 of 3 are free"):
        forward_paged(model, torch.tensor([[1], [2]]), cache, [a, b])
    assert torch.equal(before, cache.keys)
    assert (cache.lengths[a], cache.lengths[b], cache.pool.n_free) == (4, 4, 1)
    forward_paged(model, torch.tensor([[1]]), cache, [a])


def test_models_of_other_shapes_and_texts_that_are_too_long_are_refused(model):
    other = MiniTransformer(TransformerConfig.gpt2(23, d_model=32, n_layers=1))
    cache = make_paged_cache(other, 3)
    with pytest.raises(ValueError, match="not learned, pre-norm"):
        forward_paged(other, tokens(3), cache, [cache.add()])
    cache = make_paged_cache(model, 9)
    with pytest.raises(ValueError, match="65 tokens, and the model's max_time is 64"):
        forward_paged(model, tokens(65), cache, [cache.add()])
    with pytest.raises(ValueError, match="block_size is 0"):
        make_paged_cache(model, 3, 0)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_pools_books_are_right_after_any_calls(data):
    """Against a dictionary; among others, no block is ever given twice."""
    n = data.draw(st.integers(1, 6))
    pool, users = BlockPool(n), {}
    for _ in range(20):
        what = data.draw(st.sampled_from(["allocate", "share", "release"]))
        if what == "allocate":
            asked = data.draw(st.integers(0, n - len(users)))
            got = pool.allocate(asked)
            assert not set(got) & users.keys()
            users |= dict.fromkeys(got, 1)
        elif users:
            block = data.draw(st.sampled_from(sorted(users)))
            getattr(pool, what)([block])
            users[block] += 1 if what == "share" else -1
            users = {b: count for b, count in users.items() if count}
        assert pool.n_free == n - len(users)
        assert {b: pool.users(b) for b in range(n) if pool.users(b)} == users


def test_the_pool_refuses_in_one_sentence():
    pool = BlockPool(2)
    (block,) = pool.allocate(1)
    with pytest.raises(OutOfBlocks, match="2 blocks are asked for, and 1 of 2 are free"):
        pool.allocate(2)
    with pytest.raises(ValueError, match=f"block {block} has 1 users and can't lose 2"):
        pool.release([block, block])
    with pytest.raises(ValueError, match="block 7 has no user"):
        pool.share([7])
    with pytest.raises(ValueError, match="-1 blocks"):
        pool.allocate(-1)
    with pytest.raises(ValueError, match="n_blocks is 0"):
        BlockPool(0)


def test_slots_are_found_by_table_and_offset():
    slots, filled = cache_slots([[7, 2, 4], [1]], [5, 1], 2)
    assert slots.tolist() == [[14, 15, 4, 5, 8], [2, 0, 0, 0, 0]]
    assert filled.tolist() == [[True] * 5, [True] + [False] * 4]
    with pytest.raises(ValueError, match="1 blocks of 2 do not hold 3 tokens"):
        cache_slots([[1]], [3], 2)
    with pytest.raises(ValueError, match="shortest length is 0"):
        cache_slots([[1], [2]], [1, 0], 2)
