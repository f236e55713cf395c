"""From graded cells to the library: `promote` judges the answers as a module would run them, and only then installs them.

A refusal changes nothing. Installing is atomic for each part: the record of the new code is written first and keeps
the one before it, so that at any moment the file on disk is one that passed (`hybridlab.exercise.why_unusable`).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hybridlab.exercise import RECORDS, promoted_path, records, sha256

from coursekit import gradebook, paths
from coursekit.answers import answers_in, read_notebook
from coursekit.course import Exercise, Week
from coursekit.errors import CourseError
from coursekit.mend import mend_graded
from coursekit.runner import Runner, Verdict


@dataclass(frozen=True)
class Outcome:
    """What became of one exercise: "promoted", "unchanged", "unanswered" or "refused" (then `verdict` says why)."""

    exercise: Exercise
    state: str
    verdict: Verdict
    path: Path | None = None


def module_text(week: Week, source: str) -> str:
    """The promoted file: the notebook's import cell and the exercise cell."""
    return f"{week.imports}\n\n\n{source.strip()}\n"


def graded_notebook(week: Week) -> Path:
    """The learner's notebook as it was graded last. Raises CourseError where it was not graded yet."""
    path = gradebook.folder() / "submitted" / gradebook.STUDENT / week.name / f"{week.graded}.ipynb"
    if not path.is_file():
        raise CourseError(f"{week.name} has not been graded yet: run `course grade {week.name}` first.")
    return path


def changed_since(week: Week, graded: Path) -> list[str]:
    """The exercises whose answers in the learner's notebook are no longer those that were graded."""
    now = paths.WORKSPACE / week.name / f"{week.graded}.ipynb"
    if not now.is_file():
        return []
    try:
        current = read_notebook(now)
    except CourseError:  # a damaged notebook is the doctor's; what was graded is whole
        return []
    mend_graded(current, week)
    old, new = answers_in(read_notebook(graded), week), answers_in(current, week)
    return [name for name in old if new.get(name, "") != old[name]]


def promote(
    week: Week, notebook: Path, *, only: list[Exercise] | None = None, folder: Path | None = None, mylab: Path = paths.MYLAB
) -> list[Outcome]:
    """Judge the answers of a graded notebook, visible and hidden cases, together with what is promoted already; install them all.

    `folder` is where the notebook's outcomes lie, for checks of an outcome; its own folder by default. Unanswered exercises
    stay the reference's. One refused answer (among `only`, where given) installs nothing.
    Raises CourseError where there is no answer at all.
    """
    wanted = only or week.exercises
    answers = answers_in(read_notebook(notebook), week)
    with Runner(week, folder=folder or notebook.resolve().parent) as runner:
        first = {e: runner.check(e, answers.get(e.id, ""), mylab=mylab) for e in wanted}
        answered = {e: v for e, v in first.items() if answers.get(e.id, "").strip() and v.code != "RUN-01"}
        if not answered:
            raise CourseError(f"{notebook.name} of {week.name} has no answer yet: solve an exercise, then `course grade {week.name}`.")
        accepted = {e.symbol: answers[e.id] for e, v in answered.items() if v.passed}
        together = {e: judge_together(runner, e, accepted, mylab) if v.passed and len(accepted) > 1 else v for e, v in answered.items()}
    refused = [e for e, v in together.items() if not v.passed]
    outcomes = []
    with locked(mylab):
        for exercise, verdict in first.items():
            if exercise not in answered:
                outcomes.append(Outcome(exercise, "unanswered", verdict))
            elif refused:
                outcomes.append(Outcome(exercise, "refused" if exercise in refused else "unchanged", together[exercise]))
            else:
                path = install(mylab, exercise, module_text(week, answers[exercise.id]), together[exercise], notebook)
                outcomes.append(Outcome(exercise, "promoted", together[exercise], path))
    return outcomes


def demote(exercises: Sequence[Exercise], *, mylab: Path = paths.MYLAB) -> list[tuple[Exercise, Path]]:
    """Take these exercises out of the record, so that the reference stands in their place; the learner's files stay where they are.

    Returns those that were on record, each with its file. Nothing is written where none was.
    """
    if not (mylab / RECORDS).is_file():
        return []
    with locked(mylab):
        every = records(mylab)
        taken = [exercise for exercise in exercises if exercise.symbol in every]
        if taken:
            gone = {exercise.symbol for exercise in taken}
            write_records(mylab, {symbol: record for symbol, record in every.items() if symbol not in gone})
    return [(exercise, promoted_path(mylab, exercise.symbol)) for exercise in taken]


def judge_together(runner: Runner, exercise: Exercise, accepted: dict[str, str], mylab: Path) -> Verdict:
    others = {symbol: source for symbol, source in accepted.items() if symbol != exercise.symbol}
    return runner.check(exercise, accepted[exercise.symbol], others=others, mylab=mylab)


@contextmanager
def locked(mylab: Path) -> Iterator[None]:
    mylab.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(mylab / ".lock", timeout=30):
            yield
    except Timeout:
        raise CourseError(f"another `course` command is changing {mylab}: wait for it to end, then try again.") from None


def install(mylab: Path, exercise: Exercise, text: str, verdict: Verdict, notebook: Path) -> Path:
    """Write the record, then the file; both by rename."""
    symbol = exercise.symbol
    checks = exercise.week.source / "checks.py"
    before = records(mylab).get(symbol)
    record = {
        "source_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "checks": str(checks.relative_to(paths.REPO) if checks.is_relative_to(paths.REPO) else checks),
        "checks_sha256": sha256(checks),
        "result": verdict.text,
        "seconds": round(verdict.seconds, 3),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "week": exercise.week.name,
        "notebook_sha256": sha256(notebook),
    }
    if before and before["source_sha256"] != record["source_sha256"]:
        record["previous"] = {key: before[key] for key in ("source_sha256", "checks", "checks_sha256")}
    write_records(mylab, records(mylab) | {symbol: record})
    path = promoted_path(mylab, symbol)
    replace(path, text)
    return path


def write_records(mylab: Path, every: dict[str, dict[str, Any]]) -> None:
    replace(mylab / RECORDS, json.dumps(every, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    records.cache_clear()


def replace(path: Path, text: str) -> None:
    """Write a file so that a reader, and a power cut, find either the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(partial, path)
