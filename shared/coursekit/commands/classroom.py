"""`course classroom`."""

from pathlib import Path
from typing import Annotated

import typer

from coursekit.cli import in_one_line

app = typer.Typer(no_args_is_help=True, help="Teach a class with nbgrader: release, collect, grade in a sandbox, give feedback.")


@app.command()
@in_one_line
def init(
    folder: Annotated[Path, typer.Argument(help="the class's folder; made where it is missing, brought up to date where it is there")],
    exchange: Annotated[Path | None, typer.Option(help="the folder through which notebooks travel; default: FOLDER-exchange")] = None,
) -> None:
    """Make an instructor's nbgrader course with every week of the course in it."""
    from rich.console import Console

    from coursekit.classroom import create
    from coursekit.course import load_course
    from coursekit.runner import sandbox_works

    console = Console(highlight=False)
    made = create(folder, load_course(), exchange)
    lines = [
        f"The class is in {made.root}, with {len(made.weeks)} assignments; README.md there has one page on how to teach it.",
        f"Students join with: course classroom join {made.exchange}",
    ]
    if not sandbox_works():
        lines.append("bubblewrap is not installed or not allowed here, and grading a class needs it: sudo apt install bubblewrap.")
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


@app.command()
@in_one_line
def join(exchange: Annotated[Path, typer.Argument(help="the class's exchange folder, from your instructor")]) -> None:
    """Join a class: Assignment List in your JupyterLab then fetches from it and submits to it."""
    from rich.console import Console

    from coursekit.classroom import join as join_class

    found = join_class(exchange)
    text = f"You have joined the class of {found}. Start `course learn` again, then: Nbgrader → Assignment List."
    Console(highlight=False).print(text, markup=False, soft_wrap=True)


@app.command("open")
@in_one_line
def open_class(
    folder: Annotated[Path, typer.Argument(help="the class's folder")],
    port: Annotated[int, typer.Option(envvar="COURSE_PORT", help="the port on this machine")] = 8889,
    browser: Annotated[bool, typer.Option(help="open a browser window")] = True,
    token: Annotated[str | None, typer.Option(envvar="COURSE_TOKEN", help="the server's token; a new random one when left out")] = None,
) -> None:
    """Open the class in JupyterLab, with Formgrader. Ctrl-C ends it."""
    import os

    from coursekit import server
    from coursekit.errors import CourseError

    root = folder.resolve()
    if not (root / "nbgrader_config.py").is_file():
        raise CourseError(f"{root} is no class: make one with `course classroom init {folder}`.")
    os.chdir(root)
    command = server.command(root, root / "settings", "README.md", port, browser=browser, token=token)
    os.execvpe(command[0], command, server.environment(root))
