"""What an encoder makes is made once: passages and questions come from the file the next time, and never in each other's place."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from capstone.evaluation.base import Remembered


class Counting:
    """An encoder of two dimensions that counts what it reads."""

    dim, precision = 2, "float32"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def read(self, texts, depth):
        self.seen += texts
        return np.array([[len(text), depth] for text in texts], np.float32), [np.full((len(text), 2), 0.5, np.float32) for text in texts]

    def token_states(self, texts, depth, *, question):
        assert question
        self.seen += [f"? {text}" for text in texts]
        return [np.full((len(text), 2), 0.25, np.float32) for text in texts]


def test_every_text_is_read_once_and_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "new" / "passages.db"
    first, again = Counting(), Counting()
    vectors, states = Remembered(first, path).read(["a", "bcd", "a"], 8)
    assert vectors.tolist() == [[1, 8], [3, 8], [1, 8]]
    assert [len(rows) for rows in states] == [1, 3, 1]
    assert first.seen == ["a", "bcd"]
    same, rows = Remembered(again, path).read(["bcd", "a"], 8)
    assert same.tolist() == [[3, 8], [1, 8]]
    assert (rows[0] == states[1]).all()
    assert again.seen == []
    Remembered(again, path).read(["a"], 4)
    assert again.seen == ["a"], "another depth is another state"


def test_a_question_is_not_a_passage_of_the_same_words(tmp_path: Path) -> None:
    encoder = Counting()
    remembered = Remembered(encoder, tmp_path / "passages.db")
    remembered.read(["who"], 8)
    for _ in range(2):
        assert remembered.asked(["who"], 8)[0].tolist() == [[0.25, 0.25]] * 3
    assert encoder.seen == ["who", "? who"]
    assert remembered.asked([], 8) == []
