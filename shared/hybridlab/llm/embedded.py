"""llama.cpp in this process (package `xllamacpp`), for the notebook and the terminal: a GGUF model, and adapters upon it.

Notable:
- Every request names every adapter with its scale, zeros too: llama.cpp's prefix cache does not know which adapter made it,
  and an omitted list takes the cache of the last one's.
- For the same reason the cache in RAM is off (`cache_ram_mib`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hybridlab.llm.gguf import GGUFFile
from hybridlab.llm.instruction import Message
from hybridlab.llm.smollm2 import gguf_path

CONTEXT = 2048  # tokens


def server_options(model: Path, *, context: int, streams: int, threads: int, adapters: Sequence[Path] = ()) -> Any:
    """xllamacpp's `CommonParams`: `streams` answers at once of `context` tokens each, and the adapters, off until a request names them."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = str(model)
    options.n_ctx, options.n_parallel = context * streams, streams
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    options.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(file), 0.0) for file in adapters]
    options.warmup = options.fit_params = False  # a model as small as this has no need to be fitted to a device, and is read but once
    options.cache_ram_mib = 0
    options.verbosity = -1
    return options


def start_server(options: Any) -> Any:
    """xllamacpp's `Server`, at work: one that is let go of before its loop runs would wait for its own end for ever.

    It listens on a port of this machine too, which nobody needs: there it wants a key that nobody has. Raises RuntimeError where the model
    can't be loaded.
    """
    import xllamacpp

    options.api_keys = [secrets.token_hex(32)]
    options.endpoint_metrics = True
    server = xllamacpp.Server(options)
    server.handle_metrics()  # answered by the loop
    return server


class EmbeddedModel:
    """SmolLM2 in 4 bits (or the GGUF model `base`), with the GGUF adapters that are given; each request chooses one, or none.

    Raises:
        ValueError: a file can't be loaded; the text names it.
    """

    def __init__(self, adapters: Sequence[Path] = (), *, base: Path | None = None, threads: int = 2):
        self.adapters = tuple(adapters)
        path = base or gguf_path()
        if missing := [file for file in (path, *self.adapters) if not file.is_file()]:
            raise ValueError(f"{missing[0]} is not there: check the path, or make the adapter first")
        try:
            self._server = start_server(server_options(path, context=CONTEXT, streams=1, threads=threads, adapters=self.adapters))
        except RuntimeError as error:
            for file in (path, *self.adapters):
                GGUFFile(file)  # the one that is damaged says so by itself
            files = ", ".join(str(file) for file in (path, *self.adapters))
            raise ValueError(f"{files} can't be loaded together ({error}): make the adapter anew for this model") from error

    def answer(
        self,
        messages: Sequence[Message],
        *,
        adapter: int | None = None,
        max_tokens: int = 96,
        grammar: str | None = None,
        piece: Callable[[str], None] | None = None,
    ) -> str:
        """The answer, word by word the most probable one; `piece` gets it as it comes. `adapter` counts from 0; None: without.
        With a `grammar` (GBNF) nothing is said that it does not allow.

        Raises ValueError where there is no such adapter, the grammar can't be read, or the conversation does not fit into the context.
        """
        said: list[str] = []
        refused: list[str] = []

        def receive(chunk: dict[str, Any]) -> None:  # an exception in here would be swallowed
            if "error" in chunk:
                refused.append(chunk["error"].get("message", str(chunk["error"])))
            for choice in chunk.get("choices", ()):
                if text := choice["delta"].get("content"):
                    said.append(text)
                    if piece:
                        piece(text)

        body = {"messages": list(messages), "max_tokens": max_tokens, "temperature": 0.0, "stream": True, "lora": self._scales(adapter)}
        if grammar is not None:
            body["grammar"] = grammar
        self._server.handle_chat_completions(body, receive)
        if refused:
            raise ValueError(f"the model refused the conversation: {refused[0]}")
        return "".join(said)

    def next_tokens(self, tokens: Sequence[int], *, adapter: int | None = None, k: int = 20) -> dict[int, float]:
        """The `k` most probable tokens after `tokens`, with their log-probabilities in nats."""
        body = {"prompt": list(tokens), "n_predict": 1, "n_probs": k, "temperature": 0.0, "lora": self._scales(adapter)}
        answer = self._server.handle_completions(body)
        first = answer["choices"][0]["logprobs"]["content"][0]
        return {entry["id"]: entry["logprob"] for entry in first["top_logprobs"]}

    def _scales(self, adapter: int | None) -> list[dict[str, Any]]:
        if adapter is not None and adapter not in range(len(self.adapters)):
            # llama.cpp would take the base without a word
            raise ValueError(f"there is no adapter {adapter}: {len(self.adapters)} are loaded")
        return [{"id": number, "scale": float(number == adapter)} for number in range(len(self.adapters))]
