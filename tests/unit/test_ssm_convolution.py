"""Recurrence, kernel and FFT convolution against scipy and each other, over lengths that are no powers of two; nothing wraps round."""

import math

import numpy as np
import pytest
import torch
from hybridlab.ssm.convolution import causal_convolution, recurrence_kernel, run_recurrence
from hybridlab.ssm.discretize import discretize
from hybridlab.ssm.fft_length import fast_length
from hybridlab.ssm.hippo import hippo_legs
from scipy.fft import next_fast_len
from scipy.signal import dlsim

LENGTHS = (1, 2, 3, 7, 64, 100, 257, 1000)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def legs(n: int = 8, dt: float = 0.05) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return *discretize(*hippo_legs(n), dt), normal(n, seed=5)


def test_the_recurrence_is_scipys_simulation_of_the_same_system():
    A_bar, B_bar, C = legs()
    u = normal(60, seed=1)
    y, state = run_recurrence(A_bar, B_bar, C, u)
    # dlsim's output at step k is C x_k + D u_k with the state *before* the input: ours is C (Ā x + B̄ u)
    system = (A_bar.numpy(), B_bar[:, None].numpy(), (C @ A_bar)[None].numpy(), (C @ B_bar).reshape(1, 1).numpy(), 1)
    _, theirs, states = dlsim(system, u.numpy())
    torch.testing.assert_close(y, torch.from_numpy(theirs[:, 0]), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(A_bar @ torch.from_numpy(states[-1]) + B_bar * u[-1], state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("time", LENGTHS)
def test_recurrence_equals_convolution_over_lengths(time: int, dtype: torch.dtype):
    """1e-5 is the promise in float32; float64 shows that nothing but rounding is between them."""
    A_bar, B_bar, C = (part.to(dtype) for part in legs())
    u = normal(3, time, seed=time, dtype=dtype)
    y, _ = run_recurrence(A_bar, B_bar, C, u)
    kernel = recurrence_kernel(A_bar, B_bar, C, time)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(causal_convolution(u, kernel), y, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("time", "taps"), [(1, 1), (5, 9), (9, 5), (100, 100), (127, 3), (6, 500)])
def test_the_fft_gives_numpys_convolution(time: int, taps: int):
    u, kernel = normal(2, time, seed=1), normal(taps, seed=2)
    theirs = np.stack([np.convolve(row, kernel)[:time] for row in u.numpy()])
    torch.testing.assert_close(causal_convolution(u, kernel), torch.from_numpy(theirs), rtol=1e-11, atol=1e-11)


def test_fast_lengths_are_scipys():
    assert all(fast_length(n) == next_fast_len(n, real=True) for n in (*range(1, 2000), 262_143))
    with pytest.raises(ValueError, match="n is 0"):
        fast_length(0)


@pytest.mark.parametrize("time", [8, 13])
def test_nothing_wraps_round_and_nothing_leaks_back(time: int):
    """A one at step k is answered from k on; a kernel that does not die out would show any circle."""
    for k in range(time):
        u = torch.zeros(time, dtype=torch.float64)
        u[k] = 1
        expected = torch.cat([torch.zeros(k), torch.ones(time - k)]).double()
        torch.testing.assert_close(causal_convolution(u, torch.ones(time, dtype=torch.float64)), expected, rtol=0, atol=1e-12)


def test_each_feature_has_a_kernel_of_its_own_and_dtypes_are_kept():
    u, kernel = normal(2, 3, 10, seed=1), normal(3, 6, seed=2)
    out = causal_convolution(u, kernel)
    for d in range(3):
        torch.testing.assert_close(out[:, d], causal_convolution(u[:, d], kernel[d]))
    half = causal_convolution(u.bfloat16(), kernel.float())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), causal_convolution(u.bfloat16().double(), kernel.float().double()), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("cuts", [(1,), (0, 5), (3, 4, 40), tuple(range(50))])
def test_a_sequence_read_in_pieces_gives_what_it_gives_at_once(cuts: tuple[int, ...]):
    A_bar, B_bar, C = legs()
    u = normal(2, 50, seed=1)
    whole, last = run_recurrence(A_bar, B_bar, C, u, normal(2, 8, seed=2))
    state, pieces = normal(2, 8, seed=2), []
    for start, end in zip((0, *cuts), (*cuts, 50), strict=True):
        y, state = run_recurrence(A_bar, B_bar, C, u[:, start:end], state)
        pieces.append(y)
    assert torch.equal(state, last)  # bit for bit
    torch.testing.assert_close(torch.cat(pieces, -1), whole, rtol=1e-13, atol=1e-13)


def test_gradients_are_those_of_numerical_differences():
    A_bar, B_bar, C = (part.requires_grad_() for part in legs(3))
    u, state = normal(2, 6, seed=1).requires_grad_(), normal(2, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(run_recurrence, (A_bar, B_bar, C, u, state))
    assert torch.autograd.gradcheck(lambda *abc: recurrence_kernel(*abc, 5), (A_bar, B_bar, C))
    assert torch.autograd.gradcheck(causal_convolution, (u, normal(4, seed=3).requires_grad_()))


def test_a_system_that_grows_is_named_before_nan_spreads():
    A_bar, B_bar, C = torch.tensor([[1.1]]), torch.ones(1), torch.ones(1)
    assert run_recurrence(A_bar, B_bar, C, torch.ones(20))[0].isfinite().all()  # growing, and not yet too large
    for refused in (lambda: run_recurrence(A_bar, B_bar, C, torch.ones(2000)), lambda: recurrence_kernel(A_bar, B_bar, C, 2000)):
        with pytest.raises(ValueError, match=r"overflowed: the largest \|eigenvalue\| of A_bar is 1.1"):
            refused()
    hidden = torch.diag(torch.tensor([0.5, 3.0]))  # grows where C does not look
    with pytest.raises(ValueError, match="the recurrence overflowed"):
        run_recurrence(hidden, torch.ones(2), torch.tensor([1.0, 0.0]), torch.ones(200))


def test_numbers_that_are_none_and_shapes_that_do_not_fit_are_refused():
    A_bar, B_bar, C = legs(4)
    for spoilt in (math.nan, math.inf):
        u = normal(2, 5)
        u[1, 3] = spoilt
        with pytest.raises(ValueError, match=r"1 of 10 numbers of u .* \[1, 3\]"):
            run_recurrence(A_bar, B_bar, C, u)
        with pytest.raises(ValueError, match="numbers of state"):
            run_recurrence(A_bar, B_bar, C, normal(5), spoilt * torch.ones(4, dtype=torch.float64))
        with pytest.raises(ValueError, match="numbers of u"):
            causal_convolution(u, normal(3))
        with pytest.raises(ValueError, match="numbers of kernel"):
            causal_convolution(normal(3), u)
    with pytest.raises(ValueError, match=r"state is \(3,\)"):
        run_recurrence(A_bar, B_bar, C, normal(5), normal(3))
    with pytest.raises(ValueError, match="length is 0"):
        recurrence_kernel(A_bar, B_bar, C, 0)
    for u, kernel in ((normal(2, 0), normal(3)), (normal(2, 3), normal(0))):
        with pytest.raises(ValueError, match="both need at least one"):
            causal_convolution(u, kernel)


def test_no_steps_leave_the_state_as_it_came():
    A_bar, B_bar, C = legs(4)
    start = normal(2, 4)
    y, state = run_recurrence(A_bar, B_bar, C, normal(2, 0), start)
    assert y.shape == (2, 0)
    assert torch.equal(state, start)
