"""What a state knows, as a list: which keys were planted, with which value, and how sure the model is."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.ssm.planted import KEYS, VALUES


@dataclass(frozen=True)
class Answer:
    """What was planted behind a key; `value` is None where the key was not planted, as far as the model can tell."""

    key: str
    value: str | None
    probability: float


@exercise
def rank_answers(logits: Float[Tensor, "keys values_and_absent"]) -> list[Answer]:
    """One answer a key: the found ones first, the most certain at the top; behind them the keys that were not found, in KEYS' order.

    `logits[i]` are the scores of KEYS[i]: one for each of VALUES, in their order, and last one for "was not planted". An answer is what
    has the highest score: a value, or None where that is the last. Its probability is softmax's, over the values *and* the last score.
    Keys that are equally certain stay in KEYS' order. Each is an `Answer(key, value, probability)`, a Python float; no score overflows.

    Raises:
        ValueError: the shape is not (len(KEYS), len(VALUES) + 1), or a score is NaN or infinite: that is no answer.
    """
    if logits.shape != (len(KEYS), len(VALUES) + 1):
        raise ValueError(f"logits have shape {tuple(logits.shape)}, expected {(len(KEYS), len(VALUES) + 1)}")
    if not torch.isfinite(logits).all():
        raise ValueError(f"{int((~torch.isfinite(logits)).sum())} of the scores are not finite: this state answers nothing")
    best = logits.softmax(-1).max(-1)
    values = [*VALUES, None]
    answers = [Answer(key, values[i], p) for key, i, p in zip(KEYS, best.indices.tolist(), best.values.tolist(), strict=True)]
    return sorted(answers, key=lambda answer: (answer.value is None, -answer.probability if answer.value is not None else 0.0))
