"""How JupyterLab is started for a learner: on the workspace, local, with the course's nbgrader."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from hybridlab.runtime import prepare_environment

from coursekit import fetch, gradebook, home, paths, salvage
from coursekit.course import load_course

SERVER = {
    "ServerApp": {
        "jpserver_extensions": {"coursekit.jupyter": True, "jupyterlab_jupytext": False},
        "allow_root": True,
        "answer_yes": True,
        # Named, since the default is a login shell where no terminal started the server: /etc/profile then drops `course` from the PATH.
        "terminado_settings": {"shell_command": [os.environ.get("SHELL") or shutil.which("bash") or "sh"]},
    },
    "ContentsManager": {"allow_hidden": True},  # Formgrader links into .nbgrader
    "LabApp": {"check_for_updates_class": "jupyterlab.NeverCheckForUpdate", "news_url": None},
}
PAGE = {"disabledExtensions": {"@jupyter/nbgrader:create-assignment": True}}  # an instructor's tool; in the way of a learner
SETTINGS = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}


def prepare() -> list[fetch.Fetched]:
    """Fetch what is missing or new, write Home.ipynb, and configure nbgrader; what `course learn` does before it starts."""
    fetched = fetch.fetch(load_course().units)
    root = gradebook.prepare()
    gradebook.offer(load_course().units)
    home.build()
    for name, content in {"jupyter_server_config": SERVER, "settings/overrides": SETTINGS, "settings/page_config": PAGE}.items():
        salvage.write_text(json.dumps(content, indent=1) + "\n", root / f"{name}.json")
    return fetched


def command(
    root: Path, settings: Path, page: str, port: int, *, browser: bool, token: str | None = None, address: str = "127.0.0.1"
) -> list[str]:
    """JupyterLab's command line: bound to this machine unless another address is given, serving `root`, opening `page`."""
    options = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{page}", f"--ServerApp.ip={address}"]
    options += [f"--ServerApp.port={port}", f"--LabServerApp.app_settings_dir={settings}", f"--LabApp.app_settings_dir={settings}"]
    options += [] if browser else ["--no-browser"]
    options += [f"--IdentityProvider.token={token}"] if token is not None else []
    return [str(Path(sys.executable).with_name("jupyter")), "lab", *options]


def environment(configuration: Path) -> dict[str, str]:
    """The environment of JupyterLab and of every kernel that it starts; `configuration` holds nbgrader's and the server's."""
    environ = dict(os.environ)
    prepare_environment(environ)
    known = environ.get("JUPYTER_CONFIG_PATH", "")
    environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, [str(configuration), known]))
    environ["JUPYTERLAB_WORKSPACES_DIR"] = str(configuration / "workspaces")  # which tabs are open: the course's, not another project's
    environ["COURSE_WORKSPACE"] = str(paths.WORKSPACE)
    environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", "")])
    return environ
