"""`course learn`."""

from typing import Annotated

import typer


def learn(
    port: Annotated[int, typer.Option(envvar="COURSE_PORT", help="the port on this machine; another where it is in use")] = 8888,
    browser: Annotated[bool, typer.Option(help="open a browser window")] = True,
    token: Annotated[str | None, typer.Option(envvar="COURSE_TOKEN", help="the server's token; a new random one when left out")] = None,
    address: Annotated[str, typer.Option(help="who may reach it: this machine alone, or 0.0.0.0 for a container's host")] = "127.0.0.1",
) -> None:
    """Open the course in JupyterLab: fetches what is new, then shows Home.ipynb. Ctrl-C ends it."""
    import os

    from rich.console import Console

    from coursekit import gradebook, paths, server

    console = Console(highlight=False)
    with console.status("getting your workspace ready …"):
        fetched = server.prepare()
    for one in fetched:
        if one.beside:
            name = one.path.relative_to(paths.WORKSPACE)
            console.print(f"{name} is yours and stays; the course's new version is beside it: {one.beside.name}", soft_wrap=True)
    os.chdir(paths.WORKSPACE)
    configuration = gradebook.folder()
    command = server.command(paths.WORKSPACE, configuration / "settings", "Home.ipynb", port, browser=browser, token=token, address=address)
    os.execvpe(command[0], command, server.environment(configuration))
