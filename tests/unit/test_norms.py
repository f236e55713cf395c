"""LayerNorm and RMSNorm are PyTorch's and Llama's, value for value and gradient for gradient."""

import pytest
import torch
from hybridlab.transformer.norms import LayerNorm, RMSNorm
from torch import nn

SHAPES = [(5,), (3, 8), (2, 4, 6), (2, 1, 3, 16)]


def pair(mine, oracle, d: int):
    """The two modules with the same random gains and shifts."""
    with torch.no_grad():
        for parameter in mine.parameters():
            parameter.copy_(torch.rand(d) + 0.5)
    oracle.load_state_dict(mine.state_dict())
    return mine, oracle


def same_values_and_gradients(mine, oracle, x, tolerance):
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    weights = torch.randn_like(x)
    got, expected = mine(ours), oracle(theirs)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)
    (got * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=10 * tolerance, atol=10 * tolerance)
    for parameter, other in zip(mine.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_equals_torchs(shape, bias):
    torch.manual_seed(len(shape))
    mine, oracle = pair(LayerNorm(shape[-1], eps=1e-3, bias=bias), nn.LayerNorm(shape[-1], eps=1e-3, bias=bias), shape[-1])
    same_values_and_gradients(mine, oracle, torch.randn(shape) * 3 + 1, 1e-5)  # float32: a few ulp over d terms


@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm_equals_torchs(shape):
    torch.manual_seed(len(shape))
    mine, oracle = pair(RMSNorm(shape[-1], eps=1e-3), nn.RMSNorm(shape[-1], eps=1e-3), shape[-1])
    same_values_and_gradients(mine, oracle, torch.randn(shape) * 3 + 1, 1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rms_norm_equals_llamas(dtype):
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    torch.manual_seed(0)
    mine, oracle = pair(RMSNorm(32, eps=1e-5), LlamaRMSNorm(32, eps=1e-5), 32)
    x = torch.randn(4, 7, 32).to(dtype)
    # Llama rounds to bfloat16 once more, before the gain: one unit in the last of 8 bits
    tolerance = 1e-6 if dtype == torch.float32 else 2**-7
    torch.testing.assert_close(mine.to(dtype)(x), oracle.to(dtype)(x), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_dtype_and_does_not_overflow(norm, dtype):
    x = (torch.randn(3, 64) * 300).to(dtype)  # 300² does not fit into float16
    got = norm(64)(x)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), norm(64)(x.float()), rtol=2**-7, atol=2**-9)


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
def test_a_token_of_zeros_gives_zeros_and_finite_gradients(norm):
    x = torch.zeros(2, 8, requires_grad=True)
    got = norm(8)(x)
    got.sum().backward()
    assert (got == 0).all()
    assert x.grad.isfinite().all()


def test_float64_stays_float64():
    x = torch.randn(3, 16, dtype=torch.float64)
    for mine, oracle in ((LayerNorm(16), nn.LayerNorm(16)), (RMSNorm(16), nn.RMSNorm(16, eps=1e-5))):
        torch.testing.assert_close(mine.double()(x), oracle.double()(x), rtol=1e-12, atol=1e-12)
