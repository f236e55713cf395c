"""NF4 against bitsandbytes: levels, codes, blocks, and the way back."""

from pathlib import Path

import pytest
import torch
from coursekit.checks import load_checks
from hybridlab.llm.nf4 import LEVELS, dequantize_nf4, nf4_levels, quantize_nf4

WEEK = Path(__file__).parents[2] / "months" / "02_llm" / "week07_quantisation" / "source"


def bitsandbytes_codes(weight: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    import bitsandbytes.functional as bnb

    packed, state = bnb.quantize_4bit(weight, blocksize=block_size, quant_type="nf4")
    codes = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=-1).flatten()  # the first in the high half
    return codes[: weight.numel()], state.absmax.float(), bnb.dequantize_4bit(packed, state)


def test_the_levels_are_those_of_bitsandbytes():
    import bitsandbytes.functional as bnb

    levels = nf4_levels()
    torch.testing.assert_close(levels, bnb.get_4bit_type("nf4", device="cpu"), rtol=0, atol=2e-7)
    assert levels[7] == 0
    assert levels.dtype == torch.float32


def test_the_table_that_the_weeks_check_holds_is_that_of_bitsandbytes():
    import bitsandbytes.functional as bnb

    judge = load_checks(WEEK / "checks.py")["hybridlab.llm.nf4.nf4_levels"].judge
    judge(lambda: bnb.get_4bit_type("nf4", device="cpu"), tolerance=1e-7)


@pytest.mark.parametrize("block_size", [64, 128])
@pytest.mark.parametrize("shape", [(96, 640), (7, 100)])
def test_codes_and_weights_are_those_of_bitsandbytes(shape: tuple[int, int], block_size: int):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    codes, largest = quantize_nf4(weight, block_size)
    theirs, their_largest, their_weight = bitsandbytes_codes(weight, block_size)
    assert torch.equal(codes, theirs)
    assert torch.equal(largest, their_largest)
    torch.testing.assert_close(dequantize_nf4(codes, largest, shape, block_size), their_weight, rtol=0, atol=2e-6)


def test_blocks_of_zeros_stay_zero_and_bf16_goes_in():
    weight = torch.zeros(2, 64, dtype=torch.bfloat16)
    weight[1, 0] = -3
    codes, largest = quantize_nf4(weight)
    assert largest.tolist() == [0, 3]
    assert torch.equal(dequantize_nf4(codes, largest, (2, 64)), weight.float())


def test_each_level_is_used_about_equally_often_by_normal_weights_whose_largest_is_that_of_the_levels():
    weight = torch.randn(200_000, generator=torch.Generator().manual_seed(0)) / 1.848  # Q(p): where the outermost level lies
    counts = torch.bucketize(weight.clamp(-1, 1), (LEVELS[1:] + LEVELS[:-1]) / 2).bincount(minlength=16) / 200_000
    assert counts.min() > 0.04
    assert counts.max() < 0.09


def test_what_does_not_fit_is_refused():
    weight = torch.ones(2, 3)
    with pytest.raises(ValueError, match="block_size is 0"):
        quantize_nf4(weight, 0)
    weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="1 of 6 numbers of weight"):
        quantize_nf4(weight)
    codes, largest = quantize_nf4(torch.ones(2, 3))
    for blocks, shape in ((largest.repeat(2), (2, 3)), (largest, (2, 4))):
        with pytest.raises(ValueError, match="6 codes do not fill"):
            dequantize_nf4(codes, blocks, shape)
