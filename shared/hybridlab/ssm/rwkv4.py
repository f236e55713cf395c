"""RWKV-4: time mixing in place of attention, channel mixing in place of the MLP. Names are those of transformers' RwkvForCausalLM.

Time mixing is a mean over the past with exponential weights (`wkv4`), gated by the receptance. Both mixings see the token before by
token shift; nothing else looks back. The state of a block is five vectors, however long the text was.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hybridlab.ssm.checked import widest
from hybridlab.ssm.rwkv_config import RwkvConfig
from hybridlab.ssm.rwkv_state import RwkvState
from hybridlab.ssm.stateful import StatefulModel
from hybridlab.ssm.token_shift import token_shift
from hybridlab.ssm.wkv4 import chunked_wkv4
from hybridlab.transformer.norms import LayerNorm


class TimeMixing4(nn.Module):
    """RWKV-4's time mixing: key, value and receptance each of their own blend of the token and the one before; then the mean over the past.

        o = output( sigmoid(receptance) · wkv(key, value) )

    `time_decay` is log w: the rate of fading w = exp(time_decay) is above 0 whatever is learned. `time_first` is u, the bonus of the
    present token. The gate and the mixes are at the model's dtype, all of wkv in float32 at least.

    Source: Peng et al., 2305.13048, equations 11 to 13, 16 and 17; initialisation as in appendix E and BlinkDL/RWKV-LM.
    """

    def __init__(self, config: RwkvConfig, layer: int) -> None:
        super().__init__()
        d, depth = config.d_model, layer / max(config.n_layers - 1, 1)  # 0 in the first layer, 1 in the last
        channel, shallow = torch.arange(d) / d, 1 - layer / config.n_layers
        self.time_decay = nn.Parameter(-5 + 8 * (torch.arange(d) / max(d - 1, 1)) ** (0.7 + 1.3 * depth))
        zigzag = 0.5 * ((torch.arange(d) + 1) % 3 - 1)
        self.time_first = nn.Parameter(torch.full((d,), 0.3).log() + zigzag)
        self.time_mix_key = nn.Parameter((channel**shallow)[None, None])
        self.time_mix_value = nn.Parameter((channel**shallow + 0.3 * depth)[None, None])
        self.time_mix_receptance = nn.Parameter((channel ** (0.5 * shallow))[None, None])
        self.key, self.value, self.receptance, self.output = (nn.Linear(d, d, bias=False) for _ in range(4))

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        last: Float[Tensor, "batch d_model"] | None,
        memory: Float[Tensor, "batch 3 d_model"] | None,
    ) -> tuple[Float[Tensor, "batch time d_model"], Float[Tensor, "batch d_model"], Float[Tensor, "batch 3 d_model"]]:
        """The result, the last token for the next call's shift, and the state of wkv."""
        before, last = token_shift(x, last)
        k = self.key(torch.lerp(before, x, self.time_mix_key))
        v = self.value(torch.lerp(before, x, self.time_mix_value))
        gate = torch.sigmoid(self.receptance(torch.lerp(before, x, self.time_mix_receptance)))
        decay = torch.exp(self.time_decay.to(widest(x)))
        wkv, memory = chunked_wkv4(k, v, decay, self.time_first, memory)
        return self.output(gate * wkv), last, memory


class ChannelMixing4(nn.Module):
    """RWKV-4's channel mixing: an MLP with squared ReLU over a blend of the token and the one before, gated by a receptance.

    Source: 2305.13048, equations 14, 15 and 18.
    """

    def __init__(self, config: RwkvConfig, layer: int) -> None:
        super().__init__()
        d = config.d_model
        mix = (torch.arange(d) / d) ** (1 - layer / config.n_layers)
        self.time_mix_key = nn.Parameter(mix[None, None].clone())
        self.time_mix_receptance = nn.Parameter(mix[None, None].clone())
        self.key = nn.Linear(d, config.d_ff, bias=False)
        self.receptance = nn.Linear(d, d, bias=False)
        self.value = nn.Linear(config.d_ff, d, bias=False)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], last: Float[Tensor, "batch d_model"] | None
    ) -> tuple[Float[Tensor, "batch time d_model"], Float[Tensor, "batch d_model"]]:
        """The result, and the last token for the next call's shift."""
        before, last = token_shift(x, last)
        k = torch.relu(self.key(torch.lerp(before, x, self.time_mix_key))).square()
        gate = torch.sigmoid(self.receptance(torch.lerp(before, x, self.time_mix_receptance)))
        return gate * self.value(k), last


class Rwkv4Block(nn.Module):
    """x + time mixing of its norm, then + channel mixing of its norm. The first block has a norm of the embeddings in front."""

    def __init__(self, config: RwkvConfig, layer: int) -> None:
        super().__init__()
        self.pre_ln = LayerNorm(config.d_model, eps=config.norm_eps) if layer == 0 else nn.Identity()
        self.ln1 = LayerNorm(config.d_model, eps=config.norm_eps)
        self.attention = TimeMixing4(config, layer)
        self.ln2 = LayerNorm(config.d_model, eps=config.norm_eps)
        self.feed_forward = ChannelMixing4(config, layer)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], state: RwkvState | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], RwkvState]:
        time, memory, channel = (None, None, None) if state is None else state
        x = self.pre_ln(x)
        mixed, time, memory = self.attention(self.ln1(x), time, memory)
        x = x + mixed
        mixed, channel = self.feed_forward(self.ln2(x), channel)
        return x + mixed, RwkvState(time, memory, channel)


class Rwkv4(StatefulModel):
    """Embedding, blocks, norm, head. A text may be read whole, in pieces, or token by token: hand the state on.

    Raises:
        ValueError: no tokens; a state of another shape or of another number of layers; values that are not finite.
    """

    def __init__(self, config: RwkvConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Rwkv4Block(config, layer) for layer in range(config.n_layers))
        self.ln_out = LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        nn.init.uniform_(self.embeddings.weight, -1e-4, 1e-4)  # 2305.13048, section 3.4: the norm behind it makes the first steps large
        for block in self.blocks:  # what writes into the stream begins at nothing
            nn.init.zeros_(block.attention.output.weight)
            nn.init.zeros_(block.feed_forward.value.weight)

    def stack(self) -> tuple[nn.Module, Sequence[nn.Module], nn.Module, nn.Module]:
        return self.embeddings, self.blocks, self.ln_out, self.head
