"""The `course` command. Each module of `coursekit.commands` holds one subcommand, a function of the module's name."""

from __future__ import annotations

import errno
import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable

import typer
from hybridlab.runtime import prepare_environment
from rich.console import Console

from coursekit import commands
from coursekit.__main__ import INTERRUPTED
from coursekit.errors import CourseError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Build, check, grade and promote the course's notebooks.",
)
errors = Console(stderr=True, highlight=False)

#: What the file system refuses → what to do about it.
ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EROFS: "it may only be read there, so mount it writable or work in another copy of the course",
    errno.EACCES: "make the folder of the course yours (there: `sudo chown -R $USER .`)",
    errno.EPERM: "make the folder of the course yours (there: `sudo chown -R $USER .`)",
    errno.ENOTDIR: "a file stands where a folder belongs, so move it away",
    errno.EISDIR: "a folder stands where a file belongs, so move it away",
}


def in_one_line(command: Callable) -> Callable:
    """Turn a CourseError, or a file that can't be written, into a sentence and exit code 1, and Ctrl-C into exit code 130."""

    @functools.wraps(command)
    def run(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except CourseError as error:
            errors.print(f"[red]{command.__name__}:[/red] ", end="")
            errors.print(str(error), markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except OSError as error:
            if error.errno not in ADVICE:
                raise
            errors.print(f"[red]{command.__name__}:[/red] ", end="")
            sentence = f"{error.strerror} ({error.filename}): {ADVICE[error.errno]}, then run the command again."
            errors.print(sentence, markup=False, soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            errors.print(INTERRUPTED)
            raise typer.Exit(130) from None

    return run


def register() -> None:
    for module in sorted(pkgutil.iter_modules(commands.__path__), key=lambda m: m.name):
        found = importlib.import_module(f"coursekit.commands.{module.name}")
        if isinstance(getattr(found, "app", None), typer.Typer):
            app.add_typer(found.app, name=module.name)
        else:
            app.command(module.name)(in_one_line(getattr(found, module.name)))


def main() -> None:
    prepare_environment()
    # jsonschema would import it to know internationalised addresses, which no notebook has: seconds of every command.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    register()
    app(prog_name="course")
