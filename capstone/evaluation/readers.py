"""The assistant's two readers: what they learn from, and what they say of questions that they had not seen.

Two stages. First they learn what an answer is from questions about invented houses (`near_misses.py`; the reader from `invented.py`, too)
and of XQuAD and SQuAD (`xquad.py`, `squad.py`), then from the calibration questions with the chunks that were found for them.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np
from assistant.knowledge.reading import LEAST_ODDS, text_of
from assistant.knowledge.search import Hit
from assistant.knowledge.vocabulary import Heard
from hybridlab.rag.embed import E5, States
from hybridlab.rag.reader import DEPTH, Example, Reader, train
from hybridlab.rag.span_reader import SpanReader, train_spans
from jaxtyping import Bool

from capstone.evaluation import invented, near_misses, squad, xquad
from capstone.evaluation.base import Remembered
from capstone.evaluation.measure import place_of
from capstone.evaluation.questions import Question, contains

Judge = TypeVar("Judge", Reader, SpanReader)
Folds = Sequence[tuple[np.ndarray, np.ndarray]]  # indices to learn from and to predict
SEED = 0
INVENTED_PASSAGES = 1000
FIRST_MIXED, NEAR_MIXED = 1200, 4000  # pairs of the first stage, and near misses, that the reader goes on seeing in the second
PLACED_MIXED = 1500  # and that the reader of spans does
OTHER = 0.3  # the weight of "no answer" for another chunk of a question that has one: it may say it too, in other words
LEARNED, SPANS_LEARNED = 6, 4  # chunks of a question that the reader learns from, and the reader of spans
SAID_EVERY = 200  # steps of a training


@dataclass(frozen=True)
class Found:
    """A question, the chunks that were found for it before they were read, and what its words are to the documents."""

    question: Question
    hits: Sequence[Hit]
    heard: Heard


@dataclass(frozen=True)
class Material:
    """What the readers learn from: states of questions and passages, numbered; examples of the first stage, near misses by themselves;
    of the calibration questions, an example for each hit."""

    questions: list[States]
    passages: list[States]
    first: list[Example]
    near: list[Example]
    asked: list[list[Example]]

    @property
    def placed(self) -> list[Example]:
        """Those of the first stage that tell where an answer stands, or that it stands nowhere; of passages that were put together from
        facts all would say only the latter."""
        told = [one for one in (*self.first, *self.near) if one.place is not None or not one.answered]
        return [one for one in told if one.passage >= INVENTED_PASSAGES]


def material(found: Sequence[Found], encoder: Remembered) -> Material:
    """The states of all texts, each made once."""
    texts, pairs = invented.make(INVENTED_PASSAGES, SEED)
    made = [xquad.make(xquad.fetch(), SEED), squad.make(squad.fetch(), SEED), near_misses.make(SEED)]
    for passages, more in made:
        pairs += [replace(pair, passage=pair.passage + len(texts)) for pair in more]
        texts += passages
    asked = list(dict.fromkeys([pair.question for pair in pairs] + [one.question.question for one in found]))
    chunks = list(dict.fromkeys(text_of(hit) for one in found for hit in one.hits))
    number = {question: i for i, question in enumerate(asked)}
    place = {text: len(texts) + i for i, text in enumerate(chunks)}
    where = Tokens(encoder.encoder)
    first = [Example(number[one.question], one.passage, one.answered, place=where(texts[one.passage], one.spans)) for one in pairs]
    return Material(
        encoder.asked(asked, DEPTH),
        encoder.read(texts + chunks, DEPTH)[1],
        first[: -len(made[-1][1])],
        first[-len(made[-1][1]) :],
        [[example_of(one.question, hit, number[one.question.question], place[text_of(hit)], where) for hit in one.hits] for one in found],
    )


class Tokens:
    """Which of a passage's tokens some of its characters are."""

    def __init__(self, encoder: E5):
        self.spans = cache(encoder.token_spans)

    def __call__(self, text: str, characters: Sequence[tuple[int, int]]) -> Bool[np.ndarray, " tokens"] | None:
        """None where no token is."""
        if not characters:
            return None
        held = np.array(self.spans(text)).reshape(-1, 2)
        there = np.zeros(len(held), bool)
        for start, end in characters:
            there |= (held[:, 0] < end) & (held[:, 1] > start)
        return there if there.any() else None


def example_of(question: Question, hit: Hit, number: int, passage: int, where: Tokens) -> Example:
    """Answered where the chunk is of a page that is named, and holds the answer; a page has several chunks."""
    text = text_of(hit)
    named = place_of(hit.chunk.name, hit.chunk.number, hit.chunk.heading) in question.places
    answered = named and all(contains(text, answer) for answer in question.answer)
    found = [m.span() for answer in question.answer for m in re.finditer(re.escape(answer), text, re.IGNORECASE)] if answered else []
    return Example(number, passage, answered, 1.0 if answered or not question.answerable else OTHER, where(text, found))


def read(known: Material, folds: Folds) -> tuple[Reader, list[np.ndarray]]:
    """A reader that has seen everything, and log odds of each calibration question's chunks by readers that had not seen it."""
    first = train(Reader(seed=SEED), known.questions, known.passages, known.first + known.near, epochs=4, rate=3e-3, seed=SEED)

    def second(learned: Sequence[int], seed: int) -> Reader:
        before = ((known.first, FIRST_MIXED), (known.near, NEAR_MIXED))
        examples = mixed(known, learned, LEARNED, before, seed)
        return train(copy.deepcopy(first), known.questions, known.passages, examples, epochs=3, rate=1.5e-3, seed=seed)

    return unseen(known, folds, second)


def read_spans(known: Material, folds: Folds, progress: Callable[[str], None]) -> tuple[SpanReader, list[np.ndarray]]:
    """The same of a reader of spans."""
    first = SpanReader(seed=SEED)
    follow(train_spans(first, known.questions, known.passages, known.placed, epochs=3, rate=2e-3, seed=SEED), "spans", progress)

    def second(learned: Sequence[int], seed: int) -> SpanReader:
        reader = copy.deepcopy(first)
        examples = mixed(known, learned, SPANS_LEARNED, [(known.placed, PLACED_MIXED)], seed)
        losses = train_spans(reader, known.questions, known.passages, examples, epochs=2, rate=1e-3, seed=seed)
        follow(losses, f"spans, fold {seed}", progress)
        return reader

    return unseen(known, folds, second)


def follow(losses: Iterable[float], what: str, progress: Callable[[str], None]) -> None:
    """Let a training run, and say now and then how it goes."""
    lately: list[float] = []
    for step, value in enumerate(losses, 1):
        lately.append(value)
        if step % SAID_EVERY == 0:
            progress(f"{what}: {step} steps, loss {np.mean(lately):.3f}")
            lately.clear()


def unseen(known: Material, folds: Folds, second: Callable[[Sequence[int], int], Judge]) -> tuple[Judge, list[np.ndarray]]:
    """What has seen everything, and log odds of each calibration question's chunks by what had not seen it."""
    odds = [np.empty(0)] * len(known.asked)
    for fold, (learned, held) in enumerate(folds):
        reader = second(learned.tolist(), fold)
        for i in held:
            kept = [reader.keep(known.passages[example.passage]) for example in known.asked[i]]
            odds[i] = np.maximum(LEAST_ODDS, reader.score(known.questions[known.asked[i][0].question], kept))
    return second(range(len(known.asked)), len(folds)), odds


def mixed(
    known: Material, learned: Sequence[int], chunks: int, before: Sequence[tuple[Sequence[Example], int]], seed: int
) -> list[Example]:
    """Examples of some of the calibration questions, and so many of each kind that was learned from before."""
    chance = random.Random(seed)
    again = [example for of, count in before for example in chance.sample(of, min(count, len(of)))]
    return [example for i in learned for example in known.asked[i][:chunks]] + again
