"""What a command loads: little, since a learner waits for it."""

import subprocess
import sys


def test_no_command_compiles_the_grammar_of_iris():
    code = "import coursekit, sys, nbformat; print('lark' in sys.modules, nbformat.validate(nbformat.v4.new_notebook()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "None"]
