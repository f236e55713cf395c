"""`/v1/documents/{id}/reading`: a document of any length read to its end, and what is found told as it is found."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import asdict
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Body, Depends
from hybridlab.ssm.long_reader import LongReader
from pydantic import BaseModel, Field

from assistant.api.access import Owner
from assistant.api.chat import EventStream
from assistant.api.documents import missing
from assistant.api.errors import Refusal, documented, error_of
from assistant.api.service import Service, service
from assistant.knowledge.desk import DeskTaken
from assistant.knowledge.long_reading import Answered, Marked, Read, Step, read_document
from assistant.store.documents import Document

log = logging.getLogger(__name__)
router = APIRouter(tags=["documents"])
Room = Annotated[Service, Depends(service)]
NAMES = {Read: "progress", Marked: "mark", Answered: "answer"}
PATIENCE = 600  # seconds after which another try may be worth it, however long the present reading will take


class ReadingRequest(BaseModel):
    """`question`: the keys that it names are told at the end; where it names none, all that was found."""

    question: str = Field("", max_length=4000)


Asked = Annotated[ReadingRequest, Body(default_factory=ReadingRequest)]  # the body may be left out

@router.post(
    "/v1/documents/{document_id}/reading",
    response_model=None,
    responses={**documented(404, 409), 200: {"content": {"text/event-stream": {}}, "description": "progress, marks, answers"}},
)
async def read(document_id: str, body: Asked, owner: Owner, room: Room) -> EventStream:
    """Read a document to its end in memory of one size, without its index. Server-sent events, whose data say by `event` what they are:
    `progress` (tokens, characters, pages, marks and seconds so far), `mark` (a passage that the reader took into its state: of planted
    pairs, `amber -> 42`), and behind them an `answer` for each key: what the state holds, and in `retrieved` what search alone finds. A
    client that goes away ends the reading; one document is read at a time."""
    document = readable(room, owner, document_id)
    steps = steps_of(room, owner, document, body.question)
    try:
        first = await anext(steps)  # what is refused is refused with a status, not in mid-stream
    except BaseException:
        await steps.aclose()
        raise
    return EventStream(as_stream(first, steps, document_id), steps)


def readable(room: Service, owner: str, document_id: str) -> Document:
    """Raises Refusal where the owner has no such document, or it has no text (yet)."""
    try:
        document = room.knowledge.document(owner, document_id)
    except KeyError:
        raise missing(document_id) from None
    if document.state == "received":
        said = "the document is still being taken in: try again when its state is `searchable`."
        raise Refusal(409, "not_taken_in", said, param="document_id", headers={"Retry-After": "2"})
    if document.state == "failed":
        raise Refusal(409, "nothing_to_read", f"the document has no text to read. {document.error}", param="document_id")
    return document


async def steps_of(room: Service, owner: str, document: Document, question: str) -> AsyncGenerator[Step, None]:
    """A reading's steps, each made in a thread. Closing it ends the reading after the piece that is being read."""
    try:
        with room.desk.taken():
            reader = await anyio.to_thread.run_sync(LongReader.load)
            with closing(read_document(room.knowledge, owner, document, reader, question)) as steps:
                while (step := await anyio.to_thread.run_sync(next, steps, None)) is not None:
                    if isinstance(step, Read) and step.characters:
                        room.desk.seconds_left = step.seconds * (step.of_characters / step.characters - 1)
                    yield step
    except DeskTaken as taken:
        wait = {"Retry-After": f"{min(PATIENCE, max(1, math.ceil(taken.seconds_left)))}"}
        raise Refusal(429, "desk_taken", "another document is being read: one is read at a time.", headers=wait) from None


async def as_stream(first: Step, steps: AsyncGenerator[Step, None], document_id: str) -> AsyncGenerator[str, None]:
    def line(step: Step) -> str:
        return f"data: {json.dumps({'event': NAMES[type(step)], **asdict(step)}, ensure_ascii=False)}\n\n"

    try:
        async with aclosing(steps):
            yield line(first)
            async for step in steps:
                yield line(step)
    except KeyError:  # deleted, or replaced by a newer version, meanwhile
        yield f"data: {error_of(missing(document_id)).body.decode()}\n\n"
    except Exception as error:
        log.exception("reading: it failed")
        yield f"data: {error_of(error).body.decode()}\n\n"
    yield "data: [DONE]\n\n"
