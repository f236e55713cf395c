"""Continuous to discrete against scipy's `cont2discrete` and an integrator of differential equations; what is refused, by name."""

import math

import pytest
import torch
from hybridlab.ssm.discretize import discretize
from hybridlab.ssm.hippo import hippo_legs
from hybridlab.ssm.stability import half_life, require_decay, require_finite, require_step, spectral_radius
from scipy.integrate import solve_ivp
from scipy.signal import cont2discrete


def system(n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, n, generator=g, dtype=torch.float64), torch.randn(n, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("method", ["zoh", "bilinear"])
@pytest.mark.parametrize("dt", [1e-4, 0.1, 1.7])
@pytest.mark.parametrize("n", [1, 2, 9])
def test_both_methods_are_scipys(n: int, dt: float, method: str):
    A, B = system(n, seed=n)
    before = A.clone(), B.clone()
    A_bar, B_bar = discretize(A, B, dt, method)
    theirs = cont2discrete((A.numpy(), B[:, None].numpy(), A.numpy()[:1], [[0.0]]), dt, method=method)
    torch.testing.assert_close(A_bar, torch.from_numpy(theirs[0]), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(B_bar, torch.from_numpy(theirs[1][:, 0]), rtol=1e-10, atol=1e-12)
    assert torch.equal(A, before[0])
    assert torch.equal(B, before[1])


def test_zero_order_hold_is_the_differential_equation_itself():
    """An ODE solver over one step with u held at 0.7 ends where the recurrence does."""
    A, B = system(4, seed=3)
    x, u, dt = torch.tensor([0.3, -1.0, 0.5, 2.0], dtype=torch.float64), 0.7, 0.8
    A_bar, B_bar = discretize(A, B, dt)
    solved = solve_ivp(lambda t, x: A.numpy() @ x + B.numpy() * u, (0, dt), x.numpy(), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(A_bar @ x + B_bar * u, torch.from_numpy(solved.y[:, -1]), rtol=1e-8, atol=1e-9)


def test_an_integrator_has_no_inverse_and_is_exact_nevertheless():
    A, B = torch.zeros(2, 2), torch.tensor([1.0, -2.0])
    for method in ("zoh", "bilinear"):
        A_bar, B_bar = discretize(A, B, 0.25, method)
        assert torch.equal(A_bar, torch.eye(2))
        torch.testing.assert_close(B_bar, 0.25 * B)
        assert A_bar.dtype == torch.float32


@pytest.mark.parametrize("dt", [1e-4, 0.01, 1.0])
def test_a_stable_system_stays_stable_whatever_the_step(dt: float):
    """Both rules map the left half plane into the unit circle; forward Euler, for comparison, does not."""
    A, B = hippo_legs(32)
    for method in ("zoh", "bilinear"):
        assert spectral_radius(discretize(A, B, dt, method)[0]) < 1
    euler = torch.eye(32, dtype=torch.float64) + dt * A
    assert (spectral_radius(euler) < 1) == (dt < 2 / 32)


def test_what_makes_no_sense_is_refused_with_its_value():
    A, B = system(3)
    for dt in (0, -0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="step size dt"):
            discretize(A, B, dt)
    for spoilt in (math.nan, math.inf):
        bad = A.clone()
        bad[1, 2] = spoilt
        with pytest.raises(ValueError, match=r"1 of 9 numbers of A .* \[1, 2\]"):
            discretize(bad, B, 0.1)
        with pytest.raises(ValueError, match="numbers of B"):
            discretize(A, B * spoilt, 0.1, "bilinear")
    with pytest.raises(ValueError, match="3 × 3"):
        discretize(A[:2], B, 0.1)
    with pytest.raises(ValueError, match="euler"):
        discretize(A, B, 0.1, "euler")
    with pytest.raises(ValueError, match="no inverse"):
        discretize(torch.eye(3), B.float(), 2.0, "bilinear")
    with pytest.raises(ValueError, match="discrete system at dt = 1000"):
        discretize(torch.eye(3), B.float(), 1000.0)


def test_growth_steps_and_numbers_are_judged_by_name():
    require_step(torch.tensor([0.1, 1e-9]))
    require_decay(torch.tensor([-0.5 + 3j, -1e-6]))
    require_finite("x", torch.tensor([1.0 + 2j]))
    with pytest.raises(ValueError, match=r"dt is -1;"):
        require_step(torch.tensor([0.1, -1.0]))
    with pytest.raises(ValueError, match="must be below 0"):
        require_decay(torch.tensor([-0.5 + 3j, 0.0 + 1j]))
    with pytest.raises(ValueError, match="eigenvalues are NaN"):
        require_decay(torch.tensor([complex(math.nan, 1.0)]))
    assert half_life(torch.diag(torch.tensor([0.5, 0.25]))) == pytest.approx(1)
    assert half_life(torch.eye(2)) == math.inf
    assert half_life(torch.zeros(2, 2)) == 0
