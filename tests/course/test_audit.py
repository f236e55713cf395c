"""`course audit` counts what is there, and sees a notebook that is out of step with its master."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from coursekit import paths
from coursekit.audit import audit, count_week
from coursekit.course import load_course


@pytest.fixture(scope="module")
def found() -> dict:
    return audit()


@pytest.mark.slow(seconds=10)
def test_counts_are_those_of_the_files(found: dict) -> None:
    masters = [path.read_text("utf-8") for path in paths.MONTHS.glob("*/*/source/*.py")]
    labs = [path.read_text("utf-8") for path in paths.MONTHS.glob("*/*/source/lab.py")]
    assert found["weeks"] == len(labs)
    assert found["notebooks"] == len(list(paths.MONTHS.glob("*/*/*.ipynb")))
    assert found["exercises"] == sum(len(re.findall(r"^# %%.* exercise=", text, re.MULTILINE)) for text in masters)
    for key, mark in (("mistakes", "mistake"), ("correct", "correct"), ("broken", "broken")):
        assert found[key] == sum(len(re.findall(rf"^@{mark}\(", text, re.MULTILINE)) for text in masters), key
    assert found["checks_hidden"] >= found["exercises"] <= found["checks_visible"]


@pytest.mark.slow(seconds=18)
def test_points_are_those_that_nbgrader_gives(found: dict) -> None:
    points = 0
    for path in paths.MONTHS.glob("*/*/*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            points += cell.metadata.get("nbgrader", {}).get("points", 0)
    assert found["points"] == points


@pytest.mark.slow(seconds=10)
def test_months_add_up_to_the_whole(found: dict) -> None:
    for key in ("weeks", "notebooks", "exercises", "mistakes", "points"):
        assert found[key] == sum(month[key] for month in found["by_month"].values())
        for month in found["by_month"].values():
            assert month[key] == sum(unit[key] for unit in month["units"].values())


@pytest.mark.slow(seconds=10)
def test_a_changed_release_is_out_of_step(tmp_path: Path) -> None:
    months = tmp_path / "months"
    source = next(iter(sorted(paths.MONTHS.iterdir())))
    shutil.copytree(source, months / source.name)
    week = load_course(months).units[0]
    assert count_week(week).in_step
    release = week.release("lesson")
    release.write_text(release.read_text("utf-8").replace("the", "teh", 1), "utf-8")
    assert not count_week(week).in_step


@pytest.mark.slow(seconds=10)
def test_json_is_what_a_program_can_read(found: dict) -> None:
    done = subprocess.run([sys.executable, "-m", "coursekit", "audit", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["by_month"].keys() == found["by_month"].keys()
