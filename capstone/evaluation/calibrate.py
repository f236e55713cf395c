"""Fits the assistant's decision whether there is evidence, on the calibration questions and on no others.

A logistic regression weighs what two readers say against the features of the search; what it sees of the readers are judgements about
questions that they had not seen, or it would trust them too much. Questions that ask nearly the same thing are always in one fold. The
quick reader is trained here (readers.py); the thorough one is not, for that takes a GPU (cross_train.py): what those of its kind said of
questions that they had not seen is kept beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from assistant.knowledge.abstention import Features, features
from assistant.knowledge.reading import LEAST_ODDS, PAIRS, as_cited, text_of, until_enough
from assistant.knowledge.rereading import read_again
from assistant.knowledge.search import Hit
from hybridlab.exercise import sha256
from hybridlab.rag.reader import Reader
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
from capstone.evaluation.readers import SEED, Folds, Found, material, read

FOLDS = 4
SAME = 0.07  # distance of two questions' vectors up to which they ask nearly the same
NEWER = 400  # questions numbered above were written after both test parts, about the things that the documents speak of
SHARE = 0.22  # of the questions have no answer, as in the test parts
EVIDENCE = 4  # hits that are looked at, as the assistant does (settings.py)
PLACES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 8.0)  # what a place may count
DRAWN = 1000  # times, for an interval
UNSEEN = Path(__file__).with_name("pairs_unseen.json")


def fit(found: Sequence[Found], encoder: Remembered, progress: Callable[[str], None]) -> tuple[dict, Reader]:
    """The model of `abstention.json` (what a place counts beside the readers' log odds; an intercept, a weight for each feature, and the
    threshold with the best F1 of abstaining), and the quick reader. All is chosen on predictions for questions that neither readers nor
    regression had seen.

    Raises ValueError where the questions are not all of the calibration part, or are of one kind only, or the thorough reader is not that
    whose predictions are kept.
    """
    if any(one.question.split != "calibration" for one in found):
        raise ValueError("a question of the test part was given to the calibration: it would no longer measure anything.")
    found = [one for one in found if one.hits]
    y = np.array([one.question.answerable for one in found])
    if len(set(y.tolist())) < 2:
        raise ValueError("the calibration needs questions with and without an answer.")
    pairs = unseen_pairs(found)
    folds = folds_of(encoder.query([one.question.question for one in found]), y)
    reader, odds = read(material(found, encoder), folds)
    place = best_place(found, odds)
    unread = sum(int(np.isnan(of[looked_at(read, place)]).sum()) for read, of in zip(odds, pairs, strict=True))
    progress(f"{unread} of {EVIDENCE * len(found)} chunks were not read by the thorough reader: they count as not found")
    return decision(found, odds, pairs, folds, place), reader


def unseen_pairs(found: Sequence[Found], path: Path = UNSEEN) -> list[np.ndarray]:
    """Log odds of each question's hits by cross-encoders that had not seen it (cross_train.py); NaN where none has read a hit.

    Raises ValueError where they are not of the kind that the assistant has.
    """
    kept = json.loads(path.read_text("utf-8"))
    if kept["pairs"] != sha256(PAIRS):
        raise ValueError(f"{path.name} is not of {PAIRS.name}: `python -m capstone.evaluation.cross_train` makes both (on a GPU).")
    return [np.array([kept["odds"].get(one.question.id, {}).get(key_of(hit), np.nan) for hit in one.hits]) for one in found]


def key_of(hit: Hit) -> str:
    """Names a chunk by what it says."""
    return hashlib.sha256(text_of(hit).encode()).hexdigest()[:16]


def decision(found: Sequence[Found], odds: Sequence[np.ndarray], pairs: Sequence[np.ndarray], folds: Folds, place: float) -> dict:
    """What the assistant makes of the readers' log odds: the order of the hits, and whether the best of them are evidence."""
    cited = best_order(found, odds, pairs, place)
    x = np.array([seen(*one, place).vector() for one in zip(found, odds, pairs, strict=True)])
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
        "place_in_citations": cited,
        "cross_validated": {
            "all": on_unseen(probabilities, y, threshold),
            "written after the test parts": on_unseen(probabilities[newer], y[newer], threshold),
        },
    }


def seen(one: Found, odds: np.ndarray, pairs: np.ndarray, place: float) -> Features:
    """What the decision sees of a question, where the hits have these log odds."""
    order = looked_at(odds, place)
    together = max(in_turn(pairs[order]), default=LEAST_ODDS)
    return features(one.question.question, [one.hits[n] for n in order], one.heard, odds[order].max(), together)


def looked_at(odds: np.ndarray, place: float) -> list[int]:
    """Which hits are looked at: the first ones in the order of the search."""
    return as_found(odds, place)[:EVIDENCE]


def as_found(odds: np.ndarray, place: float) -> list[int]:
    """The numbers of hits in the order that the search gives them by these log odds of the quick reader."""
    return [n for n, _ in read_again([(n, 0.0) for n in range(len(odds))], dict(enumerate(map(float, odds))), place)]


def in_turn(pairs: np.ndarray) -> list[float]:
    """What the thorough reader says of hits one after the other, until one answers."""
    return until_enough(np.nan_to_num(pairs, nan=LEAST_ODDS).tolist())


def best_order(found: Sequence[Found], odds: Sequence[np.ndarray], pairs: Sequence[np.ndarray], place: float) -> float:
    """What a place counts beside the thorough reader's log odds, so that most of the answers' pages are cited first."""

    def found_by(cited: float) -> float:
        ranks = []
        for one, of, together in zip(found, odds, pairs, strict=True):
            if one.question.answerable:
                order = looked_at(of, place)
                again = as_cited(in_turn(together[order]), len(order), cited)
                ranks.append(rank_of(one.question, [one.hits[order[n]] for n in again]))
        return metrics.mean_reciprocal_rank(ranks)

    return max(PLACES, key=found_by)


def best_place(found: Sequence[Found], odds: Sequence[np.ndarray]) -> float:
    """What a place counts beside the log odds, so that most of the questions have a named page among the first five hits."""

    def found_by(place: float) -> tuple[float, float]:
        ranks = []
        for one, of in zip(found, odds, strict=True):
            if one.question.answerable:
                ranks.append(rank_of(one.question, [one.hits[n] for n in as_found(of, place)]))
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
