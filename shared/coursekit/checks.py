"""`@check`: how an exercise is judged. A week's `checks.py` is made of these; CONTRIBUTING.md shows one whole."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coursekit.errors import CourseError
from coursekit.mistake import Mistake

__all__ = ["Check", "Mistake", "check", "close", "load_checks", "must_raise", "outcome_file"]


@dataclass(frozen=True)
class Check:
    """One exercise's check: `judge(answer, **case)` raises Mistake; hidden cases differ from visible ones in data alone."""

    symbol: str
    judge: Callable[..., None]
    visible: tuple[Mapping[str, Any], ...]
    hidden: tuple[Mapping[str, Any], ...]
    forbids: frozenset[str]
    hints: tuple[str, str, str]
    seconds: float = 0.0  # of processor time for an outcome that the check measures itself, beside what an answer may take

    @property
    def promise(self) -> str:
        """The first line of the docstring: what a passing answer has been seen to do."""
        return (self.judge.__doc__ or "").strip().split("\n")[0]


def check(
    symbol: str,
    *,
    visible: Sequence[Mapping[str, Any]],
    hidden: Sequence[Mapping[str, Any]],
    hints: tuple[str, str, str],
    forbids: Sequence[str] = (),
    seconds: float = 0.0,
) -> Callable[[Callable[..., None]], Check]:
    """Declare the check of the exercise `symbol` (dotted name in hybridlab).

    Raises ValueError where cases, hints or the promise are missing, so that a half-written week can't be built.
    """
    if not visible or not hidden:
        raise ValueError(f"the check of {symbol} needs at least one visible and one hidden case")
    if len(hints) != 3 or not all(hints):
        raise ValueError(f"the check of {symbol} needs three hints, got {len(hints)}")

    def declare(judge: Callable[..., None]) -> Check:
        declared = Check(symbol, judge, tuple(visible), tuple(hidden), frozenset(forbids), tuple(hints), seconds)
        if not declared.promise:
            raise ValueError(f"the check of {symbol} needs a docstring: what a passing answer has been seen to do")
        return declared

    return declare


def load_checks(path: Path) -> dict[str, Check]:
    """Run a week's checks.py and return its checks by symbol.

    Raises CourseError where the file is missing or two checks name one symbol.
    """
    if not path.is_file():
        raise CourseError(f"{path} is missing: every week needs its checks; see CONTRIBUTING.md.")
    name = f"checks_of_{path.parent.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    found: dict[str, Check] = {}
    for value in vars(module).values():
        if isinstance(value, Check):
            if value.symbol in found:
                raise CourseError(f"{path} has two checks of {value.symbol}: join them.")
            found[value.symbol] = value
    return found


def close(got: Any, expected: Any, code: str, what: str, hint: str = "", *, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Raise Mistake unless `got` has the shape, the kind and the values of `expected` (tensors, arrays, numbers).

    The evidence names shapes, or the worst place and both values there. NaN equals NaN, inf equals inf.
    """
    import numpy as np
    import torch

    def numbers(x: Any) -> torch.Tensor:  # by way of numpy, which keeps a plain float's 64 bits
        return x.detach() if isinstance(x, torch.Tensor) else torch.as_tensor(np.asarray(x))

    if got is None:
        raise Mistake(code, what, "got None", hint or "does the function return its result?")
    try:
        mine, theirs = numbers(got), numbers(expected)
    except (TypeError, ValueError, RuntimeError):
        raise Mistake(code, what, f"got a {type(got).__name__} where numbers were expected", hint) from None
    if mine.shape != theirs.shape:
        raise Mistake(code, what, f"got shape {tuple(mine.shape)}, expected {tuple(theirs.shape)}", hint)
    mine, theirs = mine.double(), theirs.double()
    wrong = ~torch.isclose(mine, theirs, rtol=rtol, atol=atol, equal_nan=True)
    if wrong.any():
        gap = torch.where(wrong, (mine - theirs).abs().nan_to_num(nan=float("inf")), torch.zeros_like(mine))
        place = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape)) if gap.ndim else ()
        evidence = f"got {mine[place].item():.6g}, expected {theirs[place].item():.6g}"
        if place:
            evidence += f" at {list(place)}; {int(wrong.sum())} of {wrong.numel()} values differ"
        raise Mistake(code, what, evidence, hint)


def must_raise(error: type[Exception], call: Callable[[], Any], code: str, what: str, hint: str = "") -> Exception:
    """Raise Mistake unless `call()` raises `error`; return the error, for a look at its text."""
    try:
        result = call()
    except error as raised:
        return raised
    except Exception as other:
        raise Mistake(code, what, f"it raised {type(other).__name__} in place of {error.__name__}: {other}", hint) from None
    raise Mistake(code, what, f"it raised nothing and returned {type(result).__name__}", hint)


def outcome_file(name: str) -> Path | None:
    """Where the notebook that is judged should have written a file; it need not be there. None in the course's own folder, where nobody has
    run the notebook: only the code is judged there.

    Raises Mistake OUT-01 where the notebook's folder is not known (an answer judged without a notebook).
    """
    folder = os.environ.get("COURSE_NOTEBOOK_FOLDER")
    if not folder:
        raise Mistake("OUT-01", "there is no notebook folder to look into", hint="run the check from the notebook, or `course grade`")
    return None if (Path(folder) / "source" / "checks.py").is_file() else Path(folder) / name
