"""GELU is PyTorch's, SwiGLU is Llama's, and the challenge of the week can be met."""

import pytest
import torch
from hybridlab.transformer.mlp import GeluMLP, SwiGLU, gelu
from hybridlab.transformer.saved_memory import saved_bytes
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


@pytest.mark.parametrize(("approximate", "name"), [(False, "none"), (True, "tanh")])
def test_gelu_equals_torchs(approximate, name):
    x = torch.linspace(-8, 8, 1001)
    torch.testing.assert_close(gelu(x, approximate), F.gelu(x, approximate=name), rtol=1e-5, atol=1e-6)


def test_the_tanh_formula_lies_within_5e_4_of_gelu():
    x = torch.linspace(-8, 8, 10001, dtype=torch.float64)
    gap = (gelu(x) - gelu(x, approximate=True)).abs().max().item()
    assert 1e-4 < gap < 5e-4


def test_gelu_is_x_times_the_share_of_a_normal_below_x():
    normal = torch.distributions.Normal(0.0, 1.0)
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(gelu(x), x * normal.cdf(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_gelu_mlp_is_two_matrices_with_gelu_between(bias):
    torch.manual_seed(0)
    mlp, x = GeluMLP(8, 32, bias=bias), torch.randn(2, 3, 8)
    hidden = F.gelu(F.linear(x, mlp.up_proj.weight, mlp.up_proj.bias))
    torch.testing.assert_close(mlp(x), F.linear(hidden, mlp.down_proj.weight, mlp.down_proj.bias))
    assert (mlp.up_proj.bias is not None) == (mlp.down_proj.bias is not None) == bias


@pytest.mark.parametrize("bias", [True, False])
def test_swiglu_equals_llamas_mlp_with_the_same_weights(bias):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=16, intermediate_size=40, num_attention_heads=2, mlp_bias=bias)
    mine, oracle = SwiGLU(16, 40, bias=bias), LlamaMLP(config)
    oracle.load_state_dict(mine.state_dict())  # the names are Llama's
    x = torch.randn(2, 5, 16)
    torch.testing.assert_close(mine(x), oracle(x), rtol=1e-5, atol=1e-6)


def test_saved_bytes_counts_what_backward_needs():
    d_model, d_ff, tokens = 16, 40, 6
    mlp, x = SwiGLU(d_model, d_ff), torch.randn(tokens, d_model, requires_grad=True)
    floats = saved_bytes(mlp, x) / 4 / tokens
    assert floats == d_model + 4 * d_ff  # x, gate, silu(gate), up, their product
    with torch.no_grad():
        assert saved_bytes(mlp, x) / 4 / tokens == d_model


def test_a_swiglu_that_computes_again_keeps_a_tenth_with_the_same_gradients():
    torch.manual_seed(0)
    mlp, x = SwiGLU(128, 344), torch.randn(6, 128, requires_grad=True)

    def lean(x):
        return checkpoint(mlp, x, use_reentrant=False)

    (expected,), (got,) = (torch.autograd.grad(call(x).square().sum(), x) for call in (mlp, lean))
    torch.testing.assert_close(got, expected)
    assert saved_bytes(mlp, x) / saved_bytes(lean, x) > 10
