"""A language model of Mamba or Mamba-2 layers: tokens in, logits and a state of fixed size out.

Submodules bear the names of transformers' MambaModel and Mamba2Model, so their weights load as they are.
"""

import math

from jaxtyping import Float, Int
from torch import Tensor, nn

from hybridlab.ssm.checked import layer_states
from hybridlab.ssm.mamba2_block import Mamba2Mixer
from hybridlab.ssm.mamba_block import MambaMixer
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.transformer.norms import RMSNorm

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
        mixed, state = self.mixer(self.norm(x), state)
        return x + mixed, state


class Mamba(nn.Module):
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
        """The stream behind the last norm, before the head, and the state behind the last token."""
        before, after = layer_states(tokens, state, len(self.layers)), []
        x = self.embeddings(tokens)
        for layer, layer_state in zip(self.layers, before, strict=True):
            x, now = layer(x, layer_state)
            after.append(now)
        return self.norm_f(x), after

    def forward(
        self, tokens: Int[Tensor, "batch time"], state: ModelState | None = None
    ) -> tuple[Float[Tensor, "batch time vocab_size"], ModelState]:
        """Logits for every token, and the state behind the last one."""
        x, state = self.read(tokens, state)
        return self.lm_head(x), state

