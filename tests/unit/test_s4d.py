"""S4D: kernels against scipy's discrete systems, the paper's λ, the layer as convolution and as recurrence, and what is refused."""

import math

import numpy as np
import pytest
import torch
from hybridlab.ssm.convolution import recurrence_kernel
from hybridlab.ssm.discretize import discretize
from hybridlab.ssm.s4d import S4D, S4DBlock, as_real_system, s4d_eigenvalues, s4d_kernel
from hybridlab.ssm.stability import as_complex
from scipy.signal import cont2discrete


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("kind", ["lin", "inv", "real"])
@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_the_kernel_is_that_of_scipys_discrete_system(kind: str, length: int):
    """A complex diagonal system, discretised by scipy: its answer to a one, real part twice."""
    eigenvalues, dt = s4d_eigenvalues(kind, 5).to(torch.complex128)[None], torch.tensor([0.03], dtype=torch.float64)
    C = normal(1, 5, dtype=torch.complex128)
    A_bar, B_bar, *_ = cont2discrete((np.diag(eigenvalues[0].numpy()), np.ones((5, 1)), C.numpy(), np.zeros((1, 1))), 0.03, method="zoh")
    theirs = [2 * (C.numpy() @ np.linalg.matrix_power(A_bar, j) @ B_bar).real.item() for j in range(length)]
    got = s4d_kernel(eigenvalues, C, dt, length)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got[0], theirs, rtol=1e-9, atol=1e-10)


def test_the_kernel_of_a_diagonal_system_is_that_of_its_real_blocks():
    """Two real numbers for each complex one: C's real and -imaginary part read them; twice, as y is 2 Re."""
    eigenvalues, C = s4d_eigenvalues("inv", 4), normal(4, dtype=torch.complex64)
    A_bar, B_bar = discretize(*as_real_system(eigenvalues), 0.05)
    reads = torch.stack([2 * C.real, -2 * C.imag], -1).flatten().double()
    expected = recurrence_kernel(A_bar, B_bar, reads, 50)
    torch.testing.assert_close(s4d_kernel(eigenvalues[None], C[None], torch.tensor([0.05]), 50)[0], expected.float(), rtol=1e-4, atol=1e-5)


def test_tiny_steps_keep_their_digits():
    """exp(z) - 1 in float32 has no correct digit at |z| = 1e-8; B̄ = dt to first order."""
    kernel = s4d_kernel(torch.full((1, 1), -0.5 + 1j), torch.ones(1, 1, dtype=torch.complex64), torch.tensor([1e-8]), 3)
    torch.testing.assert_close(kernel, torch.full((1, 3), 2e-8), rtol=1e-5, atol=0)


def test_the_eigenvalues_are_the_papers():
    """S4D, section 4: λ for N = 4 by hand."""
    torch.testing.assert_close(s4d_eigenvalues("lin", 2), torch.tensor([-0.5, -0.5 + 1j * math.pi]))
    torch.testing.assert_close(s4d_eigenvalues("real", 2), torch.tensor([-1.0 + 0j, -2.0]))
    torch.testing.assert_close(s4d_eigenvalues("inv", 2), torch.tensor([-0.5 + 12j / math.pi, -0.5 + 4j / (3 * math.pi)]))
    with pytest.raises(ValueError, match="choose one of lin, inv, real"):
        s4d_eigenvalues("legs", 2)
    with pytest.raises(ValueError, match="half is 0"):
        s4d_eigenvalues("lin", 0)


@pytest.mark.parametrize("kind", ["lin", "inv", "real"])
@pytest.mark.parametrize("time", [1, 5, 64, 333])
def test_the_layer_reads_step_by_step_what_it_reads_at_once(kind: str, time: int):
    torch.manual_seed(0)
    block = S4DBlock(6, d_state=16, kind=kind)
    x = normal(2, time, 6)
    with torch.no_grad():
        whole, state, steps = block(x), block.ssm.initial_state(2), []
        for x_t in x.unbind(1):
            y, state = block.step(x_t, state)
            steps.append(y)
    torch.testing.assert_close(torch.stack(steps, 1), whole, rtol=1e-5, atol=1e-5)
    assert state.shape == (2, 6, 8)


def test_no_output_knows_a_later_input():
    torch.manual_seed(0)
    layer, x = S4D(3, 8), normal(1, 20, 3)
    changed = x.clone()
    changed[:, 12:] += 1
    with torch.no_grad():
        torch.testing.assert_close(layer(changed)[:, :12], layer(x)[:, :12], rtol=0, atol=1e-5)
        assert (layer(changed)[:, 12:] - layer(x)[:, 12:]).abs().min() > 1e-3


def test_training_lowers_the_loss_and_never_makes_the_state_grow():
    """A layer learns to repeat what came eight steps ago, with a step size of the optimiser that would throw λ about."""
    torch.manual_seed(0)
    layer = S4D(1, 32, dt_range=(0.1, 0.1))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    losses = []
    for step in range(120):
        u = normal(16, 40, 1, seed=step)
        loss = (layer(u)[:, 8:] - u[:, :-8]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    assert layer.eigenvalues.real.max() < 0
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_gradients_are_those_of_numerical_differences():
    pairs, C = normal(2, 3, 2, dtype=torch.float64, seed=1), normal(2, 3, 2, dtype=torch.float64, seed=2)
    dt = torch.tensor([0.1, 0.7], dtype=torch.float64)

    def kernel(pairs, C, dt):
        eigenvalues = torch.complex(-pairs[..., 0].exp(), pairs[..., 1])
        return s4d_kernel(eigenvalues, as_complex(C), dt, 6)

    assert torch.autograd.gradcheck(kernel, tuple(part.requires_grad_() for part in (pairs, C, dt)))


def test_extremes_end_in_a_clear_error_and_never_in_nan():
    eigenvalues, C = s4d_eigenvalues("lin", 2)[None], torch.ones(1, 2, dtype=torch.complex64)
    for dt in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="step size dt"):
            s4d_kernel(eigenvalues, C, torch.tensor([dt]), 5)
    for spoilt in (complex(0, 1), complex(0.1, 1), complex(math.nan, 1)):
        bad = eigenvalues.clone()
        bad[0, 1] = spoilt
        with pytest.raises(ValueError, match=r"below 0|eigenvalues are NaN"):
            s4d_kernel(bad, C, torch.tensor([0.1]), 5)
    with pytest.raises(ValueError, match="numbers of C"):
        s4d_kernel(eigenvalues, C * math.nan, torch.tensor([0.1]), 5)
    with pytest.raises(ValueError, match="length is 0"):
        s4d_kernel(eigenvalues, C, torch.tensor([0.1]), 0)
    for dt in (1e-30, 1e30):  # the ends of what float32 holds: nothing moves, or everything is gone after a step
        assert s4d_kernel(eigenvalues, C, torch.tensor([dt]), 1000).isfinite().all()
    torch.manual_seed(0)
    layer = S4D(2, 4)
    with torch.no_grad():
        layer.log_dt.fill_(200.0)
        with pytest.raises(ValueError, match="dt is inf"):
            layer(torch.ones(1, 5, 2))
    with pytest.raises(ValueError, match="numbers of u"):
        S4D(2, 4).step(torch.tensor([[1.0, math.nan]]), S4D(2, 4).initial_state(1))
    for wrong in ({"d_state": 3}, {"d_state": 0}, {"dt_range": (0.0, 0.1)}, {"dt_range": (0.1, 0.01)}):
        with pytest.raises(ValueError, match=r"d_state is|dt_range is"):
            S4D(2, **wrong)
