"""What a state can hold: the closed form against least squares on simulated noise, the law that bounds it, and the two trainings."""

import numpy as np
import pytest
import torch
from hybridlab.data.digits import sequential_digits
from hybridlab.ssm.convolution import recurrence_kernel
from hybridlab.ssm.discretize import discretize
from hybridlab.ssm.hippo import hippo_legs
from hybridlab.ssm.memory_study import (
    digits_accuracy,
    of_equal_size,
    random_discrete,
    random_rotation,
    random_stable,
    recall,
    responses,
    train_to_memorise,
)
from hybridlab.ssm.s4d import as_real_system, s4d_eigenvalues
from hybridlab.ssm.stability import spectral_radius
from scipy.signal import lfilter


def test_responses_by_doubling_are_the_kernel_read_number_by_number():
    A_bar, B_bar = discretize(*hippo_legs(6), 0.1)
    for lags in (1, 2, 3, 37):
        rows = responses(A_bar, B_bar, lags)
        expected = torch.stack([recurrence_kernel(A_bar, B_bar, unit, lags) for unit in torch.eye(6, dtype=torch.float64)], 1)
        torch.testing.assert_close(rows, expected)


def test_recall_is_the_r2_of_least_squares_on_simulated_noise():
    """20,000 samples of white noise through scipy's filter, numpy's least squares from state to past inputs, judged on other samples."""
    n, lags, noise, samples = 6, 20, 0.05, 20_000
    A_bar, B_bar = discretize(*hippo_legs(n), 1 / n, "bilinear")
    rows = of_equal_size(responses(A_bar, B_bar, 400))
    g = np.random.default_rng(0)
    u = g.standard_normal(2 * samples)
    states = np.stack([lfilter(rows[:, i].numpy(), [1.0], u) for i in range(n)], 1) + noise * g.standard_normal((2 * samples, n))
    past = np.stack([np.roll(u, j) for j in range(lags)], 1)
    known, new = slice(500, samples), slice(samples, None)
    readout = np.linalg.lstsq(states[known], past[known], rcond=None)[0]
    r2 = 1 - ((past[new] - states[new] @ readout) ** 2).mean(0) / past[new].var(0)
    np.testing.assert_allclose(recall(rows, noise)[:lags], r2, atol=0.03)


def test_a_state_of_n_numbers_holds_at_most_n_values_and_legs_holds_them():
    """Jaeger's bound, and what the lesson's figure shows of each A at n = 32, known to about bfloat16's precision."""
    n, noise = 32, 2e-3
    systems = {
        "legs": discretize(*hippo_legs(n), 1 / n, "bilinear"),
        "lin": discretize(*as_real_system(s4d_eigenvalues("lin", n // 2)), 2 / n),
        "real": discretize(*as_real_system(s4d_eigenvalues("real", n // 2)), 0.01),
        "random": discretize(*random_stable(n, 0), 0.1),
        "rotation": random_rotation(n, 0.99, 0),
    }
    held = {name: recall(responses(*system, 4096), noise).sum().item() for name, system in systems.items()}
    assert max(held.values()) <= n + 1e-6
    assert held["legs"] > n - 0.1
    assert held["lin"] == pytest.approx(n - 1, abs=0.2)  # λ_0 is real: its two numbers are one
    assert held["rotation"] > n - 1
    assert held["real"] < n / 3
    assert held["random"] < n / 3


def test_random_systems_are_as_stable_as_they_say():
    assert torch.linalg.eigvals(random_stable(20, 1)[0]).real.max().item() == pytest.approx(-0.5)
    assert spectral_radius(random_discrete(20, 0.9, 1)[0]) == pytest.approx(0.9)
    A_bar, _ = random_rotation(20, 0.9, 1)
    torch.testing.assert_close(A_bar @ A_bar.T, 0.81 * torch.eye(20, dtype=torch.float64))


@pytest.mark.slow(seconds=5)
@pytest.mark.parametrize("train_A", [False, True])
def test_gradients_find_legs_memory_and_not_that_of_a_random_a(train_A: bool):
    settings = {"values": 16, "train_A": train_A, "steps": 80, "lags": 128}
    legs = train_to_memorise(*hippo_legs(16), 2 / 16, **settings)
    others = [train_to_memorise(*random_stable(16, seed), 0.3, **settings) for seed in range(3)]
    assert legs[0].item() == pytest.approx(1, abs=1e-5)
    assert legs[-1] < 0.35
    assert min(other[-1].item() for other in others) > 1.5 * legs[-1].item()


@pytest.mark.slow(seconds=15)
def test_legs_reads_digits_pixel_by_pixel_better_than_a_random_a():
    train, test = sequential_digits(2)
    assert train.pixels.shape == (1300, 256)
    assert test.pixels.shape == (497, 256)
    assert train.pixels.min() == -1
    assert train.pixels.max() == 1
    assert torch.equal(train.pixels[:, 0:16:2], train.pixels[:, 17:32:2])  # each pixel stands twice in a row, and in two rows
    legs = digits_accuracy(*discretize(*hippo_legs(32), 2 / 256, "bilinear"), train, test)
    others = [digits_accuracy(*discretize(*random_stable(32, seed), 0.03, "bilinear"), train, test) for seed in range(2)]
    assert legs > 0.85
    assert max(others) < 0.75
    with pytest.raises(ValueError, match="repeat is 0"):
        sequential_digits(0)
