"""Invented conversations without end: an English and Vietnamese user tells, corrects, asks, chats, for hundreds of turns in many sessions.

What they are made of stands in `talk/`: worlds (train …, valid, test) that share no entity, no fact, no value and no phrasing. A talk
is a list of turns, each with what it is about; what may be asked of it at a place, what answers it, and what a question without a
subject refers to, is read out of that list (`memory_probes`). The same seed gives the same talk.
"""

from __future__ import annotations

import random
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

WORLDS = Path(__file__).with_name("talk")
RESTS = {"train": 0, "valid": 1, "test": 2}  # what is left of a world's numbers after division by three; the training worlds draw the same
SPLITS = (*sorted(path.stem for path in WORLDS.glob("train*.toml")), "valid", "test")
MIXED = "+"
KINDS = ("person", "thing", "event")
LANGUAGES = ("en", "vi")
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
BEGIN = 1_767_600_000.0  # 5 January 2026
DAY, MINUTE = 86_400.0, 60.0
LONG = 0.3  # of the facts are told within a story


@dataclass(frozen=True)
class Entity:
    """Somebody or something, with its name in each language."""

    kind: str
    names: dict[str, str]

    @property
    def id(self) -> str:
        return self.names["en"]


@dataclass(frozen=True)
class Said:
    """A turn. `event` says what it does (fact, mention, question, answer, option, talk, ack), the rest what it is about, if anything."""

    text: str
    role: str
    session: int
    created: float
    language: str
    event: str
    entity: Entity | None = None
    fact: str = ""
    value: str = ""
    long: bool = False


@cache
def world(split: str) -> dict[str, Any]:
    """One of the worlds; `train2+` is train2 with the matters and the small talk of all training worlds, so that no word for a matter goes
    with one way of speaking. Raises ValueError where there is no such split."""
    name = split.removesuffix(MIXED)
    if name not in SPLITS or (split != name and not name.startswith("train")):
        raise ValueError(f"split is {split!r}: choose one of {', '.join(SPLITS)}, of those for training with or without a {MIXED}")
    made = tomllib.loads((WORLDS / f"{name}.toml").read_text("utf-8"))
    if split != name:
        every = [world(other) for other in SPLITS if other.startswith("train")]
        for kind in KINDS:
            made[kind]["nouns"] = [noun for other in every for noun in other[kind]["nouns"]]
        for part in ("names", "places", "brands"):
            made[part] = [one for other in every for one in other[part]]
        made["general"]["words"] = [word for other in every for word in other["general"]["words"]]
        general = tomllib.loads((WORLDS / "smalltalk.toml").read_text("utf-8"))
        for language in LANGUAGES:
            made["general"]["talk"][language] = general[language] + [one for of in every for one in of["general"]["talk"][language]]
    return made


class Teller:
    """Tells one talk of at least `turns` turns; `stretches` are how long a matter is left alone before it is asked for again."""

    def __init__(self, split: str, seed: int, turns: int, stretches: tuple[int, ...]):
        self.split, self.world, self.turns = split, world(split), turns
        self.chance = random.Random(f"{split.removesuffix(MIXED)} {seed}")
        self.stretches = list(stretches)
        self.said: list[Said] = []
        self.quiet: dict[str, int] = {}  # kind → the turn before which it is not touched again
        self.session, self.left, self.clock = -1, 0, BEGIN
        self.current: dict[tuple[str, str], tuple[Entity, str, dict[str, str]]] = {}  # (entity, fact) → entity, id and text of the value
        self.runs = 0

    def tell(self) -> list[Said]:
        """Facts first, with some general talk; then corrections, questions, mentions, and long stretches of other matters."""
        cast = {kind: self._cast(kind) for kind in KINDS}
        planned = [(e, fact) for kind in KINDS for e in cast[kind] for fact in self._facts_of(kind)]
        self.chance.shuffle(planned)
        corrected = self.chance.sample(planned, len(planned) // 3)
        for entity, fact in planned:
            self._fact(entity, fact)
            if self.chance.random() < 0.25:
                self._talk()
        for entity, fact in [*corrected, *self.chance.sample(corrected, len(corrected) // 4)]:
            self._fact(entity, fact)
            self._one_of(self._talk, self._question, self._mention)
        self._run()
        while len(self.said) < self.turns or self.stretches:
            self._stretch()
            for _ in range(self.chance.randint(1, 4)):
                self._one_of(self._talk, self._talk, self._talk, self._question, self._mention)
        return self.said

    # ---------------------------------------------------------------- what there is

    def _cast(self, kind: str) -> list[Entity]:
        nouns = self.world[kind]["nouns"]
        made = []
        for en, vi in self.chance.sample(nouns, min(len(nouns), 5 if kind != "event" else 4)):
            if kind == "person" and self.chance.random() < 0.6:
                name = self.chance.choice(self.world["names"])
                en, vi = f"{en} {name}", f"{vi} {name}"
            place = self.chance.choice(self.world["places"])
            made.append(Entity(kind, {"en": en.format(p=place), "vi": vi.format(p=place)}))
        return made

    def _facts_of(self, kind: str) -> list[str]:
        """All but one: what was never said is asked for too."""
        names = [fact["name"] for fact in self.world[kind]["facts"]]
        return self.chance.sample(names, min(4, len(names) - 1))

    def _value(self, fact: dict[str, Any]) -> dict[str, str]:
        values = fact["values"]
        if isinstance(values, list):
            return dict(zip(LANGUAGES, self.chance.choice(values), strict=True))
        if values == "name":
            return dict.fromkeys(LANGUAGES, self.chance.choice(self.world["names"]))
        if values == "date":
            day, month = self._number(1, 28), self.chance.randint(1, 12)
            return {"en": f"{day} {MONTHS[month - 1]}", "vi": f"{day} tháng {month}"}
        n = self._number(*map(int, values.split()[1:]))
        return {language: form.format(n=n) for language, form in zip(LANGUAGES, fact["form"], strict=True)}

    def _number(self, low: int, high: int) -> int:
        """A number that is drawn for training, for validation, or for the test, never for two of them."""
        rest = RESTS[self.split.rstrip(f"0123456789{MIXED}")]
        return self.chance.choice([n for n in range(low, high + 1) if n % 3 == rest])

    # ---------------------------------------------------------------- what is said

    def _add(self, text: str, role: str, language: str, event: str, **about: Any) -> None:
        text = sentence(text)
        if self.left <= 0 and role == "user":
            self.session += 1
            self.left = self.chance.randint(24, 44)
            self.clock = BEGIN + DAY * (2 * self.session + self.chance.choice((0, 1))) + 60 * MINUTE * self.chance.randint(0, 6)
            self.said.append(Said(*self._diary(language)))
            self.said.append(Said(*self._ack(language)))
        self.left -= 1
        self.clock += MINUTE * self.chance.randint(1, 4)
        self.said.append(Said(text, role, self.session, self.clock, language, event, **about))

    def _ack(self, language: str) -> tuple:
        self.clock += MINUTE
        return self.chance.choice(self.world["wrap"]["acks"][language]), "assistant", self.session, self.clock, language, "ack"

    def _diary(self, language: str) -> tuple:
        """Each session opens with the same kind of news, so that only the session tells one from another."""
        self.clock += MINUTE
        fact = self.world["diary"]["facts"][0]
        value = self._value(fact)
        text = sentence(self.chance.choice(fact["say"][language]).format(v=value[language]))
        return text, "user", self.session, self.clock, language, "diary", None, fact["name"], value["en"]

    def _reply(self, language: str) -> None:
        self._add(self.chance.choice(self.world["wrap"]["acks"][language]), "assistant", language, "ack")

    def _fact(self, entity: Entity, name: str) -> None:
        fact, language = self._spec(entity.kind, name), self.chance.choice(LANGUAGES)
        before = self.current.get((entity.id, name))
        value = self._value(fact)
        while before and value["en"] == before[1]:
            value = self._value(fact)
        text = sentence(self.chance.choice(fact["say"][language]).format(e=entity.names[language], v=value[language]))
        if before:
            text = self.chance.choice(self.world["wrap"]["correct"][language]).format(s=text)
        long = self.chance.random() < LONG
        if long:
            text = self._story(text, language)
        self.current[entity.id, name] = (entity, value["en"], value)
        self._add(text, "user", language, "fact", entity=entity, fact=name, value=value["en"], long=long)
        self._reply(language)

    def _story(self, text: str, language: str) -> str:
        told = self.chance.sample(self.world["wrap"]["story"][language], self.chance.randint(3, 6))
        told.insert(self.chance.randint(0, len(told)), sentence(text))
        return " ".join(told)

    def _spec(self, kind: str, name: str) -> dict[str, Any]:
        return next(fact for fact in self.world[kind]["facts"] if fact["name"] == name)

    def _known(self, *kinds: str) -> list[tuple[str, str]]:
        return [key for key, (entity, _, _) in self.current.items() if entity.kind in kinds and not self._is_quiet(entity.kind)]

    def _is_quiet(self, kind: str) -> bool:
        return len(self.said) < self.quiet.get(kind, 0)

    def _question(self) -> None:
        known = self._known(*KINDS)
        if self._is_quiet("question") or not known:
            return self._talk()
        entity, value, texts = self.current[key := self.chance.choice(known)]
        fact, language = self._spec(entity.kind, key[1]), self.chance.choice(LANGUAGES)
        about = {"entity": entity, "fact": key[1], "value": value}
        self._add(self.chance.choice(fact["ask"][language]).format(e=entity.names[language]), "user", language, "question", **about)
        said = sentence(self.chance.choice(fact["say"][language]).format(e=entity.names[language], v=texts[language]))
        self._add(self.chance.choice(self.world["wrap"]["answer"][language]).format(s=said), "assistant", language, "answer", **about)
        return None

    def _mention(self) -> None:
        known = self._known(*KINDS)
        if not known:
            return self._talk()
        self._mention_of(self.current[self.chance.choice(known)][0])
        return None

    def _mention_of(self, entity: Entity) -> None:
        language = self.chance.choice(LANGUAGES)
        text = self.chance.choice(self.world[entity.kind]["mentions"][language]).format(e=entity.names[language])
        if self.chance.random() < 0.2:
            text = self._story(text, language)
        self._add(text, "user", language, "mention", entity=entity)
        self._reply(language)

    def _talk(self) -> None:
        language, general = self.chance.choice(LANGUAGES), self.world["general"]
        asked, answered = self.chance.choice(general["talk"][language])
        word = dict(zip(LANGUAGES, self.chance.choice(general["words"]), strict=True))[language]
        self._add(asked.format(w=word), "user", language, "talk")
        self._add(answered.format(w=word), "assistant", language, "talk")

    def _run(self) -> None:
        """Three candidates, one turn each."""
        options, language = self.world["options"], self.chance.choice(LANGUAGES)
        topic = dict(zip(LANGUAGES, self.chance.choice(options["topics"]), strict=True))[language]
        brands = self.chance.sample(self.world["brands"], 3)
        self.runs += 1
        run = Entity("options", dict.fromkeys(LANGUAGES, f"run {self.runs}"))
        for place, brand in zip(("first", "second", "third"), brands, strict=True):
            detail = dict(zip(LANGUAGES, self.chance.choice(options["details"]), strict=True))[language].format(n=self._number(2, 99))
            text = self.chance.choice(options[place][language]).format(t=topic, b=brand, d=detail)
            self._add(text, "user", language, "option", entity=run, fact=place, value=brand)
            self._reply(language)

    def _one_of(self, *ways) -> None:
        self.chance.choice(ways)()

    def _stretch(self) -> None:
        """Touch a matter, and then leave it alone for a planned while; others may be touched meanwhile, for as long at most."""
        if not self.stretches:
            return
        length = self.stretches.pop(0)
        free = [kind for kind in (*KINDS, "question", "options") if not self._is_quiet(kind)]
        if not free:
            self.stretches.insert(0, length)
            return self._talk()
        kind = self.chance.choice(free)
        if kind == "options":
            self._run()
        elif kind == "question":
            self._question()
        else:
            self._mention_of(self.current[self.chance.choice(self._known(kind))][0])
        self.quiet[kind] = len(self.said) - 2 + length + 1
        end = self.quiet[kind] if length >= 100 else 0  # a long stretch is filled here, with shorter ones in it
        while len(self.said) < end:
            if self.chance.random() < 0.12 and self.stretches and self.stretches[0] < end - len(self.said):
                self._stretch()
            else:
                self._one_of(*[self._talk] * 6, self._question, self._mention)
        return None


def sentence(text: str) -> str:
    """With a capital at its beginning."""
    return text[:1].upper() + text[1:]


def tell(split: str, seed: int, turns: int, stretches: tuple[int, ...]) -> list[Said]:
    """A talk of a world. Raises ValueError where there is no such split."""
    return Teller(split, seed, turns, stretches).tell()
