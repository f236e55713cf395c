"""Where downloaded text is kept: one folder that is never committed and never fetched twice."""

import os
from pathlib import Path

VARIABLE = "HYBRIDLAB_DATA"
REPOSITORY = Path(__file__).resolve().parents[3]


def cache_dir() -> Path:
    """The folder for data: `$HYBRIDLAB_DATA`, or `.build/data` in the repository. It need not exist yet."""
    chosen = os.environ.get(VARIABLE)
    return Path(chosen) if chosen else REPOSITORY / ".build" / "data"
