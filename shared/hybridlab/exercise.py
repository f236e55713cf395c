"""`@exercise`: the one seam between the reference library and the learner's promoted code.

Notable:
- the choice is made once, when the library module is imported: no wrapper and no cost per call;
- the learner's file runs in a *copy* of the module's namespace as it stands at that line, so it sees what is
  defined above it (swapped or not) and leaks nothing back;
- a promoted file is used only while its own hash and the hash of the checks that it passed are those on record;
- with nothing promoted this module reads one missing file and does nothing else.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
REPO = Path(__file__).resolve().parents[2]
RECORDS = "library.json"


class LibraryWarning(UserWarning):
    """A promoted part could not be used; the reference took its place."""


@dataclass(frozen=True)
class Entry:
    """One exercise of the library: `origin` is "reference", "learner" or "under test"."""

    symbol: str
    reference: Any
    origin: str
    why_not: str = ""


REGISTRY: dict[str, Entry] = {}

# Set by the check runner, in its own process, before the library is imported: symbol -> loader of the
# answer to be judged. The reference of such a symbol is not kept.
UNDER_TEST: dict[str, Callable[[dict[str, Any]], Any]] = {}


def mylab() -> Path | None:
    """The folder of promoted code: $HYBRIDLAB_MYLAB (empty: none), else the workspace's mylab."""
    folder = os.environ.get("HYBRIDLAB_MYLAB")
    if folder is not None:
        return Path(folder) if folder else None
    return Path(os.environ.get("COURSE_WORKSPACE") or REPO / "workspace") / "mylab"


def promoted_path(folder: Path, symbol: str) -> Path:
    """Where the learner's code for `symbol` lies: one file a symbol, in folders named like its module."""
    return folder.joinpath(*symbol.split(".")).with_suffix(".py")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex. Raises OSError where the file can't be read."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.cache
def records(folder: Path | None) -> dict[str, dict[str, Any]]:
    """What `course promote` wrote down: symbol -> source hash, checks and their hash, result, time."""
    try:
        return json.loads((folder / RECORDS).read_text("utf-8")) if folder else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        warnings.warn(
            f"{folder}/{RECORDS} can't be read ({error}); the reference library is used. Run `course library` to mend it.",
            LibraryWarning,
            stacklevel=2,
        )
        return {}


def why_unusable(folder: Path, symbol: str, record: dict[str, Any]) -> str:
    """Empty where the promoted file is one that passed the checks as they stand; else the reason."""
    path = promoted_path(folder, symbol)
    if not path.is_file():
        return "its file is missing"
    if record.get("set_aside"):
        return record["set_aside"]
    source = sha256(path)
    # While a new version is being installed, the file may still be the one before it.
    versions = [v for v in (record, record.get("previous")) if v and v["source_sha256"] == source]
    if not versions:
        return "its file was changed after it was promoted"
    checks = REPO / versions[0]["checks"]
    if checks.is_file() and sha256(checks) != versions[0]["checks_sha256"]:
        return "the checks have changed since it was promoted"
    return ""


def execute(source: str, filename: str, symbol: str, namespace: dict[str, Any]) -> Any:
    """Run an answer's source in a copy of the library module's namespace and return the object that it defines.

    Raises NameError when the source does not define the symbol's name.
    """
    name = symbol.rpartition(".")[2]
    scope = dict(namespace)
    scope.pop(name, None)
    exec(compile(source, filename, "exec", dont_inherit=True), scope)
    if name not in scope:
        raise NameError(f"the cell does not define `{name}`")
    return scope[name]


def exercise(reference: T) -> T:
    """Register a reference solution; return the learner's object in its place where one is promoted."""
    symbol = f"{reference.__module__}.{reference.__qualname__}"  # type: ignore[attr-defined]
    namespace = vars(sys.modules[reference.__module__])  # type: ignore[attr-defined]
    if symbol in UNDER_TEST:
        REGISTRY[symbol] = Entry(symbol, None, "under test")
        return UNDER_TEST[symbol](namespace)
    folder = mylab()
    record = records(folder).get(symbol)
    if folder is None or record is None:
        REGISTRY[symbol] = Entry(symbol, reference, "reference")
        return reference
    why_not = why_unusable(folder, symbol, record)
    if not why_not:
        path = promoted_path(folder, symbol)
        try:
            learners = execute(path.read_text("utf-8"), str(path), symbol, namespace)
        except Exception as error:
            why_not = f"its file failed with {type(error).__name__}: {error}"
        else:
            REGISTRY[symbol] = Entry(symbol, reference, "learner")
            return learners
    warnings.warn(
        f"your {symbol} is not used, since {why_not}; the reference takes its place. Run `course library` to check it again.",
        LibraryWarning,
        stacklevel=2,
    )
    REGISTRY[symbol] = Entry(symbol, reference, "reference", why_not)
    return reference
