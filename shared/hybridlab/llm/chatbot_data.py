"""Conversations to tune a chatbot on, made by a seeded generator out of our own text (`chatbot_data.json`): nothing of them is real.

Three abilities, in English and Vietnamese:

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
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from hybridlab.llm.grounded_prompt import NO_EVIDENCE, Language, grounded_messages
from hybridlab.llm.instruction import Message
from hybridlab.llm.tool_calls import NO_TOOL, Tool, tool_messages, write_call

Part = Literal["train", "test"]
Ability = Literal["answer", "abstain", "tool"]
CROSSED = 0.05  # of the groups about sources: they are in the other language than the questions
TABLES = 0.25  # … one of the sources is a table
FILLED = 0.3  # of the sources: they say something besides that nobody asks for
HEAD = {"en": "Item", "vi": "Mục"}


@dataclass(frozen=True)
class Case:
    """One question with the answer that is wanted. `gold` is what the answer must hold ("" where it must not answer);
    `tools` are those that were offered."""

    ability: Ability
    language: Language
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
    return json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))


def make_groups(groups: int, *, part: Part, seed: int = 0, tools: float = 0.35) -> list[Group]:
    """`groups` groups of four or five cases each; the share `tools` of them is about tools, and every fourth is in Vietnamese (a
    Vietnamese text has more than twice an English one's tokens). The same seed gives the same cases.

    Raises ValueError where `groups` is below 1: there would be nothing to learn.
    """
    if groups < 1:
        raise ValueError(f"groups must be at least 1, got {groups}: the training set would be empty")
    chance = random.Random(f"{part} {seed}")
    made = []
    for number in range(groups):
        language: Language = "vi" if number % 4 == 3 else "en"
        about_tools = chance.random() < tools
        made.append(_tools(chance, part, language) if about_tools else _sources(chance, part, language))
    return made


# ---------------------------------------------------------------- answering and abstaining


@dataclass(frozen=True)
class _Fact:
    kind: int
    subject: str
    sentence: str
    gold: str
    asks: tuple[str, ...]
    source: int = 0


def _sources(chance: random.Random, part: Part, language: Language) -> Group:
    """Two to four sources with three facts or more; three questions that they answer and one that they do not."""
    written: Language = language if chance.random() >= CROSSED else ("vi" if language == "en" else "en")
    kinds = _kinds(part)
    pools = {name: _shuffled(chance, pool[part]) for name, pool in material()["pools"].items()}
    # the same attribute of two things, and two attributes of one thing: what a question must be told apart by
    chosen = chance.sample(range(len(kinds)), 2)
    pairs = [(kind, place) for kind in chosen for place in (0, 1)][: chance.randint(3, 4)]
    facts: list[_Fact] = []
    used: set[str] = set()
    for kind, place in pairs:
        about = kinds[kind]
        subject = pools[about["s"]][place]
        value = _value(chance, about["v"], part, used)
        if subject[0] in used or value is None:
            continue
        facts.append(_fact(chance, part, kind, about, subject, value, written, language))
    texts, facts = _laid_out(chance, facts)
    texts = [_filled(chance, text, part, written) for text in texts]
    if chance.random() < TABLES:
        table, cells = _table(chance, part, pools, {fact.subject for fact in facts}, written, language, len(texts))
        texts.append(table)
        facts += cells
    answered = _shuffled(chance, facts)[:3]
    cases = [
        _case("answer", language, _capital(chance.choice(fact.asks)), texts, f"{fact.sentence} [{fact.source + 1}]", fact.gold)
        for fact in answered
    ]
    missed = _miss(chance, part, kinds, pools, facts, language)
    cases.append(_case("abstain", language, missed, texts, NO_EVIDENCE[language]))
    return tuple(_shuffled(chance, cases))


def _kinds(part: Part) -> list[dict[str, Any]]:
    """The attributes that a part speaks of: training has its own, the test both its own and training's in other words."""
    facts = material()["facts"]
    return facts["train"] + (facts["test"] if part == "test" else [])


def _wordings(part: Part, about: dict[str, Any], key: str) -> Sequence[str]:
    """The last wording of an attribute of the training part is the test's."""
    own = about in material()["facts"]["train"]
    return about[key] if not own else about[key][-1:] if part == "test" else about[key][:-1]


def _fact(chance, part, kind, about, subject, value, written: Language, language: Language) -> _Fact:
    sentence = chance.choice(_wordings(part, about, written)).format(s=_said(subject, written), v=_said(value, written))
    asks = tuple(ask.format(s=_said(subject, language)) for ask in _wordings(part, about, f"ask_{language}"))
    return _Fact(kind, subject[0], _capital(sentence), _said(value, written), asks)


def _laid_out(chance: random.Random, facts: list[_Fact]) -> tuple[list[str], list[_Fact]]:
    """The facts' sentences as two or three sources, in any order, and each fact with the source that it stands in."""
    facts = _shuffled(chance, facts)
    count = min(len(facts), chance.randint(2, 3))
    placed = [_Fact(f.kind, f.subject, f.sentence, f.gold, f.asks, place * count // len(facts)) for place, f in enumerate(facts)]
    return [" ".join(f.sentence for f in placed if f.source == source) for source in range(count)], placed


def _filled(chance: random.Random, text: str, part: Part, written: Language) -> str:
    """The source as it is, or with a sentence that nobody asks for before or behind it."""
    if chance.random() >= FILLED:
        return text
    filler = _said(chance.choice(material()["fillers"][part]), written)
    return f"{filler} {text}" if chance.random() < 0.5 else f"{text} {filler}"


def _table(chance, part, pools, taken, written: Language, language: Language, source: int) -> tuple[str, list[_Fact]]:
    """Two rows of a table as documents are read into text, "Item: A | Price: 3 EUR"; each cell is a fact."""
    about = chance.choice(material()["tables"][part])
    columns = chance.sample(about["columns"], 2)
    rows = [subject for subject in pools[about["s"]] if subject[0] not in taken][:2]
    lines, facts, used = [], [], set()
    for subject in rows:
        cells = []
        for number, column in enumerate(columns):
            value = _value(chance, column["v"], part, used)
            if value is None:
                continue
            cell = f"{column[written]}: {_said(value, written)}"
            cells.append(cell)
            asks = tuple(ask.format(s=_said(subject, language)) for ask in column[f"ask_{language}"])
            facts.append(_Fact(-1 - number, subject[0], cell, _said(value, written), asks, source))
        lines.append(" | ".join([f"{HEAD[written]}: {_capital(_said(subject, written))}", *cells]))
    return "\n".join(lines), facts


def _miss(chance, part, kinds, pools, facts: list[_Fact], language: Language) -> str:
    """A question that the facts do not answer: a known attribute of a thing that is not there, or another one of a thing that is."""
    prose = [fact for fact in facts if fact.kind >= 0]
    there = {fact.subject for fact in facts}
    fact = chance.choice(prose)
    others = [
        about
        for number, about in enumerate(kinds)
        if about["s"] == kinds[fact.kind]["s"] and (number, fact.subject) not in {(f.kind, f.subject) for f in prose}
    ]
    about = chance.choice(others) if others else kinds[fact.kind]
    subject = next(s for s in pools[about["s"]] if s[0] == fact.subject)
    if not others or chance.random() < 0.5 or any(f.kind < 0 and f.subject == fact.subject for f in facts):
        about, subject = kinds[fact.kind], next(s for s in pools[kinds[fact.kind]["s"]][2:] if s[0] not in there)
    return _capital(chance.choice(_wordings(part, about, f"ask_{language}")).format(s=_said(subject, language)))


def _case(ability: Ability, language: Language, question: str, texts: Sequence[str], answer: str, gold: str = "") -> Case:
    return Case(ability, language, tuple(grounded_messages(question, texts, language)), answer, gold)


# ---------------------------------------------------------------- tool calls


def _tools(chance: random.Random, part: Part, language: Language) -> Group:
    """Three tools; three requests for them, and mostly one that none of them can fulfil."""
    known = material()["tools"]
    chosen = chance.sample(known["train"] + (known["test"] if part == "test" else []), 3)
    tools = tuple(Tool(tool["name"], tool["does"], tuple(tool["arguments"])) for tool in chosen)
    cases = []
    for _ in range(3):
        tool, used = chance.choice(chosen), set()
        given = {name: _value(chance, kind, part, used) for name, kind in tool["arguments"].items()}
        said = {name: _said(value, language) for name, value in given.items()}
        request = _capital(chance.choice(_requests(tool, part, language)).format(**said))
        arguments = {name: int(said[name]) if kind == "count" else said[name] for name, kind in tool["arguments"].items()}
        call = write_call(tool["name"], arguments)
        cases.append(Case("tool", language, tuple(tool_messages(request, tools)), call, call, tools))
    if chance.random() < 0.7:
        other = _said(chance.choice(known["other"][part]), language)
        cases.append(Case("tool", language, tuple(tool_messages(other, tools)), NO_TOOL[language], "", tools))
    return tuple(_shuffled(chance, cases))


def _requests(tool: dict[str, Any], part: Part, language: Language) -> Sequence[str]:
    """The last wording of a request for a tool of the training part is the test's."""
    own = tool in material()["tools"]["train"]
    return tool[language] if not own else tool[language][-1:] if part == "test" else tool[language][:-1]


# ---------------------------------------------------------------- names and values


def _value(chance: random.Random, kind: str, part: Part, used: set[str]) -> Sequence[str] | None:
    """A value in both languages that this context does not have yet; None where the names of its kind are used up."""
    pool = material()["pools"].get(kind)
    if pool:
        free = [_both(entry) for entry in pool[part] if _both(entry)[0] not in used]
        value = chance.choice(free) if free else None
    else:
        while (value := _measured(chance, kind, part))[0] in used:
            pass
    if value is not None:
        used.add(value[0])
    return value


def _measured(chance: random.Random, kind: str, part: Part) -> Sequence[str]:
    """A number with its unit. Numbers that three divides are the test's, so no value of it occurs in training."""

    def number(low: int, high: int) -> int:
        value = chance.randint(low, high)
        return value - value % 3 if part == "test" else value + (value % 3 == 0)

    n = number
    units = {
        "days": ("days", "ngày"),
        "months": ("months", "tháng"),
        "minutes": ("minutes", "phút"),
        "area": ("square metres", "mét vuông"),
        "copies": ("copies", "bản"),
    }
    if kind in units:
        low, high = {"days": (4, 95), "months": (3, 40), "minutes": (12, 180), "area": (18, 400), "copies": (3, 12)}[kind]
        amount = n(low, high)
        return tuple(f"{amount} {unit}" for unit in units[kind])
    if kind == "money":
        amount = n(4, 950)
        return chance.choice([(f"{amount} EUR", f"{amount} EUR"), (f"{amount},000 VND", f"{amount}.000 đồng")])
    if kind == "form":
        return _both(f"{chance.choice('BDKR' if part == 'train' else 'HMTW')}-{n(100, 990)}")
    if kind == "hour":
        return _both(f"{chance.randint(6, 19)}:{n(10, 55)}")
    ranges = {"count": (4, 240), "phone": (1000, 9900), "year": (1960, 2024)}
    return _both(str(n(*ranges[kind])))


def _both(entry: str | Sequence[str]) -> Sequence[str]:
    """An entry in both languages; names are the same in both."""
    return (entry, entry) if isinstance(entry, str) else tuple(entry)


def _said(entry: str | Sequence[str], language: Language) -> str:
    return _both(entry)[language == "vi"]


def _shuffled(chance: random.Random, items: Sequence[Any]) -> list[Any]:
    return chance.sample([_both(x) if isinstance(x, (str, list)) else x for x in items], len(items))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
