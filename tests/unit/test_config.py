"""A config is complete once it is built, and says what is wrong with it."""

from dataclasses import FrozenInstanceError, replace

import pytest
from hybridlab.transformer.config import TransformerConfig


def test_what_is_left_open_is_filled_in():
    config = TransformerConfig(65)
    assert (config.n_kv_heads, config.d_ff, config.d_head) == (4, 512, 32)


@pytest.mark.parametrize("d_model", [64, 96, 128, 576, 4096])
def test_swiglu_gets_as_many_weights_as_gelu(d_model):
    gelu, swiglu = (TransformerConfig(65, d_model=d_model, mlp=mlp) for mlp in ("gelu", "swiglu"))
    assert swiglu.d_ff % 8 == 0
    assert 2 * d_model * gelu.d_ff <= 3 * d_model * swiglu.d_ff < 2 * d_model * gelu.d_ff + 3 * d_model * 8


def test_the_two_families():
    gpt2, llama = TransformerConfig.gpt2(65), TransformerConfig.llama(65)
    assert (gpt2.norm, gpt2.mlp, gpt2.positions, gpt2.bias) == ("layernorm", "gelu", "learned", True)
    assert (llama.norm, llama.mlp, llama.positions, llama.bias) == ("rmsnorm", "swiglu", "rotary", False)
    assert gpt2.norm_placement == llama.norm_placement == "pre"
    assert (gpt2.n_kv_heads, llama.n_kv_heads) == (4, 2)


def test_changes_win_over_the_family():
    config = TransformerConfig.llama(49152, d_model=576, n_heads=9, n_kv_heads=3, rope_theta=1e5, positions="learned")
    assert (config.n_kv_heads, config.rope_theta, config.positions) == (3, 1e5, "learned")
    assert TransformerConfig.llama(65, d_model=96, n_heads=3).n_kv_heads == 3  # an odd number can't be halved


def test_a_config_can_not_be_changed_but_replaced():
    config = TransformerConfig(65)
    with pytest.raises(FrozenInstanceError):
        config.d_model = 256
    assert replace(config, d_model=256).d_ff == 512  # as its docstring warns


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 0}, "vocab_size=0"),
        ({"d_model": 3.5}, "d_model=3.5"),
        ({"n_layers": True}, "n_layers=True"),
        ({"d_ff": -1}, "d_ff=-1"),
        ({"d_model": 130}, "d_model=130 must be a multiple of n_heads=4"),
        ({"n_kv_heads": 3}, "n_heads=4 must be a multiple of n_kv_heads=3"),
        ({"norm": "batchnorm"}, "choose one of layernorm, rmsnorm"),
        ({"norm_placement": "middle"}, "choose one of pre, post"),
        ({"mlp": "relu"}, "choose one of gelu, swiglu"),
        ({"positions": "alibi"}, "choose one of sinusoidal, learned, rotary"),
        ({"positions": "rotary", "d_model": 12}, "d_head must be even, not 3"),
        ({"positions": "sinusoidal", "d_model": 15, "n_heads": 3}, "even d_model, not 15"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"norm_eps": 0.0}, "norm_eps=0.0"),
        ({"rope_theta": -1.0}, "rope_theta=-1.0"),
    ],
)
def test_a_wrong_value_is_named(changes, said):
    with pytest.raises(ValueError, match=said):
        TransformerConfig(**{"vocab_size": 65, **changes})
