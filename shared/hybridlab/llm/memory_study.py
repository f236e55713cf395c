"""Where a KV cache's memory goes: one piece reserved for each request, against blocks handed out as they are needed.

The setting of PagedAttention (arXiv 2309.06180, figures 2 and 13) in small: OPT-13B on an A100 has room for 15,700 tokens, requests
are as long as ShareGPT's on average, and there is always someone waiting. What is counted here are tokens, no model runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybridlab.llm.scheduler import plan_step

POOL, LONGEST, BLOCK = 15_700, 2048, 16  # tokens: the paper's table 1; the model's context; vLLM's block
PROMPT, ANSWER = 161.31, 337.99  # tokens on average: the paper's figure 11a
Policy = Literal["max", "pow2", "oracle", "paged"]


@dataclass(frozen=True)
class MemoryUse:
    """Shares of the pool, averaged over the steps (they add up to 1), and how many requests ran at once."""

    tokens: float
    reserved: float  # will be filled later by the request that holds it
    never_used: float  # held, and never filled: internal fragmentation
    outside: float  # held by nobody, too small or too scattered for the next one
    batch: float


def sample_requests(n: int, seed: int = 0) -> list[tuple[int, int]]:
    """Prompt and answer lengths with ShareGPT's means; lognormal, since most are short and a few are very long."""
    draw = np.random.default_rng(seed)
    pairs = []
    for mean in (PROMPT, ANSWER):
        sigma = 1.0
        pairs.append(draw.lognormal(np.log(mean) - sigma**2 / 2, sigma, n).round().astype(int).clip(4, LONGEST // 2 - 1))
    return [(int(prompt), int(answer)) for prompt, answer in zip(*pairs, strict=True)]


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


class Buddies:
    """Contiguous pieces, powers of two in size, at places that are multiples of their size (Knuth 1973, section 2.5).

    `take(size)` returns a place, or None where no piece is large enough; `give_back(place, size)` joins it with its twin.
    """

    def __init__(self, pool: int) -> None:
        self.free: dict[int, set[int]] = {1 << order: set() for order in range(pool.bit_length())}
        place = 0
        for size in sorted(self.free, reverse=True):
            if pool & size:
                self.free[size].add(place)
                place += size

    def take(self, size: int) -> int | None:
        size = power_of_two(size)
        fitting = [larger for larger in self.free if larger >= size and self.free[larger]]
        if not fitting:
            return None
        larger = min(fitting)
        place = self.free[larger].pop()
        while larger > size:  # split: the first half is kept, the second becomes free
            larger //= 2
            self.free[larger].add(place + larger)
        return place

    def give_back(self, place: int, size: int) -> None:
        size = power_of_two(size)
        while (twin := place ^ size) in self.free[size]:
            self.free[size].remove(twin)
            place, size = min(place, twin), 2 * size
        self.free[size].add(place)


def memory_use(policy: Policy, requests: Sequence[tuple[int, int]], *, pool: int = POOL) -> MemoryUse:
    """Serve the requests in their order, a token a step, and say where the memory was. Counted as long as someone waits."""
    steps = list(_paged(requests, pool) if policy == "paged" else _contiguous(policy, requests, pool))
    tokens, reserved, never, batch = (float(np.mean(column)) for column in zip(*steps, strict=True))
    return MemoryUse(tokens / pool, reserved / pool, never / pool, 1 - (tokens + reserved + never) / pool, batch)


def _contiguous(policy: Policy, requests: Sequence[tuple[int, int]], pool: int) -> Iterator[tuple[int, int, int, int]]:
    """One piece a request, as Orca's baselines in the paper: as long as it may get, as the next power of two, or as it will get."""
    pieces, waiting = Buddies(pool), list(reversed(requests))
    running: list[list[int]] = []
    while True:
        while waiting:
            prompt, answer = waiting[-1]
            asked = {"max": LONGEST, "pow2": prompt + power_of_two(answer), "oracle": prompt + answer}[policy]
            if (place := pieces.take(asked)) is None:
                break
            waiting.pop()
            running.append([prompt, prompt + answer, asked, place])
        if not waiting:
            return
        now, final, held = (sum(one[i] for one in running) for i in range(3))
        yield now, final - now, held - final, len(running)
        for one in running:
            one[0] += 1
        for one in [one for one in running if one[0] >= one[1]]:
            running.remove(one)
            pieces.give_back(one[3], one[2])


def _paged(requests: Sequence[tuple[int, int]], pool: int) -> Iterator[tuple[int, int, int, int]]:
    """Blocks as they are needed, by the scheduler that serves real models; what is sent back is computed anew."""
    n_blocks, waiting = pool // BLOCK, [[p, p + a] for p, a in requests]
    running: list[list[int]] = []
    while True:
        held = sum(-(-one[0] // BLOCK) for one in running)
        lengths, queue = [one[0] for one in running], [one[0] for one in waiting]
        plan = plan_step(lengths, queue, n_free=n_blocks - held, block_size=BLOCK, max_batch=len(requests))
        for _ in range(plan.preempt):
            waiting.insert(0, running.pop())
        grown, running = running, running + waiting[: plan.admit]
        waiting = waiting[plan.admit :]
        if not waiting:
            return
        for one in grown:
            one[0] += 1
        now = sum(one[0] for one in running)
        yield now, 0, sum(-(-one[0] // BLOCK) for one in running) * BLOCK - now, len(running)
        running = [one for one in running if one[0] < one[1]]
