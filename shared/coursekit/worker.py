"""The process that judges answers. Started by `runner.py` (inside bubblewrap where there is one); reads jobs as JSON lines.

It imports the heavy libraries once, then forks a fresh child for each job, so that nothing of one answer is left
for the next and a verdict costs milliseconds, not a start of PyTorch. The child sets its own limits (time, memory,
output, files), puts the answer in the reference's place, and runs the check's cases one by one.

The answer's own process can't reach the reference: the library module is loaded from source with the bodies under
test taken out (`stub.strip_bodies`), and an audit hook refuses to open its file, the week's masters, and solved notebooks.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import linecache
import os
import resource
import secrets
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from coursekit.checks import Check, load_checks
from coursekit.mistake import Mistake
from coursekit.stub import module_path, strip_bodies

# torch.optim and the meta device import torch._dynamo on their first use, which takes a second and replaces torch.manual_seed
PRELOAD = ("math", "numpy", "torch", "torch.nn.functional", "torch._dynamo", "jaxtyping", "einops")
WATCHED = ("torch", "torch.nn.functional", "torch.nn", "numpy", "math", "builtins", "coursekit.checks", "coursekit.mistake")
OUTPUT_LIMIT = 16 * 2**20  # bytes that an answer may print or write to its own folder
PATIENCE = 3  # times the limit in processor time that an answer may take on the clock, beside whatever else the machine does
GRACE = 2.0  # seconds between the time limit's exception and the kill
CELL = "<your cell>"


class TimeIsUp(BaseException):
    """Raised in the child by its alarm; a BaseException, so that an answer's `except Exception` does not swallow it."""


class Refused(PermissionError):
    """The guard's answer to what an exercise has no need for."""


# ---------------------------------------------------------------- the child


def judge(job: dict[str, Any]) -> dict[str, Any]:
    """Run the check of one answer; return the verdict as a dict. Runs in the child, with its limits set."""
    symbol, source = job["symbol"], job["source"]
    reached: dict[str, Any] = {}
    try:
        checks = prepare(job, reached)
        declared: Check = checks[symbol]
        reached["names"] |= names_of((declared.judge.__module__,))
        module = importlib.import_module(symbol.rpartition(".")[0])
        answer = getattr(module, symbol.rpartition(".")[2])
        for case in declared.visible + (declared.hidden if job["hidden"] else ()):
            refuse_replacements(reached["names"])
            declared.judge(answer, **case)
        refuse_replacements(reached["names"])
    except Mistake as mistake:
        return verdict(mistake.code, mistake.what, mistake.evidence, mistake.hint)
    except TimeIsUp as late:
        return verdict("RUN-02", f"it did not finish within {late}", where(late), "is there a loop that never ends, or over many rows?")
    except SystemExit as left:
        return verdict("RUN-04", f"it tried to end the program with sys.exit({left.code})", where(left), "return a result instead")
    except BaseException as error:
        return explain(error, source)
    return {"passed": True, "what": declared.promise}


def prepare(job: dict[str, Any], reached: dict[str, Any]) -> dict[str, Check]:
    """Put the answers in the references' places, load the checks, and switch the guard on when the answer begins to run."""
    sources: dict[str, str] = {job["symbol"]: job["source"]} | job["others"]
    from hybridlab import exercise

    guard = Guard(job["closed"])
    sys.addaudithook(guard)
    by_module: dict[str, set[str]] = {}
    for symbol in sources:
        by_module.setdefault(symbol.rpartition(".")[0], set()).add(symbol.rpartition(".")[2])
    sys.meta_path.insert(0, WithoutSolutions(by_module))
    reached["names"] = names_of(WATCHED)

    def load(symbol: str):
        filename = CELL if symbol == job["symbol"] else f"<your {symbol.rpartition('.')[2]}>"
        text = f"{job['imports']}\n{sources[symbol]}\n"
        linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)

        def run(namespace: dict[str, Any]) -> Any:
            guard.on = True
            return exercise.execute(text, filename, symbol, namespace)

        return run

    exercise.UNDER_TEST.update({symbol: load(symbol) for symbol in sources})
    return load_checks(Path(job["checks"]))


class WithoutSolutions(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads the modules under test from their source, with the bodies under test taken out."""

    def __init__(self, names: dict[str, set[str]]):
        self.names = names
        self.code = {
            module: compile(strip_bodies(module_path(f"{module}.x").read_text("utf-8"), wanted), module, "exec", dont_inherit=True)
            for module, wanted in names.items()
        }

    def find_spec(self, fullname, path=None, target=None):
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in self.names else None

    def create_module(self, spec):
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self.code[module.__name__], vars(module))


class Guard:
    """The audit hook: what an answer has no need for is refused with a sentence, from its first line on."""

    STARTS = ("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen", "pty.spawn")
    CHANGES = (
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.mkdir",
        "os.chmod",
        "os.chown",
        "os.link",
        "os.symlink",
        "os.truncate",
        "shutil.rmtree",
    )

    def __init__(self, closed: list[str]):
        self.on = False
        self.closed = tuple(os.path.realpath(path) for path in closed)
        self.home = os.path.realpath(os.getcwd())

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in self.STARTS:
            raise Refused(f"starting another process ({event})")
        if event.startswith("socket.") and event in ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"):
            raise Refused(f"using the network ({event})")
        if event in ("os.kill", "os.killpg", "signal.pthread_kill"):
            raise Refused(f"sending signals ({event})")
        if event in self.CHANGES and isinstance(arguments[0], (str, bytes)) and not self.mine(arguments[0]):
            raise Refused(f"changing files ({event} {os.fsdecode(arguments[0])})")
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if path.startswith(self.closed):
                raise Refused("reading the solution's file")
            mode, flags = arguments[1], arguments[2]
            writes = bool(mode and set(mode) & set("wax+")) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writes and not self.mine(path) and path != os.devnull:
                raise Refused(f"writing to {path}")

    def mine(self, path: str | bytes) -> bool:
        return os.path.realpath(os.fsdecode(path)).startswith((self.home, tempfile.gettempdir()))


def names_of(modules: tuple[str, ...]) -> dict[str, dict[str, int]]:
    found = {name: vars(sys.modules[name]) for name in modules if name in sys.modules}
    if "torch" in sys.modules:
        found["torch.Tensor"] = dict(vars(sys.modules["torch"].Tensor))
    return {module: {name: id(value) for name, value in names.items() if callable(value)} for module, names in found.items()}


def refuse_replacements(before: dict[str, dict[str, int]]) -> None:
    """Raise Mistake RUN-09 where the answer put something of its own into a library that the check relies on."""
    now = names_of(tuple(before))
    for module, names in before.items():
        for name, identity in names.items():
            if now.get(module, {}).get(name) != identity:
                raise Mistake("RUN-09", f"it replaces {module}.{name}", hint="an answer changes nothing outside itself")


def explain(error: BaseException, source: str) -> dict[str, Any]:
    """A verdict for an exception that the answer, and not the check, raised."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = text if len(text) < 400 else text[:400] + " …"
    if isinstance(error, Refused):
        return verdict("RUN-05", "it does what an exercise has no need for", str(error), "take that line out")
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "bad_alloc" in text:
        return verdict(
            "RUN-03", "it asks for more memory than an exercise may use", where(error, text), "look at the shapes of what you build"
        )
    if isinstance(error, OSError) and error.errno == 27:  # EFBIG: the limit on what it prints or writes
        return verdict("RUN-10", f"it prints or writes more than {OUTPUT_LIMIT >> 20} MiB", where(error), "take the print out of the loop")
    if isinstance(error, NotImplementedError):
        return verdict("RUN-01", "there is no answer yet", where(error), "replace `raise NotImplementedError` by your code")
    if isinstance(error, NameError):
        return verdict("RUN-07", text, where(error), "what the exercise uses must stand in its own cell, or in the first cell of imports")
    hint = "the line named here is where to look first"
    if "before Module.__init__() call" in text:
        hint = "a module's __init__ begins with super().__init__()"
    return verdict("RUN-06", f"it stopped with {text}", where(error), hint)


def where(error: BaseException, fallback: str = "") -> str:
    """The last line of the learner's own code in the traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith("<your ")]
    return f"at `{frames[-1].line}`" if frames and frames[-1].line else fallback


def verdict(code: str, what: str, evidence: str = "", hint: str = "") -> dict[str, Any]:
    return {"passed": False, "code": code, "what": what, "evidence": evidence, "hint": hint}


def child(job: dict[str, Any], own: str, answer_fd: int, output_fd: int, secret: str) -> None:
    """Set limits, judge, write the verdict, and end."""
    os.setsid()
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    keep_only(answer_fd)
    sys.stdout, sys.stderr, sys.stdin = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1), io.StringIO()
    os.environ["HYBRIDLAB_MYLAB"] = job["mylab"]
    if job["folder"]:
        os.environ["COURSE_NOTEBOOK_FOLDER"] = job["folder"]
    os.chdir(own)
    seconds = job["seconds"]
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_FSIZE, OUTPUT_LIMIT)
    limit(resource.RLIMIT_AS, address_space() + job["memory"])

    def late(kind, _):
        raise TimeIsUp(f"{seconds:g} s of processor time" if kind == signal.SIGPROF else f"{PATIENCE * seconds:g} s")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, seconds), signal.ITIMER_REAL: (signal.SIGALRM, PATIENCE * seconds)}
    for timer, (kind, limited) in timers.items():
        signal.signal(kind, late)
        signal.setitimer(timer, limited)
    result = judge(job)
    for timer in timers:
        signal.setitimer(timer, 0)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    os.write(answer_fd, json.dumps({"secret": secret, **result}).encode())
    os._exit(0)


def keep_only(answer_fd: int) -> None:
    """Close the worker's own pipes: an answer reads no other job, and writes no verdict."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.closerange(3, answer_fd)
    os.closerange(answer_fd + 1, 4096)


def limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def address_space() -> int:
    """Bytes of address space in use, so that the limit counts only what the answer adds. 64 GiB where /proc is missing."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 64 * 2**30


# ---------------------------------------------------------------- the parent


def serve() -> None:
    """Answer jobs from stdin until it closes. The first line names what to import beforehand."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    first = json.loads(sys.stdin.readline())
    for name in (*PRELOAD, *first["preload"]):
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)
    replies.write(json.dumps({"ready": os.getpid()}) + "\n")
    for line in sys.stdin:
        replies.write(json.dumps(answer(json.loads(line))) + "\n")


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait, and read the verdict; kill everything that the child started once its time is over."""
    begin = time.monotonic()
    receive, send = os.pipe()
    own = tempfile.mkdtemp(prefix="answer")
    secret = secrets.token_hex()
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            os.close(receive)
            try:
                child(job, own, send, output.fileno(), secret)
            finally:
                os._exit(1)
        os.close(send)
        patience = PATIENCE * job["seconds"]
        reply = read_until(receive, begin + patience + GRACE, secret)
        stop(pid)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        printed = output.read(4096).decode("utf-8", "replace")
        shutil.rmtree(own, ignore_errors=True)
    result = reply or died(status, time.monotonic() - begin > patience, patience)
    return {**result, "seconds": time.monotonic() - begin, "printed": printed}


def read_until(fd: int, deadline: float, secret: str) -> dict[str, Any] | None:
    """The child's verdict; None where it wrote none, or something else wrote in its place."""
    chunks = []
    while (left := deadline - time.monotonic()) > 0 and select.select([fd], [], [], left)[0]:
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        chunks.append(chunk)
    os.close(fd)
    try:
        reply = json.loads(b"".join(chunks))
    except ValueError:
        return None
    return reply if isinstance(reply, dict) and reply.pop("secret", "") == secret else None


def stop(pid: int) -> None:
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def died(status: int, late: bool, seconds: float) -> dict[str, Any]:
    if late:
        return verdict("RUN-02", f"it did not finish within {seconds:g} s", hint="is there a loop that never ends?")
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
        return verdict(
            "RUN-06", f"its process was ended by {signal.Signals(os.WTERMSIG(status)).name}", hint="run the cell in the notebook"
        )
    return verdict("RUN-04", "it ended the process that judges it", hint="take out os._exit and the like, and return a result instead")


if __name__ == "__main__":
    serve()
