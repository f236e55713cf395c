"""Hints come level by level, the solution only after asking; both are recorded."""

from __future__ import annotations

import pytest
from coursekit import journal
from coursekit.cli import app, register
from coursekit.errors import CourseError
from coursekit.hint import hint, taken
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def course_command():
    register()
    return lambda *arguments, **options: CliRunner().invoke(app, arguments, **options)


def test_each_call_gives_the_next_of_three_hints_and_each_is_recorded(fresh):
    exercise = fresh.week.exercise("softmax")
    assert [hint(exercise) for _ in range(4)] == [
        (1, "Which axis adds up to 1?"),
        (2, "Subtract the maximum first."),
        (3, "exp(x - max) / sum(exp(x - max))"),
        (3, "exp(x - max) / sum(exp(x - max))"),
    ]
    assert [event["level"] for event in journal.events("hint", symbol=exercise.symbol)] == [1, 2, 3, 3]
    assert taken(fresh.week.exercise("rmsnorm")) == 0, "another exercise's hints are its own"
    with pytest.raises(CourseError, match="the levels are 1, 2 and 3"):
        hint(exercise, 4)


def test_a_hint_on_the_command_line_says_which_level_it_is(fresh, course_command):
    result = course_command("hint", "week90", "softmax", "--level", "2")
    assert result.exit_code == 0
    assert "Hint 2 of 3" in result.stdout
    assert "Subtract the maximum first." in result.stdout


def test_the_solution_is_shown_after_a_yes_alone_and_recorded_then(fresh, course_command):
    refused = course_command("solution", "week90", "softmax", input="n\n")
    assert "Show the solution of softmax?" in refused.stdout
    assert "You have 3 hints of 3 left" in refused.stdout
    assert "def softmax" not in refused.stdout
    assert journal.events("solution") == []
    shown = course_command("solution", "week90", "softmax", input="y\n")
    assert "def softmax" in shown.stdout
    (event,) = journal.events("solution")
    assert event["symbol"] == "hybridlab.transformer.attention.softmax"


def test_an_unknown_exercise_is_answered_with_the_known_ones(fresh, course_command):
    result = course_command("hint", "week90", "softmix")
    assert result.exit_code == 1
    assert "softmax, schedule, rmsnorm" in result.stderr


def test_a_line_cut_off_in_the_journal_is_passed_over(fresh):
    hint(fresh.week.exercise("softmax"))
    with journal.journal_path().open("a") as file:
        file.write('{"event": "hint", "sym')
    assert taken(fresh.week.exercise("softmax")) == 1
