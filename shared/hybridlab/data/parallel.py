"""The same sentences in English and Vietnamese, written for this course: what does a language cost in tokens?

120 everyday sentences. The first 92 may be trained on; the last 28 are held out, so that a tokenizer's cost is measured on
sentences that it has not seen.
"""

from dataclasses import dataclass
from pathlib import Path

HELD_OUT = 28


@dataclass(frozen=True)
class ParallelText:
    """Sentence i of `english` says what sentence i of `vietnamese` says."""

    english: tuple[str, ...]
    vietnamese: tuple[str, ...]


def load_parallel() -> tuple[ParallelText, ParallelText]:
    """The sentences to train on, and those held out."""
    lines = Path(__file__).with_name("parallel.txt").read_text("utf-8").splitlines()
    pairs = [line.split("\t") for line in lines]
    return tuple(ParallelText(*map(tuple, zip(*part, strict=True))) for part in (pairs[:-HELD_OUT], pairs[-HELD_OUT:]))
