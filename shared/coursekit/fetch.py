"""`course fetch`: the course's notebooks into the learner's folder, never over a learner's work.

What was handed out is remembered by its cells' text. A file that still holds exactly that is the course's, and an
update takes its place (the old file is kept in `.course/backup`, for its outputs). A file with a learner's edits stays
as it is, and the update is put beside it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coursekit import paths, salvage
from coursekit.course import Week
from coursekit.errors import CourseError

What = Literal["new", "same", "replaced", "beside"]


@dataclass(frozen=True)
class Fetched:
    """One notebook: where it is now, and what was done. `beside` names the update next to the learner's own file."""

    path: Path
    what: What
    beside: Path | None = None


def fetch(weeks: Iterable[Week]) -> list[Fetched]:
    """Copy each week's released notebooks into the workspace.

    Raises CourseError where a release has not been built.
    """
    handed_out = read_record()
    fetched = []
    for week in weeks:
        for name in week.notebooks:
            release = week.release(name)
            if not release.is_file():
                raise CourseError(f"{release} has not been built: run `course build {week.name}`.")
            fetched.append(fetch_one(release, paths.WORKSPACE / week.name / f"{name}.ipynb", handed_out))
            write_record(handed_out)
    return fetched


def fetch_one(release: Path, path: Path, handed_out: dict[str, list[str]]) -> Fetched:
    text = release.read_text("utf-8")
    key, print_ = str(path.relative_to(paths.WORKSPACE)), fingerprint(text)
    known = handed_out.setdefault(key, [])
    if print_ not in known:
        known.append(print_)
    if not path.exists():
        salvage.write_text(text, path)
        return Fetched(path, "new")
    mine = fingerprint(path.read_bytes().decode("utf-8", "replace"))
    if mine == print_:
        return Fetched(path, "same")
    if mine in known:
        keep(path)
        salvage.write_text(text, path)
        return Fetched(path, "replaced")
    return Fetched(path, "beside", put_beside(text, path, known))


def put_beside(text: str, path: Path, known: list[str]) -> Path:
    """`lab.new.ipynb`; where a learner has worked in that one too, `lab.new2.ipynb`, and so on."""
    number = 1
    while True:
        beside = path.with_name(f"{path.stem}.new{number if number > 1 else ''}{path.suffix}")
        if not beside.exists() or fingerprint(beside.read_bytes().decode("utf-8", "replace")) in known:
            if not beside.exists() or beside.read_text("utf-8") != text:
                salvage.write_text(text, beside)
            return beside
        number += 1


def fingerprint(text: str) -> str:
    """A hash of the cells' kinds and text, which running a notebook does not change; of the bytes where it is damaged."""
    found = salvage.parse(text)
    what = text if found.broken else json.dumps([(cell.cell_type, cell.source) for cell in found.notebook.cells])
    return hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()


def keep(path: Path) -> Path:
    """Copy a file into `.course/backup` under a name of its own, before anything changes it."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = paths.WORKSPACE / ".course" / "backup" / path.resolve().parent.name
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1_000):
        target = folder / f"{path.stem}.{stamp}{f'.{number}' if number else ''}{path.suffix}"
        if not target.exists():
            shutil.copy2(path, target)
            return target
    raise CourseError(f"{folder} holds a thousand copies of this minute: move them away.")


def record_path() -> Path:
    return paths.WORKSPACE / ".course" / "handed_out.json"


def read_record() -> dict[str, list[str]]:
    """Notebook → the fingerprints that were handed out. A damaged record counts as empty: then nothing is ever replaced."""
    try:
        found = json.loads(record_path().read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_record(handed_out: dict[str, list[str]]) -> None:
    salvage.write_text(json.dumps(handed_out, indent=1) + "\n", record_path())
