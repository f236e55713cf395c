"""mamba-ssm's kernels serve on CUDA where they are installed, else ours; the adapters speak the kernels' layout."""

import inspect

import pytest
import torch
from hybridlab.ssm import fused
from hybridlab.ssm.chunked_scan import chunked_scan
from hybridlab.ssm.ssd import ssd
from transformers.models.mamba.modeling_mamba import mamba_selective_scan
from transformers.models.mamba2.modeling_mamba2 import mamba2_chunk_scan

from tests.unit.test_scans import heads, selective

TF32 = 8 * 2**-11  # what Mamba-2's kernel may be off by, of the largest value: it rounds factors to 10 bits (seen: 2.3e-3)
CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture
def stand_in(monkeypatch):
    """transformers' own slow paths, which have the kernels' signatures, in the kernels' place; what was called is noted."""
    called = []

    def selective_kernel(*args, **kwargs):
        called.append("selective")
        return inspect.unwrap(mamba_selective_scan)(*args, **kwargs)  # itself it would call mamba-ssm, where that is installed

    def ssd_kernel(*args, **kwargs):
        called.append("ssd")
        return inspect.unwrap(mamba2_chunk_scan)(*args, **kwargs)

    monkeypatch.setattr(fused, "kernels", lambda: fused.SimpleNamespace(selective=selective_kernel, ssd=ssd_kernel))
    return called


def test_the_kernels_serve_on_cuda_in_pieces_that_they_can_be_trusted_with(stand_in):
    assert fused.kernel_serves(CUDA, 2048)
    assert fused.kernel_serves(CUDA, fused.LONGEST)
    assert not fused.kernel_serves(CUDA, fused.LONGEST + 1)
    assert not fused.kernel_serves(CUDA, 1)
    assert not fused.kernel_serves(CPU, 2048)


def test_without_the_package_ours_serves_everywhere(monkeypatch):
    monkeypatch.setattr(fused, "kernels", lambda: None)
    assert not fused.kernel_serves(CUDA, 2048)


def test_the_adapters_give_what_ours_gives(stand_in):
    x, dt, A, B, C, _ = selective(70, dtype=torch.float32)
    torch.testing.assert_close(fused.fused_selective_scan(x, dt, A, B, C), chunked_scan(x, dt, A, B, C), rtol=1e-5, atol=1e-5)
    inputs = heads(70, dtype=torch.float32)
    torch.testing.assert_close(fused.fused_ssd(*inputs), ssd(*inputs), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="not finite"):
        fused.fused_selective_scan(x / 0, dt, A, B, C)
    assert stand_in == ["selective", "ssd", "selective"]


def test_a_text_that_goes_on_runs_on_ours_where_the_kernel_knows_no_beginning(stand_in, monkeypatch):
    monkeypatch.setattr(fused, "kernel_serves", lambda device, time: True)
    x, dt, A, B, C, state = selective(20, dtype=torch.float32)
    fused.run_selective_scan(x, dt, A, B, C)
    assert stand_in == ["selective"]
    torch.testing.assert_close(fused.run_selective_scan(x, dt, A, B, C, state), chunked_scan(x, dt, A, B, C, state))
    assert stand_in == ["selective"]
    fused.run_ssd(*heads(20, dtype=torch.float32))
    assert stand_in == ["selective", "ssd"]


def test_long_texts_run_in_spans():
    for run, scan, make in ((fused.run_selective_scan, chunked_scan, selective), (fused.run_ssd, ssd, heads)):
        inputs = make(fused.SPAN + 77, batch=1)
        torch.testing.assert_close(run(*inputs), scan(*inputs), rtol=1e-9, atol=1e-9)


def test_kernel_and_reference_agree_wherever_both_exist():
    """On a machine without a GPU or without mamba-ssm: that ours is what runs."""
    if torch.cuda.is_available() and fused.kernels() is not None:
        for time in (2, 63, 64, 1000, 4999):
            inputs = [part.cuda() for part in selective(time, d_inner=64, d_state=16, dtype=torch.float32)]
            torch.testing.assert_close(fused.fused_selective_scan(*inputs[:5]), chunked_scan(*inputs[:5]), rtol=1e-3, atol=1e-3)
            inputs = [part.cuda() for part in heads(time, d_head=64, d_state=64, dtype=torch.float32)]
            for got, exact in zip(fused.fused_ssd(*inputs), ssd(*inputs), strict=True):
                assert (got - exact).abs().max() < TF32 * exact.abs().max()
    else:
        device = CUDA if torch.cuda.is_available() else CPU
        assert not fused.kernel_serves(device, 2048)
