"""Conversations to tune a chatbot on, made by a seeded generator out of our own text (`chatbot_data.json` and `chatbot_passages.json`):
nothing of them is real.

Three abilities, in English (SmolLM2 hardly knows another language):

    answer    the sources hold it: the words that answer, as they stand there, and their source's number
    abstain   the sources tell of other things than the one that is asked about: the assistant's own sentence for it
    tool      a request, and tools: one call in JSON; or, where none fits, a sentence that says so. What a tool does is said with a
              word that the request for it uses, too, and all values are short strings out of the request: they are copied

Cases come in groups: one prompt's beginning (the sources, or the tools), and several questions about it. Most sources are passages
that were written by hand, with questions in other words (`chatbot_passages.py`); some are facts in made patterns, where the same attribute
of two things has to be told apart. The two parts share no passage, name, value or pattern, and about half of the test's questions about
facts are about attributes (half of its requests, for tools) that training never mentions. `test_chatbot_data.py` holds that.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hybridlab.llm.chatbot_case import Case, Group, Part, grounded_case
from hybridlab.llm.chatbot_passages import Deck
from hybridlab.llm.tool_calls import NO_TOOL, Tool, tool_messages, write_call

TURNS = {  # what the groups of a part are about, over and over
    "train": ("passages", "tools") * 6 + ("facts", "tools"),
    "test": ("passages", "tools", "facts", "tools"),
}
SOURCES = 3
FACTS = 3  # of a source: more than one, so that the right source is not yet the right sentence
OFFERED = 3  # tools, and as many requests that one of them fits as that none does
TABLES = 0.25  # of the groups about sources: one of the sources is a table
TWINS = 0.5  # of them: the second source says of another thing what the first says of its own
FILLED = 0.3  # of the sources: they say something besides that nobody asks for
ANSWERED = {"train": 6, "test": 3}  # questions of a group that its sources answer, at most, and
MISSED = {"train": 1, "test": 3}  # that they do not: a model that learns from many of them keeps silent on everything


@cache
def material() -> dict[str, Any]:
    """All that the cases are made of, from `chatbot_data.json`: most of it in a "train" and a "test" part. Read once, for reading only."""
    return json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))


def make_groups(groups: int, *, part: Part, seed: int = 0) -> list[Group]:
    """`groups` groups of five to seven cases each. The same seed gives the same cases.

    Raises ValueError where `groups` is below 1: there would be nothing to learn.
    """
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}: the training set would be empty")
    chance = random.Random(f"{part} {seed}")
    deck = Deck(chance, part)
    makers = {"passages": deck.group, "facts": lambda: _facts(chance, part), "tools": lambda: _tools(chance, part)}
    return [makers[TURNS[part][number % len(TURNS[part])]]() for number in range(groups)]


# ---------------------------------------------------------------- answering and abstaining


@dataclass(frozen=True)
class _Fact:
    """One statement: the text that says it (a sentence, or a table's row), questions that it answers; `source` counts from 0."""

    text: str
    gold: str
    asks: Sequence[str]
    source: int


def _facts(chance: random.Random, part: Part) -> Group:
    """Three sources, each about one thing or a table about two; questions that they answer, and some about other things."""
    names = {name: chance.sample(pool[part], len(pool[part])) for name, pool in material()["pools"].items()}
    used: set[str] = set()
    texts: list[str] = []
    facts: list[_Fact] = []
    subjects = chance.sample(_subjects(part), SOURCES)
    if chance.random() < TWINS:
        subjects[1] = subjects[0]
    tabled = chance.randrange(SOURCES) if chance.random() < TABLES else None
    twins: dict[str, list[dict[str, Any]]] = {}
    for source, about in enumerate(subjects):
        if source == tabled:
            text, said = _table(chance, part, names, used, source)
        else:
            kinds = twins.setdefault(about, _attributes(chance, part, about))
            name = names[about].pop()
            said = [_fact(chance, part, kind, name, used, source) for kind in chance.sample(kinds, len(kinds))]
            text = _filled(chance, " ".join(fact.text for fact in said), part)
        texts.append(text)
        facts += said
    cases = [
        grounded_case(chance.choice(fact.asks), texts, fact.gold, fact.source + 1)
        for fact in chance.sample(facts, min(ANSWERED[part], len(facts)))
    ]
    for number in range(MISSED[part]):  # a thing of a kind that the sources speak of, or of any
        about = chance.choice(list(twins) if (number + chance.randrange(2)) % 2 else _subjects(part))
        if not names[about]:  # all of its names stand in the sources
            about = max(names, key=lambda name: (name in _subjects(part), len(names[name])))
        kind = chance.choice(twins.get(about) or _attributes(chance, part, about))
        asked = chance.choice(_wordings(part, kind, "asks")).format(s=names[about].pop())
        cases.append(grounded_case(asked, texts))
    return tuple(chance.sample(cases, len(cases)))


def _kinds(part: Part) -> list[dict[str, Any]]:
    """The attributes that a part speaks of: training has its own, the test both its own and training's in other words."""
    facts = material()["facts"]
    return facts["train"] + (facts["test"] if part == "test" else [])


def _subjects(part: Part) -> list[str]:
    """What a source can be about: things of which enough attributes are known."""
    kinds = [kind["s"] for kind in _kinds(part)]
    return sorted(about for about in set(kinds) if kinds.count(about) >= FACTS)


def _attributes(chance: random.Random, part: Part, about: str) -> list[dict[str, Any]]:
    """Three attributes of a kind of thing; in the test at least one of them is new."""
    unseen = material()["facts"]["test"]
    kinds = [kind for kind in _kinds(part) if kind["s"] == about]
    kinds = chance.sample(kinds, len(kinds))
    first = next((kind for kind in kinds if kind in unseen), None)
    return sorted(kinds, key=lambda kind: kind is not first)[:FACTS]


def _wordings(part: Part, about: dict[str, Any], key: str) -> Sequence[str]:
    """The last wording of an attribute (or a tool) of the training part is the test's."""
    own = about in material()["facts"]["train"] or about in material()["tools"]["train"]
    return about[key] if not own else about[key][-1:] if part == "test" else about[key][:-1]


def _fact(chance: random.Random, part: Part, kind: dict[str, Any], subject: str, used: set[str], source: int) -> _Fact:
    value = _value(chance, kind["v"], part, used)
    sentence = _capital(chance.choice(_wordings(part, kind, "says")).format(s=subject, v=value))
    return _Fact(sentence, value, [ask.format(s=subject) for ask in _wordings(part, kind, "asks")], source)


def _filled(chance: random.Random, text: str, part: Part) -> str:
    """The source as it is, or with a sentence that nobody asks for before or behind it."""
    if chance.random() >= FILLED:
        return text
    filler = chance.choice(material()["fillers"][part])
    return f"{filler} {text}" if chance.random() < 0.5 else f"{text} {filler}"


def _table(chance: random.Random, part: Part, names: dict[str, list[str]], used: set[str], source: int) -> tuple[str, list[_Fact]]:
    """Two rows of a table as documents are read into text, "Item: A | Price: 3 EUR | Day: Monday"; of each, one cell is asked for."""
    about = chance.choice(material()["tables"][part])
    columns = chance.sample(about["columns"], 2)
    facts = []
    for subject in (names[about["s"]].pop(), names[about["s"]].pop()):
        cells = [(column, _value(chance, column["v"], part, used)) for column in columns]
        row = " | ".join([f"Item: {_capital(subject)}", *(f"{column['head']}: {value}" for column, value in cells)])
        column, gold = chance.choice(cells)
        facts.append(_Fact(row, gold, [ask.format(s=subject) for ask in column["asks"]], source))
    return "\n".join(fact.text for fact in facts), facts


# ---------------------------------------------------------------- tool calls


def _tools(chance: random.Random, part: Part) -> Group:
    """Three tools; a request for each, two for tools that are not offered and take the same kinds of values, and one for none at all."""
    known = material()["tools"]
    drawn = chance.sample(known["train"], OFFERED if part == "train" else 2) + (chance.sample(known["test"], 2) if part == "test" else [])
    offered = chance.sample(drawn, OFFERED)
    tools = tuple(Tool(tool["name"], tool["does"], tuple(tool["arguments"])) for tool in offered)
    kinds = {kind for tool in offered for kind in tool["arguments"].values()}
    others = [tool for tool in known["train"] + (known["test"] if part == "test" else []) if tool not in offered]
    alike = sorted(chance.sample(others, len(others)), key=lambda tool: not kinds & set(tool["arguments"].values()))
    cases = []
    for tool in offered:
        request, values = _request(chance, part, tool)
        call = write_call(tool["name"], values)
        cases.append(Case("tool", tuple(tool_messages(request, tools)), call, call, tools=tools))
    unfit = [_request(chance, part, tool)[0] for tool in alike[: OFFERED - 1]]
    for request in (*unfit, chance.choice(known["other"][part])):
        cases.append(Case("tool", tuple(tool_messages(request, tools)), NO_TOOL, tools=tools))
    return tuple(chance.sample(cases, len(cases)))


def _request(chance: random.Random, part: Part, tool: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """A request for a tool in words, and its arguments' values, as the request says them."""
    used: set[str] = set()
    said = {name: _value(chance, kind, part, used) for name, kind in tool["arguments"].items()}
    return _capital(chance.choice(_wordings(part, tool, "says")).format(**said)), said


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
    "few": (2, 30, ""),
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
