"""The assistant's quick reader: what it learns from, and what it says of questions that it had not seen.

Two stages. First it learns what an answer is from questions about invented houses (`near_misses.py`, `invented.py`) and of XQuAD and SQuAD
(`xquad.py`, `squad.py`), then from the calibration questions with the chunks that were found for them.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from assistant.knowledge.reading import LEAST_ODDS, text_of
from assistant.knowledge.search import Hit
from assistant.knowledge.vocabulary import Heard
from hybridlab.rag.embed import States
from hybridlab.rag.reader import DEPTH, Example, Reader, train

from capstone.evaluation import invented, near_misses, squad, xquad
from capstone.evaluation.base import Remembered
from capstone.evaluation.measure import place_of
from capstone.evaluation.questions import Question, contains

Folds = Sequence[tuple[np.ndarray, np.ndarray]]  # indices to learn from and to predict
SEED = 0
INVENTED_PASSAGES = 1000
FIRST_MIXED, NEAR_MIXED = 1200, 4000  # pairs of the first stage, and near misses, that the reader goes on seeing in the second
OTHER = 0.3  # the weight of "no answer" for another chunk of a question that has one: it may say it too, in other words
LEARNED = 6  # chunks of a question that the reader learns from


@dataclass(frozen=True)
class Found:
    """A question, the chunks that were found for it before they were read, and what its words are to the documents."""

    question: Question
    hits: Sequence[Hit]
    heard: Heard


@dataclass(frozen=True)
class Material:
    """What the reader learns from: states of questions and passages, numbered; examples of the first stage, near misses by themselves;
    of the calibration questions, an example for each hit."""

    questions: list[States]
    passages: list[States]
    first: list[Example]
    near: list[Example]
    asked: list[list[Example]]


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
    first = [Example(number[one.question], one.passage, one.answered) for one in pairs]
    return Material(
        encoder.asked(asked, DEPTH),
        encoder.read(texts + chunks, DEPTH)[1],
        first[: -len(made[-1][1])],
        first[-len(made[-1][1]) :],
        [[example_of(one.question, hit, number[one.question.question], place[text_of(hit)]) for hit in one.hits] for one in found],
    )


def example_of(question: Question, hit: Hit, number: int, passage: int) -> Example:
    """Numbers of a question and a chunk that was found for it, with what `answered_by` says of them."""
    spans, weight = answered_by(question, hit)
    return Example(number, passage, spans is not None, weight)


def answered_by(question: Question, hit: Hit) -> tuple[list[tuple[int, int]] | None, float]:
    """Of which characters of the chunk's text the answer is, as far as it stands there as it is written, or None where the chunk does not
    answer; and how much that counts. It answers where it is of a page that is named, and holds the answer: a page has several chunks."""
    text = text_of(hit)
    named = place_of(hit.chunk.name, hit.chunk.number, hit.chunk.heading) in question.places
    if not named or not all(contains(text, answer) for answer in question.answer):
        return None, OTHER if question.answerable else 1.0
    return [m.span() for answer in question.answer for m in re.finditer(re.escape(answer), text, re.IGNORECASE)], 1.0


def read(known: Material, folds: Folds) -> tuple[Reader, list[np.ndarray]]:
    """A reader that has seen everything, and log odds of each calibration question's chunks by readers that had not seen it."""
    first = train(Reader(seed=SEED), known.questions, known.passages, known.first + known.near, epochs=4, rate=3e-3, seed=SEED)

    def second(learned: Sequence[int], seed: int) -> Reader:
        before = ((known.first, FIRST_MIXED), (known.near, NEAR_MIXED))
        examples = mixed(known, learned, LEARNED, before, seed)
        return train(copy.deepcopy(first), known.questions, known.passages, examples, epochs=3, rate=1.5e-3, seed=seed)

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
