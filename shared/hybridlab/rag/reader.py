"""A small reader: does a passage hold what a question asks for? Late interaction over E5's token states, with learned importance.

Every token of the question looks for its best counterpart in the passage (ColBERT's MaxSim, arXiv 2004.12832). What is new to it: how
much a token matters, and how near a counterpart has to be, are read from the token's own state. A city that is asked for and is not
there lowers the score; "how much" does not.

Counterparts that stand in different sentences answer nothing: so the passage is also read in windows of a sentence or two, and in each
of them is looked for something of the kind that the question asks for. 75,000 numbers.

What is compared of a passage's token is 64 numbers, and 8 bits of each are enough: kept from the pass that embeds the passage, they
let a question be read against it in a thousandth of a second (ColBERTv2, arXiv 2112.01488, keeps its tokens likewise).

States are those after DEPTH of E5's 12 layers: words of two languages lie nearer to each other there than at the end, where all
tokens of a text speak of the whole (as arXiv 2004.08728 found for aligning words).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.rag.embed import States

DEPTH = 8  # of E5's layers
SHARPNESS = 20.0  # of the maximum over a passage's tokens: a soft one, so that the second best learns too
SLOPE = 8.0  # of a token's gap
WINDOW, STRIDE = 48, 16  # tokens that are read together, and from one such window to the next
EITHER = 4.0  # sharpness of the maximum over windows

STEPS = 127  # of 8 bits

Kept = Int8[np.ndarray, "tokens width"]


class Reader(nn.Module):
    """`width` is the size of the vectors that are compared. Calling it gives log odds that the passage answers the question."""

    def __init__(self, dim: int = 384, width: int = 64, seed: int = 0):
        super().__init__()
        self.width = width
        start = torch.randn(dim, width, generator=torch.Generator().manual_seed(seed)) / dim**0.5  # one for both: cosines at first
        self.question, self.passage = nn.Parameter(start.clone()), nn.Parameter(start.clone())
        self.importance, self.importance_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.zeros(()))
        self.nearness, self.nearness_bias = nn.Parameter(torch.zeros(dim)), nn.Parameter(torch.tensor(0.5))
        self.evidence, self.penalty = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(2.0))
        kind = torch.randn(dim, width, generator=torch.Generator().manual_seed(seed + 1)) / dim**0.5
        self.asking, self.kind = nn.Parameter(torch.zeros(dim)), nn.Parameter(kind)  # which tokens say what kind is asked for, and which
        self.kinds, self.together = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(
        self,
        questions: Float[Tensor, "pairs m dim"],
        real: Bool[Tensor, "pairs m"],
        passages: Float[Tensor, "passages n dim"],
        there: Bool[Tensor, "passages n"],
        which: Int[Tensor, " pairs"],
    ) -> Float[Tensor, " pairs"]:
        """Pair i is question i and passage `which[i]`; `real` and `there` are False where a row is filled up."""
        return self.judge(questions, real, F.normalize(passages @ self.passage, dim=-1)[which], there[which])

    def judge(
        self,
        questions: Float[Tensor, "pairs m dim"],
        real: Bool[Tensor, "pairs m"],
        held: Float[Tensor, "pairs n width"],
        there: Bool[Tensor, "pairs n"],
    ) -> Float[Tensor, " pairs"]:
        """The same of passages as they are compared."""
        asked = F.normalize(questions @ self.question, dim=-1)
        likeness = (asked @ held.transpose(1, 2)).masked_fill(~there[:, None], -2.0)  # (pairs, m, n)
        importance = torch.sigmoid(questions @ self.importance + self.importance_bias) * real
        wanted = self.nearness_bias + questions @ self.nearness

        def missing(best: Float[Tensor, "pairs m w"]) -> Float[Tensor, "pairs w"]:
            """What the question's tokens lack, with these as the likeness of their best counterparts."""
            return F.softplus(self.penalty) * (importance[..., None] * F.softplus(SLOPE * (wanted[..., None] - best)) / SLOPE).sum(1)

        anywhere = -missing(torch.logsumexp(likeness * SHARPNESS, dim=-1, keepdim=True) / SHARPNESS).squeeze(-1)
        weight = (questions @ self.asking).masked_fill(~real, -1e4).softmax(-1)
        kind = F.normalize((weight[..., None] * questions).sum(1) @ self.kind, dim=-1)
        alike = (held @ kind[..., None]).squeeze(-1).masked_fill(~there, -1.0)  # (pairs, n)
        near, of_kind = windows(likeness, -2.0), windows(alike[:, None], -1.0).squeeze(1)  # (pairs, m, w), (pairs, w)
        each = 2.0 * F.softplus(self.kinds) * of_kind - missing(near)
        starts = STRIDE * torch.arange(each.shape[1])
        new = (starts == 0) | (starts + WINDOW - STRIDE < there.sum(1, keepdim=True))  # holds a token that the window before does not
        together = torch.logsumexp(each.masked_fill(~new, -1e4) * EITHER, dim=-1) / EITHER
        share = torch.sigmoid(self.together)
        return 3.0 * (F.softplus(self.evidence) + (1 - share) * anywhere + share * together)

    @torch.inference_mode()
    def keep(self, passage: States) -> Kept:
        """What has to be kept of a passage so that it can be read again: its tokens as they are compared, in 8 bits."""
        held = F.normalize(torch.from_numpy(passage) @ self.passage, dim=-1)
        return (held * STEPS).round().to(torch.int8).numpy()

    def score(self, question: States, passages: Sequence[Kept]) -> Float32[np.ndarray, " passages"]:
        """Log odds for each passage that it answers the question; where a text has no token, there is nothing to be read: -inf."""
        return of_each(question, passages, lambda held, there: self.judge(*filled([question]), held, there))

    def save(self, path: Path) -> None:
        """In float16: 100 KB."""
        save_halves(self.state_dict(), path)

    @classmethod
    def load(cls, path: Path) -> Reader:
        """Raises FileNotFoundError, and RuntimeError where the file is another model's."""
        weights = read_halves(path)
        reader = cls(*weights["question"].shape) if "question" in weights else cls()
        reader.load_state_dict(weights)
        return reader.eval()


def save_halves(weights: dict[str, Float[Tensor, ...]], path: Path) -> None:
    """Write a model's numbers in float16."""
    save_file({name: value.detach().half().contiguous() for name, value in weights.items()}, path)


def read_halves(path: Path) -> dict[str, Float32[Tensor, ...]]:
    """What `save_halves` wrote, in float32. Raises FileNotFoundError."""
    return {name: value.float() for name, value in load_file(path).items()}


@torch.inference_mode()
def of_each(question: States, passages: Sequence[Kept], judge: Callable[[Tensor, Tensor], Tensor]) -> Float32[np.ndarray, " passages"]:
    """What `judge` says of each passage that has a token, and -inf of the others, and of all where the question has none."""
    odds = np.full(len(passages), -np.inf, np.float32)
    full = [i for i, passage in enumerate(passages) if len(passage)]
    if len(question) and full:
        held, there = filled([passages[i] for i in full])
        odds[full] = judge(held.div_(STEPS), there).numpy()
    return odds


def windows(rows: Float[Tensor, "pairs m n"], least: float) -> Float[Tensor, "pairs m w"]:
    """The greatest of each window of the last dimension; what is short is filled up with `least`."""
    length = rows.shape[-1]
    whole = max(WINDOW, WINDOW + -(-(length - WINDOW) // STRIDE) * STRIDE)
    return F.max_pool1d(F.pad(rows, (0, whole - length), value=least), WINDOW, STRIDE)


def filled(rows: Sequence[States | Kept]) -> tuple[Float[Tensor, "rows longest dim"], Bool[Tensor, "rows longest"]]:
    """Rows of different lengths as one tensor, and where it is real."""
    lengths = np.array(list(map(len, rows)))
    tensor = np.zeros((len(rows), max(1, lengths.max()), rows[0].shape[1]), np.float32)
    for there, row in zip(tensor, rows, strict=True):
        there[: len(row)] = row
    return torch.from_numpy(tensor), torch.from_numpy(np.arange(tensor.shape[1]) < lengths[:, None])


@dataclass(frozen=True)
class Example:
    """Numbers of a question and a passage, whether it is answered there, and how much that counts."""

    question: int
    passage: int
    answered: bool
    weight: float = 1.0


def train(
    reader: Reader,
    questions: Sequence[States],
    passages: Sequence[States],
    examples: Sequence[Example],
    epochs: int,
    rate: float,
    seed: int = 0,
    at_once: int = 8,
) -> Reader:
    """Fit a reader in place by cross entropy (AdamW, one cycle). A batch is `at_once` passages with all of their questions: each
    passage is projected once for all who ask of it."""
    torch.manual_seed(seed)
    chance = random.Random(seed)
    of_passage: dict[int, list[Example]] = {}
    for example in examples:
        of_passage.setdefault(example.passage, []).append(example)
    order = sorted(of_passage, key=lambda i: (len(passages[i]), i))
    batches = [order[i : i + at_once] for i in range(0, len(order), at_once)]
    groups = [
        {"params": [reader.question, reader.passage], "weight_decay": 0.01},
        {"params": [reader.importance, reader.nearness], "weight_decay": 0.1},
        {"params": [p for p in reader.parameters() if p.ndim == 0], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * len(batches))
    for _ in range(epochs):
        chance.shuffle(batches)
        for batch in batches:
            pairs = [(place, example) for place, i in enumerate(batch) for example in of_passage[i]]
            asked, real = filled([questions[example.question] for _, example in pairs])
            held, there = filled([passages[i] for i in batch])
            odds = reader(asked, real, held, there, torch.tensor([place for place, _ in pairs]))
            truth = torch.tensor([float(example.answered) for _, example in pairs])
            weight = torch.tensor([example.weight for _, example in pairs])
            loss = (F.binary_cross_entropy_with_logits(odds, truth, reduction="none") * weight).sum() / weight.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return reader.eval()
