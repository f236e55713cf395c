"""A quote is the part of a chunk that speaks of the question, and is chosen in one pass over all chunks."""

from __future__ import annotations

import numpy as np
import pytest
from assistant.knowledge.quotes import LONGEST, best_spans

from tests.capstone.conftest import HashEncoder

FILLER = "The canteen opens at noon, and the library on the second floor closes at nine in the evening every day."
ANSWER = "Paid leave is twenty-five days in a year."
QUESTION = "How many days of paid leave are there in a year?"


class Counting(HashEncoder):
    def __init__(self):
        self.calls: list[int] = []

    def passages(self, texts, progress=None):
        self.calls.append(len(texts))
        return super().passages(texts, progress)


def quotes(texts: list[str], encoder=None) -> list[str]:
    return [text[a:b] for text, (a, b) in zip(texts, best_spans(encoder or HashEncoder(), QUESTION, texts), strict=True)]


@pytest.mark.parametrize("place", range(9))
def test_the_sentence_that_answers_is_quoted_wherever_it_stands(place: int):
    sentences = [FILLER] * 8
    sentences.insert(place, ANSWER)
    (quote,) = quotes([" ".join(sentences)])
    assert ANSWER in quote
    assert len(quote) <= LONGEST
    assert quote == quote.strip()


def test_each_text_has_its_own_and_all_are_embedded_together():
    long = [" ".join([FILLER] * place + [ANSWER] + [FILLER] * (7 - place)) for place in (0, 3, 7)]
    short = f" {ANSWER}\n"
    encoder = Counting()
    assert quotes([long[0], short, *long[1:]], encoder) == [*quotes(long[:1]), ANSWER, *quotes(long[1:2]), *quotes(long[2:])]
    assert encoder.calls == [24]


def test_what_fits_as_a_whole_is_not_embedded():
    encoder = Counting()
    assert quotes([ANSWER, FILLER], encoder) == [ANSWER, FILLER]
    assert quotes([], encoder) == []
    assert encoder.calls == []


def test_a_sentence_longer_than_a_quote_is_cut():
    rng = np.random.default_rng(0)
    endless = " ".join(rng.choice(["leave", "days", "paid", "year"], 400))
    (quote,) = quotes([endless])
    assert 0 < len(quote) <= LONGEST
    assert endless.startswith(quote)


def test_the_dots_of_a_table_of_contents_are_no_sentences():
    encoder = Counting()
    contents = "".join(f"{n}. Part {n} {'. ' * 60}{n + 3}\n" for n in range(1, 9))
    (quote,) = quotes([contents], encoder)
    assert 0 < len(quote) <= LONGEST
    assert sum(encoder.calls) <= 40
