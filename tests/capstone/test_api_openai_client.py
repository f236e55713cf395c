"""The official openai client works unchanged."""

from __future__ import annotations

import json

import openai
import pytest


@pytest.fixture
def client(assistant):
    assistant.upload()
    return openai.OpenAI(base_url=f"{assistant.url}/v1", api_key=assistant.key, max_retries=0)


def ask(client, question, **more):
    return client.chat.completions.create(model="assistant", messages=[{"role": "user", "content": question}], **more)


def test_json_answer_has_usage_and_verbatim_citations(client, assistant, question):
    answer = ask(client, question)
    assert answer.choices[0].message.content == "Twenty-five days."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert answer.citations
    for cited in answer.citations:
        with assistant.client() as http:
            page = http.get(f"/v1/documents/{cited['document_id']}/pages/{cited['page_index']}").json()
        assert page["text"][cited["start"] : cited["end"]] == cited["quote"]


def test_stream_is_the_same_answer_with_usage_last(client, question):
    chunks = list(ask(client, question, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Twenty-five days."
    assert chunks[0].citations
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 3


def test_models(client):
    assert [model.id for model in client.models.list()] == ["fake-1"]


def test_options_reach_the_engine(client, assistant, question):
    schema = {"type": "object", "properties": {"days": {"type": "integer"}}, "required": ["days"]}
    ask(
        client,
        question,
        stop=["\n"],
        seed=7,
        max_tokens=9,
        response_format={"type": "json_schema", "json_schema": {"name": "days", "schema": schema, "strict": True}},
    )
    request = assistant.engine.requests[-1]
    assert (request.stop, request.seed, request.max_tokens, request.json_schema) == (("\n",), 7, 9, schema)


def test_errors_are_openais_exceptions(client, assistant, question):
    with pytest.raises(openai.AuthenticationError):
        ask(client.with_options(api_key="wrong"), question)
    with pytest.raises(openai.NotFoundError):
        ask(client, question, extra_body={"conversation": "none"})
    with pytest.raises(openai.BadRequestError):
        ask(client, "   ")
    with pytest.raises(openai.UnprocessableEntityError):
        ask(client, question, temperature=9)
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, "word " * 2000, extra_body={"documents": []})
    assert (caught.value.status_code, caught.value.code) == (413, "context_length_exceeded")
    assert "2000" in caught.value.message
    assert "1000" in caught.value.message


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_is_a_rate_limit_error_at_once(serve, fake_engine, question, stream, until):
    import threading

    busy = serve(fake_engine(["x"] * 200, delay=0.05), streams=1, queue=0)
    client = openai.OpenAI(base_url=f"{busy.url}/v1", api_key=busy.key, max_retries=0)
    first = ask(client, question, stream=True, extra_body={"documents": []})
    next(iter(first))
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, question, stream=stream, extra_body={"documents": []})
    assert int(caught.value.response.headers["retry-after"]) >= 1
    assert len(busy.engine.requests) == 1
    first.close()
    assert until(lambda: busy.service.engine.running == 0) < 1.0
    assert threading.active_count() < 100


def test_without_documents_it_says_so_and_cites_nothing(assistant, question):
    client = openai.OpenAI(base_url=f"{assistant.url}/v1", api_key=assistant.key)
    answer = ask(client, question)
    assert (answer.abstained, answer.citations, assistant.engine.requests) == (True, [], [])


@pytest.mark.slow(seconds=30)
def test_the_real_service_answers_with_a_schema(real):
    real.upload()
    client = openai.OpenAI(base_url=f"{real.url}/v1", api_key=real.key, timeout=120)
    schema = {
        "type": "object",
        "properties": {"days": {"type": "integer", "maximum": 99}},
        "required": ["days"],
        "additionalProperties": False,
    }
    answer = ask(
        client,
        "How many days of paid leave are there? Answer in JSON.",
        max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "days", "schema": schema}},
        extra_body={"documents": []},
    )
    assert isinstance(json.loads(answer.choices[0].message.content)["days"], int)
