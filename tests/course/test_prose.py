"""Lessons can be read in the evening: no wall of text, and the parts of a lesson stand in the order that the course promises."""

from __future__ import annotations

import re

import nbformat
import pytest
from coursekit.course import Week, load_course

WEEKS = [unit for unit in load_course().units if not unit.is_project and unit.release("lesson").is_file()]
MOST_WORDS = 150


def cells(week: Week, notebook: str) -> list:
    return nbformat.read(week.release(notebook), as_version=4).cells


def words(markdown: str) -> int:
    """Words of running text: a table is read by looking, not word by word."""
    text = "\n".join(line for line in markdown.splitlines() if not line.startswith("|"))
    return sum(any(c.isalnum() for c in word) for word in text.split())


@pytest.mark.parametrize("week", WEEKS, ids=lambda week: week.name)
def test_a_lesson_has_no_wall_of_text_without_a_cell_that_runs(week):
    run, begin = 0, ""
    for cell in cells(week, "lesson"):
        if cell.cell_type == "code":
            run = 0
            continue
        begin = begin if run else cell.id
        run += words(cell.source)
        assert run <= MOST_WORDS, f"{run} words from {begin} to {cell.id}: cut some, or let a cell run between them"


@pytest.mark.parametrize("week", WEEKS, ids=lambda week: week.name)
def test_a_lesson_has_its_parts_in_order(week):
    """The question first; then Monday with cost and how it breaks, Thursday's paper, where it sits, Sunday, what to read."""
    text = "\n".join(cell.source for cell in cells(week, "lesson") if cell.cell_type == "markdown")
    headings = ["Monday", "it costs", "it breaks", "Thursday", "Where this sits", "Sunday", "read"]
    at = text.lower().index("question of the week")
    for heading in headings:
        found = re.compile(rf"^#+ .*{heading}", re.MULTILINE | re.IGNORECASE).search(text, at)
        assert found, f"no heading with {heading!r} after {text[at : at + 60]!r}"
        at = found.start()
    assert re.search(r"\d{4}\.\d{5}", text[text.index("Thursday") :]), "Thursday names its paper by arXiv number"


@pytest.mark.parametrize("week", WEEKS, ids=lambda week: week.name)
def test_a_lab_has_its_days_and_a_challenge_that_prints_a_ratio(week):
    lab = cells(week, "lab")
    text = "\n".join(cell.source for cell in lab if cell.cell_type == "markdown")
    for day in ("Tuesday", "Wednesday", "Friday", "Challenge"):
        assert re.search(rf"^#+ .*{day}", text, re.MULTILINE), day
    challenge = next(i for i, cell in enumerate(lab) if re.search(r"^#+ .*Challenge", cell.source, re.MULTILINE))
    assert any("compare(" in cell.source or "ratio" in cell.source for cell in lab[challenge + 1 :] if cell.cell_type == "code")
