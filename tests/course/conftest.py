"""A course of one small week, built in a folder of its own, for tests of fetching, mending and grading."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from coursekit import course, paths, salvage
from coursekit.build import build_week
from coursekit.course import Week
from coursekit.runner import Runner

RIGHT = {
    "softmax": "def softmax(scores, dim=-1):\n    return (scores - scores.logsumexp(dim, keepdim=True)).exp()",
    "schedule": (
        "def warmup_cosine(step, *, warmup, total, peak, floor=0.0):\n"
        "    if step < warmup:\n        return peak * step / warmup\n"
        "    part = (step - warmup) / (total - warmup)\n"
        "    return floor + (peak - floor) * (1 + math.cos(math.pi * part)) / 2"
    ),
    "rmsnorm": (
        "class RMSNorm(nn.Module):\n"
        "    def __init__(self, d, eps=1e-5):\n        super().__init__()\n"
        "        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps\n\n"
        "    def forward(self, x):\n        return x * (x.pow(2).mean(-1, keepdim=True) + self.eps).rsqrt() * self.weight"
    ),
}


@dataclass
class Small:
    """The small course: its root, its week, the learner's folder, and right answers in a style of their own."""

    months: Path
    workspace: Path
    week: Week
    right: dict[str, str]

    @property
    def lab(self) -> Path:
        return self.workspace / self.week.name / "lab.ipynb"

    def released(self) -> nbformat.NotebookNode:
        return nbformat.read(self.week.release("lab"), as_version=4)

    def solved(self, **answers: str) -> nbformat.NotebookNode:
        """The release with every exercise answered rightly, but for those given."""
        notebook = self.released()
        for cell in notebook.cells:
            name = salvage.grade_id(cell)
            if name in self.right:
                cell.source = answers.get(name, self.right[name])
        return notebook

    def save(self, notebook: nbformat.NotebookNode) -> Path:
        salvage.write(notebook, self.lab)
        return self.lab

    def answers(self) -> dict[str, str]:
        """What the learner's file holds in its exercise cells."""
        cells = nbformat.read(self.lab, as_version=4).cells
        return {salvage.grade_id(cell): cell.source for cell in cells if salvage.grade_id(cell) in self.right}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    root = tmp_path_factory.mktemp("small")
    shutil.copytree(Path(__file__).parent / "fixtures" / "months", root / "months")
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in (("MONTHS", "months"), ("BUILD", "build"), ("WORKSPACE", "workspace"), ("MYLAB", "workspace/mylab")):
            patch.setattr(paths, name, root / folder)
        patch.setenv("COURSE_MONTHS", str(root / "months"))
        patch.setenv("COURSE_WORKSPACE", str(root / "workspace"))
        course.load_course.cache_clear()
        week = course.load_course().week("week90")
        for built in build_week(week):
            built.write()
        yield Small(root / "months", root / "workspace", week, RIGHT)
    course.load_course.cache_clear()


@pytest.fixture
def fresh(small: Small) -> Small:
    """The small course with an empty workspace."""
    shutil.rmtree(small.workspace, ignore_errors=True)
    return small


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Give answers less time than the course does, so that a test of an endless loop ends soon."""
    return lambda seconds: monkeypatch.setitem(Runner.__init__.__kwdefaults__, "seconds", seconds)
