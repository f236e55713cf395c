"""Many requests at once: every step gives each running sequence its next token, and whoever is done makes room at once.

Orca (Yu et al., OSDI 2022) calls it iteration-level scheduling. A step lets requests in (each prompt is one forward pass of its
own: prefill) and then runs all that were running before in one forward pass of one token each (decode). Where the blocks run
out, the last to come goes back to the queue with what it has written, and is computed anew later: the result is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.llm.paged_forward import forward_paged, make_paged_cache
from hybridlab.llm.request import OutOfBlocks, Request
from hybridlab.llm.scheduler import plan_step
from hybridlab.transformer.generation import choose_token
from hybridlab.transformer.model import MiniTransformer


@dataclass
class Running:
    """A request on its way: `tokens` are its prompt and what it has written, `sequence` its number in the cache."""

    number: int
    request: Request
    tokens: list[int]
    generator: torch.Generator
    sequence: int = -1

    @property
    def written(self) -> list[int]:
        return self.tokens[len(self.request.prompt) :]


@dataclass
class StepRecord:
    """What one step did: tokens read in prefill, sequences decoded, requests sent back, blocks in use at its end."""

    prefilled: int
    decoded: int
    preempted: int
    blocks_in_use: int


@dataclass
class Served:
    """The new tokens of each request, in the order of the requests, and what each step did."""

    answers: list[list[int]]
    steps: list[StepRecord] = field(default_factory=list)


class ContinuousBatching:
    """A model, a paged cache of `n_blocks` blocks, and room for `max_batch` sequences at once.

    `serve(requests)` answers all of them, in float rounding as if each were alone. Raises: ValueError if max_batch is less than 1.
    """

    def __init__(self, model: MiniTransformer, *, n_blocks: int, block_size: int = 16, max_batch: int = 8) -> None:
        if max_batch < 1:
            raise ValueError(f"max_batch is {max_batch}; at least one sequence has to run")
        self.model, self.max_batch = model, max_batch
        self.n_blocks, self.cache = n_blocks, make_paged_cache(model, n_blocks, block_size)

    def serve(self, requests: Sequence[Request]) -> Served:
        """Answer all requests.

        Raises: OutOfBlocks if a request could not even run alone; ValueError if it is longer than the model's max_time.
        """
        for number, request in enumerate(requests):
            self._require_room(number, request)
        waiting = deque(
            Running(number, request, list(request.prompt), torch.Generator().manual_seed(request.seed))
            for number, request in enumerate(requests)
        )
        served = Served([[] for _ in requests])
        running: list[Running] = []
        while waiting or running:
            running = self._step(waiting, running, served)
        return served

    def _require_room(self, number: int, request: Request) -> None:
        size, longest = self.cache.block_size, request.longest
        if -(-longest // size) > self.n_blocks or len(request.prompt) // size + 1 > self.n_blocks:
            raise OutOfBlocks(
                f"request {number} needs room for {longest} tokens, and the whole cache holds {self.n_blocks} blocks of {size}: "
                "make the cache larger, or ask for fewer tokens"
            )
        if longest > self.model.config.max_time:
            raise ValueError(f"request {number} would reach {longest} tokens, and the model's max_time is {self.model.config.max_time}")

    def _step(self, waiting: deque[Running], running: list[Running], served: Served) -> list[Running]:
        """One iteration; returns those that run on."""
        in_cache = [len(one.tokens) - 1 for one in running]  # the last token is not in the cache yet
        queue, n_free = [len(one.tokens) for one in waiting], self.cache.pool.n_free
        plan = plan_step(in_cache, queue, n_free=n_free, block_size=self.cache.block_size, max_batch=self.max_batch)
        for _ in range(plan.preempt):
            one = running.pop()
            self.cache.drop(one.sequence)
            waiting.appendleft(one)
        if running:
            last = torch.tensor([[one.tokens[-1]] for one in running], device=self.cache.keys.device)
            hidden = forward_paged(self.model, last, self.cache, [one.sequence for one in running])
            self._write(running, self.model.lm_head(hidden[:, -1]))
        admitted = [waiting.popleft() for _ in range(plan.admit)]
        prefilled = sum(len(one.tokens) for one in admitted)
        for one in admitted:
            one.sequence = self.cache.add()
            hidden = forward_paged(self.model, torch.tensor([one.tokens], device=self.cache.keys.device), self.cache, [one.sequence])
            self._write([one], self.model.lm_head(hidden[:, -1]))
        served.steps.append(StepRecord(prefilled, len(running), plan.preempt, self.cache.blocks_in_use))
        return self._running_on([*running, *admitted], served)

    @torch.no_grad()
    def _write(self, ones: list[Running], logits: Float[Tensor, "batch vocab"]) -> None:
        """Choose each one's next token by its own settings and its own generator: neighbours change nothing."""
        for one, row in zip(ones, logits, strict=True):
            asked = one.request
            token = choose_token(row[None], temperature=asked.temperature, top_k=asked.top_k, top_p=asked.top_p, generator=one.generator)
            one.tokens.append(int(token))

    def _running_on(self, ones: list[Running], served: Served) -> list[Running]:
        """Those that are not done; the others' blocks become free, and their answers are kept."""
        going = []
        for one in ones:
            stopped = one.tokens[-1] == one.request.stop
            if stopped or len(one.written) >= one.request.max_new_tokens:
                self.cache.drop(one.sequence)
                served.answers[one.number] = one.written[:-1] if stopped else one.written
            else:
                going.append(one)
        return going
