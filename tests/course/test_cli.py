"""Whatever stops a `course` command ends in one sentence that says what to do."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest
from coursekit import cli
from coursekit.errors import CourseError
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def course_command():
    cli.register()
    return lambda *arguments, **options: CliRunner().invoke(cli.app, arguments, **options)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "it may only be read there"),
        (errno.EACCES, "make the folder of the course yours"),
        (errno.ENOTDIR, "a file stands where a folder belongs"),
    ],
)
def test_what_the_file_system_refuses_is_one_sentence(fresh, course_command, monkeypatch, code, advice):
    def refuse(*_):
        raise OSError(code, os.strerror(code), "/somewhere/notes [1].json")

    monkeypatch.setattr("coursekit.fetch.fetch", refuse)
    result = course_command("fetch")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"fetch: {os.strerror(code)} (/somewhere/notes [1].json): {advice}")


@pytest.mark.slow(seconds=2)
def test_a_file_in_the_place_of_the_workspace_is_one_sentence(tmp_path):
    workspace = tmp_path / "workspace"
    workspace.write_text("not a folder")
    environment = {**os.environ, "COURSE_WORKSPACE": str(workspace)}
    done = subprocess.run([sys.executable, "-m", "coursekit", "progress"], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert re.search(r"^progress: Not a directory \(.*\): a file stands where a folder belongs", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["typer", "coursekit.commands.grade"], ids=["at the first import", "among the commands"])
def test_ctrl_c_before_a_command_has_begun_is_one_sentence(tmp_path, module):
    """The key is pressed while `module` is imported: Python finds this one first, and it does what the key does."""
    code = (
        "import os, runpy, signal, sys\n"
        "class Press:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Press())\n"
        "sys.argv = ['course', '--help']\n"
        "runpy.run_module('coursekit', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "Interrupted; nothing was left half done. Run the command again to go on.\n"


def test_a_command_starts_without_the_grammars_of_addresses():
    """They are compiled on import, which took longer than all the rest of a command."""
    code = (
        "import sys; from coursekit import cli; sys.argv = ['course', '--help']\n"
        "try: cli.main()\nexcept SystemExit: print('lark' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_an_exercise_that_is_not_there_is_answered_with_where_all_are_listed(fresh, course_command):
    result = course_command("check", "softmix")
    assert "`course progress --exercises` lists all of them" in result.stderr.replace("\n", " ")
    listed = course_command("progress", "--exercises").stdout
    assert all(exercise.id in listed for exercise in fresh.week.exercises)


def test_one_exercise_is_judged_by_its_week_and_name_or_its_name_alone(fresh, course_command):
    task = fresh.week.exercises[0].id
    course_command("fetch")
    for words in (["week90", task], [task], [str(fresh.lab), task]):
        result = course_command("check", *words)
        assert f"✗ {task}" in result.stdout, result.stderr
        assert len(result.stdout.splitlines()) == 1
    result = course_command("check", "week91", task)
    assert "'week91' is not in the course; choose one of: week90_small" in result.stderr.replace("\n", " ")


def test_a_lesson_is_not_judged_as_a_lab(fresh, course_command):
    result = course_command("check", str(fresh.week.release("lesson")))
    assert isinstance(result.exception, SystemExit | CourseError)
    assert "lesson.ipynb has no exercises; those of week90_small are in lab.ipynb." in result.stderr.replace("\n", " ")
