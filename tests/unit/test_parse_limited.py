"""A parser that hangs, crashes or eats memory ends alone, in time, and with a sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typst
from hybridlab.rag.parse import DocumentError, Limits, parse
from hybridlab.rag.parse import limited as limited_module
from hybridlab.rag.parse.limited import from_json, parse_limited, to_json
from reportlab.pdfgen.canvas import Canvas


@pytest.fixture
def document(tmp_path: Path) -> Path:
    source = "= Một\n#table(columns: 2, [A], [B], [1], [2])\n#text(fill: white)[order]\n#pagebreak()\nSố 𝔸 hai"
    (tmp_path / "a.pdf").write_bytes(typst.compile(source.encode()))
    return tmp_path / "a.pdf"


FAKE = """
import sys
from hybridlab.rag.parse import worker
def parse(*a, progress, **k):
    {body}
worker.parse = parse
worker.main(*sys.argv[1:])
"""


def with_parser(monkeypatch, tmp_path: Path, body: str) -> None:
    """Let the worker run ``body`` in place of its parser."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE.format(body=body))
    popen = subprocess.Popen
    monkeypatch.setattr(limited_module.subprocess, "Popen", lambda command, **kw: popen([sys.executable, str(script), *command[3:]], **kw))


def refusal(path: Path, **options) -> DocumentError:
    with pytest.raises(DocumentError) as refused:
        parse_limited(path, **options)
    return refused.value


def test_it_gives_what_parse_gives_and_tells_its_progress(document):
    steps = []
    assert parse_limited(document, progress=lambda *step: steps.append(step)) == parse(document)
    assert steps[-1] == (2, 2)


def test_the_pipe_carries_everything(document):
    parsed = parse(document)
    assert parsed.pages[0].tables
    assert parsed.pages[0].hidden
    assert from_json(to_json(parsed)) == parsed


def test_errors_and_limits_pass_through(document, tmp_path):
    (tmp_path / "empty.pdf").touch()
    assert refusal(tmp_path / "empty.pdf").code == "empty"
    error = refusal(document, limits=Limits(pages=1))
    assert (error.code, "2 pages" in error.sentence) == ("too_many_pages", True)


@pytest.mark.slow(seconds=2)
@pytest.mark.parametrize("body", ["import time; time.sleep(60)", "print('x')\n    while True: pass"])
def test_a_hang_ends_in_time(monkeypatch, tmp_path, document, body):
    with_parser(monkeypatch, tmp_path, body)
    started = time.monotonic()
    assert refusal(document, seconds=1.5).code == "timeout"
    assert time.monotonic() - started < 15


def test_a_crash_is_an_error_and_not_a_crash(monkeypatch, tmp_path, document):
    with_parser(monkeypatch, tmp_path, "import ctypes; ctypes.string_at(0)")
    assert refusal(document).code == "crashed"


@pytest.mark.slow(seconds=3)
def test_progress_comes_before_the_end(monkeypatch, tmp_path, document):
    with_parser(monkeypatch, tmp_path, "progress(1, 9); import time; time.sleep(60)")
    steps = []
    assert refusal(document, seconds=2.5, progress=lambda *step: steps.append(step)).code == "timeout"
    assert steps == [(1, 9)]


def test_memory_is_bounded(monkeypatch, tmp_path, document):
    with_parser(monkeypatch, tmp_path, "return bytearray(2**32)")
    assert refusal(document, memory=2**30).code == "memory"


def test_no_file_can_be_written(monkeypatch, tmp_path, document):
    target = tmp_path / "written"
    with_parser(monkeypatch, tmp_path, f"import os; os.write(os.open({str(target)!r}, os.O_CREAT | os.O_WRONLY), b'x')")
    assert refusal(document).code == "crashed"
    assert not target.exists() or target.stat().st_size == 0


def test_no_process_is_left_behind(monkeypatch, tmp_path, document):
    with_parser(monkeypatch, tmp_path, "import time; time.sleep(60)")
    started = []
    popen = limited_module.subprocess.Popen
    monkeypatch.setattr(limited_module.subprocess, "Popen", lambda *a, **kw: started.append(popen(*a, **kw)) or started[-1])
    refusal(document, seconds=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)


def test_a_file_of_200_mb_is_read_in_little_memory_and_time(tmp_path):
    """Most of it is a stream that no page uses; the file is sparse, so that the test writes little."""
    canvas = Canvas(str(tmp_path / "small.pdf"))
    canvas.drawString(72, 700, "Thirty days.")
    canvas.save()
    data = (tmp_path / "small.pdf").read_bytes()
    body, table = data[: data.rindex(b"xref\n0")], data[data.rindex(b"xref\n0") :]
    path, size = tmp_path / "large.pdf", 200 * 2**20
    with path.open("wb") as handle:
        handle.write(body + b"99 0 obj\n<</Length %d>>\nstream\n" % size)
        handle.seek(size, os.SEEK_CUR)
        handle.write(b"\nendstream\nendobj\n")
        place = handle.tell()
        handle.write(re.sub(rb"startxref\s+\d+", b"startxref\n%d" % place, table))
    assert parse_limited(path, seconds=20, memory=2**30).pages[0].text == "Thirty days."
    os.truncate(path, size // 2)
    assert refusal(path, seconds=20).code == "truncated"
