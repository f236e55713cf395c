"""What every test has: quiet threads, and a workspace of its own.

When CI=true a skipped test is a failed test: nothing may be left out unseen.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hybridlab.runtime import prepare_environment

# Before anything imports torch, numpy or coursekit.paths.
prepare_environment()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["COURSE_WORKSPACE"] = tempfile.mkdtemp(prefix="course-workspace-")

import pytest  # noqa: E402
from coursekit import paths  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STARTED] = _now()


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["COURSE_WORKSPACE"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that neither of two workers ends with a long one; the browser's tests on one worker."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.xdist_group("browser"))
    items.sort(key=lambda item: -_seconds(item))


def _seconds(item: pytest.Item) -> float:
    marker = item.get_closest_marker("slow")
    return float(marker.kwargs.get("seconds", 10)) if marker else 0.0


# --- a skip is a failure when CI=true -------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    return _unskipped(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    return _unskipped(report)


def _unskipped(report):
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: skipped, and nothing may be skipped when CI=true. {reason}"
    return report


# --- the table of notebooks -----------------------------------------------------------------------------------------

STARTED = pytest.StashKey[float]()


def _now() -> float:
    """The clock of the file system, with which results are compared."""
    with tempfile.TemporaryFile() as handle:
        return os.fstat(handle.fileno()).st_mtime


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    """Time and memory of each notebook that was run in this session."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    import json

    from coursekit.run import RESULTS, Outcome

    fresh = [path for path in sorted(RESULTS.glob("*.json")) if path.stat().st_mtime >= config.stash[STARTED]]
    if not fresh:
        return
    from coursekit.commands.run import table
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=100, no_color=True).print(table([Outcome(**json.loads(path.read_text())) for path in fresh]))
    terminalreporter.write_sep("=", "notebooks")
    terminalreporter.write(text.getvalue())


@pytest.fixture
def repository() -> Path:
    """The root of the checkout."""
    return paths.REPO
