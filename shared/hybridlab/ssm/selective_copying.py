"""The selective copying task of the Mamba paper in small, and a Mamba whose scan may not look at the token.

A text of noise has a few data tokens in it, at places drawn anew for each text. At its end the model has to write them down in order.
Who treats all tokens alike (a linear system that does not vary with time, LTI) can wait for a fixed number of tokens, but can't leave
out the noise.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.ssm.causal_conv import causal_conv
from hybridlab.ssm.mamba2_block import GatedRMSNorm
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.s4d import S4D

SYMBOLS = 8  # tokens 0 … 7 are data
NOISE, WRITE = SYMBOLS, SYMBOLS + 1
VOCAB = SYMBOLS + 2


def copying_batch(
    batch: int, *, context: int = 16, n_data: int = 2, generator: torch.Generator
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch n_data"]]:
    """Texts of `context` tokens and then n_data times WRITE; and what has to be written there: the data, in order.

    Raises:
        ValueError: more data than the context holds.

    Source: Gu & Dao, 2312.00752, figure 2 and section 4.1.1 (there a context of 4,096 and 16 data tokens of 16 kinds).
    """
    if n_data > context:
        raise ValueError(f"{n_data} data tokens do not fit into a context of {context}")
    tokens = torch.full((batch, context + n_data), NOISE)
    tokens[:, context:] = WRITE
    data = torch.randint(SYMBOLS, (batch, n_data), generator=generator)
    places = torch.rand(batch, context, generator=generator).topk(n_data).indices.sort().values
    return tokens.scatter(1, places, data), data


class FixedMixer(nn.Module):
    """Mamba's mixer with week 9's S4D in place of the selective scan: no step, no B and no C that depends on the token.

    Projection, convolution and gate are the same; a norm follows, as in Mamba-2. S4D's states oscillate and decay, each in its own way.

    Source: 2312.00752, table 1, the row with Mamba's architecture and S4 as its layer.
    """

    def __init__(self, config: MambaConfig) -> None:
        super().__init__()
        self.in_proj = nn.Linear(config.d_model, 2 * config.d_inner, bias=False)
        self.conv1d = nn.Conv1d(config.d_inner, config.d_inner, config.d_conv, groups=config.d_inner)
        self.s4d = S4D(config.d_inner, 4 * config.d_state, dt_range=(0.01, 1.0))  # as long as these short texts
        self.norm = GatedRMSNorm(config.d_inner, 1, config.norm_eps)
        self.out_proj = nn.Linear(config.d_inner, config.d_model, bias=False)

    def forward(self, u: Float[Tensor, "batch time d_model"], state: None = None) -> tuple[Float[Tensor, "batch time d_model"], None]:
        x, gate = self.in_proj(u).chunk(2, dim=-1)
        x, _ = causal_conv(x, self.conv1d.weight[:, 0], self.conv1d.bias)
        return self.out_proj(self.norm(self.s4d(F.silu(x)), gate)), None


def copying_model(*, selection: bool = True) -> Mamba:
    """A Mamba of two layers for this task; without the selection its mixers are `FixedMixer`s, with four times the state."""
    config = MambaConfig(VOCAB, d_model=32, n_layers=2, version=1, d_state=8)
    model = Mamba(config)
    if not selection:
        for layer in model.layers:
            layer.mixer = FixedMixer(config)
    return model


def accuracy(model: Mamba, tokens: Int[Tensor, "batch time"], data: Int[Tensor, "batch n_data"]) -> float:
    """Share of the data tokens that the model writes rightly; guessing gives 1 / SYMBOLS."""
    with torch.no_grad():
        return (model(tokens)[0][:, -data.shape[1] :].argmax(-1) == data).float().mean().item()


def train_copying(
    model: Mamba, steps: int, *, seed: int, contexts: tuple[int, int] = (8, 20), batch: int = 16, lr: float = 1e-2
) -> list[float]:
    """Train with AdamW, warm-up and cosine, on texts of a length drawn anew for each step; the losses, in nats per data token."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    losses = []
    for _ in range(steps):
        context = int(torch.randint(contexts[0], contexts[1] + 1, (), generator=generator))
        tokens, data = copying_batch(batch, context=context, generator=generator)
        loss = F.cross_entropy(model(tokens)[0][:, -data.shape[1] :].flatten(0, 1), data.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses
