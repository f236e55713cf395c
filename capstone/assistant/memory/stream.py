"""A selective state space model that reads a user's turns as they come, and says what a question that names nothing refers to.

"And what does the label say?" was led up to a turn ago, or two hundred. The state, of fixed size, has carried it: every head keeps one
turn's vector, and a step `dt` says for each turn how far a head lets go of what it has and takes this turn instead,

    S_h  <-  exp(-dt_h) S_h + (1 - exp(-dt_h)) x        (`Kept.read`)

That is Mamba's recurrence with one state for each channel and A = -1, discretised by zero-order hold (2312.00752, theorem 1), the vector
shared by all heads, with relu steps (`hybridlab.ssm.mamba_config`): a turn that is none of a head's matter changes nothing of what it
keeps, however many come. A head fires at one kind of matter (a person, a thing, an event, a question, an option), so what it holds is the
last turn of that kind; the question chooses among the heads (`StreamReader.refer`), and turns that agree with what it chose are lifted
(`StreamReader.lift`). Vectors go in and come out as they are: a name that was never trained on is carried as itself.

All vectors are E5's without the mean of their language (`assistant.memory.meaning`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from assistant.cues import is_question

SPREAD = 20.0  # numbers of a vector of length 1 are of the size of 1/20: layers start for larger ones
DROPPED = 0.3  # of a vector's numbers, in training, where kinds are told by them: in another world other words tell them
MARKS = 3  # of a turn: the user says it, it only asks, it begins a session
KINDS = ("person", "thing", "event", "question", "option")  # what the first heads are for
ITSELF, STEEP = 0.85, 0.03  # cosine with what is referred to, from which a turn is taken for the very turn that is referred to
LIFTS = ("base", "matter", "saying", "whole", "age", "itself")  # what a question weighs


@dataclass(frozen=True)
class Shape:
    """Sizes: of the vectors, the heads, what sees a turn, what hears a question, and the two ways in which turns are compared."""

    dim: int = 384
    heads: int = 8
    seen: int = 128
    heard: int = 64
    rank: int = 32


def mark(role: Literal["user", "assistant"], content: str, begins: bool) -> Float[Tensor, " marks"]:
    """What a turn is beside its vector."""
    return torch.tensor([float(role == "user"), float(is_question(content)), float(begins)])


class Kept(nn.Module):
    """The state space model: steps out of turns, a state out of steps, and what is read of the state."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.see, self.step = nn.Linear(shape.dim + MARKS, shape.seen), nn.Linear(shape.seen, shape.heads)
        self.choose = nn.Linear(shape.heard, shape.heads)

    def kinds(self, vectors: Float[Tensor, "*n dim"], marks: Float[Tensor, "*n marks"]) -> Float[Tensor, "*n heads"]:
        """How sure it is, in log odds, that a turn is of the kind that each head is for."""
        return self.step(F.silu(self.see(torch.cat([F.dropout(vectors * SPREAD, DROPPED, self.training), marks], -1))))

    def begin(self) -> Float[Tensor, "heads dim"]:
        """The state before the first turn."""
        return torch.zeros(self.shape.heads, self.shape.dim)

    def read(
        self, vectors: Float[Tensor, "n dim"], marks: Float[Tensor, "n marks"], state: Float[Tensor, "heads dim"]
    ) -> Float[Tensor, "heads dim"]:
        """The state after these turns. One turn at a time: into how many calls they are split changes no bit."""
        for vector, its in zip(vectors, marks, strict=True):
            fade = torch.exp(-F.relu(self.kinds(vector, its)))[:, None]
            state = fade * state + (1 - fade) * vector
        return state

    def of(self, heard: Float[Tensor, " heard"], state: Float[Tensor, "heads dim"]) -> Float[Tensor, " dim"]:
        """What a question reads of a state."""
        return self.choose(heard).softmax(-1) @ state

    def at(
        self, vectors: Float[Tensor, "n dim"], marks: Float[Tensor, "n marks"], heard: Float[Tensor, "q heard"], places: Int[Tensor, " q"]
    ) -> tuple[Float[Tensor, "q dim"], Float[Tensor, "n heads"], Float[Tensor, "q heads"]]:
        """`of` for questions put when `places` turns had been said, all at once, as sums over the turns (training's form; 2405.21060,
        section 3); with the log odds of the turns' kinds, and of the kinds that the questions are of."""
        kinds, asked = self.kinds(vectors, marks), self.choose(heard)
        dt = F.relu(kinds)
        passed = dt.cumsum(0)
        left = torch.log(-torch.expm1(-dt) + 1e-9) + passed - passed[places - 1][:, None]  # (q, n, heads)
        before = (torch.arange(len(vectors)) < places[:, None])[..., None]
        shares = torch.where(before, left, -1e9).clamp(max=0).exp()
        return torch.einsum("qnh,qh,nd->qd", shares, asked.softmax(-1), vectors), kinds, asked


class View(nn.Module):
    """Vectors, of length 1, in which some directions are changed: what is compared of two turns. Begins with all as they are."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.off, self.on = nn.Linear(shape.dim, shape.rank, bias=False), nn.Linear(shape.rank, shape.dim, bias=False)
        nn.init.zeros_(self.on.weight)

    def forward(self, vectors: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n dim"]:
        return _unit(vectors + self.on(self.off(vectors)))


class StreamReader(nn.Module):
    """Reads turns (`mixer`), and lifts turns that agree with what a question refers to."""

    def __init__(self, shape: Shape, mixer: nn.Module | None = None):
        super().__init__()
        self.dim, self.shape = shape.dim, shape
        self.mixer = mixer or Kept(shape)
        self.hear, self.weigh = nn.Linear(shape.dim, shape.heard), nn.Linear(shape.heard, len(LIFTS))
        self.matter, self.saying = View(shape), View(shape)  # alike: turns about one matter; turns that say the same of several
        nn.init.zeros_(self.weigh.weight)
        with torch.no_grad():
            self.weigh.bias.copy_(torch.tensor([0.5, 1.0, 0.5, 0.2, 0.05, 0.0]))

    def begin(self) -> Float[Tensor, "heads dim"]:
        """The state before the first turn."""
        return self.mixer.begin()

    def read(
        self, vectors: Float[Tensor, "n dim"], marks: Float[Tensor, "n marks"], state: Float[Tensor, "heads dim"] | None = None
    ) -> Float[Tensor, "heads dim"]:
        """The state after these turns, read on from `state`."""
        return self.mixer.read(vectors, marks, self.begin() if state is None else state)

    def heard(self, question: Float[Tensor, "*q dim"]) -> Float[Tensor, "*q heard"]:
        return F.silu(self.hear(F.dropout(question * SPREAD, DROPPED, self.training)))

    def refer(self, question: Float[Tensor, " dim"], state: Float[Tensor, "heads dim"]) -> Float[Tensor, " dim"]:
        """The vector, of length 1, of what a question refers to: nearest to it is the turn that it refers to."""
        return _unit(self.mixer.of(self.heard(question), state))

    def lift(
        self,
        question: Float[Tensor, " dim"],
        state: Float[Tensor, "heads dim"],
        pieces: Float[Tensor, "pieces dim"],
        of_piece: Int[Tensor, " pieces"],
    ) -> Float[Tensor, " turns"]:
        """What turns gain, in the scores of `memory/recall.py`, by agreeing with what a question refers to. `of_piece`: the turn, from 0,
        that each piece is of, the oldest first; the last turn is the one before the question."""
        turns = int(of_piece[-1]) + 1 if len(of_piece) else 0
        heard, referred = self.heard(question), self.mixer.of(self.heard(question), state)
        base, others = self.weights(heard[None])
        ages = torch.arange(turns, 0, -1)
        return (self.agreement(referred[None], pieces, of_piece, ages[None]) @ others[0][:, None])[0, :, 0] / base[0]

    def weights(self, heard: Float[Tensor, "q heard"]) -> tuple[Float[Tensor, "q 1"], Float[Tensor, "q lifts"]]:
        """What a question gives to the score that a turn has without a state, and to each way of agreeing."""
        weights = self.weigh(heard)
        return F.softplus(weights[:, :1]), weights[:, 1:]

    def agreement(
        self,
        referred: Float[Tensor, "q dim"],
        pieces: Float[Tensor, "pieces dim"],
        of_piece: Int[Tensor, " pieces"],
        ages: Int[Tensor, "q n"],
    ) -> Float[Tensor, "q n lifts"]:
        """In how far turns agree with what is referred to: in their matter, in what they say, as a whole; how young they are; and whether
        they are the very turn."""
        alike = []
        for view in (self.matter, self.saying, _unit):
            each = view(referred) @ view(pieces).T
            best = torch.full(ages.shape, -1.0)
            alike.append(best.scatter_reduce(1, of_piece.expand(len(each), -1), each, "amax"))
        young = -torch.log1p(ages.clamp(min=0).float())
        return torch.stack([*alike, young, torch.sigmoid((alike[2] - ITSELF) / STEEP)], -1)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1, eps=1e-6)
