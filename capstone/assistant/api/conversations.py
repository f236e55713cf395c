"""`/v1/conversations`: begin, list, read, delete."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from assistant.api.access import Owner
from assistant.api.chat import CitationOut, TurnCitationOut
from assistant.api.documents import Deleted
from assistant.api.errors import Refusal, documented
from assistant.api.service import Service, service
from assistant.store.conversations import Conversation

router = APIRouter(tags=["conversations"])
Room = Annotated[Service, Depends(service)]


class NewConversation(BaseModel):
    title: str = Field("", max_length=200)


class ConversationOut(BaseModel):
    id: str
    object: Literal["conversation"] = "conversation"
    title: str
    created: float
    updated: float


class ConversationList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ConversationOut]


class MessageOut(BaseModel):
    """`id` is that of the turn in `/v1/memories`, once the message is complete."""

    id: int
    role: Literal["user", "assistant"]
    content: str
    citations: list[CitationOut | TurnCitationOut]
    complete: bool
    created: float


class ConversationWithMessages(ConversationOut):
    messages: list[MessageOut]


def shown(conversation: Conversation) -> dict[str, Any]:
    return {"id": conversation.id, "title": conversation.title, "created": conversation.created, "updated": conversation.updated}


def missing(conversation: str) -> Refusal:
    return Refusal(404, "no_conversation", f"there is no conversation {conversation!r}.", param="conversation_id")


@router.post("/v1/conversations", response_model=ConversationOut, status_code=201, responses=documented(507))
def begin(body: NewConversation, owner: Owner, room: Room) -> Any:
    """Begin a conversation; name its id in `/v1/chat/completions` to keep question and answer in it."""
    return shown(room.store.conversations.begin(owner, body.title))


@router.get("/v1/conversations", response_model=ConversationList, responses=documented())
def list_conversations(owner: Owner, room: Room) -> Any:
    """Newest first."""
    return {"data": [shown(conversation) for conversation in room.store.conversations.all(owner)]}


@router.get("/v1/conversations/{conversation_id}", response_model=ConversationWithMessages, responses=documented(404))
def one_conversation(conversation_id: str, owner: Owner, room: Room) -> Any:
    try:
        conversation = room.store.conversations.get(owner, conversation_id)
        messages = room.store.conversations.messages(owner, conversation_id)
    except KeyError:
        raise missing(conversation_id) from None
    return {**shown(conversation), "messages": [vars(message) for message in messages]}


@router.delete("/v1/conversations/{conversation_id}", response_model=Deleted, responses=documented(404))
def delete_conversation(conversation_id: str, owner: Owner, room: Room) -> Any:
    try:
        room.memory.delete_conversation(owner, conversation_id)
    except KeyError:
        raise missing(conversation_id) from None
    return {"id": conversation_id}
