"""Fits the assistant's decision whether there is evidence, on the calibration questions and on no others.

A logistic regression weighs what two readers say (readers.py) against the features of the search; what it sees of the readers are
judgements about questions that they had not seen, or it would trust them too much. Questions that ask nearly the same thing are always
in one fold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from assistant.knowledge.abstention import Features, features
from assistant.knowledge.reading import as_cited
from assistant.knowledge.rereading import read_again
from hybridlab.rag.reader import Reader
from hybridlab.rag.span_reader import SpanReader
from sklearn.cluster import AgglomerativeClustering
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from capstone.evaluation import metrics
from capstone.evaluation.base import Remembered
from capstone.evaluation.measure import rank_of
from capstone.evaluation.questions import Question
from capstone.evaluation.readers import SEED, Folds, Found, material, read, read_spans

FOLDS = 4
SAME = 0.07  # distance of two questions' vectors up to which they ask nearly the same
NEWER = 400  # questions numbered above were written after both test parts, about the things that the documents speak of
SHARE = 0.22  # of the questions have no answer, as in the test parts
EVIDENCE = 4  # hits that are looked at, as the assistant does (settings.py)
WEIGHTS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)  # of the span reader's log odds, among the hits that are looked at
PLACES = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0)  # what a place may count
DRAWN = 1000  # times, for an interval


def fit(found: Sequence[Found], encoder: Remembered, progress: Callable[[str], None]) -> tuple[dict, Reader, SpanReader]:
    """The model of `abstention.json` (what a place counts beside the reader's log odds; an intercept, a weight for each feature, and the
    threshold with the best F1 of abstaining), and the readers. All is chosen on predictions for questions that neither readers nor
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
    known = material(found, encoder)
    reader, read_odds = read(known, folds)
    spans, span_odds = read_spans(known, folds, progress)
    return decision(found, read_odds, span_odds, folds), reader, spans


def decision(found: Sequence[Found], odds: Sequence[np.ndarray], spans: Sequence[np.ndarray], folds: Folds) -> dict:
    """What the assistant makes of the readers' log odds: the order of the hits, and whether the best of them are evidence."""
    place = best_place(found, odds)
    weight = best_order(found, odds, spans, place)
    x = np.array([seen(*one, place, weight).vector() for one in zip(found, odds, spans, strict=True)])
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
        "spans_in_order": weight,
        "cross_validated": {
            "all": on_unseen(probabilities, y, threshold),
            "written after the test parts": on_unseen(probabilities[newer], y[newer], threshold),
        },
    }


def seen(one: Found, odds: np.ndarray, spans: np.ndarray, place: float, weight: float) -> Features:
    """What the decision sees of a question, where the hits have these log odds."""
    order = cited(odds, spans, place, weight)
    return features(one.question.question, [one.hits[n] for n in order], one.heard, odds[order].max(), spans[order].max())


def cited(odds: np.ndarray, spans: np.ndarray, place: float, weight: float) -> list[int]:
    """Which hits are looked at, in the order in which they would be cited."""
    order = [n for n, _ in read_again([(n, 0.0) for n in range(len(odds))], dict(enumerate(map(float, odds))), place)][:EVIDENCE]
    return [order[n] for n in as_cited(odds[order], spans[order], place, weight)]


def best_order(found: Sequence[Found], odds: Sequence[np.ndarray], spans: Sequence[np.ndarray], place: float) -> float:
    """What the span reader's log odds count beside the reader's, so that most of the answers' pages are cited first."""

    def found_by(weight: float) -> float:
        asked = [one for one in zip(found, odds, spans, strict=True) if one[0].question.answerable]
        ranks = [rank_of(one.question, [one.hits[n] for n in cited(of, spanned, place, weight)]) for one, of, spanned in asked]
        return metrics.mean_reciprocal_rank(ranks)

    return max(WEIGHTS, key=found_by)


def best_place(found: Sequence[Found], odds: Sequence[np.ndarray]) -> float:
    """What a place counts beside the log odds, so that most of the questions have a named page among the first five hits."""

    def found_by(place: float) -> tuple[float, float]:
        ranks = []
        for one, of in zip(found, odds, strict=True):
            if one.question.answerable:
                order = read_again([(n, 0.0) for n in range(len(of))], dict(enumerate(map(float, of))), place)
                ranks.append(rank_of(one.question, [one.hits[n] for n, _ in order]))
        return metrics.recall_at(ranks, 5), metrics.mean_reciprocal_rank(ranks)

    return max(PLACES, key=found_by)


def folds_of(vectors: np.ndarray, y: np.ndarray) -> Folds:
    """Indices to learn from and to predict, for each fold."""
    same = AgglomerativeClustering(n_clusters=None, distance_threshold=SAME, metric="cosine", linkage="average").fit_predict(vectors)
    return list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED).split(vectors, y, same))


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


def on_unseen(probabilities: np.ndarray, answerable: np.ndarray, threshold: float) -> dict[str, Any]:
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
