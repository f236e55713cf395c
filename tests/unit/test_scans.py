"""The three scans give one result: whole, in chunks, in pieces, token by token, in every dtype; and refuse what would become NaN."""

import pytest
import torch
from hybridlab.ssm.chunked_scan import chunked_scan
from hybridlab.ssm.selective_scan import selective_scan
from hybridlab.ssm.ssd import FORGOTTEN, segment_sum, ssd
from transformers.models.mamba.modeling_mamba import mamba_selective_scan
from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

LENGTHS = (1, 2, 31, 32, 33, 64, 65, 127, 1000, 4999, 5000)
SELECTIVE = {"loop": selective_scan, "chunked": chunked_scan}


def draw(shapes, seed, dtype, dt):
    """x, dt, A, B, C, state of these shapes: steps of about `dt`, decays of a few."""
    g = torch.Generator().manual_seed(seed)
    x, step, A, B, C, state = (torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for shape in shapes)
    return x, step.abs() * dt, -A.abs() * 3, B, C, state


def selective(time, *, batch=2, d_inner=3, d_state=4, seed=0, dtype=torch.float64, dt=0.3):
    """Inputs of Mamba's scan."""
    outer, inner = (batch, time, d_inner), (batch, time, d_state)
    return draw((outer, outer, (d_inner, d_state), inner, inner, (batch, d_inner, d_state)), seed, dtype, dt)


def heads(time, *, batch=2, n_heads=4, d_head=3, groups=2, d_state=5, seed=0, dtype=torch.float64, dt=0.3):
    """Inputs of Mamba-2's scan."""
    outer, inner = (batch, time, n_heads), (batch, time, groups, d_state)
    return draw(((*outer, d_head), outer, (n_heads,), inner, inner, (batch, n_heads, d_head, d_state)), seed, dtype, dt)


def ssd_as_loop(x, dt, A, B, C, state):
    """Mamba-2's recurrence in one group as a case of Mamba's: a head's channels share dt, and a row of A is constant."""
    n_heads, d_head, d_state = state.shape[1:]
    wide = A[:, None, None].expand(n_heads, d_head, d_state).reshape(-1, d_state)
    y, h = selective_scan(x.flatten(2), dt.repeat_interleave(d_head, 2), wide, B[:, :, 0], C[:, :, 0], state.flatten(1, 2))
    return y.unflatten(2, (n_heads, d_head)), h.unflatten(1, (n_heads, d_head))


def same(got, expected, *, rtol=1e-9, atol=1e-9):
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=rtol, atol=atol)


# ---------------------------------------------------------------- against others


@pytest.mark.parametrize("scan", SELECTIVE.values(), ids=SELECTIVE)
def test_mambas_scan_is_that_of_transformers(scan):
    x, dt, A, B, C, _ = selective(70, dtype=torch.float32)
    y, h = mamba_selective_scan(x.mT, dt.mT, A, B.mT, C.mT, return_last_state=True)
    same(scan(x, dt, A, B, C), (y.mT, h), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("begin", [False, True], ids=["from nothing", "from a state"])
def test_mamba2s_scan_is_that_of_transformers(begin):
    x, dt, A, B, C, state = heads(150, dtype=torch.float32)
    state = state if begin else None
    theirs = mamba2_chunk_scan(x, dt, A, B, C, 32, initial_states=state, return_final_states=True)
    same(ssd(x, dt, A, B, C, state), theirs, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- one result


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("time", LENGTHS)
def test_loop_and_chunks_agree_at_every_length(time):
    inputs = selective(time)
    same(chunked_scan(*inputs), selective_scan(*inputs))
    narrow = tuple(part.float() for part in inputs)  # float32: 5,000 sums of numbers around 1, in another order
    same(chunked_scan(*narrow), selective_scan(*narrow), rtol=1e-4, atol=1e-5)


@pytest.mark.slow(seconds=2)
@pytest.mark.parametrize("time", LENGTHS)
def test_matmuls_and_loop_agree_at_every_length(time):
    inputs = heads(time, groups=1)
    same(ssd(*inputs), ssd_as_loop(*inputs))
    narrow = tuple(part.float() for part in inputs)
    same(ssd(*narrow), ssd_as_loop(*narrow), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("chunk", [1, 7, 64, 1000])
def test_the_chunk_changes_nothing(chunk):
    same(chunked_scan(*selective(133), chunk=chunk), selective_scan(*selective(133)))
    same(ssd(*heads(133), chunk=chunk), ssd(*heads(133), chunk=133))


@pytest.mark.parametrize("cuts", [[1] * 70, [1, 2, 63, 3, 1], [69, 1], [32, 38]], ids=str)
def test_a_text_may_be_cut_anywhere_when_the_state_is_carried(cuts):
    for make, scans in ((selective, SELECTIVE.values()), (heads, (ssd,))):
        x, dt, A, B, C, state = make(70)
        for scan in scans:
            whole = scan(x, dt, A, B, C, state)
            ys, now = [], state
            for x_p, dt_p, B_p, C_p in zip(*(part.split(cuts, 1) for part in (x, dt, B, C)), strict=True):
                y, now = scan(x_p, dt_p, A, B_p, C_p, now)
                ys.append(y)
            same((torch.cat(ys, 1), now), whole)


@pytest.mark.parametrize(("scan", "make"), [(chunked_scan, selective), (selective_scan, selective), (ssd, heads)])
def test_gradients_are_those_of_finite_differences(scan, make):
    inputs = [part.requires_grad_() for part in make(7, batch=1)]
    chunk = {} if scan is selective_scan else {"chunk": 3}
    assert torch.autograd.gradcheck(lambda *parts: scan(*parts, **chunk), inputs)


@pytest.mark.parametrize("scan", SELECTIVE.values(), ids=SELECTIVE)
def test_backward_takes_time_in_proportion_to_the_length(scan):
    """Each slice x[:, t] would put a node on the graph that makes a gradient of the size of all of x: as many as tokens."""
    nodes, todo = set(), [scan(*(part.requires_grad_() for part in selective(64)))[0].grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            todo += [following for following, _ in node.next_functions]
    assert sum(node.name() in ("SelectBackward0", "SliceBackward0") for node in nodes) <= 3


# ---------------------------------------------------------------- half precision


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("kind", ["loop", "chunked", "ssd"])
def test_in_bfloat16_decays_and_state_stay_float32(kind):
    """5,000 tokens: what goes wrong is the rounding of the result and no more; with steps in bfloat16 the state is far off."""
    make, scan = (heads, ssd) if kind == "ssd" else (selective, SELECTIVE[kind])
    x, dt, A, B, C, _ = make(5000, dtype=torch.float32, dt=0.01)
    half = [part.bfloat16() for part in (x, B, C)]
    y, state = scan(half[0], dt, A, half[1], half[2])
    exact_y, exact = scan(half[0].float(), dt, A, half[1].float(), half[2].float())
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    same((state, y), (exact, exact_y.bfloat16()), rtol=0, atol=0)
    _, rounded = scan(half[0], dt.bfloat16(), A, half[1], half[2])
    assert (rounded - exact).abs().max() > 1e-3 * exact.abs().max()


# ---------------------------------------------------------------- extremes


def test_a_segment_sum_is_the_sum_of_the_stretch():
    steps = -torch.rand(2, 9, dtype=torch.float64)
    S = segment_sum(steps)
    for i in range(9):
        for j in range(9):
            expected = steps[:, j + 1 : i + 1].sum(-1) if j <= i else torch.full((2,), -torch.inf, dtype=torch.float64)
            torch.testing.assert_close(S[:, i, j], expected)


def test_what_stands_behind_a_reset_keeps_its_digits():
    """One step of -1e6 forgets all; a plain running sum has no digits left for the steps behind it."""
    x, dt, A, B, C, state = heads(64, groups=1, dtype=torch.float32)
    dt[:, 20] = 1e6
    exact = ssd_as_loop(*(part.double() for part in (x, dt, A, B, C, state)))
    same((part.double() for part in ssd(x, dt, A, B, C, state)), exact, rtol=2e-5, atol=1e-6 * exact[0].abs().max().item())
    assert (dt[:, 20] * A).max() < FORGOTTEN


@pytest.mark.parametrize("size", [0.0, 1e-30, 1.0, 1e4, 1e15, 1e30])
@pytest.mark.parametrize("decay", [1e-30, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("kind", ["loop", "chunked", "ssd"])
def test_extreme_steps_give_numbers_forward_and_backward(kind, size, decay):
    make, scan = (heads, ssd) if kind == "ssd" else (selective, SELECTIVE[kind])
    x, dt, A, B, C, state = make(40, dtype=torch.float32)
    inputs = [part.requires_grad_() for part in (x, dt * size, A * decay, B, C, state)]
    y, end = scan(*inputs)
    assert y.isfinite().all()
    assert end.isfinite().all()
    grads = torch.autograd.grad((y / y.detach().abs().max().clamp(min=1)).sum(), inputs)
    assert all(g.isfinite().all() for g in grads)


BAD = {
    "x with NaN": (lambda p: p["x"][:, 3].fill_(torch.nan), r"x has \d+ values that are not finite, the first at \[0, 3"),
    "dt is infinite": (lambda p: p["dt"][:, 3].fill_(torch.inf), r"dt has \d+ values that are not finite"),
    "B is infinite": (lambda p: p["B"][:, -1].fill_(torch.inf), "B has"),
    "the state is NaN": (lambda p: p["state"].fill_(torch.nan), "state has"),
    "the product overflows": (lambda p: (p["dt"].fill_(1e30), p["B"].fill_(1e20)), r"overflows torch.float32: dt is up to 1e\+30"),
    "dt is negative": (lambda p: p["dt"][:, 3].fill_(-0.5), "dt is down to -0.5"),
    "A is positive": (lambda p: p["A"].abs_(), "A is up to"),
    "A is infinite": (lambda p: p["A"].fill_(-torch.inf), "A is up to -inf"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("kind", ["loop", "chunked", "ssd"])
def test_what_would_become_nan_is_refused_with_its_name(kind, what):
    make, scan = (heads, ssd) if kind == "ssd" else (selective, SELECTIVE[kind])
    parts = dict(zip(("x", "dt", "A", "B", "C", "state"), make(40, dtype=torch.float32), strict=True))
    spoil, message = BAD[what]
    spoil(parts)
    with pytest.raises(ValueError, match=message):
        scan(**parts)


@pytest.mark.parametrize(("scan", "make"), [(selective_scan, selective), (chunked_scan, selective), (ssd, heads)])
def test_shapes_that_do_not_fit_are_named(scan, make):
    x, dt, A, B, C, state = make(6)
    with pytest.raises(ValueError, match=r"B has shape .*time=6"):
        scan(x, dt, A, B[:, :5], C, state)
    with pytest.raises(ValueError, match="state has shape"):
        scan(x, dt, A, B, C, state[..., :-1])
    with pytest.raises(ValueError, match="there is nothing to read"):
        scan(x[:, :0], dt[:, :0], A, B[:, :0], C[:, :0], state)
    if scan is not selective_scan:
        with pytest.raises(ValueError, match="chunk is 0"):
            scan(x, dt, A, B, C, state, chunk=0)


def test_heads_that_no_groups_can_share_are_refused():
    x, dt, A, B, C, _ = heads(6, n_heads=4, groups=3)
    with pytest.raises(ValueError, match="4 heads can't be shared out over 3 groups"):
        ssd(x, dt, A, B, C)
