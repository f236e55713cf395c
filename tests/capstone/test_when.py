"""Sessions and days that a question names are read out of it; everything else is left as it was asked."""

from __future__ import annotations

import math
from datetime import datetime

import pytest
from assistant.memory.when import When, when
from assistant.store.turns import Session

NOW = datetime(2026, 3, 12, 15, 30)  # a Thursday
SESSIONS = [Session(name, 0.0, 1.0) for name in ("a", "b", "c", "d")]


def read(question: str, sessions=SESSIONS) -> When:
    return when(question, sessions, NOW)


@pytest.mark.parametrize(
    ("question", "session", "left"),
    [
        ("What did I say about the budget in our first conversation?", "a", "What did I say about the budget ?"),
        ("What was the second session about?", "b", "What was about?"),
        ("Which city did I name in the 3rd chat?", "c", "Which city did I name ?"),
        ("What did you tell me last session?", "d", "What did you tell me ?"),
        ("Which name came up two sessions ago?", "c", "Which name came up ?"),
        ("What did I ask 4 conversations ago?", "a", "What did I ask ?"),
        ("The last time we talked, what did I order?", "d", ", what did I order?"),
        ("Trong cuộc trò chuyện đầu tiên tôi đã nói gì về ngân sách?", "a", "tôi đã nói gì về ngân sách?"),
        ("Phiên thứ hai nói về gì?", "b", "nói về gì?"),
        ("Tôi đã hỏi gì ở cuộc trò chuyện trước?", "d", "Tôi đã hỏi gì ?"),
        ("Hai phiên trước tôi đặt món gì?", "c", "tôi đặt món gì?"),
    ],
)
def test_a_session_is_the_one_that_was_named(question: str, session: str, left: str):
    found = read(question)
    assert found.sessions == (session,)
    assert found.question == left
    assert (found.since, found.until) == (-math.inf, math.inf)


@pytest.mark.parametrize("question", ["What was said five sessions ago?", "the ninth conversation", "0 sessions ago", "Chín phiên trước?"])
def test_a_session_that_does_not_exist_is_none_and_not_another(question: str):
    assert read(question).sessions == ()


def test_where_nothing_was_said_before_there_is_no_last_session():
    assert read("What did I say last session?", []).sessions == ()


@pytest.mark.parametrize(
    ("question", "since", "until"),
    [
        ("What did I eat today?", datetime(2026, 3, 12), datetime(2026, 3, 13)),
        ("What did I eat yesterday?", datetime(2026, 3, 11), datetime(2026, 3, 12)),
        ("Hôm qua tôi ăn gì?", datetime(2026, 3, 11), datetime(2026, 3, 12)),
        ("the day before yesterday", datetime(2026, 3, 10), datetime(2026, 3, 11)),
        ("Whom did I meet three days ago?", datetime(2026, 3, 9), datetime(2026, 3, 10)),
        ("10 ngày trước tôi ở đâu?", datetime(2026, 3, 2), datetime(2026, 3, 3)),
        ("What was decided last week?", datetime(2026, 3, 2), datetime(2026, 3, 9)),
        ("Tuần này có gì mới?", datetime(2026, 3, 9), datetime(2026, 3, 16)),
        ("hai tuần trước", datetime(2026, 2, 23), datetime(2026, 3, 2)),
        ("a week ago", datetime(2026, 3, 2), datetime(2026, 3, 9)),
    ],
)
def test_a_day_is_from_midnight_to_midnight_and_a_week_from_monday(question: str, since: datetime, until: datetime):
    found = read(question)
    assert (found.since, found.until) == (since.timestamp(), until.timestamp())
    assert found.sessions is None


def test_session_and_day_are_both_kept_to():
    found = read("What did I say yesterday in our first conversation?")
    assert found.sessions == ("a",)
    assert found.until == datetime(2026, 3, 12).timestamp()


@pytest.mark.parametrize(
    "question",
    [
        "What is my sister's name?",
        "Which sessions does the conference have?",
        "What was the last thing I said?",
        "Is there a first aid box?",
        "Em gái tôi tên gì?",
        "Bước đầu tiên là gì?",
        "",
    ],
)
def test_other_questions_speak_of_everything(question: str):
    found = read(question)
    assert found.everything
    assert found.question == question
