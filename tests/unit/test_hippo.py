"""HiPPO-LegS: the state is the projection of the whole history onto Legendre polynomials, by numpy's own Legendre series."""

import math

import numpy as np
import pytest
import torch
from hybridlab.ssm.hippo import hippo_legs, legs_basis, legs_memory, legs_normal_eigenvalues
from hybridlab.ssm.s4d import s4d_eigenvalues
from numpy.polynomial import legendre


def projection(signal: np.ndarray, n: int) -> np.ndarray:
    """∫ f(s) √(2i+1) P_i(2s - 1) ds over s = 0 … 1 for a signal that is constant within each step, by numpy's antiderivatives."""
    edges = np.linspace(-1, 1, len(signal) + 1)
    rows = [math.sqrt(2 * i + 1) * np.diff(legendre.legval(edges, legendre.legint([0] * i + [1]))) / 2 for i in range(n)]
    return np.array(rows) @ signal


@pytest.mark.parametrize(("n", "time"), [(1, 5), (2, 1), (8, 50), (64, 300)])
def test_the_state_is_the_projection_of_all_that_came_so_far(n: int, time: int):
    signal = torch.randn(time, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    states = legs_memory(signal, n)
    assert states.shape == (time, n)
    for k in {0, time // 2, time - 1}:
        np.testing.assert_allclose(states[k], projection(signal[: k + 1].numpy(), n), rtol=0, atol=1e-12)


def test_what_is_read_back_is_the_best_polynomial_and_gets_better_with_the_state():
    t = torch.linspace(0, 1, 200, dtype=torch.float64)
    signal = (6 * t).sin() + 0.5 * (14 * t**2).cos()
    middles = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    errors = []
    for n in (4, 10, 20):
        back = legs_basis(n, middles) @ legs_memory(signal, n)[-1]
        best = legendre.Legendre.fit(2 * middles.numpy() - 1, signal.numpy(), n - 1)(2 * middles.numpy() - 1)
        assert (back - signal).square().mean().sqrt() <= 1.05 * np.sqrt(np.mean((best - signal.numpy()) ** 2)) + 1e-3
        errors.append((back - signal).square().mean().sqrt().item())
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_the_basis_is_numpys():
    positions = torch.linspace(0, 1, 17, dtype=torch.float64)
    theirs = legendre.legvander(2 * positions.numpy() - 1, 9) * np.sqrt(2 * np.arange(10) + 1)
    np.testing.assert_allclose(legs_basis(10, positions), theirs, atol=1e-12)
    assert legs_basis(1, positions).shape == (17, 1)


def test_a_and_b_are_the_papers():
    """S4, equation 2, written out for n = 3; B is HiPPO's, theorem 2."""
    A, B = hippo_legs(3)
    r3, r5 = math.sqrt(3), math.sqrt(5)
    torch.testing.assert_close(A, torch.tensor([[-1, 0, 0], [-r3, -2, 0], [-r5, -r3 * r5, -3]], dtype=torch.float64))
    torch.testing.assert_close(B, torch.tensor([1, r3, r5], dtype=torch.float64))
    assert torch.linalg.eigvals(hippo_legs(20)[0]).real.max() == pytest.approx(-1)


def test_the_normal_part_decays_by_one_half_and_s4d_inv_is_close_to_it():
    exact = legs_normal_eigenvalues(64)
    assert exact.shape == (32,)
    A, _ = hippo_legs(64)
    P = (torch.arange(64, dtype=torch.float64) + 0.5).sqrt()
    numpys = np.linalg.eigvals((A + torch.outer(P, P)).numpy())
    np.testing.assert_allclose(numpys.real, -0.5, atol=1e-8)
    np.testing.assert_allclose(np.sort(numpys.imag)[32:], exact.imag, rtol=1e-7)
    inv = s4d_eigenvalues("inv", 32).flip(0)
    gaps = (inv.imag - exact.imag).abs() / exact.imag
    assert gaps.max() < 0.25  # a formula for them, not they themselves
    assert gaps[-1] < 0.02  # closest where it counts, at the largest


def test_an_empty_or_spoilt_signal_and_an_empty_state_are_refused():
    with pytest.raises(ValueError, match="no samples"):
        legs_memory(torch.zeros(0), 4)
    with pytest.raises(ValueError, match="the signal"):
        legs_memory(torch.tensor([1.0, math.nan]), 4)
    with pytest.raises(ValueError, match="n is 0"):
        hippo_legs(0)
