"""The one runner of checks: notebook, terminal, nbgrader and `promote` all get their verdicts here."""

from __future__ import annotations

import ast
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridlab.data.cache import cache_dir

from coursekit import paths
from coursekit.course import Exercise, Week
from coursekit.errors import CourseError
from coursekit.mistake import describe
from coursekit.stub import is_untouched, module_path

SECONDS = 20.0  # of processor time, for all cases of one exercise; they take well under 2 s
MEMORY = 4 * 2**30  # bytes that an answer may take on top of PyTorch itself

# No exercise needs these, and each is a way around the check.
REACHES_AROUND = frozenset(
    """_getframe currentframe f_back f_locals f_globals f_code settrace setprofile addaudithook importlib gc ctypes inspect coursekit
    __subclasses__ __globals__ __code__ __closure__ __builtins__ __import__ UNDER_TEST REGISTRY""".split()  # noqa: SIM905
)
REACHES_AROUND_AS_NAME = frozenset({"eval", "exec", "compile", "globals", "vars"})


@dataclass(frozen=True)
class Verdict:
    """What a check said of an answer. `code` is empty when it passed; `printed` is what the answer printed, cut to 4 KiB."""

    passed: bool
    code: str = ""
    what: str = ""
    evidence: str = ""
    hint: str = ""
    seconds: float = 0.0
    printed: str = ""

    @property
    def text(self) -> str:
        """One line: the promise that holds, or the mistake with its evidence and hint."""
        return f"Passed: {self.what}" if self.passed else describe(self.code, self.what, self.evidence, self.hint)


def refused(code: str, what: str, evidence: str = "", hint: str = "") -> Verdict:
    return Verdict(False, code, what, evidence, hint)


def read_answer(exercise: Exercise, source: str) -> Verdict | None:
    """What the source alone shows: nothing there, a syntax error, a forbidden name. None where it must be run."""
    name = exercise.symbol.rpartition(".")[2]
    if not source.strip():
        return refused("RUN-07", f"the cell of `{name}` is empty", hint="`course doctor` brings the original cell back")
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        return refused(
            "RUN-08", f"Python can't read the cell: {error.msg}", f"line {error.lineno}: `{line}`", "run the cell in the notebook"
        )
    except (ValueError, RecursionError, MemoryError) as error:
        return refused("RUN-08", "Python can't read the cell", str(error), "is there a strange character in it?")
    if not any(getattr(node, "name", None) == name for node in tree.body):
        return refused("RUN-07", f"the cell does not define `{name}`", hint="keep the first line of the exercise as it was")
    if is_untouched(source):
        return refused("RUN-01", f"`{name}` has no answer yet", hint="replace `raise NotImplementedError` by your code")
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    plain, reached = names_used(tree)
    for used in sorted(((plain - defined) | reached) & exercise.check.forbids):
        return refused(
            "RUN-11", f"it uses `{used}`, which this exercise asks you to write, or to do without", hint="build it from simpler operations"
        )
    for used in sorted((plain | reached) & REACHES_AROUND | plain & REACHES_AROUND_AS_NAME):
        return refused("RUN-05", "it does what an exercise has no need for", f"it uses `{used}`", "take that line out")
    return None


def names_used(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Names that an answer uses as they are, and those that it reaches for (attributes, imports)."""
    plain: set[str] = set()
    reached: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            plain.add(node.id)
        elif isinstance(node, ast.Attribute):
            reached.add(node.attr)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            reached.update(part for module in modules for part in module.split("."))
    return plain, reached


class Runner:
    """Judges answers to one week's exercises in a worker process of its own; use it as a context manager.

    `folder` is the notebook's folder, for checks of an outcome that the notebook wrote there. With `sandbox_required`,
    as for other people's answers, nothing is judged where bubblewrap does not work.
    """

    def __init__(self, week: Week, *, folder: Path | None = None, seconds: float = SECONDS, sandbox_required: bool = False):
        self.week, self.folder, self.seconds, self.sandbox_required = week, folder, seconds, sandbox_required
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def check(
        self,
        exercise: Exercise | str,
        source: str,
        *,
        hidden: bool = True,
        others: dict[str, str] | None = None,
        mylab: Path | None = None,
        seconds: float | None = None,
    ) -> Verdict:
        """Judge `source` as the answer to an exercise. What else it uses is the reference, unless `others` (symbol → source,
        learner's answers that take the references' places) or `mylab` (promoted code) is given."""
        if isinstance(exercise, str):
            exercise = self.week.exercise(exercise)
        early = read_answer(exercise, source)
        if early:
            return early
        job = {
            "symbol": exercise.symbol,
            "source": source,
            "imports": self.week.imports,
            "others": others or {},
            "checks": str(self.week.source / "checks.py"),
            "hidden": hidden,
            "mylab": str(mylab or ""),
            "folder": str(self.folder or ""),
            "seconds": (seconds or self.seconds) + (exercise.check.seconds if self.folder else 0.0),
            "memory": MEMORY,
            "closed": [str(module_path(exercise.symbol)), *map(str, self.closed())],
        }
        reply = self.ask(job)
        if reply is None:
            return refused(
                "RUN-04", "it ended the process that judges it", hint="take out what ends processes, and return a result instead"
            )
        return Verdict(**reply)

    def closed(self) -> list[Path]:
        """What no answer may read: the week's masters, everything solved, and the compiled library."""
        return [self.week.source, paths.BUILD / "nbgrader", paths.BUILD / "solved", *paths.SHARED.glob("hybridlab/**/__pycache__")]

    def ask(self, job: dict[str, Any]) -> dict[str, Any] | None:
        process = self.process or self.start()
        try:
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        except BaseException:
            self.close()
            raise
        if not line:
            self.close()
            return None
        return json.loads(line)

    def start(self) -> subprocess.Popen[str]:
        """Start the worker. Raises CourseError with what it printed where it does not come up."""
        command = [sys.executable, "-m", "coursekit.worker"]
        environment = {
            **{k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")},
            "PYTHONPATH": str(paths.SHARED),
            "OMP_NUM_THREADS": "1",
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HUB_OFFLINE": "1",
            "HYBRIDLAB_MYLAB": "",
            "HYBRIDLAB_DATA": str(cache_dir()),
            "JPY_PARENT_PID": "",
        }
        failure = ""
        for attempt in self.ways_to_start(command):
            log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (the worker writes to it as long as it lives)
            process = subprocess.Popen(
                attempt, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, start_new_session=True
            )
            process.stdin.write(json.dumps({"preload": preloads(self.week)}) + "\n")
            process.stdin.flush()
            if process.stdout.readline():
                self.process = process
                return process
            process.wait()
            log.seek(0)
            failure = log.read()
        raise CourseError(f"the process that judges answers did not start: {failure.strip()[-400:]}")

    def ways_to_start(self, command: list[str]) -> list[list[str]]:
        """The sandbox first; without it only where that is allowed. Raises CourseError where it is neither there nor dispensable."""
        inside = [sandboxed(command, self.week, self.folder)] if sandbox_works() else []
        if self.sandbox_required and not inside:
            raise CourseError("other people's code is judged in bubblewrap alone, and it does not work here: sudo apt install bubblewrap.")
        return inside if self.sandbox_required else [*inside, command]


def preloads(week: Week) -> list[str]:
    """What a week's checks import beyond the library: imported once, not once a verdict."""
    tree = ast.parse((week.source / "checks.py").read_text("utf-8"))
    modules: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.append(node.module)
    return [m for m in modules if m.split(".")[0] not in ("hybridlab", "coursekit", "__future__")]


@functools.cache
def sandbox_works() -> bool:
    """Whether bubblewrap is installed and may make namespaces here."""
    bwrap = shutil.which("bwrap")
    probe = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"] if bwrap else []
    return bool(bwrap) and subprocess.run(probe, capture_output=True).returncode == 0


def sandboxed(command: list[str], week: Week, folder: Path | None) -> list[str]:
    """The command inside bubblewrap: no network, own processes, a private /tmp; of files only Python, the course's code
    and this week's checks (not its mistakes), all read-only."""
    wrap = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
    wrap += ["--size", str(256 * 2**20), "--tmpfs", "/tmp", "--setenv", "TMPDIR", "/tmp", "--setenv", "HOME", "/tmp"]
    for system in ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin", "/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime"):
        wrap += ["--ro-bind-try", system, system]
    readable = [sys.base_prefix, sys.prefix, paths.SHARED, cache_dir(), week.source / "checks.py", folder]
    for path in readable:
        if path and Path(path).exists() and not str(path).startswith("/usr/"):
            wrap += ["--ro-bind", str(path), str(path)]
    return [*wrap, "--", *command]
