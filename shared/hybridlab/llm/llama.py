"""Month 1's MiniTransformer with a real Llama's weights: from a GGUF file, or from a repository on disk.

Glossary, GGUF → MiniTransformer (whose names are those of transformers without `model.`):

    token_embd           embed_tokens                   output_norm    norm
    blk.7.attn_norm      layers.7.input_layernorm       output         lm_head (none: tied to embed_tokens)
    blk.7.attn_q/k/v     layers.7.self_attn.q/k/v_proj  blk.7.attn_output  layers.7.self_attn.o_proj
    blk.7.ffn_norm       layers.7.post_attention_layernorm
    blk.7.ffn_gate/up/down  layers.7.mlp.gate/up/down_proj
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.llm.gguf import GGUFError, GGUFFile
from hybridlab.llm.safetensors_file import SafetensorsError, read_tensors
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@exercise
def rotary_halves(weight: Float[Tensor, "rows d_in"], n_heads: int) -> Float[Tensor, "rows d_in"]:
    """Bring the rows of a GGUF Llama's query or key matrix into the order of month 1's rotation.

    A head has d = rows / n_heads rows, one for each feature that it makes. llama.cpp turns *neighbouring* features, 2i and
    2i + 1, so its files hold them side by side. `apply_rotary` (as transformers) pairs feature i with feature i + d/2. So in
    each head by itself, row 2i of the file goes to row i, and row 2i + 1 goes to row i + d/2.

    Returns: the matrix with its rows in that order; `weight` itself stays as it is.
    Raises: ValueError if the rows can't be split evenly into n_heads heads of an even number of rows.
    Source: the inverse of `permute` in llama.cpp's conversion of Llama models.
    """
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError(f"{weight.shape[0]} rows can't be split into {n_heads} heads of pairs")
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def load_gguf(path: str | Path, *, max_time: int | None = None, dtype: torch.dtype = torch.float32) -> MiniTransformer:
    """The model in a GGUF file of the Llama architecture, dequantised, in eval mode.

    `max_time` bounds the context (and so the KV cache); the file's own is taken where it is None.
    Raises: GGUFError where the file can't be read or is no Llama; ValueError where its tensors don't fit its shape.
    """
    file = GGUFFile(path)
    config = config_of_gguf(file, max_time)

    def weights() -> Iterator[tuple[str, Tensor]]:
        heads = {"self_attn.q_proj": config.n_heads, "self_attn.k_proj": config.n_kv_heads}
        for name in file.tensors:
            place, weight = own_name(name), torch.tensor(file.tensor(name))
            module = place.removesuffix(".weight").split(".", 2)[-1]
            yield place, rotary_halves(weight, heads[module]) if module in heads else weight

    return _filled(config, weights(), str(path)).to(dtype)


def load_folder(folder: str | Path, *, max_time: int | None = None, dtype: torch.dtype = torch.float32) -> MiniTransformer:
    """The model of a repository on disk (config.json, model.safetensors), in eval mode.

    Raises: SafetensorsError where a file can't be read; ValueError where it is no Llama, or its tensors don't fit.
    """
    folder = Path(folder)
    try:
        settings = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SafetensorsError(f"{folder / 'config.json'} can't be read ({error}): fetch the repository again") from None
    config = config_of_transformers(settings, max_time)
    weights = ((name.removeprefix("model."), weight) for name, weight in read_tensors(folder / "model.safetensors"))
    return _filled(config, weights, str(folder)).to(dtype)


def from_transformers(network: PreTrainedModel, *, max_time: int | None = None) -> MiniTransformer:
    """A copy of a LlamaForCausalLM, in its dtype and in eval mode. Raises ValueError where it is no such Llama."""
    config = config_of_transformers(network.config.to_dict(), max_time)
    weights = ((name.removeprefix("model."), weight) for name, weight in network.state_dict().items())
    return _filled(config, weights, type(network).__name__).to(network.dtype)


def own_name(name: str) -> str:
    """"blk.7.attn_q.weight" -> "layers.7.self_attn.q_proj.weight". A name without a place stays as it is."""
    *layer, module, kind = name.rsplit(".", 2) if name.startswith("blk.") else name.rsplit(".", 1)
    return ".".join([part.replace("blk.", "layers.") for part in layer] + [NAMES.get(module, module), kind])


def config_of_gguf(file: GGUFFile, max_time: int | None = None) -> TransformerConfig:
    """The shape that a GGUF file's metadata names. Raises GGUFError where it is no Llama."""
    if (architecture := file.metadata.get("general.architecture")) != "llama":
        raise GGUFError(f"{file.path} holds a model of the architecture {architecture!r}; MiniTransformer runs 'llama'")
    values = {key.removeprefix("llama."): value for key, value in file.metadata.items()}
    try:
        return TransformerConfig.llama(
            file.tensors["token_embd.weight"].shape[0],
            d_model=values["embedding_length"],
            n_layers=values["block_count"],
            n_heads=values["attention.head_count"],
            n_kv_heads=values["attention.head_count_kv"],
            d_ff=values["feed_forward_length"],
            max_time=max_time or values["context_length"],
            rope_theta=values["rope.freq_base"],
            norm_eps=values["attention.layer_norm_rms_epsilon"],
            tie_embeddings="output.weight" not in file.tensors,
        )
    except KeyError as missing:
        raise GGUFError(f"{file.path} does not say its {missing}: convert it anew") from None


def config_of_transformers(settings: Mapping[str, Any], max_time: int | None = None) -> TransformerConfig:
    """The shape in a repository's config.json. Raises ValueError that names what MiniTransformer can't do."""
    rope = settings.get("rope_parameters") or {"rope_theta": settings.get("rope_theta", 10_000.0), **(settings.get("rope_scaling") or {})}
    d_head = settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]
    can_not = {
        f"model_type={settings.get('model_type')!r}": settings.get("model_type") != "llama",
        "biases in attention or MLP": settings.get("attention_bias") or settings.get("mlp_bias"),
        f"scaled rotary positions ({rope.get('rope_type')})": rope.get("rope_type", "default") != "default",
        f"heads of {d_head} features": d_head * settings["num_attention_heads"] != settings["hidden_size"],
    }
    if found := [what for what, is_so in can_not.items() if is_so]:
        raise ValueError(f"MiniTransformer has no {', '.join(found)}: use hybridlab.llm.smollm2.load_model(hub=…) for this model")
    return TransformerConfig.llama(
        settings["vocab_size"],
        d_model=settings["hidden_size"],
        n_layers=settings["num_hidden_layers"],
        n_heads=settings["num_attention_heads"],
        n_kv_heads=settings["num_key_value_heads"],
        d_ff=settings["intermediate_size"],
        max_time=max_time or settings["max_position_embeddings"],
        rope_theta=rope["rope_theta"],
        norm_eps=settings["rms_norm_eps"],
        tie_embeddings=settings["tie_word_embeddings"],
    )


def require_fit(tokenizer: BytePairTokenizer, model: MiniTransformer) -> None:
    """Raises ValueError where a tokenizer makes tokens for which the model has no row, or leaves many rows without a token."""
    rows = model.config.vocab_size
    if not 0 <= rows - len(tokenizer) < 1024:  # some vocabularies are filled up to a round number
        raise ValueError(
            f"the tokenizer has {len(tokenizer):,} tokens and the model {rows:,} rows: they don't belong together. "
            "Load both from the same file or repository"
        )


@torch.no_grad()
def _filled(config: TransformerConfig, weights: Iterable[tuple[str, Tensor]], source: str) -> MiniTransformer:
    """A model with exactly these weights, copied one by one, so that no second set of them is ever in memory."""
    model = MiniTransformer(config).eval()
    places = dict(model.named_parameters(remove_duplicate=False))
    missing = set(places)
    for name, weight in weights:
        if name not in places:
            raise ValueError(f"{source} holds {name!r}, and a model of its shape has no such place: it is no plain Llama")
        if places[name].shape != weight.shape:
            raise ValueError(f"{name} in {source} has the shape {tuple(weight.shape)}, its config says {tuple(places[name].shape)}")
        places[name].copy_(weight)
        missing.discard(name)
    if config.tie_embeddings:
        missing.discard("lm_head.weight")
    if missing:
        raise ValueError(f"{source} lacks {len(missing)} tensors, among them {sorted(missing)[0]}: it is not whole. Fetch it again")
    return model
