"""What may be asked of an invented talk at a place, and the turns that answer it: read out of what each turn is about.

Abilities: `plain`, `mixed` (asked in the other language), `long` (told within a story), `corrected` (the newest value), `older` (the one
before it), `session` (told anew in each session), `never` (never said: nothing answers it), and `follow`: a question without a subject.
What it refers to is the last turn that touched a matter of its kind, which lies `distance` turns back; what answers it, elsewhere.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from capstone.evaluation.memory_talk import KINDS, LANGUAGES, MIXED, Entity, Said, tell, world

DISTANCES = {"1–3": (1, 2, 3), "10": (10,), "50": (50,), "200": (200,)}
FOLLOWS = (*KINDS, "same", "before", "option")
ABILITIES = ("plain", "mixed", "long", "corrected", "older", "session", "never", "follow")
PLACES = {
    "en": ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"),
    "vi": ("đầu tiên", "thứ hai", "thứ ba", "thứ tư", "thứ năm", "thứ sáu", "thứ bảy", "thứ tám"),
}
AGO = {"en": ("two", "three", "four", "five"), "vi": ("hai", "ba", "bốn", "năm")}


@dataclass(frozen=True)
class Asked:
    """A question put when `place` turns had been said, in session `session`. `answers` are the turns that say it, none where none does;
    `referent` is the turn that a question without a subject refers to, `kind` what sort of question it is."""

    ability: str
    question: str
    language: str
    place: int
    session: int
    answers: tuple[int, ...]
    referent: int | None = None
    kind: str = ""

    @property
    def distance(self) -> int | None:
        return None if self.referent is None else self.place - self.referent


def touches(one: Said, kind: str) -> bool:
    """Whether a question of this kind without a subject may refer to this turn."""
    if kind in KINDS:
        return one.entity is not None and one.entity.kind == kind
    return one.event == ("option" if kind == "option" else "question")


class Known:
    """What has been said in a talk before a place."""

    def __init__(self, split: str, said: Sequence[Said], place: int):
        self.world, self.said, self.place = world(split), said[:place], place
        self.session = said[place - 1].session
        self.values: dict[tuple[str, str], list[str]] = {}  # (entity, fact) → its values, oldest first
        self.turns: dict[tuple[str, str, str], list[int]] = {}
        self.entities: dict[str, Entity] = {}
        for turn, one in enumerate(self.said):
            if one.entity and one.entity.kind in KINDS:
                self.entities[one.entity.id] = one.entity
            if one.event in ("fact", "answer"):
                values = self.values.setdefault((one.entity.id, one.fact), [])
                if one.event == "fact" and (not values or values[-1] != one.value):
                    values.append(one.value)
                self.turns.setdefault((one.entity.id, one.fact, one.value), []).append(turn)

    def spec(self, kind: str, name: str) -> dict:
        return next(fact for fact in self.world[kind]["facts"] if fact["name"] == name)

    def last(self, kind: str) -> int | None:
        """The last turn that touched a matter of this kind."""
        return next((turn for turn in range(self.place - 1, -1, -1) if touches(self.said[turn], kind)), None)

    def says(self, key: tuple[str, str], back: int) -> tuple[int, ...]:
        """The turns that say a value of a fact: the newest (0), the one before it (1)."""
        return tuple(self.turns[(*key, self.values[key][-1 - back])])


def follow(known: Known, kind: str, chance: random.Random) -> Asked | None:
    """A question without a subject, or None where the talk has nothing for one."""
    referent, language = known.last(kind), chance.choice(LANGUAGES)
    if referent is None:
        return None
    touched, wrap = known.said[referent], known.world["wrap"]

    def made(text: str, answers: tuple[int, ...]) -> Asked:
        return Asked("follow", text, language, known.place, known.session, answers, referent, kind)

    if kind == "option":
        wanted = chance.choice(("first", "second", "third"))
        run = [turn for turn, one in enumerate(known.said) if one.event == "option" and one.entity == touched.entity and one.fact == wanted]
        return made(chance.choice(known.world["options"][f"ask_{wanted}"][language]), tuple(run)) if run else None
    if kind == "before":
        key = (touched.entity.id, touched.fact)
        if len(known.values[key]) < 2:
            return None
        return made(chance.choice(wrap["before"][language]), known.says(key, 1))
    if kind == "same":
        others = [key for key, values in known.values.items() if key[1] == touched.fact and len(values) == 1]
        others = [key for key in others if key[0] != touched.entity.id and known.entities[key[0]].kind == touched.entity.kind]
        if not others:
            return None
        key = chance.choice(others)
        return made(chance.choice(wrap["same"][language]).format(e=known.entities[key[0]].names[language]), known.says(key, 0))
    facts = [key for key, values in known.values.items() if key[0] == touched.entity.id and len(values) == 1]
    facts = [key for key in facts if referent not in known.says(key, 0)]
    if not facts:
        return None
    key = chance.choice(facts)
    return made(chance.choice(known.spec(kind, key[1])["follow"][language]), known.says(key, 0))


def direct(known: Known, ability: str, chance: random.Random) -> Asked | None:
    """A question that names what it is about."""
    language = chance.choice(LANGUAGES)
    if ability == "session":
        return of_session(known, language, chance)
    if ability == "never":
        names = {kind: [fact["name"] for fact in known.world[kind]["facts"]] for kind in KINDS}
        keys = [(e.id, name) for e in known.entities.values() for name in names[e.kind] if (e.id, name) not in known.values]
    else:
        count = 2 if ability in ("corrected", "older") else 1
        keys = [key for key, values in known.values.items() if (len(values) >= 2) == (count == 2)]
    chance.shuffle(keys)
    for key in keys[:40]:
        entity = known.entities[key[0]]
        answers = () if ability == "never" else known.says(key, 1 if ability == "older" else 0)
        told = [known.said[turn] for turn in answers]
        if ability in ("plain", "mixed", "long"):
            language = {"en": "vi", "vi": "en"}[told[0].language] if ability == "mixed" else told[0].language
            if any((one.language == language) == (ability == "mixed") for one in told) or told[0].long != (ability == "long"):
                continue
        question = chance.choice(known.spec(entity.kind, key[1])["ask"][language]).format(e=entity.names[language])
        if ability == "older":
            question = chance.choice(known.world["wrap"]["older"][language]).format(q=question)
        return Asked(ability, question[:1].upper() + question[1:], language, known.place, known.session, answers)
    return None


def of_session(known: Known, language: str, chance: random.Random) -> Asked | None:
    """What opens every session, asked of one that is named by its place, from the front or from behind."""
    ago = chance.randint(1, 5)
    if known.session < 6:
        return None
    if ago == 1:
        wanted, when = known.session - 1, {"en": "last session", "vi": "phiên trước"}[language]
    elif chance.random() < 0.4:
        number = AGO[language][ago - 2]
        wanted, when = known.session - ago, {"en": f"{number} sessions ago", "vi": f"{number} phiên trước"}[language]
    else:
        wanted = chance.randrange(min(known.session, 8))
        number = PLACES[language][wanted]
        when = {"en": f"in our {number} conversation", "vi": f"trong cuộc trò chuyện {number}"}[language]
    answers = tuple(turn for turn, one in enumerate(known.said) if one.event == "diary" and one.session == wanted)
    text = chance.choice(known.world["diary"]["facts"][0]["ask"][language]).format(w=when)
    return Asked("session", text[:1].upper() + text[1:], language, known.place, known.session, answers)


@dataclass(frozen=True)
class Talk:
    said: list[Said]
    asked: list[Asked]

    def now(self, one: Asked) -> datetime:
        return datetime.fromtimestamp(self.said[one.place - 1].created + 1)


def training(split: str, seeds: Sequence[int], each: int = 48) -> Iterator[Talk]:
    """Talks with `each` questions at random places, follow-ups at whatever distance they have there."""
    for seed in seeds:
        chance = random.Random(f"asked {split.removesuffix(MIXED)} {seed}")
        stretches = tuple(chance.randint(4, 110) for _ in range(5))
        said, asked = tell(split, seed, 200, stretches), []
        while len(asked) < each:
            known = Known(split, said, chance.randint(40, len(said)))
            ability = chance.choices(ABILITIES, (2, 2, 1, 3, 2, 1, 3, 10))[0]
            one = follow(known, chance.choice(FOLLOWS), chance) if ability == "follow" else direct(known, ability, chance)
            asked += [one] if one else []
        yield Talk(said, asked)


def examination(split: str, seeds: Sequence[int], each: int = 3, follows: int = 4) -> Iterator[Talk]:
    """Talks with `each` questions of every direct ability and `follows` follow-ups of every distance, of each referent one at most."""
    for seed in seeds:
        chance = random.Random(f"asked {split} {seed}")
        said = tell(split, seed, 300, (10, 50, 206, 12, 50, 10, 52, 206, 50, 12, 10, 50))
        asked: list[Asked] = []
        for ability in ABILITIES[:-1]:
            for _ in range(60):
                if sum(one.ability == ability for one in asked) < each:
                    one = direct(Known(split, said, chance.randint(len(said) // 2, len(said))), ability, chance)
                    asked += [one] if one and one.question not in [other.question for other in asked] else []
        for distances in DISTANCES.values():
            asked += of_distance(split, said, distances, follows, chance)
        yield Talk(said, asked)


def of_distance(split: str, said: Sequence[Said], distances: tuple[int, ...], count: int, chance: random.Random) -> list[Asked]:
    """`count` follow-ups whose referents lie so far back, of as many kinds as there are; fewer where the talk has no more."""
    of_kind: dict[str, list[int]] = {kind: [] for kind in FOLLOWS}
    last: dict[str, int] = {}
    for place, one in enumerate(said, 1):
        for kind in FOLLOWS:
            if touches(one, kind):
                last[kind] = place - 1
            if kind in last and place >= 60 and place - last[kind] in distances:
                of_kind[kind].append(place)
    kinds = chance.sample(FOLLOWS, len(FOLLOWS))
    made: list[Asked] = []
    for kind in (*kinds, *kinds, *kinds):
        for place in chance.sample(of_kind[kind], min(8, len(of_kind[kind]))):
            one = follow(Known(split, said, place), kind, chance)
            if one and len(made) < count and (one.referent, kind) not in [(other.referent, other.kind) for other in made]:
                made.append(one)
                break
    return made
