"""The API against its own description: whatever is sent, the answer is one that is documented, and never a fault of the service."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
BOUNDED = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def either(operation):
    """Requests that keep to the description, and requests that break it."""
    kept, broken = (operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)
    return strategies.one_of(kept, broken)


@pytest.mark.slow(seconds=45)
@pytest.mark.parametrize("with_key", [True, False])
def test_any_request_gets_a_documented_answer(assistant, with_key):
    assistant.upload()
    schema = schemathesis.openapi.from_url(f"{assistant.url}/openapi.json")
    key = assistant.key if with_key else "none"
    for result in schema.get_all_operations():
        operation = result.ok()

        @BOUNDED
        @given(case=either(operation))
        def run(case):
            case.call_and_validate(base_url=assistant.url, headers={"Authorization": f"Bearer {key}"}, checks=list(CHECKS))

        run()


JSON = {"Content-Type": "application/json"}
BROKEN = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe\x00",
    b'{"messages": [{"role": "user", "content": "\xff"}]}',
    b"[" * 50_000,
    b'{"a":' * 50_000,
    b'{"messages": [{"role": "user", "content": "\\ud800"}], "query": "\\ud800", "title": "\\ud800"}',
    b'{"messages": [{"role": "user", "content": "x"}], "seed": 1'
    + b"0" * 5000
    + b', "query": "x", "k": 1'
    + b"0" * 5000
    + b', "title": 1e999}',
    b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN, "query": "", "title": NaN}',
    b'{"messages": [{"role": "\\ud800", "content": "x"}], "\\ud800": 1, "query": ["\\ud800"], "title": {"\\ud800": 1}}',
]


@pytest.mark.parametrize("body", BROKEN, ids=lambda body: repr(body[:24]))
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/search", "/v1/conversations"])
def test_a_body_that_is_no_request_is_a_4xx_in_openais_form(assistant, path, body):
    with assistant.client() as client:
        answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("text", ["leave\0?", "\0", "\u202e\ufeff", "a" * 4000, "\U0001f600" * 500, '" OR 1=1 --', '* NEAR( AND "', "%_'"])
def test_any_text_is_a_question(assistant, text):
    document = assistant.upload()
    with assistant.client() as client:
        assert client.post("/v1/search", json={"query": text}).status_code == 200
        assert client.post(f"/v1/documents/{document}/reading", json={"question": text}).text.endswith("data: [DONE]\n\n")
        assert client.post("/v1/conversations", json={"title": text[:200]}).status_code == 201
        assert client.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": text}]}).status_code == 200


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=b"),
        (b"--b\r\n", "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nno file name\r\n--b--\r\n', "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="other"; filename="a.txt"\r\n\r\nx\r\n--b--\r\n', "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="\x00"\r\n\r\nx\r\n--b--\r\n', "multipart/form-data; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n\r\n--b--\r\n', "multipart/form-data; boundary=b"),
        (b"{}", "application/json"),
        (b"file=x", "application/x-www-form-urlencoded"),
    ],
)
def test_an_upload_that_is_none_is_a_4xx(assistant, body, kind):
    with assistant.client() as client:
        answer = client.post("/v1/documents", content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["error"]["message"]
        assert client.get("/v1/documents").json()["data"] == []


@pytest.mark.parametrize("page", ["-1", "99999", "9" * 30, "1.5", "x", "%00"])
def test_a_page_that_is_none(assistant, page):
    document = assistant.upload()
    with assistant.client() as client:
        assert client.get(f"/v1/documents/{document}/pages/{page}").status_code in (404, 422)
        assert client.get(f"/v1/documents/%00{page}").status_code == 404


def test_unknown_paths_and_methods_are_told_in_openais_form(assistant):
    with assistant.client() as client:
        for answer, status in ((client.get("/v1/nothing"), 404), (client.put("/v1/documents"), 405), (client.delete("/v1/search"), 405)):
            assert answer.status_code == status
            assert answer.json()["error"]["message"]
