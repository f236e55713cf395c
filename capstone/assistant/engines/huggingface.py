"""The same weights in transformers: slower than llama.cpp here, and the engine into which the course's own LoRA and MoE go.

The GGUF file is dequantised once; from then on a safetensors copy in the assistant's folder loads in about a second.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
from hybridlab.llm.smollm2 import LANGUAGES, ModelUnavailable, model_folder

from assistant.engines.base import EngineError, Piece, PromptTooLong, Request, RequestRefused, Usage


class Transformers:
    """SmolLM2 in torch, one answer at a time (`Queued` sees to that). `cache` is where the converted weights are kept."""

    name = "transformers"
    experts, languages = (), LANGUAGES

    def __init__(self, cache: Path, *, threads: int):
        import torch
        from transformers import AutoTokenizer

        torch.set_num_threads(threads)
        try:
            folder = model_folder(cache)
        except ModelUnavailable as error:
            raise EngineError(str(error)) from error
        self.model = folder.name
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._network = load(folder)
        self.context = self._network.config.max_position_embeddings
        self._grammar: Any = None

    async def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        loop, pieces, cancelled = asyncio.get_running_loop(), asyncio.Queue(), threading.Event()
        messages = [{"role": m.role, "content": m.content} for m in request.messages]
        prompt = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        length = prompt["input_ids"].shape[1]
        if length + request.max_tokens > self.context:
            raise PromptTooLong(length, self.context)

        def put(item: Piece | Exception) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, item)

        def run() -> None:
            try:
                self._generate(request, prompt, cancelled, put)
            except EngineError as error:
                put(error)
            except Exception as error:
                put(EngineError(f"transformers stopped with {type(error).__name__}: {error}"))

        thread = threading.Thread(target=run, name="answer", daemon=True)
        thread.start()
        try:
            while True:
                item = await pieces.get()
                if isinstance(item, Exception):
                    raise item
                yield item
                if item.finish:
                    return
        finally:
            cancelled.set()
            with anyio.CancelScope(shield=True):
                await asyncio.to_thread(thread.join)  # only then is the engine free for the next

    def _generate(self, request: Request, prompt, cancelled: threading.Event, put) -> None:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList
        from transformers.generation.streamers import BaseStreamer

        class Cancelled(StoppingCriteria):
            def __call__(self, input_ids, scores, **_):
                return torch.full((input_ids.shape[0],), cancelled.is_set())

        written = Written(self._tokenizer, request.stop, put, cancelled)

        class Stream(BaseStreamer):
            first = True

            def put(self, value):
                if not self.first:  # the prompt comes first
                    written.add(value.flatten().tolist())
                self.first = False

            def end(self):
                pass

        if request.seed is not None:
            torch.manual_seed(request.seed)
        sampling = (
            {"do_sample": True, "temperature": request.temperature, "top_p": request.top_p}
            if request.temperature > 0
            else {"do_sample": False}
        )
        with torch.inference_mode():
            self._network.generate(
                **prompt,
                **sampling,
                max_new_tokens=request.max_tokens,
                streamer=Stream(),
                stopping_criteria=StoppingCriteriaList([Cancelled()]),
                logits_processor=self._constraint(request, prompt["input_ids"].shape[1]),
                pad_token_id=self._tokenizer.eos_token_id,
            )
        finish = "length" if written.count >= request.max_tokens and not written.stopped else "stop"
        written.flush()
        put(Piece("", finish, Usage(prompt["input_ids"].shape[1], written.count)))

    def _constraint(self, request: Request, prompt_length: int) -> list:
        """A mask from the JSON schema (llguidance), where one is asked for."""
        if request.json_schema is None:
            return []
        import json

        import llguidance
        import llguidance.hf
        import llguidance.torch as masks

        if self._grammar is None:
            self._grammar = llguidance.hf.from_tokenizer(self._tokenizer, n_vocab=self._network.config.vocab_size)
        grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(request.json_schema))
        if wrong := llguidance.LLMatcher.validate_grammar(grammar, self._grammar):
            raise RequestRefused(f"the JSON schema can't be followed: {wrong}")
        matcher = llguidance.LLMatcher(self._grammar, grammar)
        mask, seen = masks.allocate_token_bitmask(1, self._network.config.vocab_size), [prompt_length]

        def constrain(input_ids, scores):
            matcher.consume_tokens(input_ids[0, seen[0] :].tolist())
            seen[0] = input_ids.shape[1]
            masks.fill_next_token_bitmask(matcher, mask, 0)
            masks.apply_token_bitmask_inplace(scores, mask)
            return scores

        return [constrain]

    async def aclose(self) -> None:
        self._network = None


class Written:
    """What was generated so far, let out in whole characters, and never a part of a stop string."""

    def __init__(self, tokenizer, stop: tuple[str, ...], put, cancelled: threading.Event):
        self.tokenizer, self.stop, self.put, self.cancelled = tokenizer, stop, put, cancelled
        self.tokens: list[int] = []
        self.shown, self.stopped = 0, False

    @property
    def count(self) -> int:
        return len(self.tokens)

    def add(self, tokens: list[int]) -> None:
        self.tokens += tokens
        if self.stopped:
            return
        text = self.tokenizer.decode(self.tokens, skip_special_tokens=True)
        ends = [place for word in self.stop if (place := text.find(word)) >= 0]
        if ends:
            self.stopped = True
            self.show(text[: min(ends)])
            self.cancelled.set()
            return
        held = max((n for word in self.stop for n in range(1, len(word)) if text.endswith(word[:n])), default=0)
        self.show(text[: len(text) - held].removesuffix("\ufffd"))

    def show(self, text: str) -> None:
        if len(text) > self.shown:
            self.put(Piece(text[self.shown :]))
            self.shown = len(text)

    def flush(self) -> None:
        if not self.stopped:
            self.show(self.tokenizer.decode(self.tokens, skip_special_tokens=True))


def load(folder: Path):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True).eval()
