"""`/v1/chat/completions` in OpenAI's shape, as JSON or as server-sent events, with `citations`; and `/v1/models`."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Annotated, Any, Literal, TypeVar

import anyio
from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Send

from assistant.api.access import Owner
from assistant.api.errors import Refusal, documented, error_of
from assistant.api.service import Service, service
from assistant.engines.base import Message
from assistant.orchestrator import Cited, Delta, Done, Event, Options

T = TypeVar("T")
router = APIRouter(tags=["chat"])
Room = Annotated[Service, Depends(service)]


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class JsonSchema(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    name: str = "answer"
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class StreamOptions(BaseModel):
    include_usage: bool = False


class ChatRequest(BaseModel):
    """OpenAI's request; fields that it does not name here are ignored, as OpenAI's own server does with those of other versions.

    `documents` and `conversation` are this service's own: which documents to look into (all, and what was said before, when left out;
    none for an empty list), and the conversation in which question and answer are kept; where `messages` has the question alone, the
    conversation's last turns are read before it.
    """

    model: str = "assistant"
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31 - 1)
    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    n: Literal[1] = 1
    response_format: ResponseFormat | None = None
    documents: list[str] | None = Field(None, max_length=1000)
    conversation: str | None = None


class CitationOut(BaseModel):
    """A quote of a document: `start` and `end` are characters of the page's text."""

    kind: Literal["document"] = "document"
    number: int
    document_id: str
    document: str
    page: int | None
    page_index: int
    heading: list[str]
    quote: str
    start: int
    end: int
    score: float
    suspicious: bool = False


class TurnCitationOut(BaseModel):
    """A quote of what was said before: `turn` is its id in `/v1/memories`, `start` and `end` are characters of it, `created` is in seconds
    since 1970."""

    kind: Literal["turn"]
    number: int
    turn: int
    conversation_id: str
    role: Literal["user", "assistant"]
    created: float
    quote: str
    start: int
    end: int
    score: float
    suspicious: bool


class UsageOut(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class Choice(BaseModel):
    index: int = 0
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: UsageOut
    citations: list[CitationOut | TurnCitationOut]
    abstained: bool
    conversation: str | None = None


class ModelOut(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelOut]


def is_text(text: str) -> bool:
    """Whether it can be written in UTF-8; JSON lets half of a surrogate pair through."""
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def messages_of(body: ChatRequest, limit: int) -> list[Message]:
    """Raises Refusal where the last message is no question, or all together are too long."""
    roles = {"developer": "system"}
    messages = [Message(roles.get(m.role, m.role), m.text()) for m in body.messages]
    if messages[-1].role != "user" or not messages[-1].content.strip():
        raise Refusal(400, "no_question", "the last message has to be the user's, with text in it.", param="messages")
    if not all(is_text(m.content) for m in messages):
        raise Refusal(422, "bad_text", "the messages hold half of a surrogate pair, which is no text.", param="messages")
    characters = sum(len(m.content) for m in messages)
    if characters > limit:
        raise Refusal(
            413,
            "prompt_too_long",
            f"the messages have {characters:,} characters, at most {limit:,} are read: shorten them.",
            param="messages",
        )
    return messages


def options_of(body: ChatRequest) -> Options:
    """Raises Refusal where a schema is asked for and not given."""
    schema = None
    if body.response_format and body.response_format.type == "json_object":
        schema = {"type": "object"}
    elif body.response_format and body.response_format.type == "json_schema":
        if body.response_format.json_schema is None:
            raise Refusal(400, "no_schema", "response_format json_schema needs its `json_schema`.", param="response_format")
        schema = body.response_format.json_schema.schema_
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return Options(
        max_tokens=body.max_completion_tokens or body.max_tokens or 256,
        temperature=body.temperature,
        top_p=body.top_p,
        stop=tuple(word for word in stop if word and is_text(word)),
        seed=body.seed,
        json_schema=schema,
        documents=None if body.documents is None else tuple(body.documents),
    )


@router.post("/v1/chat/completions", response_model=Completion, responses=documented(404, 503))
async def complete(request: Request, body: ChatRequest, owner: Owner, room: Room) -> Any:
    """Answer the last message from the user's documents, or from what the user has said before, with citations; or say that there is no
    evidence, and cite nothing."""
    messages, options = messages_of(body, room.settings.prompt_characters), options_of(body)
    if body.conversation is not None:
        try:
            room.store.conversations.get(owner, body.conversation)
        except KeyError:
            raise Refusal(404, "no_conversation", f"there is no conversation {body.conversation!r}.", param="conversation") from None
    about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": room.engine.model}
    room.engine.refuse_if_full()  # before anything is searched or kept
    events = room.orchestrator.answer(owner, messages, options, body.conversation)
    if body.stream:  # what is refused is refused with a status, not in mid-stream
        first = await while_connected(request, first_events(events))
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(as_stream(first, events, about, usage), events)
    text, citations, done = [], [], Done("stop", None)
    for event in await while_connected(request, all_events(events)):
        if isinstance(event, Cited):
            citations = [c.as_dict() for c in event.citations]
        elif isinstance(event, Delta):
            text.append(event.text)
        else:
            done = event
    counted = {
        "prompt_tokens": done.usage.prompt_tokens,
        "completion_tokens": done.usage.completion_tokens,
        "total_tokens": done.usage.total_tokens,
    }
    choice = {"index": 0, "message": {"role": "assistant", "content": "".join(text)}, "finish_reason": done.finish}
    return {
        **about,
        "choices": [choice],
        "usage": counted,
        "citations": citations,
        "abstained": done.abstained,
        "conversation": body.conversation,
    }


async def first_events(events: AsyncGenerator[Event, None]) -> list[Event]:
    """The citations and the first piece: from then on the engine has taken the request. Closes `events` where that fails."""
    try:
        return [await anext(events), await anext(events)]
    except BaseException:
        await events.aclose()
        raise


async def all_events(events: AsyncGenerator[Event, None]) -> list[Event]:
    async with aclosing(events):
        return [event async for event in events]


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working = asyncio.create_task(work)
    tasks = (working, asyncio.create_task(gone()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Refusal(499, "gone", "the client went away.")
    finally:
        for task in tasks:
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(*tasks, return_exceptions=True)


class EventStream(StreamingResponse):
    """Server-sent events; whatever ends the response, `events` is closed, and with it the engine's work."""

    media_type = "text/event-stream"

    def __init__(self, lines: AsyncGenerator[str, None], events: AsyncGenerator[Event, None]):
        super().__init__(lines)
        self.lines, self.events = lines, events

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.events), aclosing(self.lines):
            await super().stream_response(send)


async def as_stream(
    first: list[Event], events: AsyncGenerator[Event, None], about: dict[str, Any], with_usage: bool
) -> AsyncGenerator[str, None]:
    """Events as OpenAI's chunks; the first one also holds the citations. When the client goes away, the engine stops."""
    chunk = {**about, "object": "chat.completion.chunk"}

    def line(delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        data = {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}
        return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"

    async def every() -> AsyncGenerator[Event, None]:
        for event in first:
            yield event
        async for event in events:
            yield event

    try:
        async for event in every():
            if isinstance(event, Cited):
                yield line({"role": "assistant", "content": ""}, citations=[c.as_dict() for c in event.citations])
            elif isinstance(event, Delta):
                yield line({"content": event.text})
            else:
                yield line({}, event.finish, abstained=event.abstained)
                if with_usage:
                    counted = {"prompt_tokens": event.usage.prompt_tokens, "completion_tokens": event.usage.completion_tokens}
                    data = {**chunk, "choices": [], "usage": {**counted, "total_tokens": event.usage.total_tokens}}
                    yield f"data: {json.dumps(data)}\n\n"
    except Exception as error:
        yield f"data: {error_of(error).body.decode()}\n\n"
    yield "data: [DONE]\n\n"


@router.get("/v1/models", response_model=ModelList, responses=documented())
async def models(owner: Owner, room: Room) -> Any:
    """The model that answers."""
    return {"data": [{"id": room.engine.model, "owned_by": room.engine.name}]}
