"""Adapters on disk, in PEFT's layout: a folder with `adapter_config.json` and `adapter_model.safetensors`.

What is saved here loads with `peft.PeftModel.from_pretrained`, and what PEFT saved loads here (plain LoRA only: its variants
are refused by name). An adapter is small (SmolLM2, rank 8, all seven layers: 10 MB), holds no code, and fits one shape of model.
"""

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hybridlab.llm.lora import LoRAConfig, inject_lora, lora_layers

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."  # PEFT wraps the model twice before it names its layers


class AdapterError(ValueError):
    """An adapter that can't be used; the text names the file, what is wrong, and what to do."""


def save_adapter(model: nn.Module, folder: str | os.PathLike, config: LoRAConfig, *, base_model: str | None = None) -> Path:
    """Write the adapters of `model` into `folder` and return it. `base_model` is noted as the model that they belong to.

    Each file is written under another name and renamed, so a crash leaves no half of one.

    Raises:
        AdapterError: the model has no adapters, they are not those of `config`, or a weight is not a finite number.
    """
    folder = Path(folder)
    weights: dict[str, Tensor] = {}
    for name, layer in lora_layers(model).items():
        rank = len(layer.lora_A)
        if rank != config.rank or not math.isclose(layer.scaling, config.alpha / config.rank):
            raise AdapterError(
                f"{name} has rank {rank} and scaling {layer.scaling:g}, the config says rank {config.rank} and "
                f"{config.alpha / config.rank:g}: save with the config that the adapters were made with"
            )
        for part in ("lora_A", "lora_B"):
            weight = getattr(layer, part).detach().cpu().contiguous()
            if not weight.isfinite().all():
                raise AdapterError(f"{part} of {name} is not finite: this training diverged; save an earlier state of it")
            weights[f"{PREFIX}{name}.{part}.weight"] = weight
    if not weights:
        raise AdapterError("the model has no adapters to save: call inject_lora first")
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": list(config.targets),
        "bias": "none",
        "inference_mode": True,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / f"{WEIGHTS}.tmp", metadata={"format": "pt"})
    os.replace(folder / f"{WEIGHTS}.tmp", folder / WEIGHTS)
    (folder / f"{SETTINGS}.tmp").write_text(json.dumps(settings, indent=2) + "\n", "utf-8")
    os.replace(folder / f"{SETTINGS}.tmp", folder / SETTINGS)
    return folder


def load_adapter(model: nn.Module, folder: str | os.PathLike) -> LoRAConfig:
    """Put the adapter in `folder` upon a model that has none, and return its config. A refusal leaves the model as it was.

    Raises:
        AdapterError: a file is missing or damaged, the adapter is for other shapes or other layers, or of a kind that
            this library does not know.
        ValueError: the model has adapters already.
    """
    folder = Path(folder)
    settings, weights = read_adapter(folder)
    config = _config(folder / SETTINGS, settings)
    expected = _expected(model, config, weights, folder / WEIGHTS)
    inject_lora(model, config)
    layers = lora_layers(model)
    with torch.no_grad():
        for (name, part), key in expected.items():
            getattr(layers[name], part).copy_(weights[key])
    return config


def read_adapter(folder: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Shaped[Tensor, "..."]]]:
    """(settings, weights by their names in the file). Raises AdapterError where a file is missing or damaged."""
    folder = Path(folder)
    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).is_file():
            raise AdapterError(f"{folder / name} is missing: an adapter is a folder with {SETTINGS} and {WEIGHTS}")
    try:
        settings = json.loads((folder / SETTINGS).read_text("utf-8"))
    except ValueError as error:
        raise AdapterError(f"{folder / SETTINGS} is no JSON ({error}): copy or save the adapter anew") from None
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{folder / WEIGHTS} is damaged ({error}): copy or save the adapter anew") from None
    return settings, weights


def _config(path: Path, settings: Any) -> LoRAConfig:
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise AdapterError(f"{path} describes no LoRA adapter (peft_type LORA): this library loads no other kind")
    unknown = [
        name
        for name in ("use_dora", "use_rslora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "modules_to_save")
        if settings.get(name)
    ]
    if unknown or settings.get("bias", "none") != "none":
        raise AdapterError(f"{path} uses {', '.join(unknown) or 'bias'}, which this library does not know: load it with peft")
    try:
        targets = settings["target_modules"]
        targets = (targets,) if isinstance(targets, str) else tuple(sorted(targets))
        return LoRAConfig(settings["r"], settings["lora_alpha"], settings.get("lora_dropout", 0.0), targets)
    except (KeyError, TypeError, ValueError) as error:
        raise AdapterError(f"{path} is not whole ({type(error).__name__}: {error}): copy or save the adapter anew") from None


def _expected(model: nn.Module, config: LoRAConfig, weights: dict[str, Tensor], path: Path) -> dict[tuple[str, str], str]:
    """(layer, part) → name in the file, once every shape is seen to fit. Raises AdapterError."""
    found: dict[tuple[str, str], str] = {}
    for key in sorted(weights):
        name, _, part = key.removesuffix(".weight").removeprefix(PREFIX).rpartition(".")
        found[name, part] = key
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    for (name, part), key in found.items():
        if part not in ("lora_A", "lora_B"):
            raise AdapterError(f"{path}: {key} is no part of a LoRA adapter: load it with peft")
        if name not in linear:
            raise AdapterError(f"{path}: layer {name} is not in this model: load the adapter's own base model")
        layer = linear[name]
        wanted = (config.rank, layer.in_features) if part == "lora_A" else (layer.out_features, config.rank)
        if tuple(weights[key].shape) != wanted:
            raise AdapterError(
                f"{path}: {part} of layer {name} has shape {tuple(weights[key].shape)}, this model needs {wanted}. "
                "The adapter belongs to a model of another size: load that one, or train an adapter for this one"
            )
    wanted_layers = {name for name in linear if any(f".{name}".endswith(f".{target}") for target in config.targets)}
    missing = sorted(f"{part} of {name}" for name in wanted_layers for part in ("lora_A", "lora_B") if (name, part) not in found)
    if missing or not found:
        what = missing[0] if missing else "weights"
        raise AdapterError(f"{path} holds no {what}: the file is not whole, or belongs to a model with fewer layers")
    return found
