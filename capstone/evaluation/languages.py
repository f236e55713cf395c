"""How passages in the other language are weighed and placed (assistant/knowledge/across.py): the figures it was chosen on.

python -m capstone.evaluation.languages

Calibration questions only, and `translated.jsonl`: 72 of them asked in the other language, so that their answers lie across languages.
Prints recall of what there is to choose from, and the logistic model of where the answer lies, fitted anew; writes nothing.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from assistant.knowledge.across import Found, Ranking, likelihood, placed, with_place
from assistant.knowledge.search import DEPTH, FUSION_K
from assistant.knowledge.service import Knowledge
from hybridlab.rag.fusion import reciprocal_rank_fusion
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from capstone.evaluation import base, documents, metrics
from capstone.evaluation.evaluate import tested
from capstone.evaluation.measure import place_of
from capstone.evaluation.questions import Place, Question, load

TRANSLATED = Path(__file__).with_name("translated.jsonl")
FOLDS, SEED = 10, 0


def translated(questions: list[Question]) -> list[Question]:
    """Calibration questions in the other language than their own; raises ValueError where one is not of the calibration part."""
    known = {question.id: question for question in questions if question.split == "calibration" and question.answerable}
    rows = [json.loads(line) for line in TRANSLATED.read_text("utf-8").splitlines()]
    if strangers := [row["id"] for row in rows if row["id"] not in known]:
        raise ValueError(f"{strangers} are no answerable calibration questions: translate only those, the test part has to stay unseen.")
    return [
        replace(known[row["id"]], question=row["question"], kind="crossed", language="en" if known[row["id"]].language == "vi" else "vi")
        for row in rows
    ]


@dataclass(frozen=True)
class Asked:
    """A question, its own language's and the other's findings, and words and meaning fused as if there were one language."""

    question: Question
    own: Found
    other: Found
    fused: Ranking


def ask(knowledge: Knowledge, question: Question) -> Asked:
    found = knowledge.searching.found(base.STAFF, question.question, DEPTH, None, translate=True)
    words = knowledge.searching.by_words(base.STAFF, question.question, DEPTH)
    meaning = sorted((hit for of in found.values() for hit in of.meaning), key=lambda hit: -hit[1])[:DEPTH]
    fused = reciprocal_rank_fusion([[i for i, _ in words], [i for i, _ in meaning]], FUSION_K)
    return Asked(question, found[question.language], found["vi" if question.language == "en" else "en"], fused)


def report(asked: list[Asked], place: dict[int, Place]) -> Table:
    ways = {
        "one language only": lambda a: a.fused,
        "other by meaning, fourth": lambda a: with_place(a.fused, a.other.meaning[0][0], 4),
        "other by words and meaning, fourth": lambda a: with_place(a.fused, a.other.ranking()[0][0], 4),
        "placed by likelihood": lambda a: placed(a.fused, a.other.ranking(), likelihood(a.own, a.other)),
        "(other language by itself: meaning)": lambda a: a.other.meaning,
        "(other language by itself: words)": lambda a: a.other.words,
        "(other language by itself: both)": lambda a: a.other.ranking(),
    }
    groups = {f"{name} {language}": (language, name == "across") for name in ("within", "across") for language in ("en", "vi")}
    table = Table("recall@1 / recall@5", *groups, title="Calibration questions, and 72 of them translated")
    for way, ranking in ways.items():
        cells = []
        for language, crossed in groups.values():
            some = [a for a in asked if a.question.language == language and (a.question.kind == "crossed") == crossed]
            ranks = [next((n for n, (i, _) in enumerate(ranking(a), 1) if place[i] in a.question.places), None) for a in some]
            cells.append(f"{metrics.recall_at(ranks, 1):.3f} / {metrics.recall_at(ranks, 5):.3f}")
        table.add_row(way, *cells)
    return table


def fitted(asked: list[Asked]) -> str:
    """The weights of `likelihood`, and how well it tells, on questions that the fold's model had not seen."""

    def best(ranking: Ranking) -> float:
        return ranking[0][1] if ranking else 0.0

    # A cosine's differences are ten times smaller: scaled, so that one regularisation suits both.
    x = np.array([[best(a.other.words) - best(a.own.words), 10 * (best(a.other.meaning) - best(a.own.meaning))] for a in asked])
    y = np.array([a.question.kind == "crossed" for a in asked])
    model = LogisticRegression(C=10.0, class_weight="balanced")
    unseen = cross_val_predict(model, x, y, cv=StratifiedKFold(FOLDS, shuffle=True, random_state=SEED), method="predict_proba")[:, 1]
    model.fit(x, y)
    words, meaning = model.coef_[0]
    return f"WORDS_SAY {words:.1f}, MEANING_SAYS {10 * meaning:.0f}, BIAS {model.intercept_[0]:.1f}; AUC {roc_auc_score(y, unseen):.3f}"


def main() -> None:
    questions = load()
    chosen = [question for question in questions if question.split == "calibration" and question.answerable] + translated(questions)
    documents.fetch()
    with tempfile.TemporaryDirectory(prefix="languages-") as home:
        knowledge = tested(Path(home))
        asked = [ask(knowledge, question) for question in chosen]
        ids = knowledge.store.documents.vectors(base.STAFF)[0].tolist()
        place = {c.id: place_of(c.name, c.number, c.heading) for c in knowledge.store.documents.chunks(base.STAFF, ids)}
    out = Console(highlight=False, width=150)
    out.print(report(asked, place))
    out.print(f"{len(asked)} questions. Fitted: {fitted(asked)}")


if __name__ == "__main__":
    main()
