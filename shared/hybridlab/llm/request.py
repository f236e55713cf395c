"""What a server of many texts hands about: a request, a plan of one step, and the error for a cache that is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class OutOfBlocks(RuntimeError):
    """The cache has fewer free blocks than are asked for; nothing was taken."""


class StepPlan(NamedTuple):
    """What one step begins with: how many waiting requests are let in, and how many running ones have to go back."""

    admit: int
    preempt: int


@dataclass(frozen=True)
class Request:
    """A prompt (tokens) and how to continue it. `temperature=0` is greedy; else `seed` begins a generator of its own.

    `stop` is the token that ends the answer; it is not part of it. Raises: ValueError for an empty prompt or no new token.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", tuple(self.prompt))
        if not self.prompt:
            raise ValueError("the prompt is empty: give at least one token to begin from")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens}; ask for at least one token")

    @property
    def longest(self) -> int:
        """The most tokens that the cache will ever hold of it: the last new one is never read again."""
        return len(self.prompt) + self.max_new_tokens - 1
