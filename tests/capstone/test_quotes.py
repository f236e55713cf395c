"""A quote is the part of a chunk that answers the question: the reader's choice, and the question's words'."""

from __future__ import annotations

import numpy as np
import pytest
from assistant.knowledge.quotes import LONGEST, best_span

FILLER = "The canteen opens at noon, and the library on the second floor closes at nine in the evening every day."
ANSWER = "Paid leave is twenty-five days in a year."
QUESTION = "How many days of paid leave are there in a year?"


def unread(parts) -> np.ndarray:
    """A reader that can't tell one part from another: what is quoted is chosen by the question's words."""
    return np.zeros(len(parts))


def never(parts) -> np.ndarray:
    raise AssertionError(f"the reader was asked of {parts}, where there is nothing to choose")


def quoted(text: str, judge=unread) -> str:
    start, end = best_span(QUESTION, text, judge)
    return text[start:end]


@pytest.mark.parametrize("place", range(9))
def test_the_sentence_that_answers_is_quoted_wherever_it_stands(place: int):
    sentences = [FILLER] * 8
    sentences.insert(place, ANSWER)
    quote = quoted(" ".join(sentences))
    assert ANSWER in quote
    assert len(quote) <= LONGEST
    assert quote == quote.strip()


def test_the_reader_is_heard_where_the_words_say_nothing():
    text = " ".join(f"Sentence {n} stands here, and says as much of it as all the others that stand around it do." for n in range(20))
    place = text.index("Sentence 13 ")
    assert "Sentence 13 " in quoted(text, lambda parts: np.array([float(a <= place < b) for a, b in parts]))


def test_of_what_fits_as_a_whole_the_reader_is_not_asked():
    assert quoted(f" {ANSWER}\n", never) == ANSWER
    assert quoted(f"{FILLER} {ANSWER}", never) == f"{FILLER} {ANSWER}"


def test_a_sentence_longer_than_a_quote_is_cut():
    rng = np.random.default_rng(0)
    endless = " ".join(rng.choice(["leave", "days", "paid", "year"], 400))
    quote = quoted(endless)
    assert 0 < len(quote) <= LONGEST
    assert endless.startswith(quote)


def test_the_dots_of_a_table_of_contents_are_no_sentences():
    asked: list[int] = []
    contents = "".join(f"{n}. Part {n} {'. ' * 60}{n + 3}\n" for n in range(1, 9))
    quote = quoted(contents, lambda parts: asked.append(len(parts)) or unread(parts))
    assert 0 < len(quote) <= LONGEST
    assert sum(asked) <= 40
