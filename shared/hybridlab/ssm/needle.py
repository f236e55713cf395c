"""Needles in a haystack: pairs of key and value anywhere in a text; behind it, each key is asked for. `reader_training` trains for it.

The text is real (`pool`, a long row of tokens), and has values in it that belong to no key.

A question is one token, the key, put to the state behind the text: each question to a copy of its own, as a reader would ask. Keys that
were never planted are asked for as well, and the answer then is ABSENT.
"""

import time
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybridlab.exercise import exercise
from hybridlab.ssm.mamba_config import MambaConfig, StepKind, step_bias
from hybridlab.ssm.mamba_model import Mamba, ModelState
from hybridlab.ssm.mimetic import mimetic_init
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.planted import ABSENT, FIRST_KEY, FIRST_VALUE, KEYS, VOCAB, encode
from hybridlab.ssm.streaming import read_stream


def handbook() -> Int[Tensor, " time"]:
    """Python's own handbook (`help()` reads it), as tokens, to search in: it is no part of any training."""
    from pydoc_data.topics import topics

    return encode("\n".join(topics[name] for name in sorted(topics)))


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


def haystack(batch: int, length: int, pairs: int, pool: Int[Tensor, " pool"], *, generator: torch.Generator) -> Haystack:
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
    questions = torch.rand(batch, len(KEYS), generator=generator).topk(2 * pairs).indices + FIRST_KEY
    answers = torch.randint(FIRST_VALUE, ABSENT, questions.shape, generator=generator)
    answers[:, pairs:] = ABSENT
    places = torch.rand(batch, length - pairs, generator=generator).topk(pairs).indices.sort().values + torch.arange(pairs)
    tokens = tokens.scatter(1, places, questions[:, :pairs]).scatter(1, places + 1, answers[:, :pairs])
    return Haystack(tokens, questions, answers)


def needle_model(step: StepKind, *, seed: int, d_state: int = 32) -> Mamba:
    """A Mamba-2 of two layers; the first says little at first, and the second, which looks things up, begins mimetically.

    Its steps begin near 0.1 at every token. Drawn as usual, a relu step begins at 0 for half of the tokens, has no gradient there, and
    some values never open it: 2 or 3 of 100 (two seeds).
    """
    torch.manual_seed(seed)
    model = Mamba(MambaConfig(VOCAB, d_model=64, n_layers=2, d_head=64, d_state=d_state, step=step))
    nn.init.normal_(model.embeddings.weight, std=0.3)
    model.layers[0].mixer.out_proj.weight.data *= 0.1
    finder = model.layers[1].mixer
    mimetic_init(finder)
    finder.in_proj.weight.data[-len(finder.dt_bias) :] *= 0.05  # what the token itself says of its step
    finder.dt_bias.data = step_bias(len(finder.dt_bias), step, low=0.1, high=0.1)
    return model


@torch.inference_mode()
def score_needles(
    model: Mamba, length: int, pool: Int[Tensor, " pool"], *, texts: int, pairs: int = 8, seed: int, piece: int = 1024
) -> Found:
    """Read texts of `length` tokens in pieces with a carried state, then ask. Texts longer than the pool go through it again and again."""
    generator = torch.Generator().manual_seed(seed)
    pool = pool.repeat(-(-length // len(pool)) + 1)
    hay = haystack(texts, length, pairs, pool, generator=generator)
    began = time.process_time()
    _, state = read_stream(model, hay.tokens.split(piece, 1))
    right = ask(model, state, hay.questions).argmax(-1) + FIRST_VALUE == hay.answers
    planted, absent = right.split(pairs, 1)
    seconds = time.process_time() - began
    return Found(length, pairs, int(planted.sum()), planted.numel(), int(absent.sum()), absent.numel(), seconds)


def capacity(
    model: Mamba, pool: Int[Tensor, " pool"], pairs: list[int], *, length: int, texts: int, seed: int
) -> list[Found]:
    """Scores against the number of stored pairs, at one length: what a state of the model's size holds."""
    return [score_needles(model, length, pool, texts=texts, pairs=number, seed=seed) for number in pairs]
