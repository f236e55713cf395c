"""The evaluation as a command, `assistant eval`: measure, print, and write the figures of record.

assistant eval                       retrieval, citations, abstention, and the engine's answers; writes results.json
assistant eval --answers 0           without the engine's answers: seconds once the documents are embedded
assistant eval --calibrate           first fit the abstention model on the calibration questions
assistant eval --experts FOLDER      ask the same questions a second time, with the experts of a folder
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO))  # run by path, this file's own package is not found otherwise

from assistant.engines import make_engine  # noqa: E402
from assistant.engines.base import EngineError  # noqa: E402
from assistant.knowledge import abstention, reading  # noqa: E402
from assistant.knowledge.rereading import AMONG  # noqa: E402
from assistant.knowledge.service import Knowledge  # noqa: E402
from assistant.memory.service import Memory  # noqa: E402
from assistant.orchestrator import Orchestrator  # noqa: E402
from hybridlab.rag.embed import MissingModel  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from capstone.evaluation import base, calibrate, documents, handbook, measure  # noqa: E402
from capstone.evaluation.progress import Kept, told  # noqa: E402
from capstone.evaluation.questions import OF_LIBRARY, Question, load  # noqa: E402

RESULTS = Path(__file__).with_name("results.json")
MEASURED = ("capstone/assistant", "capstone/evaluation", "shared/hybridlab/llm", "shared/hybridlab/rag", ":!*results.json")
REMEMBERED = REPO / ".build" / "data" / "evaluation" / "passages.db"
console = Console(stderr=True, highlight=False)


def evaluate(home: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Every figure of the test questions. Raises NotFetched, NotReadable, MissingModel, EngineError."""
    questions = load()
    sources = documents.fetch()
    knowledge = tested(home)
    if chosen.calibrate:
        recalibrate([(knowledge, questions), (library(home), load(OF_LIBRARY))])
        knowledge = tested(home / "again")  # what the former reader has kept is of no use
    asked = [question for question in questions if question.split == "test"]
    found = [measure.evidence(knowledge, question) for question in told(asked, "evidence", len(asked), console)]
    result = {
        "questions": counted(questions),
        "documents": sources,
        "chunks": sum(document.chunks for document in knowledge.documents(base.STAFF)),
        "retrieval": measure.by_part(lambda part: measure.retrieval(knowledge, part), asked),
        "abstention": measure.by_part(measure.abstention, found),
        "citations": measure.by_part(lambda part: measure.citations(knowledge, part), found),
        "extractive_answers": measure.extractive(found),
    }
    if chosen.answers:
        some = spread(asked, chosen.answers)
        result |= {"sentence_answers": measure.sentences(found, some)} | answered(knowledge, some, chosen.experts)
    return result


def tested(home: Path) -> Knowledge:
    """An assistant that has read the documents that the questions are about. Raises NotReadable, MissingModel."""
    files = [*handbook.make(home / "handbook"), *(documents.FOLDER / name for name in documents.SOURCES)]
    console.print("reading the documents, and embedding what was not embedded before …")
    return base.build(home / "assistant", files, handbook.RESTRICTED, REMEMBERED)


def library(home: Path) -> Knowledge:
    """An assistant that has read another library, which only calibration questions are about. Raises as `tested`, and NotFetched."""
    return base.build(home / "library", documents.library(), "", REMEMBERED)


def searched(rooms: Sequence[tuple[Knowledge, list[Question]]]) -> list[calibrate.Found]:
    """What is found for the calibration questions of rooms, each asked of its own documents."""
    asked = [(room, question) for room, questions in rooms for question in questions if question.split == "calibration"]
    seen = []
    for room, question in told(asked, "searching", len(asked), console):
        hits = room.searching.candidates(base.STAFF, question.question, AMONG)
        seen.append(calibrate.Found(question, hits, room.heard(base.STAFF, question.question)))
    return seen


def recalibrate(rooms: Sequence[tuple[Knowledge, list[Question]]]) -> None:
    """Fit the abstention model and the quick reader on the calibration questions of rooms; write them in the places of the present ones.
    Raises NotFetched."""
    seen = searched(rooms)
    model, reader = calibrate.fit(seen, base.Remembered(rooms[0][0].encoder, REMEMBERED), console.print)
    calibrate.write(model, abstention.CALIBRATION)
    reader.save(reading.READER)
    for kept in (abstention.calibration, reading.reader, reading.reader_id):
        kept.cache_clear()
    console.print(f"calibrated on {len(seen)} questions: {abstention.CALIBRATION.relative_to(REPO)}")


def spread(questions: list[Question], count: int) -> list[Question]:
    """At most `count` of the answerable questions, at equal distances, so that every kind is among them."""
    answerable = [question for question in questions if question.answerable]
    step = max(1.0, len(answerable) / count)
    return [answerable[int(i * step)] for i in range(min(count, len(answerable)))]


def answered(knowledge: Knowledge, questions: list[Question], experts: Path | None) -> dict[str, Any]:
    """The engine's answers without an expert; and, where a folder of experts is named, a second time with them. Raises EngineError."""
    if experts and not list(experts.glob("*.json")):
        raise EngineError(f"{experts} holds no expert: an expert is an adapter NAME.gguf with its card NAME.json.")
    measured, before = asyncio.run(ask(knowledge, questions))
    result = {"engine_answers": measured}
    if experts:
        shutil.copytree(experts, knowledge.settings.home / "experts")
        measured, after = asyncio.run(ask(knowledge, questions))
        result |= {"expert_answers": measured, "expert_gain": measure.gain(before, after, questions)}
    return result


async def ask(knowledge: Knowledge, questions: list[Question]) -> tuple[dict[str, Any], list[measure.Answered]]:
    """What the engine's answers are worth, and the answers; what an interrupted run of the same code has kept is not asked again."""
    engine = make_engine(knowledge.settings)
    orchestrator = Orchestrator(engine, knowledge, Memory(knowledge.store, knowledge.encoder), knowledge.store, knowledge.settings)
    experts = [expert.card.name for expert in engine.experts]
    last = git("log", "-1", "--format=%h", "--", *MEASURED)
    kept = Kept(REMEMBERED.with_name("-".join(["answers", last, engine.name, *experts]) + ".jsonl"), valid=not changed())
    try:
        for question in told(questions, "answering", len(questions), console):
            if question.answerable and question.id not in kept.answers:
                kept.keep(await measure.answer(orchestrator, question))
    finally:
        await engine.aclose()
    given = [kept.answers[question.id] for question in questions if question.answerable]
    kept.forget()
    return {"engine": engine.name, "model": engine.model, "experts": experts, **measure.answers(given, questions)}, given


def counted(questions: list[Question]) -> dict[str, int]:
    groups = {
        "all": lambda q: True,
        "test": lambda q: q.split == "test",
        "test, second part": lambda q: q.split == "test" and q.part == 2,
        **{kind: lambda q, kind=kind: q.kind == kind for kind in ("plain", "table", "crossed", "unanswerable")},
        **{language: lambda q, language=language: q.language == language for language in ("en", "vi")},
    }
    return {name: sum(map(group, questions)) for name, group in groups.items()}


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=REPO, capture_output=True, text=True, timeout=30).stdout.strip()


def changed() -> bool:
    """Whether what is measured differs from what was committed last."""
    return bool(git("status", "--porcelain", "--", *MEASURED))


def record() -> dict[str, str]:
    """What a figure needs to be made again: the command, the commit, the machine, and the day."""
    return {
        "command": " ".join([sys.argv[0] if sys.argv[0].startswith("assistant") else "assistant eval", *sys.argv[1:]]),
        "commit": git("rev-parse", "HEAD") + (" with changes" if changed() else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def show(result: dict[str, Any]) -> None:
    out = Console(highlight=False)
    for part, retrieval in result["retrieval"].items():
        title = f"Retrieval (test questions, {part} part{'s' * (part == 'both')})"
        table = Table("retriever", "questions", "recall@1", "recall@5", "recall@10", "MRR", "p50 / p95 ms", title=title)
        for name, groups in retrieval.items():
            for group in ("en", "en, document in en", "vi", "vi, document in vi", "table", "crossed", "all"):
                r, ms = groups[group], groups["milliseconds"]
                figures = [f"{r[key]:.3f}" for key in ("recall@1", "recall@5", "recall@10", "mrr")]
                table.add_row(f"{name} {group}", str(r["questions"]), *figures, f"{ms['p50']} / {ms['p95']}" if group == "all" else "")
        out.print(table)
    for name in ("abstention", "citations"):
        for part, measured in result[name].items():
            out.print(f"[bold]{name}, {part}[/bold]: {json.dumps(measured)}", soft_wrap=True)
    for name in ("extractive_answers", "sentence_answers", "engine_answers", "expert_answers", "expert_gain"):
        if name in result:
            out.print(f"[bold]{name.replace('_', ' ')}[/bold]: {json.dumps(result[name])}", soft_wrap=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="assistant eval", description=__doc__.splitlines()[0])
    parser.add_argument("--calibrate", action="store_true", help="first fit the abstention model on the calibration questions")
    parser.add_argument("--answers", type=int, default=1000, help="how many questions the engine answers, spread over all kinds; 0: none")
    parser.add_argument("--experts", type=Path, metavar="FOLDER", help="ask the questions a second time, with the experts in here")
    chosen = parser.parse_args()
    made = record()  # of the code that runs, and not of what the files have become when it comes to its end
    try:
        with tempfile.TemporaryDirectory(prefix="evaluation-") as home:
            result = evaluate(Path(home), chosen)
    except (documents.NotFetched, base.NotReadable, MissingModel, EngineError) as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    show(result)
    RESULTS.write_text(json.dumps({**made, **result}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    console.print(f"written: {RESULTS.relative_to(REPO)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
