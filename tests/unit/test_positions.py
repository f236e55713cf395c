"""Positions: the paper's table, transformers' rotation, and what the two promise."""

import pytest
import torch
from hybridlab.transformer.positions import apply_rotary, rotary_angles, rotary_angles_from, sinusoidal_positions


def test_the_sinusoidal_table_is_the_papers_entry_by_entry():
    position, column = torch.meshgrid(torch.arange(50.0, dtype=torch.float64), torch.arange(12.0, dtype=torch.float64), indexing="ij")
    angle = position / 10_000.0 ** (2 * (column // 2) / 12)
    paper = torch.where(column % 2 == 0, angle.sin(), angle.cos())
    torch.testing.assert_close(sinusoidal_positions(50, 12).double(), paper, atol=1e-5, rtol=0)  # float32 angles up to 49


def test_a_shift_of_positions_is_a_rotation_of_the_sinusoidal_table():
    # section 3.5: for any offset, row p + offset is a linear function of row p
    table = sinusoidal_positions(40, 16).double()
    shift = torch.linalg.lstsq(table[:-5], table[5:]).solution
    torch.testing.assert_close(table[:-5] @ shift, table[5:], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("d_head", "theta", "start"), [(8, 10_000.0, 0), (64, 500_000.0, 1000), (2, 100.0, 7)])
def test_rotation_agrees_with_transformers(d_head, theta, start):
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

    config = LlamaConfig(
        hidden_size=4 * d_head, num_attention_heads=4, head_dim=d_head, rope_parameters={"rope_type": "default", "rope_theta": theta}
    )
    positions = torch.arange(start, start + 6)
    q, k = torch.randn(2, 2, 4, 6, d_head, generator=torch.Generator().manual_seed(0))
    theirs = apply_rotary_pos_emb(q, k, *LlamaRotaryEmbedding(config)(q, positions[None]))
    cos, sin = rotary_angles(positions, d_head, theta)
    for mine, other in zip((apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)), theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-4, rtol=0)  # angles of 1,000 radians are rounded to 6e-5


def test_scores_of_rotated_vectors_depend_on_the_distance_only():
    q, k = torch.randn(2, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    cos, sin = rotary_angles(torch.arange(200), 32, 10_000.0)
    turned_q, turned_k = (apply_rotary(x.expand(200, 32), cos, sin) for x in (q, k))
    scores = turned_q @ turned_k.T
    for distance in (0, 1, 17):
        along = scores.diagonal(-distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=0)
    assert scores.diagonal(-17)[0].sub(scores.diagonal(0)[0]).abs() > 0.1


def test_rotation_keeps_lengths_dtype_and_its_input():
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(2)).bfloat16()
    before = x.clone()
    turned = apply_rotary(x, *rotary_angles(torch.arange(5), 8))
    assert turned.dtype == torch.bfloat16
    assert torch.equal(x, before)
    torch.testing.assert_close(turned.float().norm(dim=-1), x.float().norm(dim=-1), rtol=2e-2, atol=0)  # 8 bits of mantissa


def test_angles_stay_apart_far_out_and_follow_the_positions_given():
    cos, sin = rotary_angles(torch.tensor([[0, 256], [257, 4096]]), 4, 10_000.0)
    assert cos.shape == sin.shape == (2, 2, 2)
    assert cos.dtype == torch.float32
    torch.testing.assert_close(cos[1, 0, 0].double(), torch.tensor(257.0, dtype=torch.float64).cos(), atol=1e-4, rtol=0)


def test_what_does_not_fit_is_refused_with_its_value():
    with pytest.raises(ValueError, match="7"):
        sinusoidal_positions(4, 7)
    with pytest.raises(ValueError, match="5"):
        rotary_angles(torch.arange(3), 5)
    with pytest.raises(ValueError, match="8"):
        apply_rotary(torch.zeros(3, 8), torch.zeros(3, 8), torch.zeros(3, 8))


def test_the_shared_table_of_angles_is_that_of_the_positions_and_serves_training_after_inference():
    device = torch.device("cpu")
    with torch.inference_mode():
        rotary_angles_from(0, 4, 6, 123.0, device)
    for start, time in ((0, 4), (250, 6), (250, 7), (1000, 1)):
        for got, expected in zip(
            rotary_angles_from(start, time, 6, 123.0, device), rotary_angles(torch.arange(start, start + time), 6, 123.0), strict=True
        ):
            assert torch.equal(got, expected)
    x = torch.randn(2, 4, 6, requires_grad=True)
    apply_rotary(x, *rotary_angles_from(0, 4, 6, 123.0, device)).sum().backward()
