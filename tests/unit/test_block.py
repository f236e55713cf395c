"""A block is PyTorch's encoder layer, before or after the norms, and Llama's decoder layer."""

import pytest
import torch
from hybridlab.transformer.block import Block, build_attention, build_mlp, build_norm
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.norms import LayerNorm, RMSNorm
from torch import nn


def shake(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random gains and biases, so that no two parameters are alike."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + (parameter.ndim == 1))
    return module.eval()


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_a_block_equals_torchs_encoder_layer(placement):
    config = TransformerConfig(7, d_model=16, n_heads=2, norm_placement=placement, bias=True)
    block = shake(Block(config))
    oracle = nn.TransformerEncoderLayer(
        16, 2, config.d_ff, dropout=0.0, activation="gelu", batch_first=True, norm_first=placement == "pre", layer_norm_eps=config.norm_eps
    ).eval()
    attention = block.self_attn
    with torch.no_grad():
        oracle.self_attn.in_proj_weight.copy_(torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]))
        oracle.self_attn.in_proj_bias.copy_(torch.cat([attention.q_proj.bias, attention.k_proj.bias, attention.v_proj.bias]))
    oracle.self_attn.out_proj.load_state_dict(attention.o_proj.state_dict())
    oracle.linear1.load_state_dict(block.mlp.up_proj.state_dict())
    oracle.linear2.load_state_dict(block.mlp.down_proj.state_dict())
    oracle.norm1.load_state_dict(block.input_layernorm.state_dict())
    oracle.norm2.load_state_dict(block.post_attention_layernorm.state_dict())
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    torch.testing.assert_close(block(x), oracle(x, src_mask=mask), rtol=1e-4, atol=1e-5)


def test_dropout_acts_on_both_branches_and_only_in_training():
    config = TransformerConfig(7, d_model=16, n_heads=2, dropout=0.5)
    block, x = shake(Block(config)), torch.randn(2, 5, 16)
    assert torch.equal(block(x), block(x))
    block.train()
    torch.manual_seed(3)
    got = block(x)
    torch.manual_seed(3)
    h = x + block.dropout(block.self_attn(block.input_layernorm(x)))
    torch.testing.assert_close(got, h + block.dropout(block.mlp(block.post_attention_layernorm(h))))


def test_padding_reaches_the_attention():
    block, x = shake(Block(TransformerConfig(7, d_model=16, n_heads=2))), torch.randn(1, 5, 16)
    padding = torch.tensor([[True, True, False, True, True]])
    changed = x.clone()
    changed[0, 2] *= -5
    before, after = block(x, padding=padding), block(changed, padding=padding)
    torch.testing.assert_close(before[0, [0, 1, 3, 4]], after[0, [0, 1, 3, 4]])
    assert not torch.allclose(block(x)[0, 4], block(changed)[0, 4])


def test_the_builders_read_the_config():
    llama = TransformerConfig.llama(7, d_model=16, n_heads=4, n_kv_heads=2, qk_norm=True, norm_eps=1e-4)
    assert isinstance(build_norm(llama), RMSNorm)
    assert build_norm(llama).eps == 1e-4
    assert build_attention(llama).k_proj.weight.shape == (8, 16)
    assert isinstance(build_attention(llama).q_norm, RMSNorm)
    assert build_attention(llama).q_norm.eps == 1e-4
    assert sorted(name for name, _ in build_mlp(llama).named_children()) == ["down_proj", "gate_proj", "up_proj"]
    gpt2 = TransformerConfig.gpt2(7, d_model=16, n_heads=4)
    assert isinstance(build_norm(gpt2), LayerNorm)
    assert build_norm(gpt2).bias is not None
    assert build_mlp(gpt2).up_proj.bias is not None
    assert build_attention(gpt2).q_proj.bias is not None
