"""What a cross-encoder learns from: whether a passage answers, and where; the loss of both, and a training that finds them."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hybridlab.rag import cross_encoder, cross_training
from hybridlab.rag.cross_encoder import ASKED, CrossEncoder, as_one
from hybridlab.rag.cross_training import TokenPair, Words, batches, loss, odds_of, parts, read, right_ends, token_pair, train_pairs
from hybridlab.rag.embed import E5, LONGEST

from tests.unit.tiny_e5 import FIRST, WORDS, asked, tiny_e5

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def e5() -> E5:
    return E5(precision="float32")


@pytest.mark.slow(seconds=6)
def test_it_learns_whether_a_passage_answers_and_where():
    file, learned, others = tiny_e5(), asked(1000, 0), asked(200, 1)
    model, words = CrossEncoder(file), Words(file, learned + others, CPU)
    losses = list(train_pairs(model, words, learned, steps=220, warm=20, rate=5e-3, heads_rate=5e-3, at_once=32))
    assert len(losses) == 220
    assert np.mean(losses[-20:]) < 0.25 * np.mean(losses[:20])
    answered = np.array([one.answered for one in others])
    assert ((odds_of(model, words, others) > 0) == answered).mean() > 0.97
    ends = read(model, words, others)[1].argmax(1).tolist()
    assert np.mean([tuple(end) == (one.places or ((0, 0),))[0] for one, end in zip(others, ends, strict=True)]) > 0.95


def test_the_loss_is_that_of_a_computation_by_hand():
    chance = torch.Generator().manual_seed(0)
    odds, ends = torch.randn(4, generator=chance), 3 * torch.randn(4, 13, 2, generator=chance)
    row = np.zeros(13, np.int32)
    several = TokenPair(row, FIRST, True, 1.0, ((6, 8), (6, 9), (10, 10)))
    pairs = [several, TokenPair(row, FIRST, False, 0.3), TokenPair(row, FIRST, True, 2.0), TokenPair(row, FIRST, True, 1.0, ((7, 11),))]
    places = [({6, 10}, {8, 9, 10}), ({0}, {0}), None, ({7}, {11})]
    total = 0.0
    for one, said, row_ends, right in zip(pairs, odds.tolist(), ends.double().numpy(), places, strict=True):
        cost = -math.log(1 / (1 + math.exp(-said if one.answered else said)))
        if right:
            likely = np.exp(row_ends) / np.exp(row_ends).sum(0)
            cost -= sum(math.log(sum(likely[n, end] for n in right[end])) for end in (0, 1)) / 2
        total += one.weight * cost
    assert loss(odds, ends, pairs).item() == pytest.approx(total / 4.3, rel=1e-5)


def test_no_place_is_right_where_none_is_known_and_the_first_where_there_is_none():
    pairs = [replace(one, places=places) for one, places in zip(asked(2, 3), (((6, 7),), ()), strict=True)]
    pairs = [replace(pairs[0], answered=True), replace(pairs[1], answered=True), replace(pairs[1], answered=False)]
    assert right_ends(pairs, 12).nonzero().tolist() == [[0, 6, 0], [0, 7, 1], [2, 0, 0], [2, 0, 1]]


def test_only_the_passages_own_tokens_can_be_an_answer_and_what_is_filled_up_changes_nothing():
    file, (long, short) = tiny_e5(), asked(2, 5)
    short = replace(short, ids=short.ids[[*range(8), -1]], places=())
    model, words = CrossEncoder(file).eval(), Words(file, [long, short], CPU)
    odds, ends = read(model, words, [long, short])
    likely = ends.softmax(1).sum(-1)
    assert (likely > 0).nonzero().tolist() == [[0, n] for n in (0, 6, 7, 8, 9, 10)] + [[1, n] for n in (0, 6, 7)]
    alone, own = read(model, words, [short])
    torch.testing.assert_close(odds[1:], alone)
    torch.testing.assert_close(ends[1:, :8], own[:, :8])
    assert odds_of(model, words, [long, short], at_once=1) == pytest.approx(odds.detach().numpy(), abs=1e-5)


def test_a_word_that_did_not_occur_is_refused():
    file, pairs = tiny_e5(), asked(3, 0)
    words = Words(file, pairs, CPU)
    assert words.table.shape == (len(words.used), 32)
    np.testing.assert_array_equal(words(pairs[0].ids[None])[0], file.words[pairs[0].ids])
    with pytest.raises(KeyError, match="make Words of all"):
        words(np.array([[1]]))
    with pytest.raises(KeyError):
        words(np.array([[WORDS]]))


def test_the_same_seed_learns_the_same_and_nobody_elses_chance_is_touched():
    file, pairs, made = tiny_e5(), asked(12, 0), []
    for _ in range(2):
        torch.manual_seed(5)
        model = CrossEncoder(file, seed=1)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        losses = list(train_pairs(model, Words(file, pairs, CPU), pairs, steps=5, warm=2, rate=1e-3, heads_rate=1e-3, seed=3, at_once=5))
        made.append((losses, torch.rand(1).item()))
    torch.manual_seed(5)
    assert made[0] == made[1]
    assert made[0][1] == torch.rand(1).item()
    assert not model.training
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(model.learned()), "all corrections and heads, and nothing of E5's"


def test_a_batch_in_parts_teaches_the_same(monkeypatch: pytest.MonkeyPatch):
    pairs = [replace(one, weight=weight) for one, weight in zip(asked(8, 0), (1.0, 0.3) * 4, strict=True)]
    monkeypatch.setattr(cross_encoder, "DROPOUT", 0.0)
    monkeypatch.setattr(cross_encoder, "LORA", replace(cross_encoder.LORA, dropout=0.0))
    made = []
    for room in (1, 40, 1000):
        monkeypatch.setitem(cross_training.ROOM, "cpu", room)
        model = CrossEncoder(tiny_e5(), cross_encoder.LORA)
        losses = train_pairs(model, Words(tiny_e5(), pairs, CPU), pairs, steps=3, warm=1, rate=1e-3, heads_rate=1e-3, at_once=8)
        made.append(list(losses))
    assert made[0] == pytest.approx(made[2], rel=1e-4)
    assert made[1] == pytest.approx(made[2], rel=1e-4)
    assert [(len(part), weight) for part, weight in parts(pairs[:5], 40)] == [(3, pytest.approx(2.3 / 3.6)), (2, pytest.approx(1.3 / 3.6))]


def test_every_pair_is_in_one_batch_of_an_epoch_with_others_nearly_as_long():
    pairs = [TokenPair(np.zeros(n, np.int32), 0, False) for n in range(1, 101)]
    made = list(batches(pairs, 40, 7, random.Random(0)))
    assert len(made) == 40
    epoch = made[:15]
    assert sorted(len(one.ids) for batch in epoch for one in batch) == list(range(1, 101))
    assert all(max(len(one.ids) for one in batch) - min(len(one.ids) for one in batch) < 7 for batch in epoch)
    assert [len(batch[0].ids) for batch in epoch] != [len(batch[0].ids) for batch in made[15:30]]


def test_an_answers_tokens_are_those_of_its_characters(e5: E5):
    passage = "Nhân viên được nghỉ 25 ngày; staff have twenty-five days (with pay)."
    spans = [(passage.index(said), passage.index(said) + len(said)) for said in ("25 ngày", "twenty-five days", "with pay")]
    pair = token_pair(e5, "How many days?", passage, True, 0.5, spans)
    ids, first = as_one(e5, "How many days?", passage)
    assert (pair.ids.tolist(), pair.first, pair.answered, pair.weight) == (ids, first, True, 0.5)
    held = e5.token_spans(passage)
    assert [passage[held[a - first][0] : held[b - first][1]].strip() for a, b in pair.places] == [
        "25 ngày",
        "twenty-five days",
        "with pay",
    ]
    assert token_pair(e5, "How many days?", passage, False).places == ()


def test_an_answer_that_is_cut_off_has_no_known_place(e5: E5):
    passage = "first " + "because " * 600 + "last"
    pair = token_pair(e5, "why " * 200, passage, True, spans=[(0, 5), (len(passage) - 4, len(passage))])
    assert len(pair.ids) == LONGEST
    assert pair.first == 1 + ASKED + 2 + 2
    assert [pair.places[0][0], len(pair.places)] == [pair.first, 1]
    last, beyond = e5.token_spans(passage)[LONGEST - 2 - pair.first : LONGEST - pair.first]
    assert token_pair(e5, "why " * 200, passage, True, spans=[last]).places == ((LONGEST - 2, LONGEST - 2),)
    assert not token_pair(e5, "why " * 200, passage, True, spans=[beyond]).places
    assert not token_pair(e5, "why " * 200, passage, True, spans=[(0, len(passage))]).places
