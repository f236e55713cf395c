"""BlinkDL's RWKV-7 files (`.pth`) as our model, and ours as such a file."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from hybridlab.ssm.rwkv7 import Rwkv7
from hybridlab.ssm.rwkv_config import RwkvConfig

UNUSED = {f"blocks.0.att.{name}" for name in ("v0", "v1", "v2")}  # some files have them: the first layer mixes no value in


def config_of(weights: Mapping[str, Shaped[Tensor, "..."]]) -> RwkvConfig:
    """The sizes that such a file's shapes tell.

    Raises:
        ValueError: a weight that every RWKV-7 has is not there.
    """
    try:
        vocab_size, d_model = weights["emb.weight"].shape
        layers = {int(name.split(".")[1]) for name in weights if name.startswith("blocks.")}
        ranks = {f"rank_{name}": weights[f"blocks.0.att.{name}1"].shape[1] for name in "wag"}
        if len(layers) > 1:
            ranks["rank_v"] = weights["blocks.1.att.v1"].shape[1]
        d_head, d_ff = weights["blocks.0.att.r_k"].shape[1], weights["blocks.0.ffn.key.weight"].shape[0]
    except KeyError as missing:
        raise ValueError(f"this is no RWKV-7: it has no {missing.args[0]}") from None
    return RwkvConfig(vocab_size=vocab_size, d_model=d_model, n_layers=len(layers), d_ff=d_ff, d_head=d_head, **ranks)


def load_pth(path: Path) -> Rwkv7:
    """The model that lies in an RWKV-7 `.pth` file, in the file's dtype. No code that may lie in the file is run.

    Raises:
        ValueError: the file is no RWKV-7, or has weights that are missing or left over, with their names.
        OSError: the file can't be read.
    """
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} can't be read as weights and nothing but weights: {error}") from None
    weights = {name: tensor for name, tensor in weights.items() if name not in UNUSED}
    model = Rwkv7(config_of(weights)).to(weights["emb.weight"].dtype)
    shapes = {name: parameter.shape for name, parameter in model.state_dict().items()}
    # some files have the blends as (d), some as (1, 1, d)
    fitted = {
        name: tensor.reshape(shapes[name]) if name in shapes and tensor.numel() == shapes[name].numel() else tensor
        for name, tensor in weights.items()
    }
    try:
        model.load_state_dict(fitted)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit: {error}") from None
    return model


def save_pth(model: Rwkv7, path: Path) -> None:
    """Write the model as a `.pth` file that the package rwkv, and `load_pth`, read."""
    torch.save(model.state_dict(), path)
