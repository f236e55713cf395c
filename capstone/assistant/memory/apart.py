"""What a question and a turn can't both be about, however alike they sound: another number, another name, another of the family.

A reader by likeness takes room 12 for room 17, and a son for a daughter; rules tell them apart, in both languages.
"""

from __future__ import annotations

import re

from assistant.knowledge.abstention import tight
from assistant.knowledge.vocabulary import names

NUMBER = re.compile(r"\d+")
CLAUSE = re.compile(r"(?<=[.!?:;])\s+")
FAMILY = {  # whom one has few of, and words that name nobody else
    "mother": r"mothers?|mum|mom|mẹ",
    "father": r"fathers?|dad|bố|cha",
    "sister": r"sisters?|chị gái|em gái|chị của tôi|chị tôi",
    "brother": r"brothers?|anh trai|em trai|anh của tôi",
    "son": r"sons?|con trai",
    "daughter": r"daughters?|con gái",
    "wife": r"wife|vợ",
    "husband": r"husband|chồng",
    "grandmother": r"grandmothers?|grandma|bà nội|bà ngoại",
    "grandfather": r"grandfathers?|grandpa|ông nội|ông ngoại",
    "aunt": r"aunts?|cô tôi|dì tôi",
    "uncle": r"uncles?|chú tôi|cậu tôi",
    "niece": r"nieces?|cháu gái",
    "nephew": r"nephews?|cháu trai",
}
ALONE = r"(?<!half-)(?<!khác )(?<!cùng )\b(?:{words})\b(?!-in-law| vợ| chồng)"  # a half-brother or a father-in-law is somebody else
RELATIVES = {name: re.compile(ALONE.format(words=words), re.IGNORECASE) for name, words in FAMILY.items()}


def apart(question: str, turn: str) -> bool:
    """Whether a turn lacks a number or a name that the question names, or is about others of the family only."""
    if not set(NUMBER.findall(question)) <= set(NUMBER.findall(turn)):
        return True
    if not all(tight(name) in tight(turn) for clause in CLAUSE.split(question) for name in names(clause)):
        return True
    wanted, there = relatives(question), relatives(turn)
    return bool(wanted and there and not wanted & there)


def relatives(text: str) -> set[str]:
    """Who of the family a text names."""
    return {name for name, words in RELATIVES.items() if words.search(text)}
