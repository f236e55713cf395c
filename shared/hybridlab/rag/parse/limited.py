"""Reading a stranger's file in a process of its own, so that a crash or a hang of a parser harms nothing else."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import Progress
from .types import DocumentError, Heading, HiddenSpan, Limits, Page, Parsed, TableSpan

SECONDS = 120.0
MEMORY = 2 * 2**30  # bytes of address space


def parse_limited(
    path: str | os.PathLike[str],
    media_type: str = "",
    seconds: float = SECONDS,
    memory: int = MEMORY,
    *,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Parsed:
    """:func:`hybridlab.rag.parse.parse` in another process that may use ``seconds`` and ``memory`` (bytes) and write no file.

    Raises:
        DocumentError: as ``parse``, or ``timeout``, ``memory``, ``crashed``.
    """
    command = [sys.executable, "-m", f"{__package__}.worker", os.fspath(Path(path).resolve()), media_type, str(seconds), str(memory)]
    command.append(json.dumps(asdict(limits or Limits())))
    deadline = time.monotonic() + seconds
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:
        try:
            for message in _messages(worker, deadline):
                if "parsed" in message:
                    worker.wait(timeout=10)
                    return from_json(message["parsed"])
                if "error" in message:
                    raise DocumentError(*message["error"])
                if progress:
                    progress(*message["progress"])
            code = worker.wait(timeout=10)
        finally:
            if worker.poll() is None:
                worker.kill()
    if code == -24:  # SIGXCPU
        raise _too_slow(seconds)
    raise DocumentError("crashed", "The document made its reader crash, so it is damaged or made to do harm. It was not added.")


def to_json(parsed: Parsed) -> dict[str, Any]:
    """What goes through the pipe."""
    return asdict(parsed)


def from_json(data: dict[str, Any]) -> Parsed:
    """The counterpart of :func:`to_json`."""
    pages = tuple(
        Page(
            page["number"],
            tuple(page["heading"]),
            page["text"],
            tuple(TableSpan(**table) for table in page["tables"]),
            tuple(HiddenSpan(**span) for span in page["hidden"]),
            tuple(Heading(heading["start"], tuple(heading["path"])) for heading in page["headings"]),
        )
        for page in data["pages"]
    )
    return Parsed(data["title"], pages, data["media_type"], tuple(data["flags"]))


def _messages(worker: subprocess.Popen[bytes], deadline: float) -> Iterator[dict[str, Any]]:
    """The worker's lines as they come, until it ends.

    Raises:
        DocumentError: ``timeout``; the worker still runs then.
    """
    assert worker.stdout is not None
    started = time.monotonic()
    buffer: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise _too_slow(deadline - started)
            block = os.read(worker.stdout.fileno(), 2**20)
            if not block:
                return
            *lines, rest = block.split(b"\n")
            for line in lines:
                yield json.loads(b"".join([*buffer, line]))
                buffer.clear()
            buffer.append(rest)


def _too_slow(seconds: float) -> DocumentError:
    return DocumentError(
        "timeout", f"Reading the document took longer than {seconds:.0f} s. Split it, or export it again in a simpler form."
    )
