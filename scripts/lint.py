"""Style of the whole repository: ruff over the Python, shellcheck over the shell scripts where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHELL = ["scripts/env.sh", ".ci/run"]


def commands() -> list[list[str]]:
    """What is run, in order."""
    found = [[sys.executable, "-m", "ruff", "check", "."]]
    if shellcheck := shutil.which("shellcheck"):
        found.append([shellcheck, *SHELL])
    return found


if __name__ == "__main__":
    sys.exit(max(subprocess.run(command, cwd=ROOT).returncode for command in commands()))
