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

import numpy as np
from assistant.knowledge.abstention import Features, features
from assistant.knowledge.reading import LEAST_ODDS, text_of
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

from capstone.evaluation import invented, metrics, xquad
from capstone.evaluation.base import Remembered
from capstone.evaluation.measure import place_of
from capstone.evaluation.questions import Question

FOLDS, SEED = 6, 0
SAME = 0.07  # distance of two questions' vectors up to which they ask nearly the same
FURTHER = 100  # questions numbered above are more material to learn from, near misses mostly; the others are mixed like the test part
INVENTED_PASSAGES, FIRST_MIXED = 1000, 1200  # texts of the first stage; its pairs that the second goes on seeing
OTHER_PAGE = 0.3  # the weight of "no answer" for a chunk of a page that isn't named: another page may say it too


@dataclass(frozen=True)
class Found:
    """A question, the chunks that were found for it, and what its words are to the documents."""

    question: Question
    hits: Sequence[Hit]
    heard: Heard


@dataclass(frozen=True)
class Material:
    """What the reader learns from: states of questions and passages, numbered; of the calibration questions, which examples are whose."""

    questions: list[States]
    passages: list[States]
    first: list[Example]
    asked: list[list[Example]]


def fit(found: Sequence[Found], encoder: Remembered) -> tuple[dict, Reader]:
    """The model of `abstention.json` (an intercept, a weight for each feature, and the threshold with the best F1 of abstaining), and
    the reader. The threshold is chosen on predictions for questions that neither reader nor regression had seen, among those that are
    mixed like the test part: with as many near misses as the further ones have, it would refuse too much.

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
    mixed = np.array([number_of(one.question) <= FURTHER for one in found])
    x = np.array([features(one.question.question, one.hits, one.heard, odds).vector() for one, odds in zip(found, unseen, strict=True)])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000))
    probabilities = cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]
    threshold = best_threshold(probabilities[mixed], y[mixed])
    return {
        "features": [field.name for field in fields(Features)],
        **coefficients(model.fit(x, y)),
        "threshold": round(threshold, 4),
        "cross_validated": {
            "all": cross_validated(probabilities, y, threshold),
            "mixed like the test part": cross_validated(probabilities[mixed], y[mixed], threshold),
        },
    }, reader


def folds_of(vectors: np.ndarray, y: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices to learn from and to predict, for each fold."""
    same = AgglomerativeClustering(n_clusters=None, distance_threshold=SAME, metric="cosine", linkage="average").fit_predict(vectors)
    return list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED).split(vectors, y, same))


def material(found: Sequence[Found], encoder: Remembered) -> Material:
    """The states of all texts, each made once."""
    texts, pairs = invented.make(INVENTED_PASSAGES, SEED)
    real, more = xquad.make(xquad.fetch(), SEED)
    pairs += [replace(pair, passage=pair.passage + len(texts)) for pair in more]
    asked = list(dict.fromkeys([pair.question for pair in pairs] + [one.question.question for one in found]))
    chunks = list(dict.fromkeys(text_of(hit) for one in found for hit in one.hits))
    number = {question: i for i, question in enumerate(asked)}
    place = {text: len(texts) + len(real) + i for i, text in enumerate(chunks)}
    return Material(
        encoder.encoder.token_states(asked, DEPTH, question=True),
        encoder.read(texts + real + chunks, DEPTH)[1],
        [Example(number[pair.question], pair.passage, pair.answered) for pair in pairs],
        [[example_of(one.question, hit, number[one.question.question], place[text_of(hit)]) for hit in one.hits] for one in found],
    )


def example_of(question: Question, hit: Hit, number: int, passage: int) -> Example:
    answered = place_of(hit.chunk.name, hit.chunk.number, hit.chunk.heading) in question.places
    return Example(number, passage, answered, 1.0 if answered or not question.answerable else OTHER_PAGE)


def read(known: Material, folds: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[Reader, np.ndarray]:
    """A reader that has seen everything, and the best log odds for each calibration question by readers that had not seen it."""
    first = train(Reader(seed=SEED), known.questions, known.passages, known.first, epochs=4, rate=3e-3, seed=SEED)

    def second(learned: Sequence[int], seed: int) -> Reader:
        examples = [example for i in learned for example in known.asked[i]]
        examples += random.Random(seed).sample(known.first, min(FIRST_MIXED, len(known.first)))
        return train(copy.deepcopy(first), known.questions, known.passages, examples, epochs=3, rate=1.5e-3, seed=seed)

    unseen = np.full(len(known.asked), LEAST_ODDS)
    for fold, (learned, held) in enumerate(folds):
        reader = second(learned.tolist(), fold)
        for i in held:
            kept = [reader.keep(known.passages[example.passage]) for example in known.asked[i]]
            unseen[i] = max(LEAST_ODDS, float(reader.score(known.questions[known.asked[i][0].question], kept).max()))
    return second(range(len(known.asked)), FOLDS), unseen


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
    scores = [metrics.detection((probabilities < cut).tolist(), (~answerable).tolist()).f1 for cut in middles]
    widths = np.where(np.isclose(scores, max(scores)), np.diff(cuts), -1.0)
    return float(middles[int(np.argmax(widths))])


def cross_validated(probabilities: np.ndarray, answerable: np.ndarray, threshold: float) -> dict[str, float]:
    """How the model abstains on questions that it had not seen, and the area under its curve. The threshold has seen those that are
    mixed like the test part."""
    measured = metrics.detection((probabilities < threshold).tolist(), (~answerable).tolist())
    area = round(float(roc_auc_score(answerable, probabilities)), 4)
    return {"questions": len(answerable), "area": area, **{name: round(value, 4) for name, value in asdict(measured).items()}}


def write(model: dict, path: Path) -> None:
    rows = ",\n".join(f' "{name}": {json.dumps(value)}' for name, value in model.items())
    path.write_text(f"{{\n{rows}\n}}\n", "utf-8")
