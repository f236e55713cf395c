"""MiniTransformer: tokens in, logits out; a decoder-only Transformer of any shape that its config names.

Its `state_dict` has the names of transformers' LlamaForCausalLM without the prefix `model.`, so the weights of a
Llama of the same shape load once that prefix is taken off.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hybridlab.exercise import exercise
from hybridlab.transformer.block import Block, build_norm
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.positions import sinusoidal_positions


class PositionTable(nn.Module):
    """Adds absolute positions to the token embeddings; with rotary positions it adds nothing.

    Learned positions are a parameter `weight` of shape (max_time, d_model). Sinusoidal ones are a constant, and the
    embeddings are multiplied by √d_model first, so that the constant does not drown them (1706.03762, section 3.4).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.kind = config.positions
        if self.kind == "learned":
            self.weight = nn.Parameter(torch.zeros(config.max_time, config.d_model))
        elif self.kind == "sinusoidal":
            table = sinusoidal_positions(config.max_time, config.d_model)
            self.register_buffer("weight", table, persistent=False)

    def forward(self, x: Float[Tensor, "batch time d_model"], start: int = 0) -> Float[Tensor, "batch time d_model"]:
        """x with the positions start, start + 1, … added.

        Raises:
            ValueError: the last position lies beyond the table.
        """
        if self.kind == "rotary":
            return x
        stop = start + x.shape[1]
        if stop > len(self.weight):
            raise ValueError(
                f"{stop} positions asked for, but max_time is {len(self.weight)}: "
                "shorten the sequence, or build the model with a larger max_time"
            )
        table = self.weight[start:stop].to(x.dtype)
        return x * math.sqrt(x.shape[-1]) + table if self.kind == "sinusoidal" else x + table


@exercise
def init_weights(model: nn.Module, config: TransformerConfig) -> None:
    """Draw new weights for `model`, in place, as GPT-2 does.

    Every matrix (a parameter of two dimensions: linear layers, embeddings, learned positions) is drawn from a
    normal distribution with mean 0 and standard deviation 0.02. The matrices that write into the residual stream,
    those whose names end in `o_proj.weight` or `down_proj.weight`, get 0.02 / √(2 · n_layers): there are
    2 · n_layers of them, and their sum then stays as large as one. Biases become 0. The gains of the norms are 1
    from their construction and stay untouched. Returns nothing.

    Source: GPT-2 (Radford et al., 2019), section 2.3.
    """
    residual_std = 0.02 / math.sqrt(2 * config.n_layers)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 2:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(parameter, std=residual_std if writes else 0.02)


@exercise
class MiniTransformer(nn.Module):
    """A decoder-only Transformer: embed, add positions, run the blocks, normalise, score the vocabulary.

    Submodules, by these names (after transformers' LlamaForCausalLM):

    - `embed_tokens`: `nn.Embedding`, vocab_size × d_model
    - `embed_positions`: `PositionTable(config)`; call it as `embed_positions(x, start)`
    - `dropout`: `nn.Dropout(config.dropout)`, applied once the positions are added
    - `layers`: an `nn.ModuleList` of `n_layers` different `Block(config)`
    - `norm`: `build_norm(config)` with pre-norm; `nn.Identity()` with post-norm, whose stream is normalised already
    - `lm_head`: `nn.Linear`, d_model → vocab_size, no bias; with `tie_embeddings` its weight *is* that of `embed_tokens`

    The constructor ends with `init_weights(self, config)`. `config` is kept as an attribute.

    `forward` returns the logits (no softmax). `caches`, if given, is a list of one cache for each layer;
    `len(caches[0])` tokens are in it already, and that is the position of the first of `tokens`. Raises ValueError
    if it does not hold exactly one cache a layer. `padding` goes to every block as it is.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        init_weights(self, config)

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        *,
        padding: Bool[Tensor, "batch keys"] | None = None,
        caches: list | None = None,
    ) -> Float[Tensor, "batch time vocab_size"]:
        if caches is None:
            start, caches = 0, [None] * len(self.layers)
        elif len(caches) == len(self.layers):
            start = len(caches[0])
        else:
            raise ValueError(
                f"{len(caches)} caches for {len(self.layers)} layers: give one cache for each layer"
            )
        x = self.dropout(self.embed_positions(self.embed_tokens(tokens), start))
        for layer, cache in zip(self.layers, caches, strict=True):
            x = layer(x, padding=padding, cache=cache)
        return self.lm_head(self.norm(x))
