"""The reader of spans: it learns where an answer stands, and that it stands nowhere."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hybridlab.rag.reader import Example, filled
from hybridlab.rag.span_reader import SpanReader, batches, loss, train_spans

DIM = 24
VALUES = range(16, DIM)  # what can be an answer; before them, the things that are asked for


def unit(*indices: int) -> np.ndarray:
    return np.eye(DIM, dtype=np.float32)[list(indices)]


def asked(count: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray], list[Example]]:
    """Passages of (thing, value) and lone things; what is asked of a thing with a value is answered there, and of a lone one it is not."""
    chance = np.random.default_rng(seed)
    questions, passages, examples = [], [], []
    for number in range(count):
        things = chance.choice(np.arange(1, 16), 6, replace=False)
        parts = [(int(thing), int(chance.choice(VALUES))) if n < 3 else (int(thing), 0) for n, thing in enumerate(things)]
        chance.shuffle(parts)
        passage = [token for part in parts for token in (*part, 0)]
        passages.append(unit(*passage))
        for thing, answered in ((int(things[0]), True), (int(things[5]), False)):
            questions.append(unit(0, thing))
            place = np.arange(len(passage)) == passage.index(thing) + 1
            examples.append(Example(len(questions) - 1, number, answered, place=place if answered else None))
    return questions, passages, examples


@pytest.fixture(scope="module")
def trained() -> SpanReader:
    reader = SpanReader(DIM, 8, seed=0)
    list(train_spans(reader, *asked(300, 0), epochs=8, rate=1e-2))
    return reader


def judged(reader: SpanReader, question: np.ndarray, passages: list[np.ndarray]) -> np.ndarray:
    return reader.score(question, [reader.keep(passage) for passage in passages])


@pytest.mark.slow(seconds=6)
def test_it_tells_an_answer_from_what_only_holds_the_same_words_and_where_it_stands(trained: SpanReader):
    questions, passages, examples = asked(100, 1)
    odds = np.array([judged(trained, questions[one.question], [passages[one.passage]])[0] for one in examples])
    answered = np.array([one.answered for one in examples])
    assert ((odds > 0) == answered).mean() > 0.97
    found = 0
    for one in examples:
        if one.answered:
            states, there = filled([passages[one.passage]])
            places = trained(*filled([questions[one.question]]), trained.hold(states), there)[1]
            found += bool(one.place[int(places.argmax())])
    assert found > 95


@pytest.mark.slow(seconds=6)
def test_what_is_kept_in_eight_bits_is_judged_as_the_states_are(trained: SpanReader, tmp_path: Path):
    questions, passages, _ = asked(20, 2)
    some, (states, there) = questions[::2], filled(passages)
    for question in some[:4]:
        kept = [trained.keep(passage) for passage in passages]
        assert {(one.dtype, one.shape) for one in kept} == {(np.dtype(np.int8), (18, 16))}
        exact = trained(*filled([question] * 20), trained.hold(states), there)[0].detach().numpy()
        assert trained.score(question, kept) == pytest.approx(exact, abs=0.6)
        assert np.corrcoef(trained.score(question, kept), exact)[0, 1] > 0.99
    trained.save(tmp_path / "spans.safetensors")
    again = SpanReader.load(tmp_path / "spans.safetensors")
    assert judged(again, some[0], passages) == pytest.approx(judged(trained, some[0], passages), abs=0.3)


def test_what_is_filled_up_changes_no_score():
    reader, (questions, passages, _) = SpanReader(DIM, 8).eval(), asked(2, 3)
    long, short = passages[0], passages[1][:4]
    alone = [judged(reader, questions[0], [passage])[0] for passage in (long, short)]
    assert judged(reader, questions[0], [long, short]) == pytest.approx(alone, abs=1e-5)


def test_nothing_to_read_is_no_evidence():
    reader = SpanReader(DIM, 8).eval()
    assert judged(reader, unit(), [unit(1)]).tolist() == [-np.inf]
    odds = judged(reader, unit(1), [unit(), unit(1)])
    assert odds[0] == -np.inf
    assert np.isfinite(odds[1])
    assert judged(reader, unit(1), []).shape == (0,)


def test_the_same_seed_learns_the_same_and_nobody_elses_chance_is_touched():
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        reader = SpanReader(DIM, 8, seed=1)
        losses = list(train_spans(reader, *asked(12, 0), epochs=2, rate=1e-2, seed=3, at_once=5))
        made.append((losses, torch.rand(1).item()))
    torch.manual_seed(5)
    assert made[0] == made[1]
    assert made[0][1] == torch.rand(1).item()
    assert len(made[0][0]) == 2 * 5
    assert not reader.training


def test_an_answer_whose_place_is_unknown_says_only_that_there_is_one():
    reader, (questions, passages, examples) = SpanReader(DIM, 8).eval(), asked(1, 0)
    placed, missing = examples
    unplaced = Example(placed.question, placed.passage, True)
    whether, both = loss(reader, questions, passages, [unplaced]), loss(reader, questions, passages, [placed])
    assert both > whether > 0
    half = Example(placed.question, placed.passage, True, 0.0, placed.place)
    alone = loss(reader, questions, passages, [missing]).item()
    assert loss(reader, questions, passages, [half, missing]).item() == pytest.approx(alone)


def test_every_example_is_in_one_batch_with_passages_nearly_as_long():
    passages = [unit(*[0] * n) for n in range(1, 101)]
    examples = [Example(0, n, False) for n in range(100)]
    made = batches(examples, passages, 7, random.Random(0))
    assert sorted(one.passage for batch in made for one in batch) == list(range(100))
    assert len(made) == -(-100 // 7)
    assert all(max(one.passage for one in batch) - min(one.passage for one in batch) < 7 for batch in made)
