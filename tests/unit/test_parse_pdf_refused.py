"""PDF: what can't be read is refused by name, and long work shows its progress."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hybridlab.rag.parse import DocumentError, Limits, parse
from PIL import Image
from reportlab.pdfgen.canvas import Canvas

from tests.unit.pdf_pages import VISIBLE, drawn, visible


def refusal(path: Path, **options) -> str:
    with pytest.raises(DocumentError) as refused:
        parse(path, **options)
    assert refused.value.sentence.endswith(".")
    return refused.value.code


@pytest.mark.slow(seconds=2)
def test_a_scan_without_text_says_so(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (300, 400), 200).save(buffer, "PDF")
    (tmp_path / "a.pdf").write_bytes(buffer.getvalue())
    assert refusal(tmp_path / "a.pdf") == "scanned"


def test_a_password_is_asked_for(tmp_path):
    from reportlab.lib.pdfencrypt import StandardEncryption

    canvas = Canvas(str(tmp_path / "a.pdf"), encrypt=StandardEncryption("open sesame", canPrint=0))
    canvas.drawString(72, 700, VISIBLE)
    canvas.save()
    assert refusal(tmp_path / "a.pdf") == "encrypted"


def test_an_owners_password_does_not_stop_a_reader(tmp_path):
    from reportlab.lib.pdfencrypt import StandardEncryption

    canvas = Canvas(str(tmp_path / "a.pdf"), encrypt=StandardEncryption("", ownerPassword="boss", canCopy=0))
    canvas.drawString(72, 700, VISIBLE)
    canvas.save()
    assert visible(parse(tmp_path / "a.pdf").pages[0]) == VISIBLE


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_cut_off_file_is_refused_and_not_half_read(tmp_path, share):
    data = drawn(tmp_path / "whole.pdf", lambda canvas: None, pages=60).read_bytes()
    (tmp_path / "a.pdf").write_bytes(data[: int(len(data) * share)])
    assert refusal(tmp_path / "a.pdf") == "truncated"


def test_a_cut_off_web_optimised_file_is_refused(tmp_path):
    """It has an end mark near its beginning as well; the length that it states tells."""
    data = drawn(tmp_path / "whole.pdf", lambda canvas: None).read_bytes()
    stated = b"%PDF-1.4\n1 0 obj\n<< /Linearized 1 /L 999999 >>\nendobj\n"
    (tmp_path / "a.pdf").write_bytes(stated + data)
    assert refusal(tmp_path / "a.pdf") == "truncated"


def test_a_pdf_without_pages_is_refused(tmp_path):
    body = b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n"
    table = b"xref\n0 3\n0000000000 65535 f \n0000000009 00000 n \n%010d 00000 n \n" % body.index(b"2 0 obj")
    tail = table + b"trailer\n<</Size 3/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(body)
    (tmp_path / "a.pdf").write_bytes(body + tail)
    assert refusal(tmp_path / "a.pdf") == "empty"


def test_rubbish_between_header_and_end_is_damaged(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n" + b"rubbish " * 500 + b"\n%%EOF\n")
    assert refusal(tmp_path / "a.pdf") == "damaged"


def test_more_pages_than_allowed_are_refused_before_any_is_read(tmp_path):
    path = drawn(tmp_path / "a.pdf", lambda canvas: None, pages=4)
    done = []
    assert refusal(path, limits=Limits(pages=3), progress=lambda *step: done.append(step)) == "too_many_pages"
    assert done == []
    assert len(parse(path, limits=Limits(pages=4)).pages) == 4


def test_more_text_than_allowed_is_refused(tmp_path):
    path = drawn(tmp_path / "a.pdf", lambda canvas: None, pages=30)
    assert refusal(path, limits=Limits(text_chars=200)) == "too_large"


def test_progress_counts_pages(tmp_path):
    steps = []
    parse(drawn(tmp_path / "a.pdf", lambda canvas: None, pages=3), progress=lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.slow(seconds=10)
def test_five_thousand_pages_are_read(tmp_path):
    assert len(parse(drawn(tmp_path / "a.pdf", lambda canvas: None, pages=5_000)).pages) == 5_000
