"""`/v1/documents`: upload, list, progress, pages, delete. And `/v1/search`."""

from __future__ import annotations

import errno
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from assistant.api.access import Owner
from assistant.api.errors import Refusal, documented
from assistant.api.service import Service, service
from assistant.store.documents import Document

router = APIRouter(tags=["documents"])
Room = Annotated[Service, Depends(service)]


class DocumentOut(BaseModel):
    """`progress`: share of the document that is found by meaning; by words it is found once its state is `searchable`.
    `error` says to people what is wrong, `error_code` to programs."""

    id: str
    object: Literal["document"] = "document"
    name: str
    media_type: str
    bytes: int
    state: Literal["received", "searchable", "ready", "failed"]
    error: str
    error_code: str
    title: str
    warnings: list[str]
    pages: int
    chunks: int
    progress: float
    created: float


class DocumentList(BaseModel):
    object: Literal["list"] = "list"
    data: list[DocumentOut]


class PageOut(BaseModel):
    document_id: str
    document: str
    page_index: int
    page: int | None
    heading: list[str]
    text: str
    hidden: list[tuple[int, int]]


class Deleted(BaseModel):
    id: str
    deleted: Literal[True] = True


class SearchRequest(BaseModel):
    query: str = Field(min_length=1, max_length=4000)
    k: int = Field(5, ge=1, le=100)
    retriever: Literal["fused", "bm25", "e5"] = "fused"
    documents: list[str] | None = Field(None, max_length=1000)


class HitOut(BaseModel):
    document_id: str
    document: str
    page: int | None
    page_index: int
    heading: list[str]
    start: int
    end: int
    kind: str
    text: str
    score: float
    ranks: dict[str, int]


class HitList(BaseModel):
    object: Literal["list"] = "list"
    data: list[HitOut]


def shown(document: Document) -> dict[str, Any]:
    progress = 1.0 if document.state == "ready" else document.embedded / document.chunks if document.chunks else 0.0
    names = ("id", "name", "media_type", "bytes", "state", "error", "error_code", "title", "warnings", "pages", "chunks", "created")
    return {name: getattr(document, name) for name in names} | {"progress": round(progress, 4)}


def missing(document: str) -> Refusal:
    return Refusal(404, "no_document", f"there is no document {document!r}.", param="document_id")


FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary", "description": "PDF, DOCX, Markdown, text or HTML"}},
            }
        }
    },
}


@router.post("/v1/documents", response_model=DocumentOut, status_code=201, responses=documented(507), openapi_extra={"requestBody": FORM})
async def upload(request: Request, owner: Owner, room: Room) -> Any:
    """Store a document. When this answers, it can't be lost any more; it is read and embedded in the background."""
    try:  # read here and not by the framework, which would take in a file before it asks for the key
        async with request.form(max_files=1, max_fields=10) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise Refusal(422, "no_file", "send the document as multipart/form-data, in a part `file` with a file name.", param="file")
            return shown(await anyio.to_thread.run_sync(room.knowledge.add, owner, file.filename or "", file.file))
    except ClientDisconnect:
        raise Refusal(400, "cut_off", "the upload was cut off: send the file again.", param="file") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Refusal(507, "disk_full", "the disk is full: delete documents or free some space, then upload again.") from error
        raise


@router.get("/v1/documents", response_model=DocumentList, responses=documented())
def list_documents(owner: Owner, room: Room) -> Any:
    """All documents of this key's user, with their state and progress."""
    return {"data": [shown(document) for document in room.knowledge.documents(owner)]}


@router.get("/v1/documents/{document_id}", response_model=DocumentOut, responses=documented(404))
def one_document(document_id: str, owner: Owner, room: Room) -> Any:
    try:
        return shown(room.knowledge.document(owner, document_id))
    except KeyError:
        raise missing(document_id) from None


@router.get("/v1/documents/{document_id}/pages/{page_index}", response_model=PageOut, responses=documented(404))
def one_page(document_id: str, page_index: int, owner: Owner, room: Room) -> Any:
    """The text of a page (`page_index` from 0), as quotes are checked against it; `hidden` are spans that a reader does not see."""
    try:
        document = room.knowledge.document(owner, document_id)
        page = room.knowledge.page(owner, document_id, page_index) if abs(page_index) < 2**31 else None
    except KeyError:
        page = None
    if page is None:
        raise Refusal(404, "no_page", f"there is no page {page_index} in a document {document_id!r}.", param="page_index")
    names = {"document_id": document.id, "document": document.name, "page_index": page.ordinal, "page": page.number}
    return {**names, "heading": list(page.heading), "text": page.text, "hidden": page.hidden}


@router.delete("/v1/documents/{document_id}", response_model=Deleted, responses=documented(404))
def delete_document(document_id: str, owner: Owner, room: Room) -> Any:
    """Delete a document: its file, text, words and embeddings. It does not answer any more from the moment this does."""
    try:
        room.knowledge.delete(owner, document_id)
    except KeyError:
        raise missing(document_id) from None
    return {"id": document_id}


@router.post("/v1/search", response_model=HitList, responses=documented())
def search(body: SearchRequest, owner: Owner, room: Room) -> Any:
    """The chunks nearest to a query, by words, by meaning, or by both."""
    hits = room.knowledge.search(owner, body.query, body.k, body.retriever, body.documents)
    return {
        "data": [
            {
                "document_id": hit.chunk.document,
                "document": hit.chunk.name,
                "page": hit.chunk.number,
                "page_index": hit.chunk.page,
                "heading": list(hit.chunk.heading),
                "start": hit.chunk.start,
                "end": hit.chunk.end,
                "kind": hit.chunk.kind,
                "text": hit.chunk.text,
                "score": hit.score,
                "ranks": hit.ranks,
            }
            for hit in hits
        ]
    }
