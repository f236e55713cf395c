"""What a turn is, told by rules: about what was said before, a question, or something to remember; in English and Vietnamese."""

from __future__ import annotations

import pytest
from assistant.cues import cue_of, is_question, tells

from capstone.evaluation import questions

USER, ASSISTANT, BOTH = ("user",), ("assistant",), ("user", "assistant")


@pytest.mark.parametrize(
    ("question", "left", "roles", "asks"),
    [
        ("What did I say my sister is called?", "What my sister is called?", USER, False),
        ("Which train have I already mentioned?", "Which train ?", USER, False),
        ("I told you my locker's number: what is it?", "my locker's number: what is it?", USER, False),
        ("Do you still remember my sister's name?", "my sister's name?", USER, False),
        ("Remind me what my locker's number is.", "what my locker's number is.", USER, False),
        ("What did you say about leave?", "What leave?", ASSISTANT, False),
        ("What did we agree about the budget?", "What the budget?", BOTH, False),
        ("What did I ask you about trains?", "What trains?", USER, True),
        ("Which colour was it in our first conversation?", "Which colour was it in our first conversation?", BOTH, False),
        ("Lúc trước tôi nói chị tôi tên gì?", "chị tôi tên gì?", USER, False),
        ("luc truoc toi noi chi toi ten gi?", "chi toi ten gi?", USER, False),
        ("Tôi đã nói ngân sách là bao nhiêu?", "ngân sách là bao nhiêu?", USER, False),
        ("Bạn còn nhớ tên chị tôi không?", "tên chị tôi không?", USER, False),
        ("Nhắc lại cho tôi số tủ.", "số tủ.", USER, False),
        ("Bạn đã trả lời thế nào về nghỉ phép?", "thế nào về nghỉ phép?", ASSISTANT, False),
        ("Chúng ta đã trao đổi gì về chuyến đi?", "gì về chuyến đi?", BOTH, False),
        ("Tôi đã hỏi gì về tàu?", "gì về tàu?", USER, True),
        ("Trong phiên trước đèn màu gì?", "Trong phiên trước đèn màu gì?", BOTH, False),
    ],
)
def test_a_question_about_what_was_said_is_known_by_its_words(question: str, left: str, roles: tuple[str, ...], asks: bool) -> None:
    cue = cue_of(question)
    assert cue is not None
    assert (cue.question, cue.roles, cue.questions) == (left, roles, asks)


@pytest.mark.parametrize(
    "question",
    [
        "Who do I tell when I am ill?",
        "Whom must I have told before I travel?",
        "What must I say in an application?",
        "Can I ask for leave by phone?",
        "What does the handbook say about leave?",
        "Was anything said about hotels?",
        "Tôi có thể hỏi ai về lương?",
        "Khi ốm tôi phải báo cho ai?",
        "Sổ tay nói gì về nghỉ phép?",
    ],
)
def test_a_question_of_documents_is_none_about_what_was_said(question: str) -> None:
    assert cue_of(question) is None


def test_no_question_of_the_evaluation_goes_another_way_than_before() -> None:
    every = [one.question for one in questions.load()]
    assert len(every) > 600
    assert [one for one in every if cue_of(one) or tells(one) or not is_question(one)] == []


ASKED = ("What is it?", "what is it", "And how much?", "Is it so. Or not?", "Chị tôi tên gì", "Bao nhiêu tiền?", "Ai?")


@pytest.mark.parametrize("turn", ASKED)
def test_a_turn_that_only_asks(turn: str) -> None:
    assert is_question(turn)
    assert not tells(turn)


TOLD = (
    "What bothers me about him is the noise.",
    "Who called was my sister.",
    "Had coffee with my sister this morning.",
    "Máy của tôi chạy được hai năm",
    "Con tôi bị đau đầu",
    "Ai cũng nhắc đến chuyến đi.",
)


@pytest.mark.parametrize("turn", TOLD)
def test_a_turn_that_tells_is_no_question_for_how_it_begins_or_ends(turn: str) -> None:
    assert not is_question(turn)


@pytest.mark.parametrize(
    ("turn", "of_oneself"),
    [
        ("My sister is called Lan.", True),
        ("Please remember that the code is 12", True),
        ("I prefer tea", True),
        ("Chị của tôi tên là Lan.", True),
        ("Hãy nhớ rằng mã là 12", True),
        ("Tôi thích trà", True),
        ("The gate is red", False),
        ("I prefer tea. What about you?", False),
        ("I would like to know the travel policy", False),
        ("Tôi muốn biết về nghỉ phép", False),
        ("Summarise the travel policy", False),
    ],
)
def test_a_turn_that_tells_something(turn: str, of_oneself: bool) -> None:
    assert not is_question(turn)
    assert tells(turn) is of_oneself
