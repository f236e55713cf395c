"""Threads, waiting and seeds are set in one place, and reach every process."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hybridlab import runtime


def test_environment_is_completed_and_a_users_own_value_stays() -> None:
    environ = {"OMP_WAIT_POLICY": "ACTIVE", "PATH": str(Path(sys.executable).parent)}
    before = dict(environ)
    runtime.prepare_environment(environ)
    assert environ == {**runtime.ENVIRONMENT, **before}


def test_programs_of_the_environment_are_found_though_it_is_not_activated() -> None:
    environ = {"PATH": "/usr/bin:/bin"}
    runtime.prepare_environment(environ)
    assert shutil.which("alembic", path=environ["PATH"]) == str(Path(sys.executable).parent / "alembic")
    assert environ["PATH"].endswith("/usr/bin:/bin")


def test_this_very_process_waits_passively() -> None:
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.slow(seconds=7)
def test_child_gets_its_threads() -> None:
    code = "import torch; print(torch.get_num_threads())"
    for threads in (1, 2):
        environ = runtime.child_environment(threads)
        assert environ["OMP_WAIT_POLICY"] == "PASSIVE"
        assert subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True).stdout.strip() == str(threads)


def test_threads_are_those_asked_for_or_two_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert runtime.usable_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    assert runtime.usable_threads() == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert runtime.usable_threads() == 1


def test_set_threads_reaches_torch() -> None:
    before = torch.get_num_threads()
    try:
        assert runtime.set_threads(2) == torch.get_num_threads() == 2
        assert runtime.set_threads(1) == torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def drawn() -> tuple:
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_seed_fixes_all_three_generators() -> None:
    assert runtime.seed_everything(7) == 7
    first = drawn()
    runtime.seed_everything(7)
    assert drawn() == first
    runtime.seed_everything(8)
    assert all(a != b for a, b in zip(drawn(), first, strict=True))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_not_all_accept_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=str(seed)):
        runtime.seed_everything(seed)


@pytest.mark.parametrize("call", [runtime.child_environment, runtime.set_threads])
def test_no_threads_at_all_is_refused(call) -> None:
    with pytest.raises(ValueError, match="threads is 0"):
        call(0)


def test_importing_the_module_loads_no_library() -> None:
    code = "import sys; import hybridlab.runtime; print([m for m in ('torch', 'numpy', 'ipykernel') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_no_notebook_sets_threads_past_the_one_place() -> None:
    masters = (Path(__file__).parents[2] / "months").glob("*/*/source/*.py")
    assert [str(master) for master in masters if "set_num_threads" in master.read_text("utf-8")] == []
