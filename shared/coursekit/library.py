"""The bill of materials: which parts of hybridlab are the learner's, and are they still what passed the checks."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path

from hybridlab.exercise import REGISTRY, LibraryWarning, promoted_path, records, sha256, why_unusable

from coursekit import paths
from coursekit.course import Course, Exercise
from coursekit.promote import locked, write_records
from coursekit.runner import Runner, Verdict


@dataclass(frozen=True)
class Part:
    """`origin` is "learner", "reference" or "set aside" (promoted once, not used now; `note` says why)."""

    exercise: Exercise
    origin: str
    note: str = ""
    time: str = ""


def bill_of_materials(course: Course, mylab: Path = paths.MYLAB) -> list[Part]:
    """Every exercise and whose code stands there, as the library itself has chosen on import."""
    parts = []
    for exercise in course.exercises:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LibraryWarning)
            importlib.import_module(exercise.symbol.rpartition(".")[0])
        entry, record = REGISTRY[exercise.symbol], records(mylab).get(exercise.symbol, {})
        if entry.origin == "learner":
            parts.append(Part(exercise, "learner", record.get("result", ""), record.get("time", "")))
        elif record:
            parts.append(Part(exercise, "set aside", entry.why_not, record.get("time", "")))
        else:
            parts.append(Part(exercise, "reference"))
    return parts


def verify(course: Course, mylab: Path = paths.MYLAB) -> list[tuple[Exercise, Verdict]]:
    """Judge again what was promoted under other checks than today's. What passes is used again; the rest is set aside, never deleted."""
    judged = []
    for week in course.units:
        stale = [e for e in week.exercises if e.symbol in records(mylab) and needs_verdict(mylab, e)]
        if not stale:
            continue
        with Runner(week) as runner:
            for exercise in stale:
                source = answer_of(promoted_path(mylab, exercise.symbol).read_text("utf-8"), week.imports)
                judged.append((exercise, runner.check(exercise, source, mylab=mylab)))
    if judged:
        with locked(mylab):
            write_records(mylab, records(mylab) | {e.symbol: judged_again(mylab, e, v) for e, v in judged})
    return judged


def needs_verdict(mylab: Path, exercise: Exercise) -> bool:
    """Whether the file is the one on record and its checks are not."""
    record = records(mylab)[exercise.symbol]
    path = promoted_path(mylab, exercise.symbol)
    return (
        path.is_file() and sha256(path) == record["source_sha256"] and sha256(exercise.week.source / "checks.py") != record["checks_sha256"]
    )


def answer_of(text: str, imports: str) -> str:
    """The exercise cell of a promoted file. (Where the import cell has changed since, the old one stays above it.)"""
    return text.removeprefix(imports).lstrip("\n")


def judged_again(mylab: Path, exercise: Exercise, verdict: Verdict) -> dict:
    record = dict(records(mylab)[exercise.symbol])
    record.pop("set_aside", None)
    record |= {"checks_sha256": sha256(exercise.week.source / "checks.py"), "result": verdict.text}
    return record if verdict.passed else record | {"set_aside": f"it no longer passes: {verdict.text}"}


def unusable(course: Course, mylab: Path = paths.MYLAB) -> dict[str, str]:
    """Symbol → why its promoted file is not used."""
    every = records(mylab)
    reasons = {e.symbol: why_unusable(mylab, e.symbol, every[e.symbol]) for e in course.exercises if e.symbol in every}
    return {symbol: reason for symbol, reason in reasons.items() if reason}
