"""A long evaluation says how far it is, and goes on where it was interrupted."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from assistant.engines.base import EngineError
from rich.console import Console

from capstone.evaluation import evaluate, measure
from capstone.evaluation.measure import Answered
from capstone.evaluation.progress import Kept, told
from capstone.evaluation.questions import Question


def test_a_file_is_told_in_lines_how_far_it_is() -> None:
    written = io.StringIO()
    assert list(told([1, 2, 3], "answering", 3, Console(file=written), every=0.0)) == [1, 2, 3]
    lines = written.getvalue().splitlines()
    assert [line.split(" after")[0] for line in lines] == [f"answering: {done} of 3" for done in range(4)]
    quiet = io.StringIO()
    assert list(told([1, 2, 3], "answering", 3, Console(file=quiet), every=60.0)) == [1, 2, 3]
    assert quiet.getvalue().startswith("answering: 3 of 3 after")


def test_answers_are_kept_as_they_come_and_a_torn_line_is_none(tmp_path: Path) -> None:
    one, two = Answered("a", "Một\nhai", 1.0, 2.0), Answered("b", "", None, None)
    kept = Kept(tmp_path / "new" / "answers.jsonl", valid=True)
    kept.keep(one)
    kept.keep(two)
    with kept.path.open("a") as file:
        file.write('{"question": "c", "te')
    assert Kept(kept.path, valid=True).answers == {"a": one, "b": two}
    assert Kept(kept.path, valid=False).answers == {}
    assert not kept.path.exists()


def test_an_interrupted_run_asks_only_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [Question(f"q{n}", "en", f"{n}?", "a.md", "A", ("x",), "plain", "test") for n in range(4)]
    asked: list[str] = []
    failures = ["q2"]

    async def answer(orchestrator, question: Question) -> Answered:
        if question.id in failures:
            failures.remove(question.id)
            raise EngineError("the machine goes down")
        asked.append(question.id)
        return Answered(question.id, "x", 1.0, 2.0)

    async def aclose() -> None: ...

    engine = SimpleNamespace(name="none", model="none", experts=(), aclose=aclose)
    monkeypatch.setattr(evaluate, "make_engine", lambda settings: engine)
    monkeypatch.setattr(evaluate, "Orchestrator", lambda *parts: None)
    monkeypatch.setattr(evaluate, "Memory", lambda *parts: None)
    monkeypatch.setattr(evaluate, "REMEMBERED", tmp_path / "passages.db")
    monkeypatch.setattr(evaluate, "changed", lambda: False)
    monkeypatch.setattr(measure, "answer", answer)
    here = SimpleNamespace(settings=None, store=None, encoder=None)
    with pytest.raises(EngineError):
        asyncio.run(evaluate.ask(here, questions))
    assert len(list(tmp_path.glob("answers-*.jsonl"))) == 1
    result, _ = asyncio.run(evaluate.ask(here, questions))
    assert asked == ["q0", "q1", "q2", "q3"]
    assert result["all"] == {"questions": 4, "f1": 1.0, "containment": 1.0}
    assert result["first_token_milliseconds"] == {"p50": 1.0, "p95": 1.0}
    assert not list(tmp_path.glob("answers-*.jsonl")), "a run that has come to its end begins anew the next time"
