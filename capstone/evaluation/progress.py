"""A long run told as it goes: a bar on a terminal, a line now and then in a file; and what it has already made, kept between runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from capstone.evaluation.measure import Answered

Item = TypeVar("Item")
EVERY = 30.0  # seconds between two lines


def told(items: Iterable[Item], what: str, count: int, console: Console, every: float = EVERY) -> Iterator[Item]:
    """The items, one after the other, while the console shows how many are done."""
    if console.is_terminal:
        yield from track(items, what, count, console=console)
        return
    began = last = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - last >= every:
            last = time.monotonic()
            console.print(f"{what}: {done} of {count} after {last - began:.0f} s")
        yield item
    console.print(f"{what}: {count} of {count} after {time.monotonic() - began:.0f} s")


class Kept:
    """Answers as they are made, a line each, in a file; a run that was interrupted finds them there when it is begun again, where they
    are still `valid`."""

    def __init__(self, path: Path, *, valid: bool):
        self.path = path
        if not valid:
            self.forget()
        lines = path.read_text("utf-8").splitlines() if path.is_file() else []
        self.answers = {one.question: one for line in lines if (one := _read(line))}

    def keep(self, answer: Answered) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(answer), ensure_ascii=False) + "\n")
        self.answers[answer.question] = answer

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)


def _read(line: str) -> Answered | None:
    """None for a line that was cut off."""
    try:
        return Answered(**json.loads(line))
    except (json.JSONDecodeError, TypeError):
        return None
