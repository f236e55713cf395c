"""`course fetch`."""

from typing import Annotated

import typer


def fetch(
    weeks: Annotated[list[str] | None, typer.Argument(help="weeks or projects; all when none is named")] = None,
) -> None:
    """Copy the course's notebooks into your workspace; a file that you have changed stays as it is."""
    from rich.console import Console

    from coursekit import fetch as fetching
    from coursekit import home, paths
    from coursekit.course import load_course

    console, course = Console(highlight=False), load_course()
    says = {"new": "[green]new", "same": "as it was", "replaced": "[green]updated", "beside": "[yellow]yours, kept"}
    for one in fetching.fetch([course.week(name) for name in weeks] if weeks else course.units):
        console.print(f"{one.path.relative_to(paths.WORKSPACE)}: {says[one.what]}", soft_wrap=True)
        if one.beside:
            console.print(
                f"  the course's new version is {one.beside.relative_to(paths.WORKSPACE)}; your answers stay in {one.path.name}. "
                f"`course doctor {one.path.parent.name}` brings its new checks into your notebook.",
                markup=False,
                soft_wrap=True,
            )
    home.build()
