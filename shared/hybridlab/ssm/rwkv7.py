"""RWKV-7: a state that is a matrix for each head, corrected under a key and not only added to. Names are those of BlinkDL's `.pth` files.

What differs from RWKV-4: the state (`delta_rule`) has d_head² numbers a head in place of three; decay, in-context learning rate, value
residual and gate are functions of the token, each by an MLP of low rank; values of the first layer are mixed into those of all others.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.ssm.checked import layer_states, widest
from hybridlab.ssm.delta_rule import chunked_delta_rule, delta_rule
from hybridlab.ssm.rwkv_config import RwkvConfig
from hybridlab.ssm.rwkv_state import RwkvState
from hybridlab.ssm.stateful import StatefulModel
from hybridlab.ssm.token_shift import token_shift
from hybridlab.transformer.norms import LayerNorm

SLOWEST = math.exp(-0.5)  # log w lies in (-SLOWEST, 0): no channel loses more than 45 % in one token


class TimeMixing7(nn.Module):
    """RWKV-7's time mixing. From each token come, by a blend with the token before (`x_*`):

        r, k, v            receptance, key, value            κ = k · k_k, of length 1 in each head: the key that is removed
        log w = -exp(-1/2) · sigmoid(w0 + tanh(x w1) w2)     the decay, for each channel; in float32 at least
        a = sigmoid(a0 + x a1 a2)                            the in-context learning rate: which part is removed
        v ← v + (v_first - v) · sigmoid(v0 + x v1 v2)        the first layer's value, mixed in; not in the first layer itself
        k ← k · (1 + (a - 1) · k_a)                          what is written is scaled by what was removed
        y = delta_rule(r, log w, k, v, -κ, κ · a)
        result = output( (group_norm(y) + (r · k · r_k summed over a head) · v) · sigmoid(x g1) g2 )

    Source: Peng et al., 2503.14456, section 4.1; initialisation as RWKV_Tmix_x070 in BlinkDL/RWKV-LM.
    """

    def __init__(self, config: RwkvConfig, layer: int) -> None:
        super().__init__()
        d, heads = config.d_model, config.n_heads
        self.d_head = config.d_head
        depth, shallow = layer / max(config.n_layers - 1, 1), 1 - layer / config.n_layers
        channel = torch.arange(d) / d
        for name, power in (("r", 0.2), ("w", 0.9), ("k", 0.7), ("v", 0.7), ("a", 0.9), ("g", 0.2)):
            self.register_parameter(f"x_{name}", nn.Parameter((1 - channel ** (power * shallow))[None, None]))

        linear = torch.linspace(-0.5, 0.5, d)
        within = torch.linspace(-1, 1, config.d_head).repeat(heads)
        zigzag = within * within.abs()
        rates = -5.5 + 6 * (linear + 0.5) ** (1 + depth**0.3)
        self._small_mlp("w", rates + 2.5 * zigzag, config.rank_w)
        self._small_mlp("a", -0.19 + 0.3 * zigzag + 0.4 * linear, config.rank_a)
        if layer:
            self._small_mlp("v", 0.73 - 0.4 * linear, config.rank_v)
        self._small_mlp("g", None, config.rank_g)
        self.k_k = nn.Parameter((0.71 - 0.1 * linear)[None, None])
        self.k_a = nn.Parameter(torch.full((1, 1, d), 1.02))
        self.r_k = nn.Parameter(torch.full((heads, config.d_head), -0.04))

        self.receptance, self.key, self.value, self.output = (nn.Linear(d, d, bias=False) for _ in range(4))
        for linear_map, bound in ((self.receptance, 0.5), (self.key, 0.05), (self.value, 0.5)):
            nn.init.uniform_(linear_map.weight, -bound * d**-0.5, bound * d**-0.5)
        nn.init.zeros_(self.output.weight)
        self.ln_x = nn.GroupNorm(heads, d, eps=64e-5)  # 64 · 1e-5: theirs divides the heads' outputs by 8 in effect

    def _small_mlp(self, name: str, bias: Tensor | None, rank: int) -> None:
        """Parameters name0 (1, 1, d), name1 (d, rank) and name2 (rank, d). name1 begins at 0, so that all tokens begin with the bias."""
        d = self.x_r.shape[-1]
        if bias is not None:
            self.register_parameter(f"{name}0", nn.Parameter(bias[None, None]))
        self.register_parameter(f"{name}1", nn.Parameter(torch.zeros(d, rank)))
        self.register_parameter(f"{name}2", nn.Parameter(nn.init.orthogonal_(torch.empty(rank, d), gain=0.1 * max(1.0, rank / d) ** 0.5)))

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        v_first: Float[Tensor, "batch time d_model"] | None,
        last: Float[Tensor, "batch d_model"] | None,
        memory: Float[Tensor, "batch heads d_head d_head"] | None,
    ) -> tuple[
        Float[Tensor, "batch time d_model"],
        Float[Tensor, "batch time d_model"],
        Float[Tensor, "batch d_model"],
        Float[Tensor, "batch heads d_head d_head"],
    ]:
        """The result, the first layer's values, the last token for the next call's shift, and the state of the delta rule.

        `v_first` is None in the first layer alone, which gives its own values on.
        """
        before, last = token_shift(x, last)
        x_r, x_w, x_k, x_v, x_a, x_g = (torch.lerp(x, before, getattr(self, f"x_{name}")) for name in "rwkvag")
        r, k, v = self.receptance(x_r), self.key(x_k), self.value(x_v)
        wide = widest(x)
        rate = self.w0.to(wide) + torch.tanh(x_w @ self.w1).to(wide) @ self.w2.to(wide)
        log_w = -SLOWEST * torch.sigmoid(rate)
        a = torch.sigmoid(self.a0 + x_a @ self.a1 @ self.a2)
        if v_first is None:
            v_first = v
        else:
            v = v + (v_first - v) * torch.sigmoid(self.v0 + x_v @ self.v1 @ self.v2)
        gate = torch.sigmoid(x_g @ self.g1) @ self.g2

        removal = F.normalize(self._heads((k * self.k_k).to(wide)), dim=-1)
        k = k * (1 + (a - 1) * self.k_a)
        r, log_w, k, v, a = (self._heads(part) for part in (r, log_w, k, v, a))
        run = delta_rule if x.shape[1] == 1 else chunked_delta_rule
        y, memory = run(r, log_w, k, v, -removal, removal * a, memory)
        y = self.ln_x(y.flatten(0, 1).flatten(1)).view_as(x)
        y = y + ((r * k * self.r_k).sum(-1, keepdim=True) * v).flatten(2)
        return self.output(y * gate), v_first, last, memory

    def _heads(self, part: Float[Tensor, "batch time d_model"]) -> Float[Tensor, "batch time heads d_head"]:
        return part.unflatten(-1, (-1, self.d_head))


class ChannelMixing7(nn.Module):
    """RWKV-7's channel mixing: an MLP with squared ReLU over a blend of the token and the one before. No gate.

    Source: 2503.14456, section 4.2.
    """

    def __init__(self, config: RwkvConfig, layer: int) -> None:
        super().__init__()
        d = config.d_model
        self.x_k = nn.Parameter((1 - (torch.arange(d) / d) ** ((1 - layer / config.n_layers) ** 4))[None, None])
        self.key = nn.Linear(d, config.d_ff, bias=False)
        self.value = nn.Linear(config.d_ff, d, bias=False)
        nn.init.uniform_(self.key.weight, -0.5 * d**-0.5, 0.5 * d**-0.5)
        nn.init.zeros_(self.value.weight)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], last: Float[Tensor, "batch d_model"] | None
    ) -> tuple[Float[Tensor, "batch time d_model"], Float[Tensor, "batch d_model"]]:
        """The result, and the last token for the next call's shift."""
        before, last = token_shift(x, last)
        return self.value(torch.relu(self.key(torch.lerp(x, before, self.x_k))).square()), last


class Rwkv7Block(nn.Module):
    """x + time mixing of its norm, then + channel mixing of its norm. The first block has a norm of the embeddings in front."""

    def __init__(self, config: RwkvConfig, layer: int) -> None:
        super().__init__()
        self.ln0 = LayerNorm(config.d_model, eps=config.norm_eps) if layer == 0 else nn.Identity()
        self.ln1 = LayerNorm(config.d_model, eps=config.norm_eps)
        self.att = TimeMixing7(config, layer)
        self.ln2 = LayerNorm(config.d_model, eps=config.norm_eps)
        self.ffn = ChannelMixing7(config, layer)

    def forward(
        self, x: Float[Tensor, "batch time d_model"], v_first: Float[Tensor, "batch time d_model"] | None, state: RwkvState | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], Float[Tensor, "batch time d_model"], RwkvState]:
        """The stream, the first layer's values, and the block's state."""
        time, memory, channel = (None, None, None) if state is None else state
        x = self.ln0(x)
        mixed, v_first, time, memory = self.att(self.ln1(x), v_first, time, memory)
        x = x + mixed
        mixed, channel = self.ffn(self.ln2(x), channel)
        return x + mixed, v_first, RwkvState(time, memory, channel)


class Rwkv7(StatefulModel):
    """Embedding, blocks, norm, head. A text may be read whole, in pieces, or token by token: hand the state on.

    `state_dict()` is the layout of BlinkDL's `.pth` files.

    Raises:
        ValueError: no tokens; a state of another shape or of another number of layers; values that are not finite.
    """

    def __init__(self, config: RwkvConfig) -> None:
        super().__init__()
        self.config = config
        self.emb = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Rwkv7Block(config, layer) for layer in range(config.n_layers))
        self.ln_out = LayerNorm(config.d_model, eps=config.norm_eps)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        nn.init.uniform_(self.emb.weight, -1e-4, 1e-4)
        nn.init.orthogonal_(self.head.weight, gain=0.5 * max(1.0, config.vocab_size / config.d_model) ** 0.5)

    def stack(self) -> tuple[nn.Module, Sequence[nn.Module], nn.Module, nn.Module]:
        return self.emb, self.blocks, self.ln_out, self.head

    def read(
        self, tokens: Int[Tensor, "batch time"], state: list[RwkvState] | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], list[RwkvState]]:
        """The stream behind the last norm, before the head, and the state behind the last token."""
        before, after = layer_states(tokens, state, len(self.blocks)), []
        x, v_first = self.emb(tokens), None
        for block, layer_state in zip(self.blocks, before, strict=True):
            x, v_first, now = block(x, v_first, layer_state)
            after.append(now)
        return self.ln_out(x), after
