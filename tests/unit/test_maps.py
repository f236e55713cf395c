"""Attention maps are the weights that the model really used."""

import pytest
import torch
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.maps import attention_maps
from hybridlab.transformer.model import MiniTransformer

CONFIGS = {
    "gpt2": TransformerConfig.gpt2(13, d_model=16, n_layers=2, n_heads=2, max_time=9),
    "llama": TransformerConfig.llama(13, d_model=16, n_layers=3, n_heads=4, qk_norm=True, max_time=9),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_maps_times_the_values_are_what_attention_returned(kind):
    torch.manual_seed(0)
    config = CONFIGS[kind]
    model = MiniTransformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    tokens = torch.randint(13, (2, 9))
    caught = []
    hooks = [layer.self_attn.register_forward_hook(lambda m, x, y: caught.append((m, x[0], y))) for layer in model.layers]
    maps = attention_maps(model, tokens)
    for hook in hooks:
        hook.remove()
    assert maps.shape == (config.n_layers, 2, config.n_heads, 9, 9)
    assert not maps.triu(1).any()
    torch.testing.assert_close(maps.sum(-1), torch.ones(maps.shape[:-1]), atol=1e-6, rtol=0)
    for weights, (attention, x, output) in zip(maps, caught[: len(maps)], strict=True):  # the model's own calls come first
        v = attention.v_proj(x).unflatten(-1, (-1, config.d_head)).transpose(1, 2)
        v = v.repeat_interleave(config.n_heads // config.n_kv_heads, dim=1)
        ours = attention.o_proj((weights @ v).transpose(1, 2).flatten(2))
        torch.testing.assert_close(ours, output, atol=1e-5, rtol=1e-5)


def test_looking_leaves_the_model_as_it_was():
    model = MiniTransformer(CONFIGS["llama"]).train()
    attention_maps(model, torch.zeros(1, 3, dtype=torch.int64))
    assert model.training
    assert not any(layer.self_attn._forward_pre_hooks for layer in model.layers)
