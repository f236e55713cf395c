"""A week's `mistakes.py`: parsed, never run. Each definition under a decorator is an answer as a learner would write it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from coursekit.errors import CourseError

KINDS = ("mistake", "correct", "broken")


@dataclass(frozen=True)
class Answer:
    """`kind` is "mistake" (must be refused with `code`), "correct" (must pass), or "broken" (what Friday's cell holds)."""

    name: str
    kind: str
    code: str
    title: str
    source: str

    def __str__(self) -> str:
        return f"{self.name}: {self.kind} {self.code} {self.title}".replace("  ", " ")


def read_catalogue(path: Path) -> list[Answer]:
    """All answers of a week, in order. `name` is the definition's name, the last part of the exercise's symbol.

    Raises CourseError where the file is missing or a decorator is none of @mistake, @correct, @broken.
    """
    if not path.is_file():
        raise CourseError(f"{path} is missing: every exercise needs its catalogued mistakes; see CONTRIBUTING.md.")
    text = path.read_text("utf-8")
    lines = text.splitlines()
    answers = []
    for node in ast.parse(text).body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or not node.decorator_list:
            continue
        label = node.decorator_list[0]
        kind = getattr(getattr(label, "func", None), "id", "")
        values = [getattr(a, "value", None) for a in getattr(label, "args", [])]
        if kind not in KINDS or len(values) != (1 if kind == "correct" else 2) or not all(isinstance(v, str) for v in values):
            raise CourseError(
                f'{path}, line {label.lineno}: write @mistake("CODE-01", "title"), @correct("title") or @broken("CODE-01", "title").'
            )
        code, title = ("", values[0]) if kind == "correct" else values
        first = node.decorator_list[1].lineno if len(node.decorator_list) > 1 else node.lineno
        answers.append(Answer(node.name, kind, code, title, "\n".join(lines[first - 1 : node.end_lineno])))
    return answers


def broken_source(path: Path, symbol: str) -> str | None:
    """Friday's code for `symbol`, where the week has one."""
    name = symbol.rpartition(".")[2]
    return next((a.source for a in read_catalogue(path) if a.kind == "broken" and a.name == name), None)
