"""Fits the assistant's decision whether there is evidence, on the calibration questions and on no others.

Two stages. A reader learns what an answer is from questions about invented houses (`invented.py`) and of XQuAD (`xquad.py`), then from
the calibration questions with the chunks that were found for them. A logistic regression weighs its judgement against the features of
the search; what it sees of the reader are judgements about questions that the reader had not seen, or it would trust it too much.
Questions that ask nearly the same thing are always in one fold.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from assistant.knowledge.abstention import Features, features
from assistant.knowledge.reading import LEAST_ODDS, text_of
from assistant.knowledge.rereading import read_again
from assistant.knowledge.search import Hit
from assistant.knowledge.vocabulary import Heard
from hybridlab.rag.embed import States
from hybridlab.rag.reader import DEPTH, Example, Reader, train
from sklearn.cluster import AgglomerativeClustering
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from capstone.evaluation import invented, metrics, squad, xquad
from capstone.evaluation.base import Remembered
from capstone.evaluation.measure import place_of, rank_of
from capstone.evaluation.questions import Question, contains

Folds = Sequence[tuple[np.ndarray, np.ndarray]]  # indices to learn from and to predict
FOLDS, SEED = 4, 0
SAME = 0.07  # distance of two questions' vectors up to which they ask nearly the same
NEWER = 400  # questions numbered above were written after both test parts, about the things that the documents speak of
SHARE = 0.22  # of the questions have no answer, as in the test parts
EVIDENCE = 4  # hits that are looked at, as the assistant does (settings.py)
PLACES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0)  # what a place may count
DRAWN = 1000  # times, for an interval
INVENTED_PASSAGES, FIRST_MIXED = 1000, 1200  # texts of the first stage; its pairs that the second goes on seeing
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
    """What the reader learns from: states of questions and passages, numbered; of the calibration questions, an example for each hit."""

    questions: list[States]
    passages: list[States]
    first: list[Example]
    asked: list[list[Example]]


def fit(found: Sequence[Found], encoder: Remembered) -> tuple[dict, Reader]:
    """The model of `abstention.json` (what a place counts beside the reader's log odds; an intercept, a weight for each feature, and the
    threshold with the best F1 of abstaining), and the reader. All is chosen on predictions for questions that neither reader nor
    regression had seen.

    Raises ValueError where the questions are not all of the calibration part, or are of one kind only.
    """
    if any(one.question.split != "calibration" for one in found):
        raise ValueError("a question of the test part was given to the calibration: it would no longer measure anything.")
    found = [one for one in found if one.hits]
    y = np.array([one.question.answerable for one in found])
    if len(set(y.tolist())) < 2:
        raise ValueError("the calibration needs questions with and without an answer.")
    folds = folds_of(encoder.query([one.question.question for one in found]), y)
    reader, unseen = read(material(found, encoder), folds)
    return decision(found, unseen, folds), reader


def decision(found: Sequence[Found], unseen: Sequence[np.ndarray], folds: Folds) -> dict:
    """What the assistant makes of the reader's log odds: the order of the hits, and whether the best of them are evidence."""
    place = best_place(found, unseen)
    x = np.array([seen(one, odds, place).vector() for one, odds in zip(found, unseen, strict=True)])
    y = np.array([one.question.answerable for one in found])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000))
    probabilities = cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]
    threshold = best_threshold(probabilities, y)
    newer = np.array([number_of(one.question) > NEWER for one in found])
    return {
        "features": [field.name for field in fields(Features)],
        **coefficients(model.fit(x, y)),
        "threshold": round(threshold, 4),
        "place": place,
        "cross_validated": {
            "all": cross_validated(probabilities, y, threshold),
            "written after the test parts": cross_validated(probabilities[newer], y[newer], threshold),
        },
    }


def seen(one: Found, odds: np.ndarray, place: float) -> Features:
    """What the decision sees of a question, where the hits have these log odds."""
    chunks = [hit.chunk.id for hit in one.hits]
    known = dict(zip(chunks, map(float, odds), strict=True))
    hits = dict(zip(chunks, one.hits, strict=True))
    order = [i for i, _ in read_again([(i, 0.0) for i in chunks], known, place)[:EVIDENCE]]
    return features(one.question.question, [hits[i] for i in order], one.heard, max(known[i] for i in order))


def best_place(found: Sequence[Found], unseen: Sequence[np.ndarray]) -> float:
    """What a place counts beside the log odds, so that most of the questions have a named page among the first five hits."""

    def found_by(place: float) -> tuple[float, float]:
        ranks = []
        for one, odds in zip(found, unseen, strict=True):
            if one.question.answerable:
                order = read_again([(n, 0.0) for n in range(len(odds))], dict(enumerate(map(float, odds))), place)
                ranks.append(rank_of(one.question, [one.hits[n] for n, _ in order]))
        return metrics.recall_at(ranks, 5), metrics.mean_reciprocal_rank(ranks)

    return max(PLACES, key=found_by)


def folds_of(vectors: np.ndarray, y: np.ndarray) -> Folds:
    """Indices to learn from and to predict, for each fold."""
    same = AgglomerativeClustering(n_clusters=None, distance_threshold=SAME, metric="cosine", linkage="average").fit_predict(vectors)
    return list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED).split(vectors, y, same))


def material(found: Sequence[Found], encoder: Remembered) -> Material:
    """The states of all texts, each made once."""
    texts, pairs = invented.make(INVENTED_PASSAGES, SEED)
    for passages, more in (xquad.make(xquad.fetch(), SEED), squad.make(squad.fetch(), SEED)):
        pairs += [replace(pair, passage=pair.passage + len(texts)) for pair in more]
        texts += passages
    asked = list(dict.fromkeys([pair.question for pair in pairs] + [one.question.question for one in found]))
    chunks = list(dict.fromkeys(text_of(hit) for one in found for hit in one.hits))
    number = {question: i for i, question in enumerate(asked)}
    place = {text: len(texts) + i for i, text in enumerate(chunks)}
    return Material(
        encoder.asked(asked, DEPTH),
        encoder.read(texts + chunks, DEPTH)[1],
        [Example(number[pair.question], pair.passage, pair.answered) for pair in pairs],
        [[example_of(one.question, hit, number[one.question.question], place[text_of(hit)]) for hit in one.hits] for one in found],
    )


def example_of(question: Question, hit: Hit, number: int, passage: int) -> Example:
    """Answered where the chunk is of a page that is named, and holds the answer; a page has several chunks."""
    named = place_of(hit.chunk.name, hit.chunk.number, hit.chunk.heading) in question.places
    answered = named and all(contains(text_of(hit), answer) for answer in question.answer)
    return Example(number, passage, answered, 1.0 if answered or not question.answerable else OTHER)


def read(known: Material, folds: Folds) -> tuple[Reader, list[np.ndarray]]:
    """A reader that has seen everything, and log odds of each calibration question's chunks by readers that had not seen it."""
    first = train(Reader(seed=SEED), known.questions, known.passages, known.first, epochs=4, rate=3e-3, seed=SEED)
    unseen = [np.empty(0)] * len(known.asked)
    for fold, (learned, held) in enumerate(folds):
        reader = second(first, known, learned.tolist(), fold)
        for i in held:
            kept = [reader.keep(known.passages[example.passage]) for example in known.asked[i]]
            unseen[i] = np.maximum(LEAST_ODDS, reader.score(known.questions[known.asked[i][0].question], kept))
    return second(first, known, range(len(known.asked)), FOLDS), unseen


def second(first: Reader, known: Material, learned: Sequence[int], seed: int) -> Reader:
    """The first stage's reader, gone on with some of the calibration questions, and some of what it had learned from before."""
    examples = [example for i in learned for example in known.asked[i][:LEARNED]]
    examples += random.Random(seed).sample(known.first, min(FIRST_MIXED, len(known.first)))
    return train(copy.deepcopy(first), known.questions, known.passages, examples, epochs=3, rate=1.5e-3, seed=seed)


def coefficients(model: Pipeline) -> dict:
    """Of the regression, for features as they are."""
    scale, regression = model[0], model[1]
    weights = regression.coef_[0] / scale.scale_
    intercept = float(regression.intercept_[0] - (weights * scale.mean_).sum())
    return {"intercept": round(intercept, 6), "weights": [round(float(weight), 6) for weight in weights]}


def number_of(question: Question) -> int:
    return int(question.id.rsplit("-", 1)[1])


def best_threshold(probabilities: np.ndarray, answerable: np.ndarray) -> float:
    """The middle of the widest stretch of thresholds whose F1 of abstaining is the best."""
    cuts = np.concatenate([[0.0], np.sort(probabilities), [1.0]])
    middles = (cuts[1:] + cuts[:-1]) / 2
    scores = [at_share(probabilities < cut, ~answerable).f1 for cut in middles]
    widths = np.where(np.isclose(scores, max(scores)), np.diff(cuts), -1.0)
    return float(middles[int(np.argmax(widths))])


def at_share(said: np.ndarray, true: np.ndarray) -> metrics.Detection:
    """Precision, recall and F1 as they would be if a SHARE of the questions had no answer: among those to learn from it is half."""
    found, wrong = SHARE * float(said[true].mean()), (1 - SHARE) * float(said[~true].mean())
    precision, recall = found / max(1e-9, found + wrong), found / SHARE
    return metrics.Detection(precision, recall, 2 * precision * recall / max(1e-9, precision + recall))


def cross_validated(probabilities: np.ndarray, answerable: np.ndarray, threshold: float) -> dict[str, Any]:
    """How the model abstains on questions that it had not seen, but for the threshold; the area under its curve; and where 95 % of the F1
    lie when the questions are drawn again."""
    measured = at_share(probabilities < threshold, ~answerable)
    area = round(float(roc_auc_score(answerable, probabilities)), 4)
    chance, drawn = np.random.default_rng(SEED), []
    while len(drawn) < DRAWN:
        again = chance.integers(len(answerable), size=len(answerable))
        drawn.append(at_share(probabilities[again] < threshold, ~answerable[again]).f1)
    interval = [round(float(bound), 4) for bound in np.quantile(drawn, [0.025, 0.975])]
    scores = {name: round(value, 4) for name, value in asdict(measured).items()}
    return {"questions": len(answerable), "area": area, **scores, "f1_interval": interval}


def write(model: dict, path: Path) -> None:
    rows = ",\n".join(f' "{name}": {json.dumps(value)}' for name, value in model.items())
    path.write_text(f"{{\n{rows}\n}}\n", "utf-8")
