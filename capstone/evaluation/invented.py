"""Questions about houses that don't exist (a library, a hospital, an airline …), to teach a reader what an answer is.

Passages are put together from facts and tables of `invented.json`, in one of two languages; questions ask, in either language, for a
fact or a cell that the passage holds, or for its neighbour: a row that this table lacks, a column that it lacks, another fact about
the same house. None of it is of the evaluation's documents. The same seed gives the same pairs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INVENTED = Path(__file__).with_name("invented.json")
LANGUAGES = ("en", "vi")
SAME_LANGUAGE = 0.6  # of the questions
HEAD = {"en": "Item", "vi": "Mục"}


@dataclass(frozen=True)
class Pair:
    """`spans`: of which characters of the passage the answer is, from and to, where that is known."""

    question: str
    passage: int
    answered: bool
    spans: tuple[tuple[int, int], ...] = ()


def make(count: int, seed: int = 0) -> tuple[list[str], list[Pair]]:
    """`count` passages, and about six questions for each."""
    chance, houses = random.Random(seed), json.loads(INVENTED.read_text("utf-8"))
    passages: list[str] = []
    pairs: list[Pair] = []
    for number in range(count):
        language = chance.choice(LANGUAGES)
        text, asked = (table if chance.random() < 0.4 else prose)(chance, houses, language)
        passages.append(text)
        pairs += [Pair(question, number, answered) for question, answered in asked]
    return passages, pairs


def prose(chance: random.Random, houses: dict[str, Any], language: str) -> tuple[str, list[tuple[str, bool]]]:
    """Some facts about a house; three questions are answered, four are not, one of them about another house."""
    house = chance.choice(list(houses["facts"]))
    facts = houses["facts"][house]
    held = chance.sample(facts, chance.randint(1, 5))
    lacking = [fact for fact in facts if fact not in held]
    far = chance.choice([fact for other, known in houses["facts"].items() if other != house for fact in known])
    title = f"{house.capitalize()}\n" if chance.random() < 0.3 else ""
    asked = [(ask(chance, chance.choice(held), language), True) for _ in range(3)]
    asked += [(ask(chance, chance.choice(lacking), language), False) for _ in range(3)]
    return title + " ".join(fact[language] for fact in held), [*asked, (ask(chance, far, language), False)]


def table(chance: random.Random, houses: dict[str, Any], language: str) -> tuple[str, list[tuple[str, bool]]]:
    """Some rows and columns as a parsed table's text has them; three cells are there, two rows and a column are not."""
    known = chance.choice(list(houses["tables"].values()))
    rows = chance.sample(known["rows"], chance.randint(3, min(6, len(known["rows"]) - 2)))
    columns = chance.sample(known["columns"], chance.randint(2, min(3, len(known["columns"]) - 1)))
    head = HEAD[language]
    lines = [" | ".join([head, *(column[language] for column in columns)])]
    for row in rows:
        cells = [f"{column[language]}: {value(chance, houses['values'], column['values'], language)}" for column in columns]
        lines.append(" | ".join([f"{head}: {capital(row[language])}", *cells]))
    lead = chance.choice(chance.choice(list(houses["facts"].values())))[language] if chance.random() < 0.5 else ""
    other_rows = [row for row in known["rows"] if row not in rows]
    other_columns = [column for column in known["columns"] if column not in columns]
    asked = [(ask(chance, chance.choice(columns), language, chance.choice(rows)), True) for _ in range(3)]
    asked += [(ask(chance, chance.choice(columns), language, chance.choice(other_rows)), False) for _ in range(2)]
    asked.append((ask(chance, chance.choice(other_columns), language, chance.choice(rows)), False))
    return "\n".join(filter(None, [lead, *lines])), asked


def ask(chance: random.Random, about: dict[str, Any], language: str, row: dict[str, str] | None = None) -> str:
    """A question about a fact, or about a column in a row: mostly in the passage's language, otherwise in the other."""
    other = LANGUAGES[language == "en"]
    chosen = language if chance.random() < SAME_LANGUAGE else other
    question = chance.choice(about[f"asked_{chosen}"])
    return capital(question.replace("{e}", row[chosen])) if row else question


def value(chance: random.Random, values: dict[str, list[str]], kind: str, language: str) -> str:
    """What stands in a cell."""
    vietnamese = language == "vi"
    number = chance.randint
    made: dict[str, Callable[[], str]] = {
        "money": lambda: f"{number(2, 950)} {chance.choice(['euro', 'USD', '000 đồng'] if vietnamese else ['EUR', 'USD', 'euros'])}",
        "int": lambda: str(number(1, 40)),
        "room": lambda: f"{chance.choice('ABCDH')}-{number(110, 439)}",
        "kg": lambda: f"{number(5, 40)} kg",
        "months": lambda: f"{number(2, 24)} {'tháng' if vietnamese else 'months'}",
        "year": lambda: str(number(1998, 2025)),
        "num": lambda: str(number(1000, 9999)),
        "gb": lambda: f"{chance.choice([5, 10, 50, 200, 500])} GB",
        "hours": lambda: f"{number(2, 48)} {'giờ' if vietnamese else 'hours'}",
        "time": lambda: f"{number(4, 10)}:{number(10, 59)}",
        "min": lambda: f"{number(4, 60)} {'phút' if vietnamese else 'minutes'}",
        "who": lambda: chance.choice(values[f"who_{language}"]),
        "name": lambda: chance.choice(values["name"]),
        "place": lambda: chance.choice(values["place"]),
    }
    return made[kind]()


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]
