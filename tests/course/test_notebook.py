"""What notebooks import: `check` judges the cell that was last run, `review` answers wrong answers by name, `compare` prints a ratio."""

from __future__ import annotations

import nbformat
import pytest
from coursekit.course import load_course
from coursekit.errors import CourseError
from coursekit.notebook import Review, compare, defines, same
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

UNIT = load_course().week("week02")


@pytest.mark.slow(seconds=20)
def test_check_in_a_live_kernel_judges_the_last_run_of_the_exercise_cell():
    right = "def softmax(scores, dim=-1):\n    return (scores - scores.logsumexp(dim, keepdim=True)).exp()"
    ask = 'check("week02", "softmax")'
    cells = [
        "from coursekit.notebook import check",
        ask,
        "def softmax(scores, dim=-1):\n    return scores",
        ask,
        right,
        ask,
        "softmax = None",
        ask,
    ]
    client = NotebookClient(new_notebook(cells=[new_code_cell(source) for source in cells]), timeout=120, allow_errors=True)
    outputs = [cell.outputs for cell in client.execute().cells if cell.source == ask]
    errors = ["\n".join(o.traceback) if o.output_type == "error" else "" for first in outputs for o in first[:1]]
    texts = [o.get("text", "") for first in outputs for o in first[:1]]
    assert "run the cell above first" in errors[0]
    assert "SOFT-" in errors[1]
    assert "Hint:" in errors[1]
    assert "Traceback" not in errors[1], "the mistake's sentence stands alone"
    assert "✓ Passed" in texts[2]
    assert "✓ Passed" in texts[3], "the cell's text counts, not what a name holds by now"


def test_a_cell_defines_what_stands_at_its_top_level_and_a_broken_cell_nothing():
    assert defines("import torch\ndef softmax(x): ...", "softmax")
    assert not defines("if True:\n    def softmax(x): ...", "softmax")
    assert not defines("def softmax(x) ...", "softmax")


@pytest.mark.parametrize(
    ("given", "expected", "tolerance", "agree"),
    [
        (64, 64, 0, True),
        (64.0, 64, 0, True),
        (65, 64, 0, False),
        (1.005, 1.0, 0.01, True),
        (1.02, 1.0, 0.01, False),
        (" Pre ", "pre", 0, True),
        (3, "pre", 0, False),
        ((2, 5), [2, 5], 0, True),
        ([2, 6], [2, 5], 0, False),
        ((2, 5, 1), [2, 5], 0, False),
        (5, [5], 0, True),
        (True, True, 0, True),
        (1, True, 0, False),
        ("sixty-four", 64, 0, False),
        (None, 64, 0, False),
    ],
)
def test_answers_agree_by_value_shape_or_word(given, expected, tolerance, agree):
    assert same(given, expected, tolerance) is agree


@pytest.mark.parametrize("unit", [u for u in load_course().units if (u.source / "review.toml").is_file()], ids=lambda u: u.name)
def test_each_question_knows_its_answer_and_says_why_known_wrong_ones_are_wrong(unit, capsys):
    review = Review(unit)
    assert unit.is_project or 5 <= len(review.questions) <= 8
    for name, question in review.questions.items():
        review(name, ...)
        assert "not answered yet" in capsys.readouterr().out
        review(name, question["answer"])
        assert f"✓ {name}: right." in capsys.readouterr().out
        for wrong in question.get("wrong", []):
            review(name, wrong["answer"])
            assert wrong["say"] in capsys.readouterr().out
        review(name, "xyzzy")
        assert "✗" in capsys.readouterr().out
    with pytest.raises(CourseError, match="there is no question 'q99'"):
        review("q99", 1)


@pytest.mark.parametrize("unit", [u for u in load_course().units if not u.is_project], ids=lambda u: u.name)
def test_every_question_stands_in_the_lesson_and_no_answer_does(unit):
    cells = [c.source for c in nbformat.read(unit.release("lesson"), as_version=4).cells if c.cell_type == "code"]
    for name in Review(unit).questions:
        assert any(f'answer("{name}", ...)' in source for source in cells), name


def test_compare_prints_the_ratio_that_it_returns(capsys, monkeypatch):
    clock = [0.0]

    def taking(seconds):
        return lambda: clock.__setitem__(0, clock[0] + seconds)

    monkeypatch.setattr("coursekit.notebook.time.process_time", lambda: clock[0])
    assert compare(taking(0.002), taking(0.005), repeat=3) == pytest.approx(2.5)
    assert "yours 2.00 ms, reference 5.00 ms: 2.50 times as fast" in capsys.readouterr().out
