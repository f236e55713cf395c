"""Run notebooks from top to bottom with papermill: one process each, with an outer time limit and the peak of its memory.

The limit is on the clock, and outside the notebook: a kernel that hangs in C code is ended too. CPU time is the
operating system's own figure for the process and all that it started and waited for, memory its high-water mark.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from hybridlab.runtime import child_environment, usable_threads

from coursekit import paths
from coursekit.course import Course, Week, load_course
from coursekit.errors import CourseError

RESULTS = paths.BUILD / "run"
PAPERMILL = ("-c", "import coursekit; from papermill.cli import papermill; papermill()")  # 2 s quicker: coursekit/__init__.py

#: A notebook states the time it takes on two cores of its own; on a shared machine it may take this many times as long.
PATIENCE = 2

Profile = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class Job:
    """One notebook to run; `seconds` is the time that it states."""

    name: str
    path: Path
    seconds: int

    @property
    def limit(self) -> float:
        return self.seconds * PATIENCE


@dataclass(frozen=True)
class Outcome:
    """What a run came to. `wall`, `cpu`, `stated`, `limit` are seconds, `peak` MiB of the largest process."""

    name: str
    profile: str
    status: Literal["passed", "failed", "timeout"]
    wall: float
    cpu: float
    peak: float
    stated: int
    limit: float
    started: str
    output: str
    error: str = ""

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def save(self) -> None:
        """Write the outcome to `.build/run/<name>.json`, whole or not at all."""
        target = RESULTS / f"{self.name.replace('/', '.')}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(f".{os.getpid()}.tmp")
        draft.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", "utf-8")
        draft.replace(target)


def jobs_of(unit: Week) -> list[Job]:
    """A week's (or project's) notebooks as they are run: the lesson as released, what has exercises as solved."""
    return [Job(f"{unit.name}/{notebook}", unit.solved(notebook), unit.seconds) for notebook in unit.notebooks]


def choose(names: Sequence[str], course: Course | None = None) -> list[Job]:
    """The jobs named by weeks (`week02`), notebooks (`week02/lesson`), files (`*.ipynb`), or `all`.

    Raises CourseError where a name is none of these, or the notebook has not been built.
    """
    course = course or load_course()
    chosen: dict[str, Job] = {}
    for name in names or ["all"]:
        for job in _named(name, course):
            chosen.setdefault(job.name, job)
    for job in chosen.values():
        if not job.path.is_file():
            raise CourseError(f"{job.path} is not there: run `course build` first.")
    return list(chosen.values())


def _named(name: str, course: Course) -> Iterable[Job]:
    if name == "all":
        return [job for unit in course.units for job in jobs_of(unit)]
    if name.endswith(".ipynb"):
        path = Path(name).resolve()
        return [Job(f"{path.parent.name}/{path.stem}", path, 240)]
    week, _, notebook = name.partition("/")
    unit = course.week(week)
    if notebook and notebook not in unit.notebooks:
        raise CourseError(f"{unit.name} has no notebook {notebook!r}; it has: {', '.join(unit.notebooks)}.")
    return [job for job in jobs_of(unit) if not notebook or job.name.endswith(f"/{notebook}")]


def run_notebook(
    job: Job,
    profile: Profile = "cpu",
    *,
    limit: float | None = None,
    threads: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run one notebook in a process of its own, in an empty folder, and save what it came to. `environment` is added to this one's.

    Raises ValueError where `limit` (seconds) is not positive.
    """
    limit = job.limit if limit is None else limit
    if limit <= 0:
        raise ValueError(f"limit is {limit} s; it has to be more than 0")
    folder = RESULTS / job.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    output = RESULTS / f"{job.name}.ipynb"
    log = RESULTS / f"{job.name}.log"
    command = [sys.executable, *PAPERMILL, str(job.path), str(output), "-p", "profile", profile, "--cwd", str(folder)]
    environ = child_environment(usable_threads() if threads is None else threads) | dict(environment or {})
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with log.open("wb") as sink:
        begin = time.monotonic()
        process = subprocess.Popen(
            [*command, "--no-progress-bar"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=environ,
            start_new_session=True,
        )
        try:
            code, usage, peak = _wait(process, begin + limit)
        except BaseException:
            _end(process)
            raise
    wall = time.monotonic() - begin
    status = "timeout" if code is None else "failed" if code else "passed"
    outcome = Outcome(
        name=job.name,
        profile=profile,
        status=status,
        wall=round(wall, 2),
        cpu=round(usage.ru_utime + usage.ru_stime, 2),
        peak=round(peak, 1),
        stated=job.seconds,
        limit=limit,
        started=started,
        output=str(output.relative_to(paths.REPO)) if output.is_relative_to(paths.REPO) else str(output),
        error=_why(status, output, log, limit),
    )
    outcome.save()
    return outcome


def run_all(jobs: Sequence[Job], profile: Profile = "cpu", *, at_once: int = 1, limit: float | None = None) -> Iterator[Outcome]:
    """Run notebooks, `at_once` at a time with the threads shared out among them; yields each outcome as it comes."""
    threads = max(1, usable_threads() // at_once)
    with ThreadPoolExecutor(at_once) as pool:
        running = [pool.submit(run_notebook, job, profile, limit=limit, threads=threads) for job in jobs]
        try:
            for future in as_completed(running):
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _wait(process: subprocess.Popen, deadline: float):
    """The exit code (None: the deadline passed and the process was ended), resource usage, and peak memory (MiB) of a child."""
    peak = 0.0
    while True:
        peak = max(peak, _largest(process.pid))
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage, peak
        if time.monotonic() > deadline:
            return None, _end(process), peak
        time.sleep(0.05)


def _largest(pid: int) -> float:
    """The most memory that any one of a process and its descendants has had so far, in MiB.

    Of the kernel's own high-water mark, not of resource usage: that one begins with the size of whoever started the process.
    """
    import psutil

    try:
        family = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0
    marks = [0]
    for member in family:
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except OSError:
            continue
        marks += [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
    return max(marks) / 1024


def _end(process: subprocess.Popen):
    """End a process and all that descends from it (kernels start process groups of their own); returns its resource usage."""
    import psutil

    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    # Children first: a kernel that outlives papermill for a moment would be nobody's child.
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=2)
    os.kill(process.pid, signal.SIGKILL)  # not process.kill(), which may reap it and lose its usage
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


def _why(status: str, output: Path, log: Path, limit: float) -> str:
    """Why a run did not pass: the failing cell's id and error, or the end of papermill's own words."""
    if status == "passed":
        return ""
    if status == "timeout":
        return f"it was still running after {limit:g} s and was ended{_at_cell(output)}"
    for cell in _cells(output):
        for result in cell.get("outputs", []):
            if result.get("output_type") == "error":
                return f"cell {cell.get('id')!r}: {result.get('ename')}: {result.get('evalue')}"
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return "\n".join(lines[-5:]) or "papermill said nothing"


def _at_cell(output: Path) -> str:
    """The last cell that had been started and never came back."""
    for cell in reversed(_cells(output)):
        metadata = cell.get("metadata", {})
        if metadata.get("papermill", {}).get("start_time") and "shell.execute_reply" not in metadata.get("execution", {}):
            return f" in cell {cell.get('id')!r}"
    return ""


def _cells(output: Path) -> list[dict]:
    try:
        return json.loads(output.read_text("utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return []
