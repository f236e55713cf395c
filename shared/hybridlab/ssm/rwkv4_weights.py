"""transformers' Rwkv (version 4) as ours: the same weights, and the same logits to 1e-4."""

from typing import Any

from torch import nn

from hybridlab.ssm.rwkv4 import Rwkv4
from hybridlab.ssm.rwkv_config import RwkvConfig


def config_of(theirs: Any) -> RwkvConfig:
    """Our config for transformers' RwkvConfig.

    Raises:
        ValueError: another kind of model, or a choice that ours has not: the setting is named.
    """
    if theirs.model_type != "rwkv":
        raise ValueError(f"a model of type {theirs.model_type!r} is not rwkv")
    if theirs.attention_hidden_size != theirs.hidden_size:
        raise ValueError(f"attention_hidden_size={theirs.attention_hidden_size} is not supported, only hidden_size={theirs.hidden_size}")
    return RwkvConfig(
        vocab_size=theirs.vocab_size,
        d_model=theirs.hidden_size,
        n_layers=theirs.num_hidden_layers,
        d_ff=theirs.intermediate_size,
        norm_eps=theirs.layer_norm_epsilon,
    )


def from_transformers(theirs: nn.Module) -> Rwkv4:
    """A copy of transformers' RwkvModel or RwkvForCausalLM; without a head, the embeddings are it.

    In eval mode transformers halves the stream every `rescale_every` blocks, for float16's sake, and what writes into it with it: after
    its first call the weights themselves are other ones. The copy has the weights as they were trained.

    Raises:
        ValueError: see `config_of`; or weights that are missing or left over, with their names.
    """
    ours = Rwkv4(config_of(theirs.config))
    weights = {name.removeprefix("rwkv."): tensor for name, tensor in theirs.state_dict().items()}
    weights.setdefault("head.weight", weights["embeddings.weight"])
    if getattr(theirs, "rwkv", theirs).layers_are_rescaled and theirs.config.rescale_every > 0:
        for layer in range(ours.config.n_layers):
            for name in ("attention.output.weight", "feed_forward.value.weight"):
                weights[f"blocks.{layer}.{name}"] = weights[f"blocks.{layer}.{name}"] * 2 ** (layer // theirs.config.rescale_every)
    try:
        ours.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit: {error}") from None
    return ours
