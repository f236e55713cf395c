"""The last turns of a conversation: what the engine reads of them, and what a question that leans on them asks for.

"And in Hanoi?" finds nothing by itself: what it leaves out stands in the question before. Whether a question leans is told by how it
begins, by its pronouns, and by how little else it has; one that could stand alone is never changed. One that only names another place or
year takes the place of the name before (followup.py); any other is looked for together with the question that it leans on.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from assistant.engines.base import Message
from assistant.followup import replaced
from assistant.language import SENTENCES, Language, language_of
from assistant.store.conversations import StoredMessage
from assistant.store.words import STOP, folded, terms

TURNS = 3  # questions with their answers
LONGEST, TOGETHER = 400, 1200  # characters of one message, and of all: a first word waits for what the engine has to read
REFUSALS = frozenset(sentence for both in SENTENCES.values() for sentence in both.values())


@dataclass(frozen=True)
class Leaning:
    """How a language's questions lean: how they begin, which words point back, and how many words of their own they have at most, with
    such a beginning, with such a word, and with neither. A Vietnamese word is mostly two."""

    beginning: re.Pattern[str]
    pointing: re.Pattern[str]
    begun: int
    pointed: int
    bare: int


LEANING: dict[Language, Leaning] = {
    "en": Leaning(
        re.compile(r"(?:and|or|but|so|then|also|what about|how about|what if|same)\b"),
        re.compile(r"\b(?:it|its|they|them|their|he|him|his|she|her|this|that|these|those|there|same|ones?)\b"),
        begun=4,
        pointed=2,
        bare=1,
    ),
    "vi": Leaning(
        re.compile(r"(?:còn|thế|vậy|và|rồi|hay là)\b|.*\bth(?:ì|i) sao\W*$"),
        re.compile(r"\b(?:nó|họ|đó|ấy|này|kia|vậy|thế)\b"),
        begun=7,
        pointed=4,
        bare=2,
    ),
}


def leans(question: str) -> bool:
    """Whether a question says too little to be asked alone."""
    plain = unicodedata.normalize("NFC", question).casefold().strip()
    language = LEANING[language_of(question)]
    own = [word for word in terms(plain) if word not in STOP and not language.pointing.fullmatch(word)]
    if begun := language.beginning.match(plain):
        opening = terms(begun.group()) if begun.end() < len(plain) else ()
        return len([word for word in own if word not in opening]) <= language.begun
    return len(own) <= (language.pointed if language.pointing.search(plain) else language.bare)


def whole_question(question: str, earlier: Sequence[Message]) -> str:
    """What to look for: the question put into the one that it leans on, or after it, and so on back through the last turns."""
    asked = [message.content for message in earlier if message.role == "user"][-TURNS:]
    first, after = question, ""
    while asked and leans(first):
        before = asked.pop()
        told = None if after else replaced(first, before)
        if told is None:
            after = f" {continued(first)}{after}"
        first = told or before
    return first + after


def continued(question: str) -> str:
    """A question in the middle of a line: a capital letter that is only a beginning would be taken for a name."""
    first = re.match(r"\w+", question)
    small = first and (folded(first.group()) in BEGINNINGS)
    return question[:1].lower() + question[1:] if small else question


BEGINNINGS = frozenset(map(folded, STOP)) | {"and", "but", "so", "then", "also", "same", "con", "vay", "roi"}


def last_turns(stored: Sequence[StoredMessage]) -> list[Message]:
    """A conversation's last questions, each with its answer as far as it may be read again: what was said of a document that has been
    deleted since, or cut off, is not."""
    turns: list[list[Message]] = []
    for message in stored:
        if message.role == "user":
            turns.append([Message("user", message.content)])
        elif turns and message.complete and message.content and all(one["quote"] for one in message.citations):
            turns[-1].append(Message("assistant", message.content))
    return [message for turn in turns[-TURNS:] for message in turn]


def read_again(earlier: Sequence[Message]) -> list[Message]:
    """Of the last turns what the engine reads before a question: whole ones, the newest that fit, and none that found nothing, which a
    small model would say again."""
    kept: list[Message] = []
    for asked, answered in reversed(list(pairwise(earlier))):
        if (asked.role, answered.role) != ("user", "assistant") or answered.content in REFUSALS:
            continue
        turn = [Message(one.role, shortened(one.content)) for one in (asked, answered)]
        if sum(len(one.content) for one in turn + kept) > TOGETHER:
            break
        kept = turn + kept
    return kept


def shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1].rstrip()}…"
