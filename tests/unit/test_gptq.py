"""GPTQ against the slow way, least squares anew after each column; better than rounding to the nearest; what is refused."""

import pytest
import torch
from hybridlab.llm.gptq import gptq_quantize
from hybridlab.llm.hessian import compensation, layer_hessian
from hybridlab.llm.int_codes import largest_code
from hybridlab.llm.quantize import absmax_quantize, dequantize


def layer(rows: int, d_in: int, tokens: int = 300, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight, and inputs whose features go together."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, d_in, generator=generator) @ torch.randn(d_in, d_in, generator=generator)
    return torch.randn(rows, d_in, generator=generator), x / d_in**0.5


def slowly(weight: torch.Tensor, hessian: torch.Tensor, bits: int, group_size: int, damping: float) -> torch.Tensor:
    """The definition: once columns 0 … j are codes, those behind are set to what keeps the output's error least."""
    h = hessian.double() + damping * hessian.double().diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    codes, scales = absmax_quantize(weight, bits, group_size)
    steps = scales.repeat_interleave(group_size, 1)[:, : weight.shape[1]].double()
    wanted, now = weight.double(), weight.double().clone()
    for j in range(weight.shape[1]):
        code = torch.where(steps[:, j] == 0, 0.0, now[:, j] / steps[:, j]).round().clamp(-largest_code(bits), largest_code(bits))
        codes[:, j], now[:, j] = code, code * steps[:, j]
        fixed, free = slice(0, j + 1), slice(j + 1, None)
        missing = (wanted - now)[:, fixed]
        now[:, free] = wanted[:, free] + torch.linalg.solve(h[free, free], h[free, fixed] @ missing.T).T
    return codes


@pytest.mark.parametrize(("bits", "group_size"), [(2, 24), (3, 24), (4, 8), (3, 7)])
def test_codes_are_those_of_least_squares_after_each_column(bits: int, group_size: int):
    weight, x = layer(6, 24)
    weight[2, :group_size] = 0  # a group of zeros
    hessian = layer_hessian(x)
    codes, scales = gptq_quantize(weight, hessian, bits, group_size)
    assert torch.equal(codes, slowly(weight, hessian, bits, group_size, 0.01))
    assert torch.equal(scales, absmax_quantize(weight, bits, group_size)[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_layers_output_is_better_than_with_rounding_to_the_nearest_at_three_bits(dtype: torch.dtype):
    weight, x = layer(32, 64)
    weight = weight.to(dtype)
    errors = [
        ((dequantize(codes, scales, 64) - weight.float()) @ x.T).norm()
        for codes, scales in (gptq_quantize(weight, layer_hessian(x), 3, 64), absmax_quantize(weight, 3, 64))
    ]
    assert errors[0] < 0.75 * errors[1]


def test_inputs_that_have_nothing_to_do_with_each_other_leave_rounding_to_the_nearest():
    weight, _ = layer(5, 12)
    codes, scales = gptq_quantize(weight, torch.eye(12), 3, 12)
    expected = absmax_quantize(weight, 3, 12)
    assert torch.equal(codes, expected[0])
    assert torch.equal(scales, expected[1])


def test_a_feature_that_no_token_has_is_rounded_like_any_other():
    weight, x = layer(5, 12)
    x[:, 4] = 0
    codes, _ = gptq_quantize(weight, layer_hessian(x), 4, 12)
    assert torch.equal(codes[:, 4], absmax_quantize(weight, 4, 12)[0][:, 4])


def test_the_compensation_is_a_root_of_the_damped_inverse():
    _, x = layer(2, 10)
    hessian = layer_hessian(x)
    upper = compensation(hessian, 0.5)
    assert torch.equal(upper, upper.triu())
    damped = hessian + 0.5 * hessian.diagonal().mean() * torch.eye(10, dtype=torch.float64)
    torch.testing.assert_close(upper.T @ upper @ damped, torch.eye(10, dtype=torch.float64))
    torch.testing.assert_close(hessian, torch.cov(x.double().T, correction=0) + x.double().mean(0).outer(x.double().mean(0)))


def test_what_is_refused():
    weight, x = layer(3, 8)
    with pytest.raises(ValueError, match=r"the hessian is \(6, 6\), and the weight has 8 columns"):
        gptq_quantize(weight, torch.eye(6), 3, 8)
    with pytest.raises(ValueError, match="not positive definite"):
        gptq_quantize(weight, torch.zeros(8, 8), 3, 8)
    x[0, 0] = float("inf")
    with pytest.raises(ValueError, match="1 of 2400 numbers of x"):
        layer_hessian(x)
    weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="1 of 24 numbers of weight"):
        gptq_quantize(weight, torch.eye(8), 3, 8)
