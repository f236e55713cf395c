"""Where in a passage does the answer to a question stand, or nowhere? Question and passage compared token by token, over E5's states.

Each token of the passage is aligned with the question's tokens and compared with what it is aligned with (decomposable attention, Parikh
et al., arXiv 1606.01933); blocks of depthwise convolution read the comparisons along the passage (as QANet's do, arXiv 1804.09541), so that
a name, a verb and a number have to stand beside each other. Every token gets a logit that the answer is there, beside a zero that says
nowhere, as BERT does it for SQuAD 2.0 (arXiv 1810.04805, section 4.3); from the likeliest place, and from how well the question is covered,
come log odds that the passage answers. Learning *where* is what makes a few thousand questions enough: E5's own upper layers, with only yes
or no to learn from, told near misses no better than chance after 6,400 pairs (docs/evaluation.md).

States are those that `hybridlab.rag.reader` reads, too. What has to be kept of a passage is 128 numbers of 8 bits a token.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.rag.embed import States
from hybridlab.rag.reader import STEPS, Example, Kept, filled, of_each, read_halves, save_halves

KERNEL = 15  # tokens that a convolution sees
LAYERS = 2
DROPOUT = 0.15
NOWHERE = -1e4
START = 10.0  # sharpness of the alignment at first
POOLS = 40  # batches whose passages are sorted by length together


class Block(nn.Module):
    """Depthwise convolution along the passage, then a small MLP; both are added to what was there and normalised."""

    def __init__(self, width: int):
        super().__init__()
        self.along = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Float[Tensor, "pairs n width"], there: Float[Tensor, "pairs n 1"]) -> Float[Tensor, "pairs n width"]:
        x = self.first(x + F.gelu(self.along((x * there).transpose(1, 2)).transpose(1, 2)))
        return self.second(x + self.drop(self.down(F.gelu(self.up(x)))))


class SpanReader(nn.Module):
    """`width` is the size of the vectors that are compared."""

    def __init__(self, dim: int = 384, width: int = 64, seed: int = 0):
        super().__init__()
        self.width = width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.of_question, self.of_passage = nn.LayerNorm(dim), nn.LayerNorm(dim)
            self.asks, self.holds = nn.Linear(dim, width), nn.Linear(dim, width)
            self.holds.load_state_dict(self.asks.state_dict())  # one for both: cosines at first
            self.asked, self.said = nn.Linear(dim, width), nn.Linear(dim, width)
            self.asks_for, self.matters, self.wanted = nn.Linear(dim, 1), nn.Linear(dim, 1), nn.Linear(dim, width)
            self.sharpness = nn.Parameter(torch.tensor(START))
            self.compare, self.compared = nn.Linear(4 * width + 2, 2 * width), nn.LayerNorm(2 * width)
            self.blocks = nn.ModuleList(Block(2 * width) for _ in range(LAYERS))
            self.place, self.pool = nn.Linear(2 * width, 1), nn.Linear(2 * width, 1)
            self.judge, self.odds = nn.Linear(4 * width + 3, 2 * width), nn.Linear(2 * width, 1)
        nn.init.constant_(self.place.bias, -4.0)  # an answer is seldom at any one token
        self.drop = nn.Dropout(DROPOUT)

    def hold(self, passages: Float[Tensor, "passages n dim"]) -> Float[Tensor, "passages n two_widths"]:
        """What is compared of a passage: of each token a key and a value, both of length 1."""
        x = self.of_passage(passages)
        return torch.cat([F.normalize(self.holds(x), dim=-1), F.normalize(self.said(x), dim=-1)], dim=-1)

    def forward(
        self,
        questions: Float[Tensor, "pairs m dim"],
        real: Bool[Tensor, "pairs m"],
        held: Float[Tensor, "pairs n two_widths"],
        there: Bool[Tensor, "pairs n"],
    ) -> tuple[Float[Tensor, " pairs"], Float[Tensor, "pairs n"]]:
        """Log odds that the passage answers, and the logit of each of its tokens that the answer is there; `real` and `there` are False
        where a row is filled up."""
        q = self.of_question(questions)
        keys, values = held.chunk(2, dim=-1)
        values = values * values.shape[-1] ** 0.5
        likeness = (keys @ F.normalize(self.asks(q), dim=-1).transpose(1, 2)).masked_fill(~real[:, None], -1.0)  # (pairs, n, m)
        matters = torch.sigmoid(self.matters(q).squeeze(-1)) * real
        aligned = (self.sharpness * likeness).softmax(-1)
        kind = ((self.asks_for(q).squeeze(-1).masked_fill(~real, NOWHERE).softmax(-1)[..., None]) * self.wanted(q)).sum(1)  # (pairs, width)
        partner = aligned @ self.asked(q)
        nearest, weight = likeness.amax(-1, keepdim=True), (aligned * matters[:, None]).sum(-1, keepdim=True)
        beside = [values, partner, values * partner, values * kind[:, None], nearest, weight]
        x = self.compared(self.compare(self.drop(torch.cat(beside, dim=-1))))
        for block in self.blocks:
            x = block(x, there[..., None].float())
        places = self.place(x).squeeze(-1).masked_fill(~there, NOWHERE)
        likeliest = (self.pool(x).squeeze(-1) + places).masked_fill(~there, NOWHERE).softmax(-1)
        best = (likeliest[..., None] * x).sum(1)  # (pairs, 2 * width)
        covered = likeness.masked_fill(~there[..., None], -1.0).amax(1)  # (pairs, m)
        mean = (matters * covered).sum(1) / matters.sum(1).clamp(min=1e-3)
        worst = (matters * (1 - covered)).amax(1)
        seen = [best, kind, kind * best[:, : kind.shape[-1]], mean[:, None], worst[:, None], places.logsumexp(-1, keepdim=True)]
        return self.odds(self.drop(F.gelu(self.judge(torch.cat(seen, dim=-1))))).squeeze(-1), places

    @torch.inference_mode()
    def keep(self, passage: States) -> Kept:
        """What has to be kept of a passage so that it can be read again, in 8 bits."""
        return (self.hold(torch.from_numpy(passage)) * STEPS).round().to(torch.int8).numpy()

    def score(self, question: States, passages: Sequence[Kept]) -> Float32[np.ndarray, " passages"]:
        """Log odds for each passage that it answers the question; where a text has no token, there is nothing to be read: -inf."""
        return of_each(question, passages, lambda held, there: self(*filled([question] * len(held)), held, there)[0])

    def save(self, path: Path) -> None:
        """In float16: 700 KB."""
        save_halves(self, path)

    @classmethod
    def load(cls, path: Path) -> SpanReader:
        """Raises FileNotFoundError, and RuntimeError where the file is another model's."""
        weights = read_halves(path)
        reader = cls(*weights["asks.weight"].shape[::-1]) if "asks.weight" in weights else cls()
        reader.load_state_dict(weights)
        return reader.eval()


def loss(reader: SpanReader, questions: Sequence[States], passages: Sequence[States], batch: Sequence[Example]) -> Float[Tensor, ""]:
    """Cross entropy of whether, and of where: an example that is answered somewhere unknown says only that it is."""
    asked, real = filled([questions[one.question] for one in batch])
    states, there = filled([passages[one.passage] for one in batch])
    odds, places = reader(asked, real, reader.hold(states), there)
    truth, weight = torch.tensor([float(one.answered) for one in batch]), torch.tensor([one.weight for one in batch])
    whether = F.binary_cross_entropy_with_logits(odds, truth, reduction="none")
    anywhere = F.pad(places, (1, 0)).logsumexp(-1)  # with the zero that says nowhere
    here = torch.full_like(places, NOWHERE)
    for row, one in enumerate(batch):
        if one.place is not None:
            here[row, : len(one.place)] = places[row, : len(one.place)].masked_fill(~torch.from_numpy(one.place), NOWHERE)
    known = torch.tensor([not one.answered or one.place is not None for one in batch])
    where = anywhere - torch.where(truth > 0, here.logsumexp(-1), torch.zeros(()))
    return ((whether + where * known) * weight).sum() / weight.sum()


def train_spans(
    reader: SpanReader,
    questions: Sequence[States],
    passages: Sequence[States],
    examples: Sequence[Example],
    epochs: int,
    rate: float,
    seed: int = 0,
    at_once: int = 24,
) -> Iterator[float]:
    """Fit a reader in place (AdamW, one cycle); yields the loss of each batch. `at_once` are the examples of a batch."""
    chance = random.Random(seed)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=rate, weight_decay=0.02)
    steps = epochs * math.ceil(len(examples) / at_once)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1, pct_start=0.15)
    reader.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(epochs):
            for batch in batches(examples, passages, at_once, chance):
                value = loss(reader, questions, passages, batch)
                optimizer.zero_grad()
                value.backward()
                nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
                optimizer.step()
                schedule.step()
                yield value.item()
    reader.eval()


def batches(examples: Sequence[Example], passages: Sequence[States], at_once: int, chance: random.Random) -> list[list[Example]]:
    """Each example once, in random order, with passages of nearly the same length in one batch."""
    order, made = list(examples), []
    chance.shuffle(order)
    for start in range(0, len(order), at_once * POOLS):
        pool = sorted(order[start : start + at_once * POOLS], key=lambda one: len(passages[one.passage]))
        made += [pool[i : i + at_once] for i in range(0, len(pool), at_once)]
    chance.shuffle(made)
    return made
