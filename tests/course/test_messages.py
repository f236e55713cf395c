"""The prose of every master is ready for gettext: taken out whole, put back in another language, code and ids as they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import nbformat
import pytest
from babel.messages.catalog import Catalog
from coursekit.build import build_week, notebook_text
from coursekit.course import load_course
from coursekit.errors import CourseError
from coursekit.master import read_master
from coursekit.messages import catalogue_path, extract, paragraphs, translate, update

MONTHS = Path(__file__).parent / "fixtures" / "months"
UNITS = load_course().units


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_paragraph_can_be_translated_and_nothing_else_changes(unit):
    for name in unit.notebooks:
        cells = read_master(unit.source / f"{name}.py")
        catalogue = extract(cells, Catalog())
        for message in catalogue:
            if message.id:
                message.string = f"Việt: {message.id}"
        translated = translate(cells, catalogue)
        assert [c.id for c in translated] == [c.id for c in cells]
        for before, after in zip(cells, translated, strict=True):
            if before.kind == "code":
                assert after == before
            elif before.source:
                assert after.source.replace("Việt: ", "") == before.source
                assert "Việt: " in after.source


def test_code_blocks_and_displayed_formulas_are_no_prose():
    text = "One.\n\n```python\nx = 1\n\ny = 2\n```\n\nTwo $x$.\n\n$$a\n\nb$$\n"
    assert "".join(paragraphs(text)) == text
    assert [p for p in paragraphs(text) if p.startswith(("```", "$$"))] == ["```python\nx = 1\n\ny = 2\n```", "$$a\n\nb$$"]


@pytest.fixture
def week(tmp_path):
    shutil.copytree(MONTHS, tmp_path / "months")
    return load_course(tmp_path / "months").week("week90")


def test_a_catalogue_gives_a_notebook_and_survives_a_change_of_the_master(week):
    path, total, done = update(week, "lab", "vi")
    assert (path, done) == (catalogue_path(week, "lab", "vi"), 0)
    assert total >= 4
    path.write_text(path.read_text().replace('msgid "The end."\nmsgstr ""', 'msgid "The end."\nmsgstr "Hết."'))
    vietnamese = next(b for b in build_week(week) if b.path.name == "lab.vi.ipynb")
    assert "Hết." in vietnamese.text
    ids = [[c.id for c in nbformat.reads(text, as_version=4).cells] for text in (vietnamese.text, notebook_text(week, "lab", "release"))]
    assert ids[0] == ids[1]
    master = week.source / "lab.py"
    master.write_text(master.read_text().replace("The end.", "The end!"))
    assert update(week, "lab", "vi")[2] == 0, "a changed paragraph is translated anew"
    assert "Hết." not in notebook_text(week, "lab", "release", "vi")
    assert "Hết." in path.read_text(), "the translator's work is kept"


def test_a_malformed_catalogue_is_named(week):
    path, *_ = update(week, "lab", "vi")
    path.write_text('msgid "half\n')
    with pytest.raises(CourseError, match=r"lab\.po can't be read"):
        notebook_text(week, "lab", "release", "vi")
