"""The seam between the reference library and the learner's code. Each test imports the library in an interpreter of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hybridlab.exercise import promoted_path

SOFTMAX = "hybridlab.transformer.attention.softmax"
RMSNORM = "hybridlab.transformer.norms.RMSNorm"
MY_SOFTMAX = "import torch\n\nHELPER = 7\n\n\ndef softmax(scores, dim=-1):\n    return torch.full_like(scores, 0.25)\n"
MY_NORM = (
    "import torch\nfrom torch import nn\n\n\nclass RMSNorm(nn.Module):\n    def __init__(self, d, eps=1e-5):\n        super().__init__()\n"
    "        self.eps, self.weight, self.mine = eps, nn.Parameter(torch.ones(d)), True\n\n"
    "    def forward(self, x):\n        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)\n"
)


def promote(mylab: Path, symbol: str, text: str, **changes) -> None:
    path = promoted_path(mylab, symbol)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    record = {"source_sha256": hashlib.sha256(text.encode()).hexdigest(), "checks": "no-such-file", "checks_sha256": ""} | changes
    records = mylab / "library.json"
    known = json.loads(records.read_text()) if records.is_file() else {}
    records.write_text(json.dumps(known | {symbol: record}))


def run(code: str, mylab: Path | str) -> subprocess.CompletedProcess:
    environment = os.environ | {"HYBRIDLAB_MYLAB": str(mylab)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done


USES_SOFTMAX = """
import torch
from hybridlab.exercise import REGISTRY
from hybridlab.transformer import attention
print(attention.softmax(torch.zeros(2)).tolist(), REGISTRY["hybridlab.transformer.attention.softmax"].origin)
q = torch.randn(1, 1, 3, 4)
print(attention.scaled_dot_product_attention(q, q, torch.ones(1, 1, 3, 4)).mean().round(decimals=4).item())
"""


@pytest.mark.slow(seconds=4)
def test_with_nothing_promoted_the_library_hands_out_the_very_reference_objects(tmp_path):
    code = """
from hybridlab.exercise import REGISTRY
from hybridlab.transformer import attention, norms
assert REGISTRY and all(entry.origin == "reference" for entry in REGISTRY.values())
assert REGISTRY["hybridlab.transformer.attention.softmax"].reference is attention.softmax
assert attention.softmax.__code__.co_filename == attention.__file__
"""
    run(code, "")
    run(code, tmp_path / "nothing-here")


@pytest.mark.slow(seconds=3)
def test_the_library_calls_the_learners_function_where_one_is_promoted(tmp_path):
    promote(tmp_path, SOFTMAX, MY_SOFTMAX)
    lines = run(USES_SOFTMAX, tmp_path).stdout.splitlines()
    assert lines == ["[0.25, 0.25] learner", "0.75"]


@pytest.mark.slow(seconds=4)
def test_nothing_of_the_learners_file_leaks_into_the_library(tmp_path):
    promote(tmp_path, SOFTMAX, MY_SOFTMAX)
    run("from hybridlab.transformer import attention\nassert not hasattr(attention, 'HELPER')", tmp_path)


@pytest.mark.slow(seconds=4)
def test_a_model_built_by_the_library_takes_the_learners_class_and_pickles_and_loads(tmp_path):
    promote(tmp_path, RMSNORM, MY_NORM)
    run(
        """
import io, pickle, torch
from hybridlab.transformer import norms
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer
model = MiniTransformer(TransformerConfig.llama(vocab_size=17, d_model=16, n_layers=2, n_heads=2))
theirs = [m for m in model.modules() if isinstance(m, norms.RMSNorm)]
assert theirs and all(m.mine for m in theirs)
assert norms.RMSNorm.__module__ == "hybridlab.transformer.norms" and norms.RMSNorm.__qualname__ == "RMSNorm"
again = pickle.loads(pickle.dumps(model))
again.load_state_dict(model.state_dict())
tokens = torch.arange(5)[None]
assert torch.equal(again(tokens), model(tokens))
""",
        tmp_path,
    )


@pytest.mark.slow(seconds=4)
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda mylab: promoted_path(mylab, SOFTMAX).write_text(MY_SOFTMAX + "#\n"), "changed after it was promoted"),
        (lambda mylab: promoted_path(mylab, SOFTMAX).unlink(), "file is missing"),
        (lambda mylab: promote(mylab, SOFTMAX, MY_SOFTMAX, set_aside="it no longer passes: ATTN-01"), "no longer passes: ATTN-01"),
        (lambda mylab: promote(mylab, SOFTMAX, MY_SOFTMAX, checks="README.md"), "the checks have changed"),
        (lambda mylab: promote(mylab, SOFTMAX, "softmax = 1 / 0\n"), "ZeroDivisionError"),
        (lambda mylab: (mylab / "library.json").write_text('{"half'), "can't be read"),
    ],
)
def test_the_reference_takes_the_place_of_a_part_that_is_not_what_passed(tmp_path, spoil, reason):
    promote(tmp_path, SOFTMAX, MY_SOFTMAX)
    spoil(tmp_path)
    done = run(USES_SOFTMAX, tmp_path)
    assert done.stdout.splitlines() == ["[0.5, 0.5] reference", "1.0"]
    assert reason in done.stderr


@pytest.mark.slow(seconds=4)
def test_while_a_new_version_is_installed_the_one_before_is_still_used(tmp_path):
    promote(tmp_path, SOFTMAX, MY_SOFTMAX)
    old = json.loads((tmp_path / "library.json").read_text())[SOFTMAX]
    promote(tmp_path, SOFTMAX, MY_SOFTMAX, source_sha256="of the new file, not yet there", previous=old)
    assert run(USES_SOFTMAX, tmp_path).stdout.startswith("[0.25, 0.25] learner")
