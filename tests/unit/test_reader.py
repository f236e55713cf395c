"""The reader: late interaction that tells an answer from a near miss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hybridlab.rag.reader import STRIDE, WINDOW, Example, Reader, filled, train, windows

DIM = 16


def unit(*indices: int) -> np.ndarray:
    """Token states that are axes: two tokens are the same, or have nothing in common."""
    return np.eye(DIM, dtype=np.float32)[list(indices)]


def judged(reader: Reader, question: np.ndarray, passages: list[np.ndarray]) -> np.ndarray:
    return reader.score(question, [reader.keep(passage) for passage in passages])


def test_filling_says_what_is_real() -> None:
    tensor, there = filled([unit(0, 1), unit(2)])
    assert tensor.shape == (2, 2, DIM)
    assert there.tolist() == [[True, True], [True, False]]
    assert torch.equal(tensor[1, 1], torch.zeros(DIM))


def test_what_is_filled_up_changes_no_score() -> None:
    reader = Reader(DIM, 8)
    long, short = unit(*range(9)), unit(3, 4)
    together = judged(reader, unit(3, 9), [long, short])
    apart = [judged(reader, unit(3, 9), [passage])[0] for passage in (long, short)]
    assert together == pytest.approx(apart, abs=1e-5)


def test_what_is_kept_in_eight_bits_is_judged_as_the_states_are() -> None:
    chance = np.random.default_rng(0)
    question, *passages = (chance.normal(size=(n, DIM)).astype(np.float32) for n in (5, 40, 7))
    reader = Reader(DIM, 8)
    asked, real = filled([question] * 2)
    exact = reader(asked, real, *filled(passages), torch.arange(2)).detach().numpy()
    kept = [reader.keep(passage) for passage in passages]
    assert [(k.dtype, k.shape) for k in kept] == [(np.int8, (40, 8)), (np.int8, (7, 8))]
    # Each of 8 numbers is off by 1/254 at most, so a cosine by 0.011, and 5 tokens' gaps by that, at a slope of 3 times softplus(2).
    assert reader.score(question, kept) == pytest.approx(exact, abs=5 * 0.011 * 3 * 2.13)


def test_an_unmet_token_lowers_the_score_and_more_text_never_does() -> None:
    reader = Reader(DIM, DIM)
    met, unmet = judged(reader, unit(1, 2), [unit(1, 2, 5), unit(1, 6, 5)])
    assert met > unmet
    assert judged(reader, unit(1, 2), [unit(1, 6, 5, 2)])[0] >= unmet


def test_nothing_to_read_is_no_evidence() -> None:
    reader = Reader(DIM, 8)
    assert judged(reader, unit(), [unit(1)]).tolist() == [-np.inf]
    assert judged(reader, unit(1), [unit(), unit(1)])[0] == -np.inf
    assert np.isfinite(judged(reader, unit(1), [unit(), unit(1)])[1])
    assert judged(reader, unit(1), []).shape == (0,)


def trained(seed: int) -> tuple[Reader, list[np.ndarray], list[np.ndarray]]:
    """Tokens 0 to 3 are words of questions that need no counterpart, 4 to 15 are things that are asked for."""
    chance = np.random.default_rng(0)
    questions, passages, examples = [], [], []
    for number in range(80):
        things = chance.choice(np.arange(4, DIM), 6, replace=False)
        passages.append(unit(*things[:4]))
        for thing, answered in ((things[0], True), (things[4], False)):
            questions.append(unit(chance.integers(4), chance.integers(4), thing))
            examples.append(Example(len(questions) - 1, number, answered))
    return train(Reader(DIM, DIM), questions, passages, examples, epochs=12, rate=0.05, seed=seed), questions, passages


def test_it_learns_which_tokens_matter_and_is_the_same_every_time(tmp_path: Path) -> None:
    reader, questions, passages = trained(seed=1)
    for number, passage in enumerate(passages):
        assert judged(reader, questions[2 * number], [passage])[0] > 0 > judged(reader, questions[2 * number + 1], [passage])[0]
    again, _, _ = trained(seed=1)
    assert all(torch.equal(one, other) for one, other in zip(reader.parameters(), again.parameters(), strict=True))
    reader.save(tmp_path / "reader.safetensors")
    kept = Reader.load(tmp_path / "reader.safetensors")
    assert judged(kept, questions[0], passages[:3]) == pytest.approx(judged(reader, questions[0], passages[:3]), abs=0.05)


def test_counterparts_near_each_other_count_more_than_the_same_ones_far_apart() -> None:
    reader = Reader(DIM, DIM)
    near = unit(1, 2, *[5] * 2 * WINDOW)
    far = unit(1, *[5] * 2 * WINDOW, 2)
    together, apart = judged(reader, unit(1, 2), [near, far])
    assert together > apart


def test_windows_overlap_and_what_is_filled_up_is_least() -> None:
    rows = torch.arange(1.0, 2 * WINDOW + 2)[None, None]  # one token more than two windows hold
    best = windows(rows, -9.0)[0, 0].tolist()
    assert best == [min(WINDOW + STRIDE * n, 2 * WINDOW + 1) for n in range(len(best))]
    assert best[-1] == 2 * WINDOW + 1
    assert windows(torch.zeros(1, 2, 3) - 5, -9.0).tolist() == [[[-5.0], [-5.0]]]
