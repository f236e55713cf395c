"""What a brain is: messages in, pieces of text out, cancelled by closing the iterator."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from hybridlab.llm.expert import Expert

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length"]


class EngineError(Exception):
    """The engine could not answer; the text says why, and what to do."""


class EngineBusy(EngineError):
    """Every stream is taken and the queue is full. `retry_after` is in seconds."""

    def __init__(self, retry_after: float):
        self.retry_after = retry_after
        super().__init__(f"all streams are taken and the queue is full: try again in {retry_after:.0f} s")


class PromptTooLong(EngineError):
    """The prompt and the room for the answer do not fit into the model's context (tokens)."""

    def __init__(self, prompt: int, context: int):
        self.prompt, self.context = prompt, context
        super().__init__(f"the prompt has {prompt} tokens, and the model's context holds {context} with the answer: shorten it")


class RequestRefused(EngineError):
    """The request itself can't be served, as a schema that is none: another try would end the same."""


class AnswerTooSlow(EngineError):
    """The answer was stopped after `seconds`."""

    def __init__(self, seconds: float):
        super().__init__(f"the answer was stopped after {seconds:.0f} s: ask for a shorter one.")


@dataclass(frozen=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True)
class Request:
    """One completion. `stop` ends the answer before it is shown; `json_schema` constrains it to valid JSON of that schema.

    `use` says what is asked for: "sources" (an answer from numbered sources), or nothing in particular. An engine that has an expert
    for that use lets it answer, within `grammar` (llama.cpp's GBNF; "": freely): only engines with experts are asked to follow one.
    """

    messages: tuple[Message, ...]
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    json_schema: dict[str, Any] | None = None
    use: str = ""
    grammar: str = ""


@dataclass(frozen=True)
class Usage:
    """Tokens of the prompt and of the answer."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Piece:
    """A piece of the answer. The last one has `finish` and `usage`, and may have no text."""

    text: str
    finish: Finish | None = None
    usage: Usage | None = None


class Engine(Protocol):
    """`context` is the longest prompt with its answer, in tokens; `experts` are those that it can let answer; `languages` those that its
    model speaks, None where nobody knows."""

    name: str
    model: str
    context: int
    experts: Sequence[Expert]
    languages: frozenset[str] | None

    def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        """The answer in pieces. Closing the generator (`aclose`) stops the engine within 1 s.

        Raises EngineBusy, PromptTooLong, EngineError.
        """
        ...

    async def aclose(self) -> None:
        """Stop everything and free the model."""
        ...
