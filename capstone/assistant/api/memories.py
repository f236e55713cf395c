"""`/v1/memories`: what was said, listed, searched, deleted: one turn, or everything."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from assistant.api.access import Owner
from assistant.api.errors import Refusal, documented
from assistant.api.service import Service, service
from assistant.store.turns import Turn

router = APIRouter(tags=["memories"])
Room = Annotated[Service, Depends(service)]
LARGEST = 2**62  # of an id


class MemoryOut(BaseModel):
    id: int
    object: Literal["memory"] = "memory"
    conversation_id: str
    role: Literal["user", "assistant"]
    content: str
    created: float


class MemoryList(BaseModel):
    """The newest first. `next`: what to send as `before` for older ones; null where there are none."""

    object: Literal["list"] = "list"
    data: list[MemoryOut]
    next: int | None


class MemorySearch(BaseModel):
    """`conversation`: the present one, so that "the last session" is the one before it."""

    query: str = Field(min_length=1, max_length=4000)
    k: int = Field(5, ge=1, le=100)
    conversation: str | None = Field(None, max_length=200)


class RecalledOut(MemoryOut):
    score: float
    ranks: dict[str, int]


class RecalledList(BaseModel):
    object: Literal["list"] = "list"
    data: list[RecalledOut]


class MemoryDeleted(BaseModel):
    id: int
    deleted: Literal[True] = True


class MemoriesDeleted(BaseModel):
    deleted: Literal[True] = True


def shown(turn: Turn) -> dict[str, Any]:
    return {"id": turn.id, "conversation_id": turn.conversation, "role": turn.role, "content": turn.content, "created": turn.created}


@router.get("/v1/memories", response_model=MemoryList, responses=documented())
def list_memories(
    owner: Owner,
    room: Room,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    before: Annotated[int | None, Query(ge=0, le=LARGEST)] = None,
) -> Any:
    """All turns of this key's user that came to their end."""
    turns = room.memory.turns(owner, limit, before)
    return {"data": [shown(turn) for turn in turns], "next": turns[-1].id if len(turns) == limit else None}


@router.post("/v1/memories/search", response_model=RecalledList, responses=documented())
def search_memories(body: MemorySearch, owner: Owner, room: Room) -> Any:
    """The turns that answer a question best. Sessions and days that it names ("in our first conversation", "hôm qua") are kept to."""
    found = room.memory.search(owner, body.query, body.k, body.conversation)
    return {"data": [{**shown(one.turn), "score": one.score, "ranks": one.ranks} for one in found]}


@router.delete("/v1/memories/{memory_id}", response_model=MemoryDeleted, responses=documented(404))
def delete_memory(memory_id: int, owner: Owner, room: Room) -> Any:
    """Forget one turn. It is not found any more from the moment this answers, and its conversation does not show it."""
    try:
        if not 0 <= memory_id <= LARGEST:
            raise KeyError(memory_id)
        room.memory.delete(owner, memory_id)
    except KeyError:
        raise Refusal(404, "no_memory", f"there is no memory {memory_id}.", param="memory_id") from None
    return {"id": memory_id}


@router.delete("/v1/memories", response_model=MemoriesDeleted, responses=documented())
def delete_all_memories(owner: Owner, room: Room) -> Any:
    """Forget everything that was said: all conversations of this key's user are deleted."""
    room.memory.delete_all(owner)
    return {}
