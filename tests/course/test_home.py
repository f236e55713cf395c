"""Home.ipynb says what comes next, shows the week's plan and the points, and keeps what the learner writes on it."""

from __future__ import annotations

import nbformat
from coursekit import gradebook, home, salvage
from coursekit.fetch import fetch
from coursekit.progress import UnitProgress


def page(path):
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


def standing(week, passed=(), promoted=(), graded=True):
    return UnitProgress(week, graded, 0, 9, frozenset(passed), frozenset(promoted), 0, 0)


ALL = ("softmax", "schedule", "rmsnorm")


def test_before_anything_is_fetched_it_says_how_to_begin(fresh):
    cells = page(home.build())
    assert "`course fetch week90`" in cells["home-next"].source


def test_the_plan_names_every_day_with_links_and_puts_the_broken_cell_on_friday(fresh):
    fetch([fresh.week])
    plan = page(home.build())["home-plan"].source
    rows = {row.split("|")[1].strip(): row for row in plan.splitlines() if row.startswith("|")}
    assert set(rows) >= {"Monday", "Tuesday, Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
    assert "[the lesson](week90_small/lesson.ipynb" in rows["Monday"]
    assert "`softmax` (5 min, 2 points); `rmsnorm` (5 min, 4 points)" in rows["Tuesday, Wednesday"]
    assert "`schedule` (5 min, 3 points)" in rows["Friday"]


def test_the_next_step_follows_the_learner(fresh):
    fetch([fresh.week])
    week = fresh.week
    assert "at the beginning" in home.next_step(standing(week, graded=False))
    assert "Still open in week90_small: `schedule`, `rmsnorm`." in home.next_step(standing(week, ["softmax"]))
    assert "`course promote week90`" in home.next_step(standing(week, ALL))
    assert "All of the library is yours" in home.next_step(None)


def test_the_points_are_the_gradebooks(fresh, monkeypatch):
    found = {fresh.week.name: [gradebook.Score("softmax", 2, 2), gradebook.Score("schedule", 0, 3), gradebook.Score("rmsnorm", 4, 4)]}
    monkeypatch.setattr(gradebook, "all_scores", lambda weeks: found)
    table = page(home.build())["home-progress"].source
    assert "| week90_small | 6 of 9 | 2 of 3 | 0 of 3 |" in table
    assert "| **90_small** | **6 of 9** |" in table


def test_a_learners_own_cells_stay_and_ours_are_written_anew(fresh):
    path = home.build()
    notebook = nbformat.read(path, as_version=4)
    cells = {cell.id: cell for cell in notebook.cells}
    cells["notes"].source = "my notes"
    cells["home-next"].source = "scribbled over"
    notebook.cells.insert(2, nbformat.v4.new_code_cell("1 + 1", id="mine"))
    salvage.write(notebook, path)
    after = page(home.build())
    assert after["notes"].source == "my notes"
    assert after["mine"].source == "1 + 1"
    assert after["home-next"].source.startswith("## Next")


def test_it_is_not_touched_where_nothing_changed(fresh):
    path = home.build()
    before = path.stat().st_mtime_ns
    home.build()
    assert path.stat().st_mtime_ns == before


def test_a_damaged_page_is_kept_and_written_anew(fresh):
    path = home.build()
    path.write_text(path.read_text("utf-8")[:400], "utf-8")
    home.build()
    assert "home-next" in page(path)
    assert list((fresh.workspace / ".course" / "backup").rglob("Home*.ipynb"))


def test_its_cell_shows_the_points_as_they_are_now(fresh, monkeypatch):
    from IPython import display

    shown = []
    monkeypatch.setattr(display, "display", shown.append)
    cell = page(home.build())["home-refresh"]
    exec(cell.source, {})
    assert "| week90_small | – of 9 | 0 of 3 | 0 of 3 |" in shown[0].data
