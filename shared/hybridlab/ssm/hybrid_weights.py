"""transformers' Jamba as our hybrid: the same weights, and the same logits to 1e-4. Its experts go into the slot."""

from collections.abc import Callable
from typing import Any

from torch import nn

from hybridlab.ssm.hybrid import Hybrid, HybridConfig
from hybridlab.ssm.mamba_config import MambaConfig

NAMES = {
    ".mamba.": ".mixer.",
    ".self_attn.": ".mixer.",
    ".feed_forward.": ".mlp.",
    ".input_layernorm.": ".norm.",
    ".pre_ff_layernorm.": ".mlp_norm.",
    "embed_tokens.": "embeddings.",
    "final_layernorm.": "norm_f.",
}


def config_of(theirs: Any) -> HybridConfig:
    """Our config for transformers' JambaConfig.

    Raises:
        ValueError: another kind of model, or a choice that ours has not: the setting is named.
    """
    if theirs.model_type != "jamba":
        raise ValueError(f"a model of type {theirs.model_type!r} is not jamba")
    for name, value in {"hidden_act": "silu", "mamba_conv_bias": True, "mamba_proj_bias": False}.items():
        if getattr(theirs, name) != value:
            raise ValueError(f"{name}={getattr(theirs, name)!r} is not supported, only {value!r}")
    mamba = MambaConfig(
        vocab_size=theirs.vocab_size,
        d_model=theirs.hidden_size,
        n_layers=theirs.num_hidden_layers,
        version=1,
        d_state=theirs.mamba_d_state,
        expand=theirs.mamba_expand,
        d_conv=theirs.mamba_d_conv,
        dt_rank=theirs.mamba_dt_rank,
        norm_eps=theirs.rms_norm_eps,
        tie_embeddings=theirs.tie_word_embeddings,
    )
    return HybridConfig(
        mamba,
        attention_every=theirs.attn_layer_period,
        attention_offset=theirs.attn_layer_offset,
        n_heads=theirs.num_attention_heads,
        n_kv_heads=theirs.num_key_value_heads,
        d_ff=theirs.intermediate_size,
        experts_every=theirs.expert_layer_period,
        experts_offset=theirs.expert_layer_offset,
    )


def from_transformers(theirs: nn.Module, experts: Callable[[int], nn.Module] | None = None) -> Hybrid:
    """A copy of transformers' JambaForCausalLM. `experts` makes modules that its mixture-of-experts weights fit, where it has such.

    Raises:
        ValueError: see `config_of`; or weights that are missing or left over, with their names.
    """
    ours = Hybrid(config_of(theirs.config), experts)
    weights = {}
    for name, tensor in theirs.state_dict().items():
        name = name.removeprefix("model.")
        for old, new in NAMES.items():
            name = name.replace(old, new)
        weights[name] = tensor
    try:
        ours.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit: {error}") from None
    return ours
