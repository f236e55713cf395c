"""Errors in OpenAI's form, `{"error": {"message", "type", "param", "code"}}`, from every route, documented for every route."""

from __future__ import annotations

import errno
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from hybridlab.rag.parse import DocumentError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from assistant.engines.base import AnswerTooSlow, EngineBusy, EngineError, PromptTooLong, RequestRefused
from assistant.store import StoreError


class ErrorBody(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    error: ErrorBody


class Refusal(Exception):
    """An answer that is an error: HTTP status, code for programs, sentence for people."""

    def __init__(self, status: int, code: str, message: str, *, param: str | None = None, headers: dict[str, str] | None = None):
        self.status, self.code, self.message, self.param, self.headers = status, code, message, param, headers
        super().__init__(message)


TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
MEANINGS = {
    400: "the request can't be read or served as it is",
    401: "no valid key",
    404: "there is no such thing among what this key may see",
    405: "the path has no such method",
    409: "the document's state does not allow it",
    413: "the body, the file, or the prompt is too large",
    422: "the request's shape is wrong",
    429: "too many requests, or the queue is full: see Retry-After",
    500: "a fault of the service",
    503: "the service is not ready",
    507: "the disk is full",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: those named, and those that any route may give."""
    return {status: {"model": ErrorAnswer, "description": MEANINGS[status]} for status in (*statuses, 400, 401, 413, 422, 429)}


def answer(
    status: int, message: str, code: str | None = None, param: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    body = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": {k: v and v.encode("utf-8", "replace").decode() for k, v in body.items()}}, status, headers)


def error_of(error: Exception) -> JSONResponse:
    """The answer to an exception that a room below raised."""
    if isinstance(error, Refusal):
        return answer(error.status, error.message, error.code, error.param, error.headers)
    if isinstance(error, EngineBusy):
        return answer(429, str(error), "busy", headers={"Retry-After": f"{error.retry_after:.0f}"})
    if isinstance(error, PromptTooLong):
        return answer(413, str(error), "context_length_exceeded", "messages")
    if isinstance(error, RequestRefused):
        return answer(400, str(error), "refused_by_engine")
    if isinstance(error, AnswerTooSlow):
        return answer(503, str(error), "too_slow")
    if isinstance(error, EngineError):
        return answer(503, str(error), "engine")
    if isinstance(error, DocumentError):
        status = {"too_large": 413, "disk_full": 507}.get(error.code, 422)
        return answer(status, error.sentence, error.code, "file")
    if isinstance(error, StoreError):
        return answer(507 if "disk is full" in str(error) else 500, str(error), "store")
    return answer(500, "the service failed in a way that it does not know; its log has the details.", "internal")


def install(app: FastAPI) -> None:
    for kind in (Refusal, EngineError, DocumentError, StoreError, Exception):
        app.add_exception_handler(kind, lambda _, error: error_of(error))

    @app.exception_handler(RequestValidationError)
    async def shape(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or None
        return answer(422, f"{place or 'the body'}: {first['msg']}", "bad_shape", place)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> JSONResponse:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT):
            return answer(507, "the disk is full: free some space, then try again.", "disk_full")
        return answer(error.status_code, str(error.detail), headers=error.headers)
