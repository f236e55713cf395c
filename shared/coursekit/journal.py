"""What happened, one JSON line each: hints taken, solutions read, grades. Only ever appended to."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from coursekit import paths


def journal_path() -> Path:
    return paths.WORKSPACE / ".course" / "journal.jsonl"


def record(event: str, **facts: Any) -> None:
    """Append one event with the time at which it happened."""
    path = journal_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps({"time": datetime.now().astimezone().isoformat(timespec="seconds"), "event": event, **facts}, ensure_ascii=False)
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def events(event: str = "", **facts: Any) -> list[dict[str, Any]]:
    """The recorded events of that kind which agree with `facts`, oldest first; a line cut off by a crash is passed over."""
    try:
        lines = journal_path().read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if event in ("", entry.get("event")) and all(entry.get(key) == value for key, value in facts.items()):
            found.append(entry)
    return found
