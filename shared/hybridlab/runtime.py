"""Threads, waiting and seeds: the one place where they are set.

OpenMP's threads spin while they wait. When another process holds the cores (a second notebook, the browser), two
spinning threads slow a small model down tenfold, so waiting threads have to sleep: ``OMP_WAIT_POLICY=PASSIVE``.
OpenMP reads that variable once, when torch is loaded. It therefore has to be in the environment *before* the process
starts, or before its first ``import torch``:

* the ``course`` command and ``tests/conftest.py`` call :func:`prepare_environment`; what they start inherits it;
* Jupyter kernels get :data:`ENVIRONMENT` from the kernel's own description, which `make` writes with
  ``python -m hybridlab.runtime install-kernel``; so it holds in JupyterLab, papermill, nbgrader and other editors.

The module needs nothing but the standard library until a seed or a thread count is set.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import MutableMapping

#: What every process of the course has in its environment, unless the user has set it to something else.
ENVIRONMENT: dict[str, str] = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",  # forked tokenizers deadlock in a notebook
}

#: More threads than this make the course's small models slower, not faster.
MOST_THREADS = 2


def prepare_environment(environ: MutableMapping[str, str] | None = None) -> None:
    """Put :data:`ENVIRONMENT` into ``environ`` (default ``os.environ``); a value that is there already stays.

    This Python's own programs are put on its PATH: libraries start some of them by name (nbgrader starts `alembic`), and
    they have to be found when the environment is not activated.
    """
    environ = os.environ if environ is None else environ
    for name, value in ENVIRONMENT.items():
        environ.setdefault(name, value)
    folders = [folder for folder in environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    programs = os.path.dirname(sys.executable)
    if programs not in folders:
        environ["PATH"] = os.pathsep.join([programs, *folders])


def child_environment(threads: int = 1) -> dict[str, str]:
    """A copy of the environment for a process that may use ``threads`` threads.

    Raises:
        ValueError: ``threads`` is less than one.
    """
    _require_threads(threads)
    environ = dict(os.environ)
    prepare_environment(environ)
    environ["OMP_NUM_THREADS"] = environ["MKL_NUM_THREADS"] = str(threads)
    return environ


def usable_threads() -> int:
    """Threads for one process: ``OMP_NUM_THREADS`` where it is set, else the cores that are ours, two at most."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, cores)


def set_threads(n: int | None = None) -> int:
    """Let torch use ``n`` threads (default :func:`usable_threads`); returns how many it uses now.

    Raises:
        ValueError: ``n`` is less than one.
    """
    import torch

    n = usable_threads() if n is None else n
    _require_threads(n)
    torch.set_num_threads(n)
    return torch.get_num_threads()


def seed_everything(seed: int = 0) -> int:
    """Seed Python's, NumPy's and torch's (CPU and GPU) global generators; returns ``seed``.

    Raises:
        ValueError: ``seed`` lies outside 0 … 2**32 - 1, the range that all three accept.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}; choose a whole number from 0 to {2**32 - 1}")
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the notebooks' libraries draw from the global generator
    torch.manual_seed(seed)
    return seed


def install_kernel(prefix: str = sys.prefix) -> str:
    """Describe this Python to Jupyter as kernel ``python3``, with :data:`ENVIRONMENT`; returns the folder."""
    from ipykernel.kernelspec import install

    return install(kernel_name="python3", display_name="Python 3 (ipykernel)", prefix=prefix, env=dict(ENVIRONMENT))


def _require_threads(n: int) -> None:
    if n < 1:
        raise ValueError(f"threads is {n}; at least one is needed")


if __name__ == "__main__":
    if sys.argv[1:] != ["install-kernel"]:
        sys.exit("usage: python -m hybridlab.runtime install-kernel")
    install_kernel()
