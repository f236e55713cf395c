"""`workspace/Home.ipynb`: what to do next, the plan of the week, points. Written anew; a learner's own cells stay.

A cell whose id begins with `home-` is written by the course; every other cell is the learner's and is kept as it is,
below ours. The file is only written where it would change, so that JupyterLab has nothing to ask about.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from coursekit import fetch, paths, salvage
from coursekit.build import KERNEL, LANGUAGE
from coursekit.catalogue import broken_source
from coursekit.course import Course, Exercise, Week, load_course
from coursekit.progress import UnitProgress, current, progress, together

OURS = "home-"

WELCOME = """\
# Hybrid AI in six months

This page is your way through the course. It always shows what comes next.

A week has a **lesson** to read and run, and a **lab** in which you write code. Each exercise is checked at once: run the
cell below it, or press *Validate* in the toolbar. When the whole lab is done you grade it, and then your code becomes part
of the library that the rest of the course runs on. You can't break anything here, and nothing that you write is lost.

Commands like `course grade week01` go into a terminal: *File → New → Terminal*.
"""

REFRESH = """\
# Run this cell (Shift+Enter) to see your points as they are now.
from coursekit.home import show_progress

show_progress()"""

COMMANDS = """\
## Commands

| in a terminal | what it does |
| --- | --- |
| `course check WEEK` | says what is right and what is wrong in your lab; nothing is recorded |
| `course hint WEEK EXERCISE` | gives a hint; ask again for the next of three. Hints cost no points |
| `course grade WEEK` | grades your lab: points, named mistakes, a feedback page |
| `course promote WEEK` | puts your graded code into the library |
| `course progress` | your points, week by week |
| `course doctor` | mends notebooks that were damaged; your answers are kept |
| `course fetch` | brings new versions of the course's notebooks; never over your own work |
"""

NOTES = """\
## My notes

This cell is yours: double-click it and write. It stays when this page is written anew, and so does every cell that you add below.
"""


def build() -> Path:
    """Write Home.ipynb where it is missing or out of date; return its path."""
    path = paths.WORKSPACE / "Home.ipynb"
    course = load_course()
    notebook = new_notebook(cells=[*our_cells(course), *own_cells(path)], metadata={"kernelspec": KERNEL, "language_info": LANGUAGE})
    notebook.metadata["course"] = {"notebook": "home"}
    text = nbformat.writes(notebook) + "\n"
    if not path.is_file():
        salvage.write_text(text, path)
    elif path.read_bytes() != text.encode():
        if salvage.read(path).broken:
            fetch.keep(path)
        salvage.write_text(text, path)
    return path


def own_cells(path: Path) -> list[NotebookNode]:
    """The learner's cells of the page as it is; a first one for notes where there is none."""
    mine = [cell for cell in salvage.read(path).notebook.cells if not cell.id.startswith(OURS)] if path.is_file() else []
    return mine or [new_markdown_cell(NOTES, id="notes")]


def our_cells(course: Course) -> list[NotebookNode]:
    units = progress(course)
    now = current(units)
    pages = {"welcome": WELCOME, "next": next_step(now)}
    if now:
        pages["plan"] = plan(course, now)
    pages |= {"progress": "## Your points\n\n" + table(course, units)}
    cells = [new_markdown_cell(text, id=OURS + name) for name, text in pages.items()]
    commands = COMMANDS.replace("WEEK", short(now.week) if now else "week01")
    cells += [new_code_cell(REFRESH, id=f"{OURS}refresh"), new_markdown_cell(commands, id=f"{OURS}commands")]
    for cell in cells:
        cell.metadata.update(deletable=False, editable=False)
    return cells


def show_progress() -> None:
    """Display the points as they are now, and the next step; for the cell in Home.ipynb."""
    from hybridlab.exercise import records
    from IPython.display import Markdown, display

    records.cache_clear()
    course = load_course()
    units = progress(course)
    display(Markdown(next_step(current(units)) + "\n\n" + table(course, units)))


def next_step(now: UnitProgress | None) -> str:
    """One thing to do, with its link or its command."""
    if now is None:
        return "## Next\n\nYou have solved every exercise that is in the course. All of the library is yours."
    week, name = now.week, short(now.week)
    notebook = link(week, week.graded, f"{week.name}/{week.graded}.ipynb")
    if not (paths.WORKSPACE / week.name / f"{week.graded}.ipynb").is_file():
        step = f"Get the notebooks of {week.name}: `course fetch {name}` in a terminal."
    elif now.all_passed:
        them = "them" if len(week.exercises) - len(now.promoted) > 1 else "the last one"
        step = f"All exercises of {week.name} pass. Make {them} part of the library: `course promote {name}`."
    elif not now.graded:
        start = f"read {link(week, 'lesson', 'the lesson')}, then open" if not week.is_project else "open"
        step = f"You are at the beginning of {week.name}: {start} {notebook}. When you want to know your points: `course grade {name}`."
    else:
        names = ", ".join(f"`{e.id}`" for e in now.open)
        step = f"Still open in {week.name}: {names}. Go on in {notebook}, then grade it again: `course grade {name}`."
    return f"## Next\n\n{step}"


def short(week: Week) -> str:
    """What a person types: week01, month01_project."""
    return week.name if week.is_project else week.name.split("_")[0]


def plan(course: Course, now: UnitProgress) -> str:
    """The week, day by day, with links and minutes; the project's own page for a project."""
    week = now.week
    if week.is_project:
        todo = "".join(f"- {line(e, now)}\n" for e in week.exercises)
        return f"## The project of this month\n\n{link(week, 'project', 'Open the project')}. It is graded by what it reaches.\n\n{todo}"
    friday = [e for e in week.exercises if broken_source(week.source / "mistakes.py", e.symbol)]
    code = [e for e in week.exercises if e not in friday]
    project = next((month.project for month in course.months if month.name == week.month), None)
    days = [
        ("Monday", f"theory: {link(week, 'lesson', 'the lesson', 'Monday')}"),
        ("Tuesday, Wednesday", f"code, in {link(week, 'lab', 'the lab')}: " + "; ".join(line(e, now) for e in code)),
        ("Thursday", f"the paper: {link(week, 'lesson', 'second part of the lesson', 'Thursday')}"),
        ("Friday", f"find the bug, in {link(week, 'lab', 'the lab', 'Friday')}: " + "; ".join(line(e, now) for e in friday)),
        ("Saturday", f"{link(project, 'project', 'the project of the month')}" if project else "catch up, or rest"),
        ("Sunday", f"review: {link(week, 'lesson', 'the questions at the end of the lesson', 'Sunday')}"),
    ]
    rows = "".join(f"| {day} | {what} |\n" for day, what in days)
    return f"## The plan of {week.name}\n\n| day | what |\n| --- | --- |\n{rows}"


def line(exercise: Exercise, now: UnitProgress) -> str:
    done = "✓ " if exercise.id in now.passed else ""
    return f"{done}`{exercise.id}` ({exercise.minutes} min, {exercise.points} point{'s' * (exercise.points != 1)})"


def link(week: Week, notebook: str, text: str, day: str = "") -> str:
    """A link to a notebook, to the heading that names the day where there is one; plain text before it is fetched."""
    if not (paths.WORKSPACE / week.name / f"{notebook}.ipynb").is_file():
        return text
    return f"[{text}]({quote(week.name)}/{notebook}.ipynb{anchor(week, notebook, day)})"


def anchor(week: Week, notebook: str, day: str) -> str:
    if day and week.release(notebook).is_file():
        for cell in nbformat.read(week.release(notebook), as_version=4).cells:
            for row in cell.source.splitlines() if cell.cell_type == "markdown" else []:
                if row.startswith("#") and day in row:
                    return "#" + quote(row.lstrip("# ").strip().replace(" ", "-"))
    return ""


def table(course: Course, units: list[UnitProgress]) -> str:
    """Points by week and month, as Markdown."""
    rows = ["| | points | solved | in the library |", "| --- | ---: | ---: | ---: |"]
    for month in course.months:
        own = [unit for unit in units if unit.week.month == month.name]
        for unit in own:
            count = len(unit.week.exercises)
            points = f"{unit.points:g}" if unit.graded else "–"
            done = " ✓" if unit.done else ""
            solved, mine = f"{len(unit.passed)} of {count}", f"{len(unit.promoted)} of {count}"
            graded = (paths.WORKSPACE / unit.week.name / "feedback.html").is_file()
            page = f" · [feedback]({unit.week.name}/feedback.html)" if graded else ""
            rows.append(f"| {unit.week.name}{done}{page} | {points} of {unit.of:g} | {solved} | {mine} |")
        total = together(own)
        solved, mine = f"{total.passed} of {total.exercises}", f"{total.promoted} of {total.exercises}"
        rows.append(f"| **{month.name}** | **{total.points:g} of {total.of:g}** | **{solved}** | **{mine}** |")
    return "\n".join(rows)
