"""Fits the assistant's decision whether there is evidence: a logistic regression on the calibration questions, and on no others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from assistant.knowledge.abstention import Features, features
from assistant.knowledge.search import Hit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from capstone.evaluation import metrics
from capstone.evaluation.questions import Question

FOLDS, SEED = 6, 0


def fit(found: Sequence[tuple[Question, Sequence[Hit]]]) -> dict:
    """The model of `abstention.json`: an intercept, a weight for each feature, and the threshold with the best F1 of abstaining,
    chosen on predictions for questions that the fold's model had not seen.

    Raises ValueError where the questions are not all of the calibration part, or are of one kind only.
    """
    if any(question.split != "calibration" for question, _ in found):
        raise ValueError("a question of the test part was given to the calibration: it would no longer measure anything.")
    x = np.array([features(question.question, hits).vector() for question, hits in found if hits])
    y = np.array([question.answerable for question, hits in found if hits])
    if len(set(y.tolist())) < 2:
        raise ValueError("the calibration needs questions with and without an answer.")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    unseen = cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]
    threshold = best_threshold(unseen, y)
    model.fit(x, y)
    scale, regression = model[0], model[1]
    weights = regression.coef_[0] / scale.scale_
    intercept = float(regression.intercept_[0] - (weights * scale.mean_).sum())
    return {
        "features": [field.name for field in fields(Features)],
        "intercept": round(intercept, 6),
        "weights": [round(float(weight), 6) for weight in weights],
        "threshold": round(threshold, 4),
    }


def best_threshold(probabilities: np.ndarray, answerable: np.ndarray) -> float:
    """The middle of the widest stretch of thresholds whose F1 of abstaining is the best."""
    cuts = np.concatenate([[0.0], np.sort(probabilities), [1.0]])
    middles = (cuts[1:] + cuts[:-1]) / 2
    scores = [metrics.detection((probabilities < cut).tolist(), (~answerable).tolist()).f1 for cut in middles]
    widths = np.where(np.isclose(scores, max(scores)), np.diff(cuts), -1.0)
    return float(middles[int(np.argmax(widths))])


def write(model: dict, path: Path) -> None:
    rows = ",\n".join(f' "{name}": {json.dumps(value)}' for name, value in model.items())
    path.write_text(f"{{\n{rows}\n}}\n", "utf-8")
