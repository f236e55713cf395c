"""One question to the chatbot with the answer that is wanted, and groups of them with a common beginning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hybridlab.llm.grounded_prompt import NO_EVIDENCE, grounded_messages
from hybridlab.llm.instruction import Message
from hybridlab.llm.span_grammar import span_grammar
from hybridlab.llm.tool_calls import Tool, call_grammar

Part = Literal["train", "test"]
Ability = Literal["answer", "abstain", "tool"]


@dataclass(frozen=True)
class Case:
    """One question with the answer that is wanted. `gold` is what the answer must hold ("" where it must not answer);
    `sources` and `tools` are those that were given."""

    ability: Ability
    prompt: tuple[Message, ...]
    answer: str
    gold: str = ""
    sources: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()

    @property
    def messages(self) -> list[Message]:
        """The conversation with its answer, as one learns from it."""
        return [*self.prompt, {"role": "assistant", "content": self.answer}]

    @property
    def grammar(self) -> str:
        """What can be answered (GBNF): words of the sources, or calls of the tools, or that there is nothing."""
        return call_grammar(self.tools) if self.tools else span_grammar(self.sources)


Group = tuple[Case, ...]


def grounded_case(question: str, sources: Sequence[str], gold: str = "", source: int = 0) -> Case:
    """A question about sources: answered by `gold` of the one of this number (from 1), or, without gold, not at all."""
    question = question[:1].upper() + question[1:]
    answer = f"{gold} [{source}]" if gold else NO_EVIDENCE["en"]
    return Case("answer" if gold else "abstain", tuple(grounded_messages(question, sources, "en")), answer, gold, tuple(sources))
