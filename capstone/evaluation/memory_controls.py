"""What the state space model of `assistant.memory.stream` is compared with: nothing, the last six turns, all turns, a GRU's state.

Each stands in the place of `Kept`, sees the same turns and questions, learns from the same losses, and has as many parameters, within 2 %.
Attention hands on turns' vectors as they are, too; a GRU goes in and out by fixed directions, so that a name can pass through it.
"""

from __future__ import annotations

import math

import torch
from assistant.memory.stream import DROPPED, KINDS, MARKS, SPREAD, Kept, Shape
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

NAMES = ("mamba", "none", "window", "gru", "attention")
WINDOW = 6  # turns
HALF = 64  # what sees a turn's kind: half of what the state space model has for it


class Control(nn.Module):
    """Sees the turns' kinds, hears the question's; `context` says what of the turns it refers to."""

    def __init__(self, shape: Shape, seen: int = HALF):
        super().__init__()
        self.see, self.step = nn.Linear(shape.dim + MARKS, seen), nn.Linear(seen, len(KINDS))
        self.choose = nn.Linear(shape.heard, len(KINDS))

    def at(
        self, vectors: Float[Tensor, "n dim"], marks: Float[Tensor, "n marks"], heard: Float[Tensor, "q heard"], places: Int[Tensor, " q"]
    ) -> tuple[Float[Tensor, "q dim"], Float[Tensor, "n kinds"], Float[Tensor, "q kinds"]]:
        """As `Kept.at`."""
        sights = torch.cat([F.dropout(vectors * SPREAD, DROPPED, self.training), marks], -1)
        kinds, asked = self.step(F.silu(self.see(sights))), self.choose(heard)
        turns = torch.cat([vectors * SPREAD, marks, kinds], -1)
        return self.context(vectors, turns, torch.cat([heard, asked], -1), places), kinds, asked

    def context(self, vectors: Tensor, turns: Tensor, questions: Tensor, places: Tensor) -> Float[Tensor, "q dim"]:
        raise NotImplementedError


class NoContext(Control):
    """A question by itself."""

    def __init__(self, shape: Shape):
        super().__init__(shape, seen=128)

    def context(self, vectors, turns, questions, places):
        return torch.zeros(len(questions), vectors.shape[1])


class Attention(Control):
    """Attention over all turns, or the last few, with a price on distance that each head learns (ALiBi, 2108.12409)."""

    def __init__(self, shape: Shape, window: int | None = None, heads: int = 4, width: int = 52):
        super().__init__(shape)
        self.heads, self.window = heads, window
        self.key = nn.Linear(shape.dim + MARKS + len(KINDS), width)
        self.query, self.mix = nn.Linear(shape.heard + len(KINDS), width), nn.Linear(shape.heard + len(KINDS), heads)
        self.price = nn.Parameter(torch.linspace(-5.0, -1.0, heads))

    def context(self, vectors, turns, questions, places):
        keys, queries = self.key(turns).unflatten(-1, (self.heads, -1)), self.query(questions).unflatten(-1, (self.heads, -1))
        back = places[:, None] - torch.arange(len(turns))
        seen = (back > 0) & (back <= (self.window or len(turns)))
        scores = torch.einsum("qhd,nhd->qnh", queries, keys) / math.sqrt(keys.shape[-1]) - self.price.exp() * back[..., None]
        shares = scores.masked_fill(~seen[..., None], -1e9).softmax(1)
        return torch.einsum("qnh,qh,nd->qd", shares, self.mix(questions).softmax(-1), vectors)


class Recurrent(Control):
    """A GRU (1406.1078)."""

    def __init__(self, shape: Shape, width: int = 64, hidden: int = 48):
        super().__init__(shape)
        self.register_buffer("basis", torch.zeros(width, shape.dim))
        self.gru = nn.GRU(width + MARKS + len(KINDS), hidden, batch_first=True)
        self.gate, self.down = nn.Linear(shape.heard + len(KINDS), hidden), nn.Linear(hidden, width)

    def context(self, vectors, turns, questions, places):
        read = self.gru(torch.cat([turns[:, : vectors.shape[1]] @ self.basis.T, turns[:, vectors.shape[1] :]], -1)[None])[0][0]
        return self.down(read[places - 1] * torch.sigmoid(self.gate(questions))) @ self.basis


def mixer(name: str, shape: Shape, turns: Float[Tensor, "n dim"]) -> nn.Module:
    """A mixer for `StreamReader`; a GRU's directions are those in which `turns` differ most. Raises ValueError for another name."""
    make = {"mamba": Kept, "none": NoContext, "window": lambda s: Attention(s, WINDOW), "attention": Attention, "gru": Recurrent}
    if name not in make:
        raise ValueError(f"{name!r} is unknown: choose one of {', '.join(make)}")
    made = make[name](shape)
    if isinstance(made, Recurrent):
        made.basis.copy_(torch.linalg.svd(turns, full_matrices=False)[2][: len(made.basis)])
    return made
