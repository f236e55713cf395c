"""Conversations to tune a chatbot on, made by a seeded generator out of our own text (`chatbot_data.json`): nothing of them is real.

Three abilities, in English (SmolLM2 hardly knows another language):

    answer    the sources hold it: the sentence (or the table's cell) that answers, word for word, and its number
    abstain   the sources speak of something near, and not of this: the assistant's own sentence for it
    tool      a request, and tools: one call in JSON; or, where none fits, a sentence that says so

Cases come in groups: one prompt's beginning (the sources, or the tools), and several questions about it. The two parts share no
name, value, sentence pattern or question pattern, and in the test part about half of the questions are about attributes (or tools)
that training never mentions. `test_chatbot_data.py` holds that.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from hybridlab.llm.grounded_prompt import NO_EVIDENCE, grounded_messages
from hybridlab.llm.instruction import Message
from hybridlab.llm.tool_calls import NO_TOOL, Tool, tool_messages, write_call

Part = Literal["train", "test"]
Ability = Literal["answer", "abstain", "tool"]
TABLES = 0.25  # of the groups about sources: one of the sources is a table
FILLED = 0.4  # of the sources: they say something besides that nobody asks for
ANSWERED = 4  # questions of a group that its sources answer, and
MISSED = 3  # that they do not


@dataclass(frozen=True)
class Case:
    """One question with the answer that is wanted. `gold` is what the answer must hold ("" where it must not answer);
    `tools` are those that were offered."""

    ability: Ability
    prompt: tuple[Message, ...]
    answer: str
    gold: str = ""
    tools: tuple[Tool, ...] = ()

    @property
    def messages(self) -> list[Message]:
        """The conversation with its answer, as one learns from it."""
        return [*self.prompt, {"role": "assistant", "content": self.answer}]


Group = tuple[Case, ...]


@cache
def material() -> dict[str, Any]:
    """All that the cases are made of, from `chatbot_data.json`: most of it in a "train" and a "test" part. Read once, for reading only."""
    return json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))


def make_groups(groups: int, *, part: Part, seed: int = 0) -> list[Group]:
    """`groups` groups of six or seven cases each, two of five about tools. The same seed gives the same cases.

    Raises ValueError where `groups` is below 1: there would be nothing to learn.
    """
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}: the training set would be empty")
    chance = random.Random(f"{part} {seed}")
    return [(_tools if number % 5 in (1, 3) else _sources)(chance, part) for number in range(groups)]


# ---------------------------------------------------------------- answering and abstaining


@dataclass(frozen=True)
class _Fact:
    """One statement: `subject` is what it is about, `asks` are questions that it answers, `source` counts from 0."""

    subject: str
    sentence: str
    gold: str
    asks: Sequence[str]
    source: int = 0


def _sources(chance: random.Random, part: Part) -> Group:
    """Two to four sources with four facts or more; questions that they answer, and some that they do not.

    What is hard to tell apart is there: one attribute of two things, and two attributes of one thing.
    """
    kinds, unseen = _kinds(part), material()["facts"]["test"]
    about = chance.choice([kind["s"] for kind in kinds if sum(k["s"] == kind["s"] for k in kinds) > 1])
    same = [kind for kind in kinds if kind["s"] == about]
    # in the test, what two things have is an attribute that training never mentions, where there is one
    first, second, *rest = sorted(chance.sample(same, len(same)), key=lambda kind: kind not in unseen)
    third, fourth = chance.sample([k for k in kinds if k["s"] != about], 2)
    names = {name: chance.sample(pool[part], len(pool[part])) for name, pool in material()["pools"].items()}
    a, b, absent = names[about][:3]
    other, unheard = names[third["s"]][0], names[fourth["s"]][-1]
    used: set[str] = {a, b, absent, other, unheard}
    tabled = chance.random() < TABLES
    stated = [(first, a), (first, b), (second, a), *([] if tabled else [(third, other)])]
    facts = [_fact(chance, part, kind, subject, used) for kind, subject in stated]
    texts, facts = _laid_out(chance, facts)
    texts = [_filled(chance, text, part) for text in texts]
    if tabled:
        table, cells = _table(chance, part, names, used, len(texts))
        texts.append(table)
        facts += cells
    missed = [chance.choice([(second, b), (first, absent)]), (fourth, unheard), (chance.choice(rest or [second]), a if rest else absent)]
    cases = [
        _case("answer", chance.choice(fact.asks), texts, f"{fact.sentence} [{fact.source + 1}]", fact.gold)
        for fact in chance.sample(facts, min(ANSWERED, len(facts)))
    ]
    cases += [
        _case("abstain", chance.choice(_wordings(part, kind, "asks")).format(s=subject), texts, NO_EVIDENCE["en"])
        for kind, subject in missed[:MISSED]
    ]
    return tuple(chance.sample(cases, len(cases)))


def _kinds(part: Part) -> list[dict[str, Any]]:
    """The attributes that a part speaks of: training has its own, the test both its own and training's in other words."""
    facts = material()["facts"]
    return facts["train"] + (facts["test"] if part == "test" else [])


def _wordings(part: Part, about: dict[str, Any], key: str) -> Sequence[str]:
    """The last wording of an attribute (or a tool) of the training part is the test's."""
    own = about in material()["facts"]["train"] or about in material()["tools"]["train"]
    return about[key] if not own else about[key][-1:] if part == "test" else about[key][:-1]


def _fact(chance: random.Random, part: Part, kind: dict[str, Any], subject: str, used: set[str]) -> _Fact:
    value = _value(chance, kind["v"], part, used)
    sentence = _capital(chance.choice(_wordings(part, kind, "says")).format(s=subject, v=value))
    return _Fact(subject, sentence, value, [ask.format(s=subject) for ask in _wordings(part, kind, "asks")])


def _laid_out(chance: random.Random, facts: list[_Fact]) -> tuple[list[str], list[_Fact]]:
    """The facts' sentences as two or three sources, in any order, and each fact with the source that it stands in."""
    count = chance.randint(2, 3)
    placed = [replace(fact, source=place * count // len(facts)) for place, fact in enumerate(chance.sample(facts, len(facts)))]
    return [" ".join(f.sentence for f in placed if f.source == source) for source in range(count)], placed


def _filled(chance: random.Random, text: str, part: Part) -> str:
    """The source as it is, or with a sentence that nobody asks for before or behind it."""
    if chance.random() >= FILLED:
        return text
    filler = chance.choice(material()["fillers"][part])
    return f"{filler} {text}" if chance.random() < 0.5 else f"{text} {filler}"


def _table(chance: random.Random, part: Part, names: dict[str, list[str]], used: set[str], source: int) -> tuple[str, list[_Fact]]:
    """Two rows of a table as documents are read into text, "Item: A | Price: 3 EUR"; each cell is a fact."""
    about = chance.choice(material()["tables"][part])
    columns = chance.sample(about["columns"], 2)
    lines, facts = [], []
    for subject in [name for name in names[about["s"]] if name not in used][:2]:
        cells = []
        for column in columns:
            value = _value(chance, column["v"], part, used)
            cells.append(f"{column['head']}: {value}")
            facts.append(_Fact(subject, cells[-1], value, [ask.format(s=subject) for ask in column["asks"]], source))
        lines.append(" | ".join([f"Item: {_capital(subject)}", *cells]))
    return "\n".join(lines), facts


def _case(ability: Ability, question: str, texts: Sequence[str], answer: str, gold: str = "") -> Case:
    return Case(ability, tuple(grounded_messages(_capital(question), texts, "en")), answer, gold)


# ---------------------------------------------------------------- tool calls


def _tools(chance: random.Random, part: Part) -> Group:
    """Three tools; four requests for them, one for a tool that is not offered, and one that no tool could fulfil.

    In training the arguments have now these names and now those, in any order: the call has to take them from the list.
    """
    known = material()["tools"]
    drawn = chance.sample(known["train"], 4) if part == "train" else chance.sample(known["train"], 2) + chance.sample(known["test"], 2)
    *offered, missing = chance.sample(drawn, 4)
    named = {tool["name"]: _named(chance, part, tool["arguments"]) for tool in offered}
    tools = tuple(Tool(tool["name"], tool["does"], tuple(named[tool["name"]])) for tool in offered)
    cases = []
    for tool in [*offered, chance.choice(offered)]:
        request, values = _request(chance, part, tool)
        call = write_call(tool["name"], {shown: values[own] for shown, own in named[tool["name"]].items()})
        cases.append(Case("tool", tuple(tool_messages(request, tools)), call, call, tools))
    for request in (_request(chance, part, missing)[0], chance.choice(known["other"][part])):
        cases.append(Case("tool", tuple(tool_messages(request, tools)), NO_TOOL, "", tools))
    return tuple(chance.sample(cases, len(cases)))


def _named(chance: random.Random, part: Part, arguments: dict[str, str]) -> dict[str, str]:
    """The names under which a list shows a tool's arguments, each with the tool's own name for it, in the list's order."""
    if part == "test":
        return {name: name for name in arguments}
    shown: dict[str, str] = {}
    for name, kind in chance.sample(list(arguments.items()), len(arguments)):
        others = material()["argument_names"].get(kind, []) if list(arguments.values()).count(kind) == 1 else []
        shown[chance.choice([n for n in (name, *others) if n == name or (n not in shown and n not in arguments)])] = name
    return shown


def _request(chance: random.Random, part: Part, tool: dict[str, Any]) -> tuple[str, dict[str, str | int]]:
    """A request for a tool in words, and its arguments' values by the tool's own names."""
    used: set[str] = set()
    said = {name: _value(chance, kind, part, used) for name, kind in tool["arguments"].items()}
    request = _capital(chance.choice(_wordings(part, tool, "says")).format(**said))
    return request, {name: int(said[name]) if kind == "count" else said[name] for name, kind in tool["arguments"].items()}


# ---------------------------------------------------------------- names and values

UNITS = {  # the smallest and the largest number, and what stands behind it
    "days": (4, 95, " days"),
    "months": (3, 40, " months"),
    "minutes": (12, 180, " minutes"),
    "area": (18, 400, " square metres"),
    "copies": (3, 12, " copies"),
    "weight": (20, 950, " grams"),
    "distance": (3, 90, " kilometres"),
    "count": (4, 240, ""),
    "phone": (1000, 9900, ""),
    "year": (1960, 2024, ""),
}


def _value(chance: random.Random, kind: str, part: Part, used: set[str]) -> str:
    """A value that this context does not have yet, and notes it in `used`.

    Numbers that three divides are the test's, so no value of it occurs in training.
    """

    def number(low: int, high: int) -> int:
        value = chance.randint(low, high)
        return value - value % 3 if part == "test" else value + (value % 3 == 0)

    def drawn() -> str:
        if kind in UNITS:
            low, high, unit = UNITS[kind]
            return f"{number(low, high)}{unit}"
        if kind == "money":
            return chance.choice([f"{number(4, 950)} EUR", f"{number(4, 950)},000 VND"])
        if kind == "form":
            return f"{chance.choice('BDKR' if part == 'train' else 'HMTW')}-{number(100, 990)}"
        if kind == "hour":
            return f"{chance.randint(6, 19)}:{number(12, 57)}"
        if kind == "version":
            return f"{chance.randint(1, 9)}.{number(3, 30)}"
        return chance.choice(material()["pools"][kind][part])

    while (value := drawn()) in used:
        pass
    used.add(value)
    return value


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
