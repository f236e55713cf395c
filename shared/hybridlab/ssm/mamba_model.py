"""A language model of Mamba or Mamba-2 layers: tokens in, logits and a state of fixed size out.

Submodules bear the names of transformers' MambaModel and Mamba2Model, so their weights load as they are.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybridlab.ssm.compiled_mixer import MAMBA, compiled_mamba, mixer_serves
from hybridlab.ssm.mamba2_block import Mamba2Mixer
from hybridlab.ssm.mamba_block import MambaMixer
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.stateful import StatefulModel
from hybridlab.transformer.norms import RMSNorm

PIECE = 2_048  # tokens that a CPU reads at once: what a layer makes of them stays in its cache
ModelState = list[MixerState]


class MambaLayer(nn.Module):
    """Norm, mixer, residual: x + mixer(norm(x))."""

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.d_model, eps=config.norm_eps)
        self.mixer = MambaMixer(config) if config.version == 1 else Mamba2Mixer(config)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], state: MixerState | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], MixerState]:
        u = self.norm(x)
        in_c = isinstance(self.mixer, MambaMixer) and mixer_serves(self.mixer, u, MAMBA)
        mixed, state = compiled_mamba(self.mixer, u, state) if in_c else self.mixer(u, state)
        return x + mixed, state


class Mamba(StatefulModel):
    """Embedding, layers, norm, head. A text may be read whole, in pieces, or token by token: hand the state on.

    Raises:
        ValueError: no tokens; a state of another shape or of another number of layers; values that are not finite.
    """

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.d_model)
        self.layers = nn.ModuleList(MambaLayer(config) for _ in range(config.n_layers))
        self.norm_f = RMSNorm(config.d_model, eps=config.norm_eps)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embeddings.weight
        nn.init.normal_(self.embeddings.weight, std=0.02)
        for layer in self.layers:  # 2312.00752's code: what writes into the residual stream shrinks with its depth
            layer.mixer.out_proj.weight.data /= math.sqrt(config.n_layers)

    def read(
        self, tokens: Int[Tensor, "batch time"], state: ModelState | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], ModelState]:
        """As `StatefulModel.read`; where nothing is learned, a CPU reads a long text in pieces, up to twice as fast."""
        if torch.is_grad_enabled() or tokens.device.type != "cpu" or tokens.shape[-1] <= PIECE:
            return super().read(tokens, state)
        read = []
        for piece in tokens.split(PIECE, dim=-1):
            x, state = super().read(piece, state)
            read.append(x)
        return torch.cat(read, dim=1), state

    def stack(self) -> tuple[nn.Module, Sequence[nn.Module], nn.Module, nn.Module]:
        return self.embeddings, self.layers, self.norm_f, self.lm_head
