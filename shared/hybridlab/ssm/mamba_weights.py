"""transformers' Mamba and Mamba-2 as ours: the same weights, and the same logits to 1e-4."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mamba_model import Mamba


def config_of(theirs: Any) -> MambaConfig:
    """Our config for transformers' MambaConfig or Mamba2Config.

    Raises:
        ValueError: another kind of model, or a choice that ours has not: the setting is named.
    """
    kinds = {"mamba": 1, "mamba2": 2}
    if theirs.model_type not in kinds:
        raise ValueError(f"a model of type {theirs.model_type!r} is neither mamba nor mamba2")
    fixed: Mapping[str, Any] = {"hidden_act": "silu", "use_bias": False, "use_conv_bias": True}
    if theirs.model_type == "mamba2":
        fixed = fixed | {"time_step_limit": (0.0, float("inf"))}
    for name, value in fixed.items():
        found = getattr(theirs, name)
        if (tuple(found) if isinstance(found, list) else found) != value:
            raise ValueError(f"{name}={found!r} is not supported, only {value!r}")
    sizes = {
        "vocab_size": theirs.vocab_size,
        "d_model": theirs.hidden_size,
        "n_layers": theirs.num_hidden_layers,
        "version": kinds[theirs.model_type],
        "d_state": theirs.state_size,
        "expand": theirs.expand,
        "d_conv": theirs.conv_kernel,
        "norm_eps": theirs.layer_norm_epsilon,
        "tie_embeddings": theirs.tie_word_embeddings,
    }
    if theirs.model_type == "mamba":
        return MambaConfig(**sizes, dt_rank=int(theirs.time_step_rank))
    return MambaConfig(**sizes, d_head=theirs.head_dim, n_groups=theirs.n_groups)


def from_transformers(theirs: nn.Module) -> Mamba:
    """A copy of transformers' MambaModel, MambaForCausalLM, Mamba2Model or Mamba2ForCausalLM; without a head, the embeddings are it.

    Raises:
        ValueError: see `config_of`; or weights that are missing or left over, with their names.
    """
    ours = Mamba(config_of(theirs.config))
    weights = {name.removeprefix("backbone."): tensor for name, tensor in theirs.state_dict().items()}
    weights.setdefault("lm_head.weight", weights["embeddings.weight"])
    try:
        ours.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit: {error}") from None
    return ours
