"""The runner names what is wrong with an answer, survives anything that an answer does, and hides the reference from it."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest
from coursekit.course import load_course
from coursekit.runner import Runner, sandbox_works
from coursekit.stub import module_path, reference_source, strip_bodies, stub

pytestmark = pytest.mark.slow(seconds=5)
MONTHS = Path(__file__).parent / "fixtures" / "months"
SYMBOL = "hybridlab.transformer.attention.softmax"
GOOD = "def softmax(scores, dim=-1):\n    return (scores - scores.logsumexp(dim, keepdim=True)).exp()\n"


@pytest.fixture(scope="module")
def runner():
    with Runner(load_course(MONTHS).week("week90")) as started:
        started.check("softmax", GOOD)
        yield started


def body(*lines: str) -> str:
    return "def softmax(scores, dim=-1):\n" + textwrap.indent("\n".join(lines), "    ") + "\n    return scores\n"


BAD = {
    "nothing": ("", "RUN-07"),
    "stub": (stub(reference_source(SYMBOL)), "RUN-01"),
    "another name": ("def soft(scores):\n    return scores\n", "RUN-07"),
    "syntax error": ("def softmax(scores, dim=-1)\n    return scores\n", "RUN-08"),
    "NUL byte": ("def softmax(scores):\n    return '\0'\n", "RUN-08"),
    "deep nesting": ("def softmax(scores, dim=-1):\n    return " + "(" * 5000 + "1" + ")" * 5000, "RUN-08"),
    "missing name": (body("np.exp(scores)"), "RUN-07"),
    "exception": (body("scores / 0 + [1]"), "RUN-06"),
    "endless loop": (body("while True:", "    pass"), "RUN-02"),
    "endless loop that swallows everything": (
        body("while True:", "    try:", "        while True: pass", "    except BaseException: pass"),
        "RUN-02",
    ),
    "sys.exit": (body("import sys", "sys.exit(0)"), "RUN-04"),
    "os._exit": (body("import os", "os._exit(0)"), "RUN-04"),
    "kill": (body("import os", "os.kill(os.getpid(), 9)"), "RUN-05"),
    "fork bomb": (body("import os", "while True: os.fork()"), "RUN-05"),
    "subprocess": (body("import subprocess", "subprocess.run(['true'])"), "RUN-05"),
    "network": (body("import socket", "socket.create_connection(('127.0.0.1', 9))"), "RUN-05"),
    "50 GB tensor": (body("torch.zeros(50 * 2**28)"), "RUN-03"),
    "50 GB list": (body("[0] * (50 * 2**27)"), "RUN-03"),
    "printed gigabyte": (body("for _ in range(2**10): print('x' * 2**20)"), "RUN-10"),
    "the library's own": (body("return torch.softmax(scores, dim)"), "RUN-11"),
    "imported from functional": ("from torch.nn.functional import softmax as soft\n" + body("return soft(scores, dim)"), "RUN-11"),
    "wrong rows": (body("return scores.exp() / scores.exp().sum()"), "SMALL-03"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_is_refused_by_name(runner, case):
    source, code = BAD[case]
    verdict = runner.check("softmax", source, seconds=1.0)
    assert verdict.code == code, verdict.text
    assert not verdict.passed


def test_after_all_of_them_a_good_answer_still_passes(runner):
    for source, _ in BAD.values():
        runner.check("softmax", source, seconds=0.5)
    verdict = runner.check("softmax", GOOD)
    assert verdict.passed
    assert verdict.text == "Passed: The rows add up to one, large scores too."


def test_the_limit_is_processor_time_so_that_a_busy_machine_fails_no_answer(runner):
    waits = GOOD.replace("    return", "    import time; time.sleep(0.9)\n    return")
    verdict = runner.check("softmax", waits, seconds=1.5)
    assert verdict.passed, verdict.text
    assert verdict.seconds > 1.5
    never = runner.check("softmax", body("import time", "time.sleep(60)"), seconds=0.5)
    assert never.code == "RUN-02"


def test_a_module_that_forgot_its_parents_init_is_told_so(runner):
    cell = "from torch import nn\nclass Norm(nn.Module):\n    def __init__(self):\n        self.gain = nn.Parameter(torch.ones(1))\n"
    verdict = runner.check("softmax", cell + body("Norm()"))
    assert verdict.code == "RUN-06"
    assert "super().__init__()" in verdict.text


CHEATS = {
    "through the library": body("from hybridlab.transformer import attention", "return attention.softmax(scores, dim)"),
    "through a reload": body(
        "import importlib", "from hybridlab.transformer import attention", "return importlib.reload(attention).softmax(scores)"
    ),
    "through the registry": body("from hybridlab import exercise", f"return exercise.REGISTRY[{SYMBOL!r}].reference(scores)"),
    "through the registry, spelled apart": body(
        "from hybridlab import exercise",
        "registry = getattr(exercise, 'REGIS' + 'TRY')",
        f"return registry[{SYMBOL!r}].reference(scores, dim)",
    ),
    "through the frames": body("import sys", "return sys._getframe(1).f_globals['softmax'](scores)"),
    "through the garbage collector": body("import gc", "return [o for o in gc.get_objects() if callable(o)][0](scores)"),
    "through its source": body("import inspect, hybridlab.transformer.attention as a", "text = inspect.getsource(a)"),
    "through its file": body("import hybridlab.transformer.attention as a, pathlib", "text = pathlib.Path('{file}').read_text()"),
    "through its file by descriptor": body("import os", "os.read(os.open('{file}', os.O_RDONLY), 9)"),
    "through its compiled file": body("import glob", "open(glob.glob('{cache}/*.pyc')[0], 'rb')"),
    "through cat": body("import os", "os.system('cat {file}')"),
    "through the mistakes": body("text = open('{mistakes}').read()"),
    "by replacing the oracle": "torch.isclose = lambda *a, **k: torch.tensor(True)\n" + body("return scores"),
    "by replacing what raises": body("import builtins", "builtins.float = int"),
}


@pytest.mark.parametrize("cheat", CHEATS)
def test_the_reference_under_test_and_the_check_are_out_of_reach(runner, cheat):
    file = module_path(SYMBOL)
    places = {"file": str(file), "cache": str(file.parent / "__pycache__"), "mistakes": str(runner.week.source / "mistakes.py")}
    source = CHEATS[cheat]
    for name, place in places.items():
        source = source.replace("{" + name + "}", place)
    verdict = runner.check("softmax", source, seconds=5.0)
    assert not verdict.passed
    assert verdict.code != "SMALL-09", "it got as far as having values compared"


def test_the_judging_process_never_holds_the_reference_body():
    """The module of the exercise under test is compiled from a tree in which that body, and no other, is empty."""
    tree = strip_bodies(module_path(SYMBOL).read_text("utf-8"), {"softmax"})
    whole = ast.parse(module_path(SYMBOL).read_text("utf-8"))
    for stripped, original in zip(tree.body, whole.body, strict=True):
        if getattr(original, "name", "") == "softmax":
            assert [type(statement) for statement in stripped.body] == [ast.Raise]
        else:
            assert ast.dump(stripped) == ast.dump(original)


def test_what_an_answer_prints_is_shown_and_does_not_disturb_the_verdict(runner):
    verdict = runner.check("softmax", GOOD.replace("return", "print('{\"passed\": false}'); return"))
    assert verdict.passed
    assert verdict.printed.startswith('{"passed": false}')


@pytest.mark.skipif(not sandbox_works(), reason="bubblewrap is not here: `apt-get install bubblewrap`")
def test_inside_bubblewrap_other_files_and_the_network_do_not_exist(runner):
    look = f"raise ValueError(os.path.exists({__file__!r}), open('/proc/net/dev').read().count('eth'))"
    verdict = runner.check("softmax", body("import os", look))
    assert "(False, 0)" in verdict.text


def test_what_an_answer_leaves_behind_is_gone_for_the_next(runner):
    first = body("import math", "math.left = 1", "open('left', 'w').write('x')")
    runner.check("softmax", first)
    verdict = runner.check("softmax", body("import math, os", "raise ValueError(hasattr(math, 'left'), os.listdir('.'))"))
    assert "(False, [])" in verdict.text
