"""A LoRA adapter as a GGUF file, as llama.cpp loads it beside a model that stays in 4 bits.

Notable:
- Names are llama.cpp's ("blk.3.attn_q.weight.lora_a"), matrices stand as PyTorch has them: A is rank × d_in, B d_out × rank.
- GGUF files of Llamas hold q and k with the two halves of each head's rows interleaved, because their rotary positions turn
  neighbours (week 5). B adds to these rows, so B's rows have to be put into the same order. Without it the text looks right
  for a while, and every probability is a little wrong.
- An adapter says nothing of the base that it was trained on: `expert` keeps a card beside it that does.

Source: llama.cpp's convert_lora_to_gguf.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybridlab.exercise import exercise
from hybridlab.llm.adapter import AdapterError
from hybridlab.llm.gguf import GGUFFile
from hybridlab.llm.llama import NAMES, own_name
from hybridlab.llm.lora import lora_layers

PLACES = {place: name for name, place in NAMES.items()}
ROTATED = {"self_attn.q_proj": "num_attention_heads", "self_attn.k_proj": "num_key_value_heads"}


@exercise
def interleave_halves(weight: Float[Tensor, "rows columns"], n_heads: int) -> Float[Tensor, "rows columns"]:
    """The rows of each head in GGUF's order: the two halves of a head interleaved.

    transformers keeps the rows of one head of 2·h as 0, 1, …, h-1, h, …, 2h-1, and rotates row i together with row i + h. GGUF
    keeps them as 0, h, 1, h+1, …, h-1, 2h-1, so that what is rotated together stands together. Heads stay in their order, and
    columns as they are. It is the inverse of week 5's `rotary_halves`; the weight itself is not changed.

    Raises: ValueError if the rows can't be split into `n_heads` heads of an even number of rows (the message names both).

    Example: one head of six rows a b c d e f becomes a d b e c f.
    """
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError(f"{weight.shape[0]} rows can't be split into {n_heads} heads of pairs")
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def save_gguf_adapter(model: nn.Module, path: str | os.PathLike) -> Path:
    """Write the adapters of a transformers Llama (`inject_lora`) into a GGUF file, in float16, whole or not at all.

    Raises:
        AdapterError: there are no adapters, a weight is not finite (or too large for float16), a layer has no place in a
            Llama's GGUF, or the layers differ in alpha (one file has one).
    """
    import gguf

    path = Path(path)
    tensors: dict[str, np.ndarray] = {}
    alphas = set()
    for name, layer in lora_layers(model).items():
        *_, block, room, projection = name.split(".")
        place = f"{room}.{projection}"
        if place not in PLACES or not block.isdigit():
            raise AdapterError(f"layer {name} has no place in a Llama's GGUF file: adapt {', '.join(p for p in PLACES if '_proj' in p)}")
        a, b = layer.lora_A.detach().cpu(), layer.lora_B.detach().cpu()
        if place in ROTATED:
            b = interleave_halves(b, getattr(model.config, ROTATED[place]))
        alphas.add(round(layer.scaling * len(a), 6))
        for end, weight in (("lora_a", a), ("lora_b", b)):
            half = weight.to(torch.float16)
            if not half.isfinite().all():
                raise AdapterError(f"{end} of {name} is not finite in float16: this training diverged; export an earlier state of it")
            tensors[f"blk.{block}.{PLACES[place]}.weight.{end}"] = half.contiguous().numpy()
    if len(alphas) != 1:
        found = f"several values of alpha ({sorted(alphas)})" if alphas else "no adapters"
        raise AdapterError(f"the model has {found}: a GGUF adapter has one. Call inject_lora or load_adapter once, then export")
    draft = path.with_name(f".{path.name}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        writer = gguf.GGUFWriter(draft, "llama")
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", alphas.pop())
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def require_adapter_fits(adapter: GGUFFile, base: GGUFFile) -> None:
    """Hold an adapter's tensors against those of the model that it is to change.

    Raises:
        AdapterError: the file holds no LoRA adapter, or one for other layers or other shapes; names both files.
    """
    if (adapter.metadata.get("general.type"), adapter.metadata.get("adapter.type")) != ("adapter", "lora") or not adapter.tensors:
        raise AdapterError(f"{adapter.path} holds no LoRA adapter: make one with save_gguf_adapter, or llama.cpp's converter")
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, info in adapter.tensors.items():
        layer, _, end = name.rpartition(".")
        if end not in ("lora_a", "lora_b"):
            raise AdapterError(f"{adapter.path}: {name} is no part of a LoRA adapter")
        if layer not in base.tensors:
            raise AdapterError(
                f"{adapter.path} changes {own_name(layer)}, and {base.path.name} has no such layer: load the adapter's own base model"
            )
        pairs.setdefault(layer, {})[end] = info.shape
    for layer, ends in pairs.items():
        rows, columns = base.tensors[layer].shape
        if len(ends) != 2 or len(ends["lora_a"]) != 2 or (ends["lora_b"][0], ends["lora_a"][1]) != (rows, columns):
            shapes = ", ".join(f"{end} {shape}" for end, shape in sorted(ends.items()))
            raise AdapterError(
                f"{adapter.path}: {own_name(layer)} has {shapes}, and in {base.path.name} it has the shape {(rows, columns)}. "
                "The adapter belongs to a model of another size: load that one, or train an adapter for this one"
            )
