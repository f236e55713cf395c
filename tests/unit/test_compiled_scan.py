"""The scans in C are the scans: same results, same bits wherever a text is cut; and without a compiler everything runs as before."""

import subprocess

import pytest
import torch
from hybridlab import exercise
from hybridlab.ssm import compiled_scan, fused
from hybridlab.ssm.chunked_scan import chunked_scan
from hybridlab.ssm.compiled_scan import compiled_selective_scan, compiled_serves, compiled_ssd
from hybridlab.ssm.scan_inputs import selective_inputs, ssd_inputs
from hybridlab.ssm.ssd import ssd
from transformers.models.mamba.modeling_mamba import mamba_selective_scan
from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

from tests.unit.test_scans import LENGTHS, heads, same, selective

SSD = ("ssd.ssd", "ssd.segment_sum")


def exact(scan, inputs):
    """In float64, rounded to float32."""
    return tuple(part.float() for part in scan(*(part.double() for part in inputs)))


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize(("d_inner", "d_state"), [(3, 4), (8, 16), (13, 1)])
def test_mambas_scan_at_every_length(time, d_inner, d_state):
    inputs = selective(time, d_inner=d_inner, d_state=d_state, dtype=torch.float32)
    same(compiled_selective_scan(selective_inputs(*inputs)), exact(chunked_scan, inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.slow(seconds=3)
@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize(("d_head", "d_state", "groups"), [(3, 8, 2), (64, 64, 1), (1, 16, 4)])
def test_mamba2s_scan_at_every_length(time, d_head, d_state, groups):
    inputs = heads(time, d_head=d_head, d_state=d_state, groups=groups, dtype=torch.float32)
    same(compiled_ssd(ssd_inputs(*inputs)), exact(ssd, inputs), rtol=1e-4, atol=1e-4)


def test_they_are_those_of_transformers():
    x, dt, A, B, C, _ = selective(70, d_inner=24, dtype=torch.float32)
    y, h = mamba_selective_scan(x.mT, dt.mT, A, B.mT, C.mT, return_last_state=True)
    same(compiled_selective_scan(selective_inputs(x, dt, A, B, C)), (y.mT, h), rtol=1e-5, atol=1e-5)
    inputs = heads(150, d_state=8, dtype=torch.float32)
    theirs = mamba2_chunk_scan(*inputs[:5], 32, initial_states=inputs[5], return_final_states=True)
    same(compiled_ssd(ssd_inputs(*inputs)), theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cuts", [[1] * 200, [1, 2, 63, 64, 65, 5], [199, 1]], ids=["tokens", "odd", "one"])
def test_a_text_that_is_cut_anywhere_gives_the_same_bits(cuts):
    mamba, mamba2 = selective(200, d_inner=11, dtype=torch.float32), heads(200, d_state=8, dtype=torch.float32)
    for run, (x, dt, A, B, C, state) in ((fused.run_selective_scan, mamba), (fused.run_ssd, mamba2)):
        whole, ys, now = run(x, dt, A, B, C, state), [], state
        for x_p, dt_p, B_p, C_p in zip(*(part.split(cuts, 1) for part in (x, dt, B, C)), strict=True):
            y, now = run(x_p, dt_p, A, B_p, C_p, now)
            ys.append(y)
        same((torch.cat(ys, 1), now), whole, rtol=0, atol=0)


def test_steps_of_any_size_and_what_is_no_number():
    """A step of 1e6 forgets all; dt = 0 leaves the state alone, to the bit; and NaN is refused, not hidden by the bits of an exponent."""
    x, dt, A, B, C, state = selective(9, d_inner=8, dtype=torch.float32)
    large = torch.full_like(dt, 1e6)
    same(compiled_selective_scan(selective_inputs(x, large, A, B, C, state)), exact(chunked_scan, (x, large, A, B, C, state)), rtol=1e-5)
    assert torch.equal(compiled_selective_scan(selective_inputs(x, dt * 0, A, B, C, state))[1], state)
    for wrong, name in ((x, "x"), (dt, "dt"), (B, "B"), (C, "C")):
        bad = wrong.clone()
        bad[0, 3, 0] = torch.nan
        given = {"x": x, "dt": dt, "B": B, "C": C} | {name: bad}
        with pytest.raises(ValueError, match=rf"^{name} has"):
            fused.run_selective_scan(given["x"], given["dt"], A, given["B"], given["C"], state)


def test_given_tensors_stay_as_they_are_and_need_not_lie_in_a_row():
    x, dt, A, B, C, state = selective(20, dtype=torch.float32)
    kept = state.clone()
    turned = x.mT.contiguous().mT
    assert not turned.is_contiguous()
    in_a_row = compiled_selective_scan(selective_inputs(x, dt, A, B, C, state))
    same(fused.run_selective_scan(turned, dt, A, B, C, state), in_a_row, rtol=0, atol=0)
    assert torch.equal(state, kept)


def test_in_bfloat16_it_computes_in_float32():
    inputs = heads(300, d_state=8, dtype=torch.float32)
    half = [part.bfloat16() if i in (0, 3, 4) else part for i, part in enumerate(inputs)]
    y, state = fused.run_ssd(*half)
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    same((state,), (exact(ssd, half)[1],), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- who runs


def test_it_serves_where_nothing_is_learned(monkeypatch):
    x, *rest = heads(9, d_state=8, dtype=torch.float32)
    assert compiled_serves(SSD, x, *rest)
    assert not compiled_serves(SSD, x.double(), *rest)
    x.requires_grad_()
    assert not compiled_serves(SSD, x, *rest)
    assert fused.run_ssd(x, *rest)[0].grad_fn is not None
    with torch.no_grad():
        assert compiled_serves(SSD, x, *rest)


def test_a_learners_own_scan_runs_itself(monkeypatch):
    inputs = heads(9, d_state=8, dtype=torch.float32)
    entry = exercise.REGISTRY["hybridlab.ssm.ssd.ssd"]
    monkeypatch.setitem(exercise.REGISTRY, entry.symbol, exercise.Entry(entry.symbol, entry.reference, "learner"))
    assert not compiled_serves(SSD, *inputs)
    assert compiled_serves(("chunked_scan.chunked_scan",), *inputs)


def test_an_answer_is_judged_on_what_it_says(monkeypatch):
    monkeypatch.setitem(exercise.UNDER_TEST, "hybridlab.ssm.ssd.ssd", lambda namespace: None)
    assert not compiled_serves(("chunked_scan.chunked_scan",), *selective(9, dtype=torch.float32))


@pytest.fixture
def no_kernels(monkeypatch, tmp_path):
    """A machine that has compiled nothing yet."""
    monkeypatch.setattr(compiled_scan, "cache_dir", lambda: tmp_path)
    compiled_scan.kernels.cache_clear()
    yield tmp_path
    compiled_scan.kernels.cache_clear()


@pytest.mark.parametrize("fault", ["no compiler", "it fails", "it hangs", "its file can't be loaded"])
def test_without_a_compiler_ours_runs(no_kernels, monkeypatch, fault):
    def run(command, **kwargs):
        if fault == "no compiler":
            raise FileNotFoundError(command[0])
        if fault == "it fails":
            raise subprocess.CalledProcessError(1, command)
        if fault == "it hangs":
            raise subprocess.TimeoutExpired(command, kwargs["timeout"])
        command[command.index("-o") + 1].write_bytes(b"no library")

    monkeypatch.setattr(subprocess, "run", run)
    inputs = selective(70, dtype=torch.float32)
    same(fused.run_selective_scan(*inputs), exact(chunked_scan, inputs), rtol=1e-4, atol=1e-5)
    assert compiled_scan.kernels() is None


@pytest.mark.slow(seconds=3)
def test_it_is_compiled_once_for_each_processor(no_kernels, monkeypatch):
    assert compiled_scan.kernels() is not None
    (library,) = (no_kernels / "compiled").iterdir()
    before = library.stat()
    compiled_scan.kernels.cache_clear()
    assert compiled_scan.kernels() is not None
    assert library.stat() == before
    monkeypatch.setattr(compiled_scan, "_processor", lambda: "another")
    compiled_scan.kernels.cache_clear()
    assert compiled_scan.kernels() is not None
    assert len(list((no_kernels / "compiled").iterdir())) == 2
