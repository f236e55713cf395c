"""Tool calls as text: how a model is told what it may call, and how its call is read.

The system's message lists the tools, one a line; a call is JSON between two marks, and nothing else stands in the answer:

    get_weather(city, day): weather forecast
    <tool_call>{"name": "get_weather", "arguments": {"city": "Huế", "day": "Monday"}}</tool_call>

The marks are those of Hermes and Qwen, so servers that read their calls (llama.cpp, vLLM) read these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybridlab.exercise import exercise
from hybridlab.llm.instruction import Message
from hybridlab.llm.span_grammar import literal

NO_TOOL = "None of my tools can do that."
CALL = re.compile(r"<tool_call>(.*)</tool_call>", re.DOTALL)


@dataclass(frozen=True)
class Tool:
    """What may be called: its name, what it does in a few words, and the names of its arguments."""

    name: str
    does: str
    arguments: tuple[str, ...]


class NotACall(ValueError):
    """An answer that is no call of one of the tools; the text says in what it fails."""


def tool_messages(request: str, tools: Sequence[Tool]) -> list[Message]:
    """The system's and the user's message for a request that one of `tools` may fulfil."""
    listed = "\n".join(f"{tool.name}({', '.join(tool.arguments)}): {tool.does}" for tool in tools)
    system = (
        f"You can call these tools:\n{listed}\n"
        'Answer with one call, <tool_call>{"name": ..., "arguments": {...}}</tool_call>. If no tool fits, say so.'
    )
    return [{"role": "system", "content": system}, {"role": "user", "content": request}]


def write_call(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as the text that a model answers with."""
    return f"<tool_call>{json.dumps({'name': name, 'arguments': dict(arguments)}, ensure_ascii=False)}</tool_call>"


def call_grammar(tools: Sequence[Tool]) -> str:
    """A grammar (llama.cpp's GBNF) of all that may be answered where `tools` are offered: a call of one of them, or NO_TOOL.

    An engine that follows it writes no half call and no tool that was not offered; which one, and with what values, is the model's choice.
    """
    calls = []
    for tool in tools:
        head, *names = f'{{"name": {literal(tool.name)}, "arguments": {{', *map(literal, tool.arguments)
        values = [f"{literal((', ' if number else '') + name + ': ')} value" for number, name in enumerate(names)]
        calls.append(" ".join([literal(head), *values, literal("}}")]))
    one = f"{literal('<tool_call>')} ({' | '.join(calls)}) {literal('</tool_call>')}"
    value = r'''value ::= [0-9]{1,6} | "\"" [^"\\\x00-\x1F]{1,60} "\""'''
    return f"root ::= {literal(NO_TOOL)} | {one}\n{value}"


@exercise
def read_call(answer: str, tools: Sequence[Tool]) -> tuple[str, dict[str, Any]]:
    """(name, arguments) of the call in a model's answer.

    An answer is a call if it matches CALL as a whole, but for spaces and newlines around it, and if the text between the marks is
    a JSON object with the entries "name" (a string) and "arguments" (an object) and no others. The name must be that of one of
    `tools`, and the names of the arguments exactly those of that tool, in any order. Their values may be anything.

    Raises NotACall for everything else, JSON that is nested too deep to be read included, with the reason. Where the tool is
    unknown the message lists the names of those that there are; where the arguments do not fit, the names of those that the tool
    takes.
    """
    found = CALL.fullmatch(answer.strip())
    if not found:
        raise NotACall(f"the answer is no <tool_call>…</tool_call>: {answer.strip()[:60]!r}")
    try:
        call = json.loads(found.group(1))
    except (ValueError, RecursionError) as error:
        raise NotACall(f"what stands in the call is no JSON ({error})") from None
    entries = isinstance(call, dict) and set(call) == {"name", "arguments"}
    if not entries or not isinstance(call["name"], str) or not isinstance(call["arguments"], dict):
        raise NotACall('the call is no {"name": ..., "arguments": {...}}')
    known = {tool.name: tool for tool in tools}
    if call["name"] not in known:
        raise NotACall(f"there is no tool {call['name']!r}; there are {', '.join(known)}")
    if set(call["arguments"]) != set(known[call["name"]].arguments):
        raise NotACall(f"{call['name']} takes {', '.join(known[call['name']].arguments)}, the call gives {', '.join(call['arguments'])}")
    return call["name"], call["arguments"]
