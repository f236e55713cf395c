"""Four engines on the same model and prompts: the course's own, transformers, llama.cpp and vLLM.

An engine is anything with `answer(prompts, n_new)`: tokens in, exactly `n_new` most probable tokens for each prompt out. `measure`
times it from outside, so that all four are held to the same clock. llama.cpp runs the GGUF file in its 4 bits, the others the same
weights dequantised to float32.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from hybridlab.llm.chat_template import encode_chat
from hybridlab.llm.continuous_batching import ContinuousBatching
from hybridlab.llm.embedded import server_options, start_server
from hybridlab.llm.request import Request
from hybridlab.llm.smollm2 import gguf_path
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.transformer.model import MiniTransformer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

QUESTIONS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "What is 12 times 12?",
    "Name three colours.",
    "Who wrote Hamlet?",
    "What is photosynthesis?",
    "Give me a short greeting.",
    "What is a cache?",
)
LONGEST = 256  # tokens of a prompt and its answer, in the engines that reserve room


class Engine(Protocol):
    """`answer` gives exactly n_new tokens for each prompt, whatever they say; many prompts are answered at the same time."""

    def answer(self, prompts: Sequence[list[int]], n_new: int) -> list[list[int]]: ...


@dataclass(frozen=True)
class Speed:
    """Seconds to the first token of one prompt, and tokens a second for one prompt alone and for all of them together."""

    first: float
    one: float
    many: float


def question_prompts(tokenizer: BytePairTokenizer) -> list[list[int]]:
    """The eight questions, as the chat template has them."""
    return [encode_chat([{"role": "user", "content": question}], tokenizer) for question in QUESTIONS]


def measure(engine: Engine, prompts: Sequence[list[int]], n_new: int) -> tuple[Speed, list[list[int]]]:
    """Time an engine by the wall clock; returns the answers of all prompts, too. A first, short call is not counted."""
    engine.answer(prompts[1:2], 2)
    seconds, answers = [], []
    for asked, n in ((prompts[:1], 1), (prompts[:1], n_new), (prompts, n_new)):
        begin = time.perf_counter()
        answers = engine.answer(asked, n)
        seconds.append(time.perf_counter() - begin)
    first, one, many = seconds
    return Speed(first, n_new / one, n_new * len(prompts) / many), answers


class Own:
    """The course's engine: continuous batching over a paged cache, on the MiniTransformer."""

    def __init__(self, model: MiniTransformer, max_batch: int = 8) -> None:
        self.server = ContinuousBatching(model, n_blocks=max_batch * LONGEST // 16, max_batch=max_batch)

    def answer(self, prompts: Sequence[list[int]], n_new: int) -> list[list[int]]:
        return self.server.serve([Request(prompt, n_new) for prompt in prompts]).answers


class Transformers:
    """transformers' `generate`: one batch, filled up on the left, until all are done."""

    def __init__(self, network: PreTrainedModel) -> None:
        self.network = network

    @torch.inference_mode()
    def answer(self, prompts: Sequence[list[int]], n_new: int) -> list[list[int]]:
        longest = max(map(len, prompts))
        rows = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        # no token ends the text: -1 is none
        settings = {"do_sample": False, "max_new_tokens": n_new, "eos_token_id": -1, "pad_token_id": 0}
        return self.network.generate(rows, attention_mask=mask, **settings)[:, longest:].tolist()


class LlamaCpp:
    """llama.cpp in this process (`xllamacpp`), on the packaged GGUF file in 4 bits, with eight streams."""

    def __init__(self, threads: int, streams: int = 8) -> None:
        self.server = start_server(server_options(gguf_path(), context=LONGEST, streams=streams, threads=threads))
        self.streams = streams

    def answer(self, prompts: Sequence[list[int]], n_new: int) -> list[list[int]]:
        def one(prompt: list[int]) -> list[int]:
            asked = {"prompt": prompt, "n_predict": n_new, "temperature": 0, "ignore_eos": True, "logprobs": 1}
            return [token["id"] for token in self.server.handle_completions(asked)["choices"][0]["logprobs"]["content"]]

        with ThreadPoolExecutor(self.streams) as pool:
            return list(pool.map(one, prompts))
