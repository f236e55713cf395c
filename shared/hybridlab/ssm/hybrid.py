"""A hybrid in Jamba's manner: many recurrent layers that carry a state of fixed size, a few attention layers that look things up.

Notable:
- every `attention_every`-th layer attends, the others are Mamba's: Jamba has one in eight;
- no positions at all: the Mamba layers in front of an attention layer know the order;
- behind every mixer stands an MLP, and every `experts_every`-th MLP is what `experts` makes of d_model: the slot for a mixture of experts;
- all layers carry a state, so a text may be cut anywhere. A window keeps the attention layers' state at a fixed size as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from hybridlab.ssm.jamba_mixer import JambaMixer
from hybridlab.ssm.mamba2_block import Mamba2Mixer
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.stateful import StatefulModel
from hybridlab.ssm.window_attention import AttentionState, WindowAttention
from hybridlab.transformer.mlp import SwiGLU
from hybridlab.transformer.norms import RMSNorm


@dataclass(frozen=True)
class HybridConfig:
    """The shape of a hybrid. `mamba` holds the sizes that all layers share (vocab_size, d_model, n_layers, …) and those of its mixers.

    Layer i attends if i % attention_every == attention_offset, and has the experts if i % experts_every == experts_offset. `window`: how
    many tokens one sees, itself included (None: all). The defaults of these five are Jamba's.

    Raises:
        ValueError: a size is not positive, an offset does not lie within its period, heads do not divide, no layer attends.
    """

    mamba: MambaConfig
    attention_every: int = 8
    attention_offset: int = 4
    n_heads: int = 4
    n_kv_heads: int = 2
    window: int | None = None
    d_ff: int = 256
    experts_every: int = 2
    experts_offset: int = 1

    def __post_init__(self) -> None:
        for name in ("attention_every", "n_heads", "n_kv_heads", "window", "d_ff", "experts_every"):
            value = getattr(self, name)
            if (name != "window" or value is not None) and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        for name in ("attention", "experts"):
            offset, every = getattr(self, f"{name}_offset"), getattr(self, f"{name}_every")
            if not 0 <= offset < every:
                raise ValueError(f"{name}_offset={offset} must lie from 0 to {name}_every={every} less 1")
        if self.attention_offset >= self.mamba.n_layers:
            raise ValueError(f"none of {self.mamba.n_layers} layers attends: attention_offset={self.attention_offset}; take Mamba for that")
        if self.mamba.d_model % self.n_heads or self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"d_model={self.mamba.d_model} must be a multiple of n_heads={self.n_heads}, and that one of n_kv_heads={self.n_kv_heads}"
            )

    def attends(self, layer: int) -> bool:
        """Whether this layer's mixer is attention."""
        return layer % self.attention_every == self.attention_offset

    def has_experts(self, layer: int) -> bool:
        """Whether this layer's MLP is the slot's."""
        return layer % self.experts_every == self.experts_offset


class HybridLayer(nn.Module):
    """x + mixer(norm(x)), then + mlp(norm(x))."""

    def __init__(self, config: HybridConfig, layer: int, experts: Callable[[int], nn.Module] | None) -> None:
        super().__init__()
        mamba = config.mamba
        self.norm = RMSNorm(mamba.d_model, eps=mamba.norm_eps)
        self.mixer: nn.Module
        if config.attends(layer):
            self.mixer = WindowAttention(mamba.d_model, config.n_heads, config.n_kv_heads, config.window)
        else:
            self.mixer = JambaMixer(mamba) if mamba.version == 1 else Mamba2Mixer(mamba)
        self.mlp_norm = RMSNorm(mamba.d_model, eps=mamba.norm_eps)
        self.mlp = experts(mamba.d_model) if experts and config.has_experts(layer) else SwiGLU(mamba.d_model, config.d_ff)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], state: MixerState | AttentionState | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], MixerState | AttentionState]:
        mixed, state = self.mixer(self.norm(x), state)
        x = x + mixed
        return x + self.mlp(self.mlp_norm(x)), state


class Hybrid(StatefulModel):
    """Embedding, layers, norm, head. A text may be read whole, in pieces, or token by token: hand the state on.

    `experts` is a factory d_model -> module, and the module maps (batch, time, d_model) to the same: it fills the slot of every
    `experts_every`-th layer. Without it all MLPs are SwiGLU.

    Raises:
        ValueError: no tokens; a state of another model; values that are not finite.

    Source: Lieber et al., 2403.19887, section 2 and figure 1.
    """

    def __init__(self, config: HybridConfig, experts: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        self.config = config
        mamba = config.mamba
        self.embeddings = nn.Embedding(mamba.vocab_size, mamba.d_model)
        self.layers = nn.ModuleList(HybridLayer(config, layer, experts) for layer in range(mamba.n_layers))
        self.norm_f = RMSNorm(mamba.d_model, eps=mamba.norm_eps)
        self.lm_head = nn.Linear(mamba.d_model, mamba.vocab_size, bias=False)
        if mamba.tie_embeddings:
            self.lm_head.weight = self.embeddings.weight
        nn.init.normal_(self.embeddings.weight, std=0.02)

    def stack(self) -> tuple[nn.Module, Sequence[nn.Module], nn.Module, nn.Module]:
        return self.embeddings, self.layers, self.norm_f, self.lm_head
