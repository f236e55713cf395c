"""How a cross-encoder learns: pairs of a question and a passage, of which is known whether the passage answers, and mostly where.

The loss is the sum of two. *Whether*: binary cross entropy of the log odds. *Where*: of each end of
the answer the cross entropy of where it is, the first token being right where there is no answer (BERT on SQuAD 2.0, arXiv 1810.04805,
sections 4.2 and 4.3); where an answer is given several times, any of its places will do. A pair that is answered somewhere unknown says
only that it is.

The same code learns on a processor and, in bfloat16, on a GPU: where there is little memory, a batch's gradient is summed up over parts of
it. E5's 250,000 word embeddings stay packed: those that occur are held on the device (`Words`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Int32
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.rag.cross_encoder import NOWHERE, CrossEncoder, as_one
from hybridlab.rag.e5_file import E5File
from hybridlab.rag.embed import E5

AT_ONCE = 128  # pairs of a batch
POOLS = 40  # batches whose pairs are sorted by length together
DECAY = 0.01
ROOM = {"cpu": 2**10, "cuda": 2**15}  # tokens that are read at once: 0.25 MB of memory each on a GPU


@dataclass(frozen=True)
class TokenPair:
    """A question and a passage as one row of tokens (`as_one`), whose own begin at `first` and end before the last; whether it is answered
    there, how much that counts, and, where they are known, the first and last token of each place of the answer."""

    ids: Int32[np.ndarray, " n"]
    first: int
    answered: bool
    weight: float = 1.0
    places: tuple[tuple[int, int], ...] = ()


def token_pair(
    encoder: E5, question: str, passage: str, answered: bool, weight: float = 1.0, spans: Sequence[tuple[int, int]] = ()
) -> TokenPair:
    """`spans`: of which characters of the passage the answer is, from and to. A place that is cut off at the row's end is not known."""
    ids, first = as_one(encoder, question, passage)
    held = np.array(encoder.token_spans(passage) if spans else []).reshape(-1, 2)
    places = []
    for start, end in spans:
        tokens = first + np.flatnonzero((held[:, 0] < end) & (held[:, 1] > start))
        if len(tokens) and tokens[-1] < len(ids) - 1:
            places.append((int(tokens[0]), int(tokens[-1])))
    return TokenPair(np.array(ids, np.int32), first, answered, weight, tuple(places))


class Words:
    """The embeddings of those words that occur in some pairs, on one device."""

    def __init__(self, file: E5File, pairs: Sequence[TokenPair], device: torch.device):
        self.used = np.unique(np.concatenate([pair.ids for pair in pairs]))
        self.table = torch.from_numpy(file.embed(self.used)).to(device)

    def __call__(self, ids: Int[np.ndarray, "pairs n"]) -> Float[Tensor, "pairs n dim"]:
        """Raises KeyError where a token occurred in none of the pairs."""
        rows = np.searchsorted(self.used, ids)
        if not np.array_equal(self.used.take(rows, mode="clip"), ids):
            raise KeyError("a token is not among these words: make Words of all pairs that are read")
        return self.table[torch.from_numpy(rows).to(self.table.device)]


def read(
    model: CrossEncoder, words: Words, pairs: Sequence[TokenPair]
) -> tuple[Float32[Tensor, " pairs"], Float32[Tensor, "pairs longest 2"]]:
    """What the model says of some pairs: log odds, and logits of both ends."""
    device, lengths = words.table.device, np.array([[len(pair.ids)] for pair in pairs])
    ids = np.full((len(pairs), lengths.max()), pairs[0].ids[0])
    for row, pair in zip(ids, pairs, strict=True):
        row[: len(pair.ids)] = pair.ids
    column = np.arange(ids.shape[1])
    own = (column >= [[pair.first] for pair in pairs]) & (column < lengths - 1)
    there, passage = (torch.from_numpy(mask).to(device) for mask in (column < lengths, own))
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        odds, ends = model(words(ids), there, passage)
    return odds.float(), ends.float()


def right_ends(pairs: Sequence[TokenPair], longest: int) -> Bool[Tensor, "pairs longest 2"]:
    """At which tokens an answer begins, and ends: at the first where there is none, at no token where that is not known."""
    right = torch.zeros(len(pairs), longest, 2, dtype=torch.bool)
    for row, pair in zip(right, pairs, strict=True):
        for ends in pair.places if pair.answered else ((0, 0),):
            row[ends, (0, 1)] = True
    return right


def loss(odds: Float[Tensor, " pairs"], ends: Float[Tensor, "pairs longest 2"], pairs: Sequence[TokenPair]) -> Float[Tensor, ""]:
    """Of whether and of where, the mean over pairs by their weights."""
    right = right_ends(pairs, ends.shape[1]).to(ends.device)
    truth, weight = torch.tensor([[pair.answered, pair.weight] for pair in pairs], dtype=torch.float32, device=odds.device).unbind(1)
    whether = F.binary_cross_entropy_with_logits(odds, truth, reduction="none")
    where = (ends.logsumexp(1) - ends.masked_fill(~right, NOWHERE).logsumexp(1)).mean(-1)
    known = right.any(1).all(-1)
    return ((whether + where * known) * weight).sum() / weight.sum()


def train_pairs(
    model: CrossEncoder,
    words: Words,
    pairs: Sequence[TokenPair],
    steps: int,
    warm: int,
    rate: float,
    heads_rate: float,
    seed: int = 0,
    at_once: int = AT_ONCE,
) -> Iterator[float]:
    """Fit a model in place, where it is (AdamW; the rate rises for `warm` steps, and falls to nothing in the rest); yields the loss of each
    batch. `rate` is the corrections', `at_once` are the pairs of a batch."""
    chance, device = random.Random(seed), words.table.device
    heads = list(model.heads.parameters())
    corrections = [value for name, value in model.learned().items() if not name.startswith("heads.")]
    groups = [{"params": corrections, "lr": rate}, {"params": heads, "lr": heads_rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm, (steps - step) / max(1, steps - warm)))
    model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for batch in batches(pairs, steps, at_once, chance):
            optimizer.zero_grad()
            value = sum(learn_from(model, words, part, weight) for part, weight in parts(batch, ROOM[device.type]))
            nn.utils.clip_grad_norm_([*corrections, *heads], 1.0)
            optimizer.step()
            schedule.step()
            yield value
    model.eval()


def learn_from(model: CrossEncoder, words: Words, part: Sequence[TokenPair], weight: float) -> float:
    """Adds to the gradient what a part of a batch has in it; its loss, by its weight."""
    value = weight * loss(*read(model, words, part), part)
    value.backward()
    return value.item()


def parts(batch: Sequence[TokenPair], room: int) -> list[tuple[Sequence[TokenPair], float]]:
    """A batch in parts of at most so many tokens, but of one pair at least; and the weight of each in the batch."""
    count, whole = max(1, room // max(len(pair.ids) for pair in batch)), sum(pair.weight for pair in batch)
    made = [batch[i : i + count] for i in range(0, len(batch), count)]
    return [(part, sum(pair.weight for pair in part) / whole) for part in made]


def batches(pairs: Sequence[TokenPair], steps: int, at_once: int, chance: random.Random) -> Iterator[list[TokenPair]]:
    """So many batches of nearly equal length, in random order; no pair comes again before all others did."""
    while steps > 0:
        order, made = list(pairs), []
        chance.shuffle(order)
        for start in range(0, len(order), at_once * POOLS):
            pool = sorted(order[start : start + at_once * POOLS], key=lambda pair: len(pair.ids))
            made += [pool[i : i + at_once] for i in range(0, len(pool), at_once)]
        chance.shuffle(made)
        yield from made[:steps]
        steps -= len(made)


@torch.inference_mode()
def odds_of(model: CrossEncoder, words: Words, pairs: Sequence[TokenPair], at_once: int = AT_ONCE) -> Float32[np.ndarray, " pairs"]:
    """Log odds for each pair that it is answered."""
    odds = np.zeros(len(pairs), np.float32)
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i].ids))
    for some in (order[i : i + at_once] for i in range(0, len(order), at_once)):
        odds[some] = read(model, words, [pairs[i] for i in some])[0].cpu().numpy()
    return odds
