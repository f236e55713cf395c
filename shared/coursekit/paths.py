"""Where things lie. `COURSE_WORKSPACE` moves the learner's folder."""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
MONTHS = REPO / "months"
SHARED = REPO / "shared"
BUILD = REPO / ".build"
WORKSPACE = Path(os.environ.get("COURSE_WORKSPACE") or REPO / "workspace")
MYLAB = WORKSPACE / "mylab"
