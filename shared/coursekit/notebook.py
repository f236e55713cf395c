"""What the course's notebooks import: `check` an exercise, `review` Sunday's questions, `compare` two speeds."""

from __future__ import annotations

import ast
import atexit
import functools
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybridlab.runtime import seed_everything

from coursekit.course import Exercise, Week, load_course
from coursekit.errors import CourseError
from coursekit.mistake import Mistake
from coursekit.runner import Runner

__all__ = ["check", "compare", "review", "seed_everything"]


def check(week: str, exercise: str, *, hidden: bool = False) -> None:
    """Judge the cell of an exercise as it was last run in this notebook, in a process of its own.

    Prints what the answer has been seen to do. Raises Mistake with the named mistake, or CourseError where
    the exercise's cell has not been run.
    """
    unit = load_course().week(week)
    task = unit.exercise(exercise)
    verdict = runner(unit.name).check(task, last_run(task), hidden=hidden)
    if verdict.printed.strip():
        print(verdict.printed.rstrip())
    if not verdict.passed:
        raise Mistake(verdict.code, verdict.what, verdict.evidence, verdict.hint)
    print(f"\x1b[32m✓ {verdict.text}\x1b[0m ({verdict.seconds:.1f} s{', hidden cases too' if hidden else ''})")


@functools.cache
def runner(week: str) -> Runner:
    started = Runner(load_course().week(week), folder=Path.cwd())
    atexit.register(started.close)
    return started


def last_run(exercise: Exercise) -> str:
    """The source of the last executed cell that defines the exercise's name."""
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise CourseError("check() reads the notebook's cells: call it in a notebook, or use `course check` in a terminal.")
    name = exercise.symbol.rpartition(".")[2]
    for source in reversed(shell.history_manager.input_hist_parsed):
        if name in source and defines(source, name):
            return source
    raise CourseError(f"`{name}` is not defined yet: run the cell above first (Shift+Enter).")


def defines(source: str, name: str) -> bool:
    try:
        return any(getattr(node, "name", None) == name for node in ast.parse(source).body)
    except SyntaxError:
        return False


class Review:
    """Sunday's questions of one week; `answer("q1", 64)` says whether that is right and, if it is not, why."""

    def __init__(self, week: Week):
        self.questions = tomllib.loads((week.source / "review.toml").read_text("utf-8"))

    def __call__(self, question: str, given: Any) -> None:
        if question not in self.questions:
            raise CourseError(f"there is no question {question!r}; there are {', '.join(self.questions)}.")
        entry = self.questions[question]
        if given is ...:
            print(f"{question}: not answered yet. Put your answer in the place of ... and run the cell again.")
        elif same(given, entry["answer"], entry.get("tolerance", 0.0)):
            print(f"\x1b[32m✓ {question}: right. {entry.get('right', '')}\x1b[0m")
        else:
            says = [w["say"] for w in entry.get("wrong", []) if same(given, w["answer"], entry.get("tolerance", 0.0))]
            says.append("Go back to the part of the lesson that it asks about.")
            print(f"\x1b[31m✗ {question}: {given!r} is not right. {says[0]}\x1b[0m")


def review(week: str) -> Review:
    """The `answer` function of a week's lesson: `answer = review("week02")`."""
    return Review(load_course().week(week))


def same(given: Any, expected: Any, tolerance: float) -> bool:
    """Whether two answers agree: text case-blind, shapes item by item, numbers within the relative tolerance."""
    if isinstance(expected, str):
        return isinstance(given, str) and given.strip().casefold() == expected.casefold()
    if isinstance(expected, list):
        given = list(given) if isinstance(given, (list, tuple)) or (hasattr(given, "__iter__") and not isinstance(given, str)) else [given]
        return len(given) == len(expected) and all(same(g, e, tolerance) for g, e in zip(given, expected, strict=True))
    if isinstance(expected, bool) or isinstance(given, bool):
        return given is expected
    try:
        return abs(float(given) - expected) <= tolerance * abs(expected)
    except (TypeError, ValueError):
        return False


def compare(mine: Callable[[], Any], reference: Callable[[], Any], *, repeat: int = 7) -> float:
    """Time both, turn about, and print and return how many times faster `mine` is (ratio of the medians of process time)."""
    samples: dict[str, list[float]] = {"mine": [], "reference": []}
    mine(), reference()
    for _ in range(repeat):
        for name, call in (("mine", mine), ("reference", reference)):
            begin = time.process_time()
            call()
            samples[name].append(time.process_time() - begin)
    median = {name: sorted(times)[repeat // 2] for name, times in samples.items()}
    ratio = median["reference"] / max(median["mine"], 1e-9)
    print(f"yours {median['mine'] * 1e3:.2f} ms, reference {median['reference'] * 1e3:.2f} ms: {ratio:.2f} times as fast")
    return ratio
