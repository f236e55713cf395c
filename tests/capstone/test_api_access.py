"""Keys and limits: each key sees its own, and no more than its share."""

from __future__ import annotations

import json
import logging
import re

import pytest

OTHER = "# Secret\n\nThe merger with Lotus has the code name Heron and every employee has zero days of paid leave.\n"


def chat(text: str, **more) -> dict:
    return {"messages": [{"role": "user", "content": text}], **more}


def error(answer, status: int) -> dict:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    return body["error"]


ROUTES = [
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("POST", "/v1/documents"),
    ("GET", "/v1/documents"),
    ("GET", "/v1/documents/x"),
    ("GET", "/v1/documents/x/pages/0"),
    ("DELETE", "/v1/documents/x"),
    ("POST", "/v1/documents/x/reading"),
    ("POST", "/v1/search"),
    ("POST", "/v1/conversations"),
    ("GET", "/v1/conversations"),
    ("GET", "/v1/conversations/x"),
    ("DELETE", "/v1/conversations/x"),
    ("GET", "/v1/memories"),
    ("POST", "/v1/memories/search"),
    ("DELETE", "/v1/memories/1"),
    ("DELETE", "/v1/memories"),
    ("GET", "/v1/system"),
]


def test_every_route_asks_for_a_key(assistant):
    described = {
        (method.upper(), re.sub(r"{(?:document|conversation)_id}", "x", path).replace("{page_index}", "0").replace("{memory_id}", "1"))
        for path, item in assistant.app.openapi()["paths"].items()
        for method in item
    }
    assert described - set(ROUTES) == {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics")}
    bodies = {"/v1/chat/completions": chat("x"), "/v1/search": {"query": "x"}, "/v1/conversations": {}}
    for key in ("", "wrong", "eha-" + "x" * 43):
        with assistant.client(key) as client:
            for method, path in ROUTES:
                answer = client.request(method, path, json=bodies.get(path) if method == "POST" else None)
                assert error(answer, 401)["code"] == "invalid_api_key"
                assert answer.headers["www-authenticate"] == "Bearer"


def test_a_revoked_key_opens_nothing(assistant):
    key = assistant.service.store.keys.add("mai")
    with assistant.client(key) as client:
        assert client.get("/v1/documents").status_code == 200
        number = next(k.id for k in assistant.service.store.keys.all() if k.owner == "mai")
        assistant.service.store.keys.revoke(number)
        error(client.get("/v1/documents"), 401)


def test_a_key_sees_only_its_own(assistant, question):
    mine = assistant.upload()
    mai = assistant.service.store.keys.add("mai")
    hers = assistant.upload(OTHER, "secret.md", mai)
    with assistant.client(mai) as client:
        talk = client.post("/v1/conversations", json={"title": "hers"}).json()["id"]
    with assistant.client() as client:
        assert [d["id"] for d in client.get("/v1/documents").json()["data"]] == [mine]
        assert client.get("/v1/conversations").json()["data"] == []
        for method, path in (
            ("GET", f"/v1/documents/{hers}"),
            ("GET", f"/v1/documents/{hers}/pages/0"),
            ("DELETE", f"/v1/documents/{hers}"),
            ("POST", f"/v1/documents/{hers}/reading"),
            ("GET", f"/v1/conversations/{talk}"),
            ("DELETE", f"/v1/conversations/{talk}"),
        ):
            error(client.request(method, path), 404)
        error(client.post("/v1/chat/completions", json=chat(question, conversation=talk)), 404)
        for retriever in ("fused", "bm25", "e5"):
            for documents in (None, [hers], [mine, hers]):
                body = {"query": "merger Lotus code name Heron", "k": 100, "retriever": retriever, "documents": documents}
                hits = client.post("/v1/search", json=body).json()["data"]
                assert {hit["document_id"] for hit in hits} <= {mine}
                assert "Heron" not in json.dumps(hits)
        answer = client.post("/v1/chat/completions", json=chat("What is the code name of the merger with Lotus?")).json()
        assert {c["document_id"] for c in answer["citations"]} <= {mine}
        assert "Heron" not in str(assistant.engine.requests)
    with assistant.client(mai) as client:  # and it is all still there for her
        assert client.get(f"/v1/documents/{hers}").status_code == 200
        assert client.get(f"/v1/conversations/{talk}").status_code == 200


def test_others_are_left_out_before_ranking(assistant, question):
    """A hundred better chunks of somebody else's do not push the only own one out of the first place."""
    mine = assistant.upload()
    mai = assistant.service.store.keys.add("mai")
    assistant.upload("\n\n".join(f"# Part {n}\n\n{question} {'leave ' * 200}" for n in range(100)), "many.md", mai)
    with assistant.client() as client:
        for retriever in ("bm25", "e5", "fused"):
            hits = client.post("/v1/search", json={"query": question, "k": 1, "retriever": retriever}).json()["data"]
            assert [hit["document_id"] for hit in hits] == [mine]


def test_more_than_a_minutes_share_waits(serve):
    few = serve(requests_per_minute=3)
    mai = few.service.store.keys.add("mai")
    with few.client() as client:
        assert [client.get("/v1/models").status_code for _ in range(3)] == [200] * 3
        answer = client.get("/v1/models")
        assert error(answer, 429)["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    with few.client(mai) as client:  # each key has its own share
        assert client.get("/v1/models").status_code == 200


def test_the_share_comes_back_after_a_minute():
    from assistant.api.access import RateLimit

    limit = RateLimit(2)
    assert [limit.wait("a", now) for now in (0.0, 10.0)] == [0, 0]
    assert limit.wait("a", 30.0) == 30.0
    assert limit.wait("a", 60.0) == 0
    assert limit.wait("a", 61.0) == 9.0


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_and_files_have_their_size(serve, chunked):
    small = serve(body_bytes=10_000, upload_bytes=100_000)

    def sent(data: bytes):
        return (data[i : i + 5000] for i in range(0, len(data), 5000)) if chunked else data

    with small.client() as client:
        body = json.dumps(chat("x" * 20_000)).encode()
        error(client.post("/v1/chat/completions", content=sent(body), headers={"Content-Type": "application/json"}), 413)
        form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + b"x" * 200_000 + b"\r\n--b--\r\n"
        error(client.post("/v1/documents", content=sent(form), headers={"Content-Type": "multipart/form-data; boundary=b"}), 413)
        error(client.post("/v1/documents", files={"file": ("a.txt", b"word " * 20_001)}), 413)
        assert client.get("/v1/documents").json()["data"] == []
        assert list(small.service.settings.uploads.iterdir()) == []


def test_a_megabyte_of_prompt_is_refused_with_both_numbers(assistant):
    with assistant.client() as client:
        told = error(client.post("/v1/chat/completions", json=chat("word " * 200_000)), 413)
    assert told["param"] == "messages"
    assert "1,000,000" in told["message"]
    assert "32,000" in told["message"]
    assert assistant.engine.requests == []


def test_a_file_is_not_taken_in_before_the_key_is_known(assistant):
    """Told at once, though 150 MB are announced and none of them come."""
    import socket

    host, port = assistant.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as raw:
        form = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 150000000"
        head = f"POST /v1/documents HTTP/1.1\r\nHost: {host}\r\n{form}\r\n\r\n"
        raw.sendall(head.encode())
        assert b" 401 " in raw.recv(100)


@pytest.mark.parametrize(
    ("headers", "handed"),
    [
        ({}, True),
        ({"Host": "localhost:8000"}, True),
        ({"Host": "[::1]:8000"}, True),
        ({"Host": "evil.example"}, False),
        ({"Host": "localhost.evil.example:8000"}, False),
        ({"Host": "127.0.0.1@evil.example"}, False),
        ({"X-Forwarded-For": "203.0.113.9"}, False),
        ({"Forwarded": "for=203.0.113.9"}, False),
    ],
)
def test_the_page_has_the_local_key_only_on_this_machine(assistant, headers, handed):
    with assistant.client("") as client:
        page = client.get("/", headers=headers)
    assert page.status_code == 200
    assert (assistant.key in page.text) == handed


def test_a_service_for_others_hands_out_no_key(tmp_path, serve):
    open_to_all = serve(host="0.0.0.0")  # the setting alone: the test's server still listens on 127.0.0.1
    with open_to_all.client("") as client:
        assert open_to_all.key not in client.get("/").text


def test_a_revoked_local_key_is_handed_out_no_more(assistant):
    keys = assistant.service.store.keys
    with assistant.client("") as client:
        assert assistant.key in client.get("/").text
        keys.revoke(keys.all()[0].id)
        assert assistant.key not in client.get("/").text


def test_the_local_key_is_a_file_for_this_user_alone(assistant):
    path = assistant.service.settings.home / "local.key"
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text() == assistant.key
    assert assistant.key.encode() not in assistant.service.settings.database.read_bytes()


@pytest.mark.parametrize("path", ["/", "/web/main.js", "/v1/models", "/healthz", "/nothing", "/metrics"])
def test_every_answer_has_the_safe_headers(assistant, path):
    with assistant.client() as client:
        headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers


def test_neither_metrics_nor_logs_say_what_was_asked(assistant, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    secret = "Xylophon4711"
    with assistant.client() as client:
        client.post("/v1/chat/completions", json=chat(f"{secret} leave?", documents=[]))
        client.post("/v1/search", json={"query": secret})
        client.get(f"/{secret}")
        client.request(secret, "/v1/models")
        metrics = client.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'assistant_requests_total{method="POST",route="/v1/search",status="200"}' in metrics.text
    told = (
        metrics.text
        + "".join(record.getMessage() for record in caplog.records if record.name.partition(".")[0] not in ("httpx", "httpcore"))
        + "".join(capfd.readouterr())
    )
    assert secret.lower() not in told.lower()
    assert assistant.key not in told


def test_alive_ready_and_made_of(assistant):
    with assistant.client("") as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").json() == {"status": "ready"}
    with assistant.client() as client:
        made = client.get("/v1/system").json()
    assert made["engine"]["name"] == "fake"
    assert made["embedding"]
    assert {"symbol": "hybridlab.transformer.attention.scaled_dot_product_attention", "origin": "reference"} in made["parts"]
