"""Needles in a haystack: pairs of key and value anywhere in a text; behind it, each key is asked for. Trained at 256 tokens and fewer.

The text is real (`pool`, a long row of tokens), and has values in it that belong to no key. In training, bytes and values from anywhere are
strewn in: else a token that is rare in the training opens the state a little, and a long text has many such tokens.

A question is one token, the key, put to the state behind the text: each question to a copy of its own, as a reader would ask. Keys that
were never planted are asked for as well, and the answer then is ABSENT.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.exercise import exercise
from hybridlab.ssm.decay_penalty import watch_decay
from hybridlab.ssm.mamba_config import MambaConfig, StepKind
from hybridlab.ssm.mamba_model import Mamba, ModelState
from hybridlab.ssm.mimetic import mimetic_init
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.planted import ABSENT, FIRST_KEY, FIRST_VALUE, KEYS, VALUES, VOCAB, encode
from hybridlab.ssm.streaming import read_stream

PENALTY = 0.01
STRAY = 0.06  # share of a training text's tokens that are replaced by any byte, or by a value without a key
TRAINED = 256  # the longest text of the training


def handbook() -> tuple[Int[Tensor, " train"], Int[Tensor, " test"]]:
    """Python's own handbook (`help()` reads it), as tokens: every other chapter to train on, the others to search in."""
    from pydoc_data.topics import topics

    chapters = sorted(topics)
    train, test = (encode("\n".join(topics[name] for name in chapters[first::2])) for first in (0, 1))
    return train, test


class Haystack(NamedTuple):
    """Texts with `pairs` needles each, and the questions: the planted keys and as many that were not planted."""

    tokens: Int[Tensor, "batch time"]
    questions: Int[Tensor, "batch asked"]
    answers: Int[Tensor, "batch asked"]


@dataclass(frozen=True)
class Found:
    """How many of the planted values were given rightly, and how many of the keys that were not planted were known as such."""

    length: int
    pairs: int
    correct: int
    planted: int
    absent_known: int
    absent: int
    cpu_seconds: float


@exercise
def ask(model: Mamba, state: ModelState, questions: Int[Tensor, "batch asked"]) -> Float[Tensor, "batch asked values_and_absent"]:
    """Put each question, one token, to a copy of the state of its own text: the logits of the values and, last, of ABSENT.

    `state` holds one MixerState for each layer, whose two tensors have the batch first: text i of the batch is asked questions[i]. Each
    question is asked as if it were the only one: none sees another, and `state` is not changed. The logits are those of the tokens from
    FIRST_VALUE on. Gradients flow through the state and the model.
    """
    asked = questions.shape[1]
    copies = [MixerState(*(part.repeat_interleave(asked, 0) for part in layer)) for layer in state]
    logits, _ = model(questions.reshape(-1, 1), copies)
    return logits[:, 0, FIRST_VALUE:].unflatten(0, (-1, asked))


def haystack(batch: int, length: int, pairs: int, pool: Int[Tensor, " pool"], *, stray: float, generator: torch.Generator) -> Haystack:
    """Windows of `pool` with needles put over them, at places that do not overlap.

    Raises:
        ValueError: the needles do not fit into the length or there are too few keys; or the pool is shorter than a text.
    """
    if pairs < 1 or 2 * pairs > min(length, len(KEYS)):
        raise ValueError(f"{pairs} pairs: at least 1, and at most half of the {length} tokens and of the {len(KEYS)} keys")
    if len(pool) < length:
        raise ValueError(f"the pool has {len(pool)} tokens, a text {length}")
    starts = torch.randint(len(pool) - length + 1, (batch, 1), generator=generator)
    tokens = pool[starts + torch.arange(length)]
    if stray:
        noise = torch.randint(FIRST_KEY + len(VALUES), tokens.shape, generator=generator)  # bytes, then values
        noise = torch.where(noise < FIRST_KEY, noise, noise - FIRST_KEY + FIRST_VALUE)
        tokens = torch.where(torch.rand(tokens.shape, generator=generator) < stray, noise, tokens)
    questions = torch.rand(batch, len(KEYS), generator=generator).topk(2 * pairs).indices + FIRST_KEY
    answers = torch.randint(FIRST_VALUE, ABSENT, questions.shape, generator=generator)
    answers[:, pairs:] = ABSENT
    places = torch.rand(batch, length - pairs, generator=generator).topk(pairs).indices.sort().values + torch.arange(pairs)
    tokens = tokens.scatter(1, places, questions[:, :pairs]).scatter(1, places + 1, answers[:, :pairs])
    return Haystack(tokens, questions, answers)


def needle_model(step: StepKind, *, seed: int, d_state: int = 32) -> Mamba:
    """A Mamba-2 of two layers; the first says little at first, and the second, which looks things up, begins mimetically."""
    torch.manual_seed(seed)
    model = Mamba(MambaConfig(VOCAB, d_model=64, n_layers=2, d_head=64, d_state=d_state, step=step))
    nn.init.normal_(model.embeddings.weight, std=0.3)
    model.layers[0].mixer.out_proj.weight.data *= 0.1
    mimetic_init(model.layers[1].mixer)
    return model


def train_needle(
    model: Mamba, pool: Int[Tensor, " pool"], steps: int, *, seed: int, pairs: int = 8, lr: float = 5e-3, batch: int = 16
) -> Iterator[tuple[int, int, float]]:
    """Train in place; yields (length, pairs, share of right answers) of each step.

    Texts begin with 32 tokens and 2 pairs. Whenever nine of ten answers are right, the pairs double, up to `pairs`; then the length
    does, up to 256. Shorter texts come in larger batches.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    length, now, right = 32, 2, 0.0
    for _ in range(steps):
        hay = haystack(max(batch, batch * 128 // length), length, now, pool, stray=STRAY, generator=generator)
        with watch_decay(model) as watch:
            _, state = model.read(hay.tokens)
            price = PENALTY * watch.price() if model.config.step == "relu" else 0.0
        logits = ask(model, state, hay.questions)
        loss = F.cross_entropy(logits.flatten(0, 1), hay.answers.flatten() - FIRST_VALUE)
        optimizer.zero_grad()
        (loss + price).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        share = (logits.argmax(-1) + FIRST_VALUE == hay.answers).float().mean().item()
        yield length, now, share
        right = 0.8 * right + 0.2 * share
        if right > 0.9 and (now < pairs or length < TRAINED):
            now, length = (min(2 * now, pairs), length) if now < pairs else (now, 2 * length)
            right = 0.0


@torch.inference_mode()
def score_needles(
    model: Mamba, length: int, pool: Int[Tensor, " pool"], *, texts: int, pairs: int = 8, seed: int, piece: int = 1024
) -> Found:
    """Read texts of `length` tokens in pieces with a carried state, then ask. Texts longer than the pool go through it again and again."""
    generator = torch.Generator().manual_seed(seed)
    pool = pool.repeat(-(-length // len(pool)) + 1)
    hay = haystack(texts, length, pairs, pool, stray=0.0, generator=generator)
    began = time.process_time()
    _, state = read_stream(model, hay.tokens.split(piece, 1))
    right = ask(model, state, hay.questions).argmax(-1) + FIRST_VALUE == hay.answers
    planted, absent = right.split(pairs, 1)
    seconds = time.process_time() - began
    return Found(length, pairs, int(planted.sum()), planted.numel(), int(absent.sum()), absent.numel(), seconds)


def capacity(
    model: Mamba, pool: Int[Tensor, " pool"], pairs: list[int], *, length: int = TRAINED, texts: int = 64, seed: int
) -> list[Found]:
    """Scores against the number of stored pairs, at one length: what a state of the model's size holds."""
    return [score_needles(model, length, pool, texts=texts, pairs=number, seed=seed) for number in pairs]
