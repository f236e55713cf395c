"""`course doctor`: what goes wrong with notebooks and with the environment, found and mended. No answer is ever lost.

Whatever is changed is copied to `.course/backup` first. The rules for a notebook's cells are in `mend.py`; here are the
files themselves: broken off, renamed, missing.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from coursekit import gradebook, paths, salvage
from coursekit.course import Week
from coursekit.errors import CourseError
from coursekit.fetch import keep
from coursekit.grade import is_graded_notebook
from coursekit.mend import Finding, mend, release_of
from coursekit.salvage import Salvage, grade_id


@dataclass(frozen=True)
class Diagnosis:
    """One notebook: what was found (nothing: it is well), and where the file is kept as it was before mending."""

    path: Path
    findings: tuple[Finding, ...]
    backup: Path | None = None


def examine(week: Week, *, repair: bool = True) -> list[Diagnosis]:
    """Look at a week's fetched notebooks, and mend them unless `repair` is False."""
    folder = paths.WORKSPACE / week.name
    if not folder.is_dir():
        return []
    return [found for name in week.notebooks if (found := examine_notebook(week, name, repair))]


def examine_notebook(week: Week, name: str, repair: bool) -> Diagnosis | None:
    path = paths.WORKSPACE / week.name / f"{name}.ipynb"
    findings: list[Finding] = []
    source = path
    if not path.is_file():
        beside = [p for p in sorted(path.parent.glob("*.ipynb")) if name == week.graded and ".new" not in p.name]
        renamed = [p for p in beside if is_graded_notebook(p, week)]
        if len(renamed) != 1:
            return Diagnosis(path, (Finding(f"is not there: `course fetch {week.name}` brings it."),))
        source = renamed[0]
        findings.append(Finding(f"was called {source.name}: has its own name again."))
    notebook, found = mended(week, name, source)
    findings += found
    if not findings:
        return Diagnosis(path, ())
    if not repair:
        return Diagnosis(path, tuple(findings))
    backup = keep(source)
    salvage.write(notebook, path)
    if source != path:
        source.unlink()
    return Diagnosis(path, tuple(findings), backup)


def mended(week: Week, name: str, path: Path) -> tuple[NotebookNode, list[Finding]]:
    """The notebook as it should be, and what had to be done to it."""
    release = release_of(week, name)
    found = salvage.read(path)
    names = {e.id: e.symbol.rpartition(".")[2] for e in week.exercises} if name == week.graded else {}
    findings = [Finding("Windows line ends (CRLF) in the file: changed to plain ones.")] if found.crlf else []
    notebook = found.notebook
    if found.broken:
        notebook, pieced = piece_together(found, salvage.checkpoint_of(path), release)
        findings.append(Finding(f"{found.broken}: {pieced}"))
    rest = mend(notebook, release, names)
    return notebook, findings + [f for f in rest if not (found.crlf and "CRLF" in f.text)]


def piece_together(found: Salvage, checkpoint: Path, release: NotebookNode) -> tuple[NotebookNode, str]:
    """A whole notebook out of what could be read, JupyterLab's last checkpoint, and the release, the newest first."""
    base, sources = nbformat.from_dict(release), "the release"
    if checkpoint.is_file():
        saved = salvage.read(checkpoint)
        if not saved.broken:
            overlay(base, saved.notebook.cells)
            sources = f"JupyterLab's checkpoint of {stamp(checkpoint)}"
    original = {grade_id(cell): cell.source for cell in release.cells if grade_id(cell)}
    overlay(base, found.notebook.cells)
    text = f"{len(found.notebook.cells)} whole cells were saved, the rest is from {sources}."
    cut = grade_id(found.cut) if found.cut else ""
    for cell in base.cells:
        if cut and grade_id(cell) == cut and cell.source == original.get(cut) and found.cut.source.strip():
            cell.source = found.cut.source
            text += f" Of the cell {cut!r} only the first lines could be read: look at it."
    return base, text


def overlay(base: NotebookNode, cells: list[NotebookNode]) -> None:
    """Put `cells` over those of `base` that have the same name; others come right behind the one that they followed."""
    place = 0
    for cell in cells:
        name = grade_id(cell)
        key = (name, "" if name else cell.id)
        at = next((i for i, old in enumerate(base.cells) if (grade_id(old), "" if grade_id(old) else old.id) == key), None)
        if at is None:
            base.cells.insert(place, cell)
            place += 1
        else:
            base.cells[at] = cell
            place = at + 1


def stamp(path: Path) -> str:
    from datetime import datetime

    return datetime.fromtimestamp(path.stat().st_mtime).strftime("%Y-%m-%d %H:%M")


def mend_gradebook(*, repair: bool = True) -> list[str]:
    """Put a damaged gradebook aside, so that grading makes a new one."""
    try:
        gradebook.require_sound()
    except CourseError as error:
        if not repair:
            return [str(error)]
        kept = keep(gradebook.folder() / "gradebook.db")
        (gradebook.folder() / "gradebook.db").unlink()
        return [f"the gradebook was damaged: put aside as {kept}. Grade your weeks again to have your points back."]
    return []


def environment() -> list[str]:
    """What is wrong with the environment, a sentence each with what to do; empty where all is well."""
    return [*stale_packages(), *kernel(), *sandbox(), *disk()]


def stale_packages(lock: Path = paths.REPO / "requirements" / "main.txt") -> list[str]:
    if not lock.is_file():
        return [f"{lock} is missing: get it back with `git checkout requirements`."]
    wrong = []
    for name, version in re.findall(r"^([A-Za-z0-9_.\-]+)==([^\s;#]+)", lock.read_text("utf-8"), re.MULTILINE):
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed.split("+")[0] != version.split("+")[0]:
            wrong.append(f"{name} {installed} (the course: {version})")
    if not wrong:
        return []
    more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
    return [f"the environment is not what the course was tested with: {', '.join(wrong[:4])}{more}. `make env` brings it up to date."]


def kernel(prefix: str = sys.prefix) -> list[str]:
    path = Path(prefix, "share", "jupyter", "kernels", "python3", "kernel.json")
    advice = "`make env` writes it anew."
    try:
        command = json.loads(path.read_text("utf-8"))["argv"][0]
    except (OSError, ValueError, KeyError, IndexError):
        return [f"the notebooks' kernel python3 is not described in {path}: {advice}"]
    resolved = shutil.which(command)
    if resolved is None or (Path(command).is_absolute() and Path(command).parent != Path(prefix, "bin")):
        return [f"the notebooks' kernel python3 starts {command}, which is not this environment's Python: {advice}"]
    return []


def sandbox() -> list[str]:
    from coursekit.runner import sandbox_works

    if sandbox_works():
        return []
    return [
        "bubblewrap is not installed or not allowed here: your own code is judged without a sandbox around its process, which is "
        "fine for yourself. Whoever grades a class needs it: `sudo apt install bubblewrap`."
    ]


def disk(need: float = 1.0) -> list[str]:
    place = paths.WORKSPACE if paths.WORKSPACE.is_dir() else paths.REPO
    free = shutil.disk_usage(place).free / 1e9
    return [] if free >= need else [f"only {free:.1f} GB are free on the disk of {place}: notebooks may not be saved. Free some space."]


def require(weeks: list[Week]) -> None:
    """Raise CourseError where nothing was fetched, so that there is nothing to look at."""
    if not any((paths.WORKSPACE / week.name).is_dir() for week in weeks):
        raise CourseError("there is no notebook in your workspace yet: run `course fetch`.")
