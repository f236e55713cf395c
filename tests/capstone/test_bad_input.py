"""Whatever is uploaded: the service answers, says of each file in a sentence what is wrong with it, and goes on with the others.

What a reader makes of each kind of file is held by tests/unit/test_parse_*.py; here they come over the API, all together.
"""

from __future__ import annotations

import io
import re
import socket
import zipfile
from pathlib import Path

import docx
import pytest
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from tests.capstone.conftest import HANDBOOK

NO_PAGES = b"%PDF-1.4\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n2 0 obj\n<</Type/Pages/Kids[]/Count 0>>\nendobj\n"


def pdf(pages: int = 1, encrypt=None) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, encrypt=encrypt)
    for _ in range(pages):
        canvas.drawString(72, 700, "Thirty days of notice.")
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def without_pages() -> bytes:
    table = b"xref\n0 3\n0000000000 65535 f \n0000000009 00000 n \n%010d 00000 n \n" % NO_PAGES.index(b"2 0 obj")
    return NO_PAGES + table + b"trailer\n<</Size 3/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(NO_PAGES)


def scan() -> bytes:
    out = io.BytesIO()
    Image.new("L", (300, 400), 200).save(out, "PDF")
    return out.getvalue()


def word(changes: dict[str, bytes] | None = None, entity: bool = False) -> bytes:
    """A DOCX; with parts added, or a body that asks for a file of the machine's."""
    plain, out = io.BytesIO(), io.BytesIO()
    document = docx.Document()
    document.add_paragraph("Hello")
    document.save(plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if entity and name == "word/document.xml":
                declaration, _, rest = data.partition(b"?>")
                dtd = b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
                data = declaration + b"?>" + dtd + rest.replace(b"Hello", b"&e;")
            new.writestr(name, data)
        for name, data in (changes or {}).items():
            new.writestr(name, data)
    return out.getvalue()


FAILING = {
    "cut.pdf": lambda: pdf(60)[:20_000],
    "locked.pdf": lambda: pdf(encrypt=StandardEncryption("open sesame", canPrint=0)),
    "scan.pdf": scan,
    "no-pages.pdf": without_pages,
    "rubbish.pdf": lambda: b"%PDF-1.7\n" + b"rubbish " * 500 + b"\n%%EOF\n",
    "many.pdf": lambda: pdf(12),
    "bomb.docx": lambda: word({"word/media/image1.bmp": b"\0" * (40 * 2**20)}),
    "entity.docx": lambda: word(entity=True),
    "cut.docx": lambda: word()[:900],
    "program.txt": lambda: b"\x7fELF\x02\x01\x01" + bytes(500),
    "blank.md": lambda: b" \n \n",
}


@pytest.mark.slow(seconds=15)
def test_files_that_can_not_be_read_fail_with_a_sentence_each_and_nothing_else_does(serve):
    running = serve(document_pages=10)
    with running.client() as client:
        for name, write in FAILING.items():
            answer = client.post("/v1/documents", files={"file": (name, write())})
            assert answer.status_code == 201, f"{name}: {answer.text}"
        good = {"lying.docx": pdf(), "handbook.md": HANDBOOK.encode(), "plain.docx": word()}
        for name, data in good.items():
            client.post("/v1/documents", files={"file": (name, data)})
        assert running.service.knowledge.wait(120)
        documents = {document["name"]: document for document in client.get("/v1/documents").json()["data"]}
        assert {name for name, document in documents.items() if document["state"] == "failed"} == set(FAILING)
        for name in FAILING:
            assert documents[name]["error"].endswith("."), documents[name]
            assert "Error" not in documents[name]["error"]
            assert "Traceback" not in documents[name]["error"]
        assert len({documents[name]["error"] for name in FAILING}) >= len(FAILING) - 2, "different faults have different sentences"
        assert {name for name, document in documents.items() if document["state"] == "ready"} == set(good)
        assert documents["lying.docx"]["warnings"] == ["type:application/pdf"]
        hits = client.post("/v1/search", json={"query": "notice root", "k": 100}).json()["data"]
        assert {hit["document"] for hit in hits} == set(good)
        assert not any("root:" in hit["text"] for hit in hits)


@pytest.mark.slow(seconds=5)
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_an_upload_that_is_cut_off_on_the_way_leaves_nothing(assistant, until, share):
    host, port = assistant.url.removeprefix("http://").split(":")
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    form = start + b"word " * 600_000 + b"\r\n--b--\r\n"
    head = (
        f"POST /v1/documents HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {assistant.key}\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {len(form)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(head.encode() + form[: int(share * len(form))])
    with assistant.client() as client:
        until(lambda: client.get("/healthz").status_code == 200)
        assert client.get("/v1/documents").json()["data"] == []
        uploads: Path = assistant.service.settings.uploads
        until(lambda: list(uploads.iterdir()) == [])
        assert client.post("/v1/documents", content=form, headers={"Content-Type": "multipart/form-data; boundary=b"}).status_code == 201


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.md", "..\\..\\a.md", "a\0b.md", "🚀👩‍💻.md", "đ" * 297 + ".md", "\u202efdm.md", "con.md"]
)
def test_no_name_leaves_the_folder_of_uploads(assistant, name):
    home = assistant.service.settings.home
    before = {path for path in home.parent.rglob("*") if path.is_file() and path.parent != home / "uploads"}
    with assistant.client() as client:
        answer = client.post("/v1/documents", files={"file": (name, HANDBOOK.encode())})
        assert answer.status_code in (201, 400, 422), answer.text
        shown = [document["name"] for document in client.get("/v1/documents").json()["data"]]
    assert len(shown) == (answer.status_code == 201)
    assert not any({"/", "\\", "\0"} & set(one) or len(one) > 200 for one in shown)
    assert {path for path in home.parent.rglob("*") if path.is_file() and path.parent != home / "uploads"} == before


def test_every_test_that_the_page_names_is_there(repository):
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (repository / "docs" / "assistant.md").read_text("utf-8"))
    assert len(named) > 30
    gone = [f"{path}::{name}" for path, name in named if f"def {name}(" not in (repository / path).read_text("utf-8")]
    assert gone == []
