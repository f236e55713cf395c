"""2,123 harder questions, written when the readers and the decision were there already: how does the assistant, as it is, find and keep
silent? `python -m capstone.evaluation.harder` prints it and writes `harder.json`.

They are about the same documents as `questions.jsonl`. Each one without an answer was written beside one that has one, about the same
page, in the same words where that could be: who, when or why where the page says only what. No weight was fitted on them; the places of the
other language (across.py) were chosen on every second one that has an answer. They are near none of the test parts' questions: no two share
half of their words, or have a cosine of .93.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from assistant.knowledge.abstention import calibration, probability
from hybridlab.rag.embed import MissingModel
from rich.console import Console
from rich.table import Table

from capstone.evaluation import base, calibrate, documents, measure
from capstone.evaluation.evaluate import record, tested
from capstone.evaluation.progress import told
from capstone.evaluation.questions import Question, load

HARDER = Path(__file__).with_name("harder.jsonl")
RESULTS = Path(__file__).with_name("harder.json")
console = Console(stderr=True, highlight=False)


def evaluate(home: Path) -> dict[str, Any]:
    """Every figure. Raises NotFetched, NotReadable, MissingModel."""
    documents.fetch()
    knowledge, asked, odds, found = tested(home), load(HARDER), [], []

    def decide(*seen: Any) -> bool:
        odds.append(probability(*seen))
        return odds[-1] >= calibration()["threshold"]

    for question in told(asked, "evidence", len(asked), console):
        found.append(measure.evidence(knowledge, question, decide))
    return {
        "questions": {"with an answer": sum(q.answerable for q in asked), "without": sum(not q.answerable for q in asked)},
        "abstention": by_group(asked, np.array(odds)),
        "retrieval": {
            name: {group: of[group] for group in ("all", "en", "vi", "crossed")}
            for name, of in measure.retrieval(knowledge, asked).items()
        },
        "citations": measure.citations(knowledge, found),
    }


def by_group(asked: Sequence[Question], probabilities: np.ndarray) -> dict[str, dict[str, Any]]:
    """How the decision abstains, for all questions and in each language."""
    answerable = np.array([question.answerable for question in asked])
    groups = {"all": np.ones(len(asked), bool)} | {name: np.array([q.language == name for q in asked]) for name in ("en", "vi")}
    threshold = calibration()["threshold"]
    return {name: calibrate.on_unseen(probabilities[group], answerable[group], threshold) for name, group in groups.items()}


def show(result: dict[str, Any]) -> None:
    out = Console(highlight=False)
    columns = ("questions", "number", "area", "precision", "recall", "F1", "95 % of redrawn samples")
    table = Table(*columns, title="Keeping silent, as if 22 % had no answer")
    for name, of in result["abstention"].items():
        figures = [f"{of[key]:.3f}" for key in ("area", "precision", "recall", "f1")]
        table.add_row(name, str(of["questions"]), *figures, " to ".join(f"{bound:.3f}" for bound in of["f1_interval"]))
    out.print(table)
    table = Table("retriever", "questions", "recall@1", "recall@5", "recall@10", "MRR", title="Retrieval")
    for name, groups in result["retrieval"].items():
        for group, of in groups.items():
            figures = [f"{of[key]:.3f}" for key in ("recall@1", "recall@5", "recall@10", "mrr")]
            table.add_row(f"{name} {group}", str(of["questions"]), *figures)
    out.print(table)
    out.print(f"[bold]citations[/bold]: {json.dumps(result['citations'])}", soft_wrap=True)


def main() -> int:
    made = {**record(), "command": "python -m capstone.evaluation.harder"}
    try:
        with tempfile.TemporaryDirectory(prefix="harder-") as home:
            result = evaluate(Path(home))
    except (documents.NotFetched, base.NotReadable, MissingModel) as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    show(result)
    RESULTS.write_text(json.dumps({**made, **result}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
