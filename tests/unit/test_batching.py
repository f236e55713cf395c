"""Random batches: windows of the text, targets one place later, all starts alike, all randomness from the generator."""

import pytest
import torch
from hybridlab.transformer.batching import random_batch


def draw(seed: int = 0, n_tokens: int = 50, batch_size: int = 16, time: int = 8):
    return random_batch(torch.arange(n_tokens), batch_size, time, torch.Generator().manual_seed(seed))


def test_rows_are_windows_and_targets_the_same_windows_one_place_later():
    inputs, targets = draw()
    assert inputs.shape == targets.shape == (16, 8)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(8))
    assert torch.equal(targets, inputs + 1)


def test_every_place_where_a_window_fits_is_drawn_about_equally_often():
    generator = torch.Generator().manual_seed(1)
    starts = random_batch(torch.arange(12), 9000, 3, generator)[0][:, 0]
    counts = starts.bincount(minlength=12)
    assert counts[9:].sum() == 0
    assert counts[:9].min() > 850, counts  # 1000 expected, five standard deviations are 150


def test_the_same_generator_state_gives_the_same_batch_and_the_global_state_stays():
    before = torch.get_rng_state()
    assert torch.equal(draw(3)[0], draw(3)[0])
    assert not torch.equal(draw(3)[0], draw(4)[0])
    assert torch.equal(before, torch.get_rng_state())


def test_small_integer_types_come_out_as_int64():
    inputs, targets = random_batch(torch.arange(20, dtype=torch.uint8), 2, 4, torch.Generator().manual_seed(0))
    assert inputs.dtype == targets.dtype == torch.int64


def test_exactly_one_window_is_enough_and_one_token_less_is_refused():
    generator = torch.Generator().manual_seed(0)
    inputs, targets = random_batch(torch.arange(5), 3, 4, generator)
    assert inputs.tolist() == [[0, 1, 2, 3]] * 3
    assert targets.tolist() == [[1, 2, 3, 4]] * 3
    with pytest.raises(ValueError, match="4 tokens hold no window of 4"):
        random_batch(torch.arange(4), 3, 4, generator)
