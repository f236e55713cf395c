"""Which turns a question speaks of by session or by time: "in our first conversation", "hai ngày trước". Read by rules, never guessed.

A question that names no such thing speaks of all turns.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from assistant.store.turns import Session

ENGLISH = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
VIETNAMESE = ("một", "hai", "ba", "bốn", "năm", "sáu", "bảy", "tám", "chín", "mười")
PLACES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
NUMBERS = {"a": 1, "an": 1, **{word: n for words in (ENGLISH, VIETNAMESE) for n, word in enumerate(words, 1)}}
ORDINALS = {word: n for words in (PLACES, ("nhất", "hai", "ba", "tư", *VIETNAMESE[4:])) for n, word in enumerate(words, 1)}
ORDINALS |= {"đầu tiên": 1, "đầu": 1}
COUNT = rf"\d{{1,4}}|{'|'.join(NUMBERS)}"
SESSION = r"(?:sessions?|conversations?|chats?|talks?)"
PHIEN = r"(?:phiên(?: (?:làm việc|trò chuyện))?|(?:cuộc|buổi|lần) (?:trò chuyện|nói chuyện|hội thoại))"
DAYS = {"day": 1, "days": 1, "week": 7, "weeks": 7, "ngày": 1, "hôm": 1, "tuần": 7}


@dataclass(frozen=True)
class When:
    """`sessions`: None for all, an empty tuple where the session that was named does not exist. Times in seconds since 1970: from `since`
    on and before `until`. `question` is what is left of it once session and time are taken out."""

    question: str
    sessions: tuple[str, ...] | None = None
    since: float = -math.inf
    until: float = math.inf

    @property
    def everything(self) -> bool:
        return self.sessions is None and self.since == -math.inf and self.until == math.inf


def when(question: str, sessions: Sequence[Session], now: datetime) -> When:
    """Read session and time out of a question. `sessions` are those before the present one, oldest first; `now` is the local time."""
    plain = unicodedata.normalize("NFC", question)
    chosen, left = _named(plain, SESSIONS)
    found = None
    if chosen is not None:
        place = chosen - 1 if chosen > 0 else len(sessions) + chosen  # 1: the first; -1: the last
        found = (sessions[place].id,) if 0 <= place < len(sessions) else ()
    span, left = _named(left, TIMES)
    since, until = (-math.inf, math.inf) if span is None else (moment.timestamp() for moment in span(now))
    return When(" ".join(left.split()), found, since, until)


def _named(text: str, rules: Sequence[tuple[re.Pattern[str], Callable]]) -> tuple:
    """What the first rule that matches says, and the text without it; None where none does."""
    for pattern, read in rules:
        if match := pattern.search(text):
            return read(match), f"{text[: match.start()]} {text[match.end() :]}"
    return None, text


def _number(text: str) -> int:
    word = text.casefold()
    return int(re.match(r"\d+", word).group()) if word[0].isdigit() else NUMBERS.get(word) or ORDINALS[word]


def _rule(pattern: str, read: Callable) -> tuple[re.Pattern[str], Callable]:
    before = r"(?:\b(?:in|from|during|on|of|trong|ở|vào|của) )?(?:\b(?:our|my|the|your) )?"
    return re.compile(rf"{before}\b(?:{pattern})(?!\w)", re.IGNORECASE), read


SESSIONS = (
    _rule(rf"({COUNT}) {SESSION} ago", lambda m: -_number(m[1])),
    _rule(rf"({COUNT}) {PHIEN} trước(?: đây)?", lambda m: -_number(m[1])),
    _rule(rf"(?:very )?({'|'.join(PLACES)}|\d+(?:st|nd|rd|th)) {SESSION}", lambda m: _number(m[1])),
    _rule(rf"{PHIEN} (?:thứ ({'|'.join(ORDINALS)}|\d+)|(đầu tiên|đầu))", lambda m: _number(m[1] or m[2])),
    _rule(rf"(?:last|previous) {SESSION}|last time we (?:talked|spoke|chatted)", lambda m: -1),
    _rule(rf"{PHIEN} (?:trước|vừa rồi|gần nhất|gần đây nhất)", lambda m: -1),
)


def _day(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _days(first: int, count: int = 1) -> Callable[[datetime], tuple[datetime, datetime]]:
    """`count` days, of which the first was `first` days ago."""
    return lambda now: (_day(now) - timedelta(first), _day(now) - timedelta(first - count))


def _week(ago: int) -> Callable[[datetime], tuple[datetime, datetime]]:
    """A week from Monday to Sunday; 0 is the present one."""
    return lambda now: (monday := _day(now) - timedelta(now.weekday() + 7 * ago), monday + timedelta(7))


def _ago(match: re.Match[str]) -> Callable[[datetime], tuple[datetime, datetime]]:
    count, unit = _number(match[1]), DAYS[match[2].casefold()]
    return _days(count) if unit == 1 else _week(count)


TIMES = (
    _rule("the day before yesterday|hôm kia", lambda m: _days(2)),
    _rule("yesterday|hôm qua", lambda m: _days(1)),
    _rule("today|hôm nay", lambda m: _days(0)),
    _rule(rf"({COUNT}) (days?|weeks?) ago", _ago),
    _rule(rf"({COUNT}) (ngày|hôm|tuần) trước", _ago),
    _rule("last week|tuần trước", lambda m: _week(1)),
    _rule("this week|tuần này", lambda m: _week(0)),
)
