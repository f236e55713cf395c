"""Trains what reads the stream of turns: five invented worlds to learn from, a sixth to choose on. Half a minute of one core each.

    python -m capstone.evaluation.memory_train mamba gru     # three seeds of each, for memory_follow.py; the first Mamba is the assistant's

A warm start teaches single turns and questions their kinds, and turns of one matter to be alike; then a reader learns from whole talks that
the turns that answer a question come first (cross entropy), and that what it refers to is nearest to what it has read out. For "And before
that?" every turn that states the fact is right here: which of them is the older one, `memory/newest.py` says.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from assistant.memory.learned import WEIGHTS, save
from assistant.memory.stream import KINDS, Shape, StreamReader
from hybridlab.data.cache import cache_dir
from hybridlab.rag.embed import E5
from hybridlab.runtime import set_threads
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from capstone.evaluation.memory_controls import mixer
from capstone.evaluation.memory_lessons import Lesson, worlds
from capstone.evaluation.memory_vectors import Vectors

KIND_OF = {"person": 0, "thing": 1, "event": 2, "same": 3, "before": 3, "option": 4}  # a question's kind → whose last turn it refers to
SEEDS, STEPS, RATE = (0, 1, 2), 70, 3e-3
READ, COMPARED = 0.02, 0.05  # noise onto each number of a vector, itself of the size of 0.05: another world has other words
ASKED = 16  # questions of a talk in a step
WARM, AT_ONCE = 250, 512  # steps of the warm start, and turns in one
REFERENT, KIND = 0.5, 2.0  # what the other losses count


def new_reader(name: str, lessons: Sequence[Lesson], seed: int, shape: Shape | None = None) -> StreamReader:
    """An untrained reader with a mixer of this name (`memory_controls.mixer`)."""
    torch.manual_seed(seed)
    turns, shape = torch.cat([one.turns for one in lessons[:: max(1, len(lessons) // 20)]]), shape or Shape()
    return StreamReader(shape, mixer(name, shape, turns))


def warm_up(reader: StreamReader, worlds: Sequence[Sequence[Lesson]], rate: float = 3e-3) -> None:
    """Teach single turns and questions their kinds, every world as often as every other. In place."""
    parts = [reader.mixer.see, reader.mixer.step, reader.mixer.choose, reader.hear]
    optimizer = torch.optim.AdamW([p for part in parts for p in part.parameters()], rate, weight_decay=0.05)
    flat = [
        (
            torch.cat([one.turns for one in of]),
            torch.cat([one.marks for one in of]),
            torch.cat([one.kinds for one in of]),
            torch.stack([question.vector for one in of for question in one.questions]),
            torch.tensor([KIND_OF[question.asked.kind] for one in of for question in one.questions]),
        )
        for of in worlds
    ]
    each = AT_ONCE // len(worlds)
    views = torch.optim.AdamW([*reader.matter.parameters(), *reader.saying.parameters()], rate, weight_decay=0.3)
    for step in range(WARM):
        some = []
        for turns, marks, kinds, questions, asked in flat:
            t, q = torch.randint(len(turns), (each,)), torch.randint(len(questions), (each // 2,))
            some.append((turns[t], marks[t], kinds[t], questions[q], asked[q]))
        turns, marks, kinds, questions, asked = (torch.cat(of) for of in zip(*some, strict=True))
        _, found, _ = reader.mixer.at(turns, marks, reader.heard(questions[:1]), torch.tensor([1]))
        chosen = reader.mixer.choose(reader.heard(questions))
        loss = F.binary_cross_entropy_with_logits(found[:, : len(KINDS)], kinds) * len(KINDS)
        loss = loss + F.cross_entropy(chosen[:, : len(KINDS)], asked)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        of = worlds[step % len(worlds)]
        one = of[int(torch.randint(len(of), ()))]
        views.zero_grad()
        apart = _alike(reader.matter(_noisy(one.turns, COMPARED)), one.matters)
        (apart + _alike(reader.saying(_noisy(one.turns, COMPARED)), one.sayings)).backward()
        views.step()


def _alike(turns: Float[Tensor, "n dim"], names: Int[Tensor, " n"]) -> Tensor:
    """Cross entropy of finding, for every named turn (0: none), the turns of the same name among all others."""
    same = (names[:, None] == names) & (names > 0)
    same.fill_diagonal_(False)
    near = (turns @ turns.T * 10).fill_diagonal_(-1e4)
    some = same.any(1)
    return (near[some].logsumexp(1) - near[some].masked_fill(~same[some], -1e4).logsumexp(1)).mean()


def lifted(
    reader: StreamReader, one: Lesson, questions: Float[Tensor, "q dim"], places: Int[Tensor, " q"], noisy: bool = False
) -> tuple[Tensor, ...]:
    """[q, n] what the turns of a talk gain by agreeing with what each question refers to, and as what that is; [q, 1] the weight of a
    score without a state; then the log odds of the turns' kinds, and of the questions'."""
    turns, pieces = (_noisy(one.turns, READ), _noisy(one.pieces, COMPARED)) if noisy else (one.turns, one.pieces)
    heard = reader.heard(questions)
    referred, kinds, chosen = reader.mixer.at(turns, one.marks, heard, places)
    base, others = reader.weights(heard)
    ages = places[:, None] - torch.arange(len(turns))
    gained = (reader.agreement(referred, pieces, one.of_piece, ages) * others[:, None]).sum(-1)
    near = F.normalize(referred, dim=-1, eps=1e-6) @ turns.T + reader.matter(referred) @ reader.matter(turns).T
    return gained, near.masked_fill(ages <= 0, -1e3), base, kinds, chosen


def scores(reader: StreamReader, one: Lesson, numbers: Sequence[int], noisy: bool = False) -> tuple[Tensor, ...]:
    """[q, n] each: scores of a talk's turns as answers to some of its questions, and as what these refer to; then the log odds."""
    asked = [one.questions[n] for n in numbers]
    places = torch.tensor([x.asked.place for x in asked])
    gained, near, base, *odds = lifted(reader, one, torch.stack([x.vector for x in asked]), places, noisy)
    rows = []
    for row, x, weight in zip(gained, asked, base, strict=True):
        told = row[: x.asked.place] + weight * x.base
        rows.append(F.pad(told.masked_fill(x.asks, -1e4), (0, len(row) - x.asked.place), value=-1e4))
    return torch.stack(rows), near, *odds


def train(
    reader: StreamReader, worlds: Sequence[Sequence[Lesson]], steps: int, rate: float, seed: int,
    progress: Callable[[int, float], None] = lambda *_: None,
) -> StreamReader:  # fmt: skip
    """Train in place: a talk of every world in each step."""
    chance = np.random.default_rng(seed)
    torch.manual_seed(seed)
    reader.train()
    warm_up(reader, worlds)
    sharpness = nn.Parameter(torch.tensor([1.0, 2.0]))
    views = [*reader.matter.parameters(), *reader.saying.parameters()]
    rest = [p for p in reader.parameters() if all(p is not view for view in views)]
    decays = ((views, 0.3), (rest, 0.05), ([sharpness], 0.0))
    optimizer = torch.optim.AdamW([{"params": of, "weight_decay": decay} for of, decay in decays], rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [rate, rate, rate], total_steps=steps, pct_start=0.1)
    for step in range(steps):
        losses = []
        for of in worlds:
            one = of[chance.integers(len(of))]
            numbers = chance.permutation(len(one.questions))[:ASKED]
            answering, referring, kinds, chosen = scores(reader, one, numbers, noisy=True)
            asked = [one.questions[n] for n in numbers]
            losses.append(_right(answering * sharpness[0].exp(), [x.answers for x in asked]))
            losses.append(REFERENT * _right(referring * sharpness[1].exp(), [x.referents for x in asked]))
            losses.append(KIND * F.binary_cross_entropy_with_logits(kinds[:, : len(KINDS)], one.kinds))
            losses.append(REFERENT * F.cross_entropy(chosen[:, : len(KINDS)], torch.tensor([KIND_OF[x.asked.kind] for x in asked])))
        loss = torch.stack(losses).sum() / len(worlds)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        progress(step, loss.item())
    return reader.eval()


def _right(found: Tensor, right: Sequence[Tensor]) -> Tensor:
    """Cross entropy where several may be right."""
    return torch.stack([row.logsumexp(0) - row[of].logsumexp(0) for row, of in zip(found, right, strict=True)]).mean()


def _noisy(vectors: Tensor, size: float) -> Tensor:
    return vectors + size * torch.randn_like(vectors)


def kept(name: str, seed: int) -> Path:
    """Where a trained reader lies."""
    return cache_dir() / "memory-readers" / f"{name}-{seed}.pt"


def main() -> None:
    set_threads()
    lessons = worlds(Vectors(E5()))
    for name in sys.argv[1:] or ["mamba"]:
        for seed in SEEDS:
            reader = train(new_reader(name, [one for of in lessons for one in of], seed), lessons, STEPS, RATE, seed)
            kept(name, seed).parent.mkdir(parents=True, exist_ok=True)
            torch.save(reader.state_dict(), kept(name, seed))
            if (name, seed) == ("mamba", SEEDS[0]):
                save(WEIGHTS, reader)
            print(f"{name} {seed}: {sum(p.numel() for p in reader.parameters())} parameters")


if __name__ == "__main__":
    main()
