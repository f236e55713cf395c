"""`course messages`."""

from typing import Annotated

import typer


def messages(
    language: Annotated[str, typer.Argument(help="the language to translate into, as `vi`")],
    names: Annotated[list[str] | None, typer.Argument(help="weeks or projects; all when none is named")] = None,
) -> None:
    """For translators: make or bring up to date the gettext catalogues beside the masters. `course build` makes the notebooks from them."""
    from rich.console import Console

    from coursekit import paths
    from coursekit.course import load_course
    from coursekit.messages import update

    course = load_course()
    for week in [course.week(name) for name in names] if names else course.units:
        for notebook in week.notebooks:
            path, total, done = update(week, notebook, language)
            Console(highlight=False).print(f"{path.relative_to(paths.REPO)}: {done} of {total} translated")
