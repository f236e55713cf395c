"""Time of a grade: `course grade` from its start to the points, on solved labs in a workspace of its own."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from coursekit.course import Week, load_course
from coursekit.runner import Runner
from coursekit.stub import reference_source

from tests.benchmarks.record import REPO, say, write

REPEAT = 3


def grade(week: Week, workspace: Path) -> float:
    """Seconds on the clock. Raises RuntimeError where the grade failed."""
    begin = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "coursekit", "grade", week.name],
        env={**os.environ, "COURSE_WORKSPACE": str(workspace)},
        cwd=REPO,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - begin
    if ended.returncode:
        raise RuntimeError(f"course grade {week.name} failed: {(ended.stderr or ended.stdout).strip()[-300:]}")
    return seconds


def verdicts(week: Week) -> list[float]:
    """Seconds of each exercise's verdict, once the process that judges is warm."""
    with Runner(week, folder=week.folder) as runner:
        runner.check(week.exercises[0], reference_source(week.exercises[0].symbol))
        return [runner.check(exercise, reference_source(exercise.symbol)).seconds for exercise in week.exercises]


def main() -> None:
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for week in [unit for unit in load_course().units if not unit.is_project]:
            target = Path(folder) / week.name / f"{week.graded}.ipynb"
            target.parent.mkdir()
            shutil.copy(week.solved(week.graded), target)
            samples[f"`course grade {week.name}`, {len(week.exercises)} exercises"] = [grade(week, Path(folder)) for _ in range(REPEAT)]
            samples[f"one verdict of {week.name}"] = verdicts(week)
            say(f"{week.name}: {min(samples[f'`course grade {week.name}`, {len(week.exercises)} exercises']):.1f} s")
    write("grading", unit="seconds", samples=samples, note="From the start of the command to the points on the screen, on solved labs.")
