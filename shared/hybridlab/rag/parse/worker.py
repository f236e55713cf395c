"""The other end of :func:`hybridlab.rag.parse.limited.parse_limited`: one file read under limits, told in lines of JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import sys
import time
from typing import Any

from . import parse
from .limited import to_json
from .types import DocumentError, Limits

_EVERY = 0.1  # seconds between two reports of progress


def main(path: str, media_type: str, seconds: str, memory: str, limits: str) -> None:
    """Parse ``path`` and print ``{"progress": [done, all]}`` lines, then one of ``{"parsed": …}`` or ``{"error": [code, sentence]}``."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # what a library prints is no message
    _limit(math.ceil(float(seconds)), int(memory))
    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done == total or time.monotonic() - told > _EVERY:
            told = time.monotonic()
            print(json.dumps({"progress": [done, total]}), file=pipe)

    try:
        message: dict[str, Any] = {"parsed": to_json(parse(path, media_type, limits=Limits(**json.loads(limits)), progress=progress))}
    except DocumentError as error:
        message = {"error": [error.code, error.sentence]}
    except MemoryError:
        message = {"error": ["memory", f"Reading the document needs more than {int(memory) / 2**20:,.0f} MiB of memory. Split it."]}
    except RecursionError:
        message = {"error": ["damaged", "The document is nested too deeply to be read. Save it again in a simpler form."]}
    print(json.dumps(message), file=pipe)


def _limit(seconds: int, memory: int) -> None:
    """Bound this process's memory, processor time and files; what the system doesn't support is left to the parent's clock."""
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))


if __name__ == "__main__":
    main(*sys.argv[1:])
