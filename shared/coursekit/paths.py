"""Where things lie. `COURSE_WORKSPACE` moves the learner's folder, `COURSE_MONTHS` the course itself (tests bring a small one)."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
MONTHS = Path(os.environ.get("COURSE_MONTHS") or REPO / "months")
SHARED = REPO / "shared"
BUILD = REPO / ".build"
WORKSPACE = Path(os.environ.get("COURSE_WORKSPACE") or REPO / "workspace")
MYLAB = WORKSPACE / "mylab"
