"""A follow-up that only names another place, year or thing, put into the question before it.

"Còn ở Hà Nội?" after "Công tác phí một ngày ở Huế là bao nhiêu?" asks "Công tác phí một ngày ở Hà Nội là bao nhiêu?". Both in one line
name two places, and a passage that speaks of both answers neither: so the name takes the other one's place, where it is plain which.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.store.words import STOP, folded

WORD = re.compile(r"\w+(?:[.'’/-]\w+)*")
BEFORE = re.compile(r"(?:and|or|but|so|then|also|what about|how about|what if|còn|thế|vậy|và|rồi|hay là)\b[\s,]*", re.IGNORECASE)
AFTER = re.compile(r"[\s,]*\b(?:th[ìi] sao|then|instead)?[\s?.!…]*$", re.IGNORECASE)
LEADING = 2  # words before the name, at most: "ở Hà Nội"


@dataclass(frozen=True)
class Name:
    """Words with a capital letter or a figure that stand side by side: where, whether they begin with a figure, and the word before."""

    start: int
    end: int
    figure: bool
    before: str


def replaced(question: str, earlier: str) -> str | None:
    """The earlier question with the follow-up's name instead of its own; None where the follow-up is none of that kind, or the earlier
    question has no name of the same sort, or several and none after the same word."""
    asked = unicodedata.normalize("NFC", question).strip()
    while stripped := BEFORE.match(asked):
        asked = asked[stripped.end() :]
    asked = asked[: AFTER.search(asked).start()]
    wanted = names(asked, beginning=True)
    if len(wanted) != 1 or wanted[0].end != len(asked) or len(WORD.findall(asked[: wanted[0].start])) > LEADING:
        return None
    new, whole = wanted[0], unicodedata.normalize("NFC", earlier).strip()
    alike = [name for name in names(whole) if name.figure == new.figure]
    chosen = [name for name in alike if new.before and name.before == new.before] or alike
    if len(chosen) != 1:
        return None
    return whole[: chosen[0].start] + asked[new.start : new.end] + whole[chosen[0].end :]


def names(text: str, *, beginning: bool = False) -> Sequence[Name]:
    """The names of a text. Its first word counts where it may be the `beginning` of a name, and is no everyday word."""
    found: list[Name] = []
    last = ""
    for place, word in enumerate(WORD.finditer(text)):
        written = word.group()
        named = (written[0].isupper() or any(map(str.isdigit, written))) and (
            place > 0 or (beginning and folded(written) not in EVERYDAY)
        )
        if named and found and text[found[-1].end : word.start()] == " " and found[-1].figure == written[0].isdigit():
            found[-1] = Name(found[-1].start, word.end(), found[-1].figure, found[-1].before)
        elif named:
            found.append(Name(word.start(), word.end(), written[0].isdigit(), last))
        last = folded(written)
    return found


EVERYDAY = frozenset(map(folded, STOP))
