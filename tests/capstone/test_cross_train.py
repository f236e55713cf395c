"""The training of the thorough reader: what it is told, what it has not seen, and that an interrupted run goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from assistant.knowledge.search import Hit
from assistant.store.documents import StoredChunk
from hybridlab.exercise import sha256
from hybridlab.rag.cross_encoder import CrossEncoder
from hybridlab.rag.cross_training import Words, odds_of, train_pairs
from hybridlab.rag.embed import E5
from safetensors.torch import load_file

from capstone.evaluation import cross_train, readers
from capstone.evaluation.cross_train import Lessons, main
from capstone.evaluation.documents import NotFetched
from capstone.evaluation.questions import Question
from tests.unit.tiny_e5 import asked, tiny_e5

KNOWN = Lessons(
    asked(40, 0),
    [f"q-{n}" for n in range(6)],
    [[f"{n}a", f"{n}b"] for n in range(6)],
    [asked(2, 10 + n) for n in range(6)],
    [[replace(pair, ids=np.where(pair.ids == 3, 10, pair.ids)) for pair in asked(2, 20 + n)] for n in range(6)],  # a word that no other has
    [(np.array([3, 4, 5]), np.array([0, 1, 2])), (np.array([0, 1, 2]), np.array([3, 4, 5]))],
)


class Trainings(list):
    """What `train_pairs` was called with, by the number of the call; one of them can be made to fail."""

    fails: int | None = None

    def __init__(self) -> None:
        self.began: list[dict[str, torch.Tensor]] = []

    def __call__(self, model, words, pairs, steps, *others) -> Iterator[float]:
        self.append((pairs, steps, *others))
        self.began.append({name: value.detach().clone() for name, value in model.learned().items()})
        for step, value in enumerate(train_pairs(model, words, pairs, steps, *others)):
            if len(self) == self.fails and step == 1:
                raise KeyboardInterrupt
            yield value


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(cross_train, "train_pairs", made)
    monkeypatch.setattr(cross_train, "lessons", lambda _: KNOWN)
    monkeypatch.setattr(cross_train, "read_e5", lambda _: tiny_e5())
    monkeypatch.setattr(cross_train, "FIRST_STEPS", 3)
    monkeypatch.setattr(cross_train, "MIXED", 10)
    monkeypatch.setattr(cross_train, "LEARNED", 1)
    places(tmp_path, monkeypatch)
    return made


def places(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    for name, file in (("PAIRS", "pairs.safetensors"), ("UNSEEN", "pairs_unseen.json"), ("FOLDER", "cross")):
        monkeypatch.setattr(cross_train, name, folder / file)


def test_both_files_are_written_and_what_is_unseen_was_not_learned(trainings: Trainings) -> None:
    assert main([]) == 0
    unseen = json.loads(cross_train.UNSEEN.read_text("utf-8"))
    assert list(unseen) == ["pairs", "odds"]
    assert unseen["pairs"] == sha256(cross_train.PAIRS)
    assert {question: list(chunks) for question, chunks in unseen["odds"].items()} == dict(zip(KNOWN.questions, KNOWN.chunks, strict=True))
    (first, *_), *second = trainings
    assert first == KNOWN.first
    for (pairs, *_), (learned, held) in zip(second, [*KNOWN.folds, (np.arange(6), np.array([], int))], strict=True):
        seen = {id(pair) for pair in pairs}
        assert all(id(pair) in seen for i in learned for pair in KNOWN.asked[i][:1] + KNOWN.otherwise[i])
        assert not any(id(pair) in seen for i in held for pair in KNOWN.asked[i] + KNOWN.otherwise[i])
        assert len(pairs) == 3 * len(learned) + 10
    assert [(steps, *others) for _, steps, *others in trainings] == [
        (3, cross_train.WARM, 1e-3, 1.25e-3, 0),
        *[(2, 1, pytest.approx(4e-4), pytest.approx(5e-4), fold) for fold in range(3)],
    ]


def test_the_odds_are_those_of_the_reader_that_had_not_seen_the_question(trainings: Trainings) -> None:
    assert main([]) == 0
    unseen = json.loads(cross_train.UNSEEN.read_text("utf-8"))["odds"]
    model = CrossEncoder(tiny_e5()).eval()
    words = Words(tiny_e5(), [pair for pairs in KNOWN.asked for pair in pairs], torch.device("cpu"))
    for fold, (_, held) in enumerate(KNOWN.folds):
        model.load_state_dict(load_file(next(cross_train.FOLDER.glob(f"*second-{fold}.safetensors"))), strict=False)
        for i in held:
            assert list(unseen[f"q-{i}"].values()) == pytest.approx(odds_of(model, words, KNOWN.asked[i]).tolist(), abs=1e-4)
    first = load_file(next(cross_train.FOLDER.glob("*first.safetensors")))
    for began in trainings.began[1:]:
        assert all(torch.equal(began[name], value) for name, value in first.items()), "and not from where another fold had come to"
    final, saved = load_file(next(cross_train.FOLDER.glob("*second-2.safetensors"))), load_file(cross_train.PAIRS)
    assert saved.keys() == final.keys()
    assert all(torch.equal(final[name].half(), value) for name, value in saved.items())


def test_an_interrupted_run_goes_on_and_comes_to_the_same(trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([]) == 0
    at_once = cross_train.PAIRS.read_bytes(), cross_train.UNSEEN.read_bytes()
    places(tmp_path / "again", monkeypatch)
    trainings.clear()
    trainings.fails = 3
    with pytest.raises(KeyboardInterrupt):
        main([])
    assert not cross_train.PAIRS.exists()
    assert len(trainings) == 3
    trainings.clear()
    trainings.fails = None
    assert main([]) == 0
    assert [seed for *_, seed in trainings] == [1, 2], "the first stage and the first fold were there"
    assert (cross_train.PAIRS.read_bytes(), cross_train.UNSEEN.read_bytes()) == at_once
    trainings.clear()
    other = replace(KNOWN.first[0], ids=KNOWN.first[1].ids)
    monkeypatch.setattr(cross_train, "lessons", lambda _: replace(KNOWN, first=[other, *KNOWN.first[1:]]))
    assert main([]) == 0
    assert len(trainings) == 4, "of other pairs everything is learned anew"


def test_a_trial_leaves_the_assistants_files_alone(trainings: Trainings) -> None:
    assert main(["--steps", "1"]) == 0
    assert [steps for _, steps, *_ in trainings] == [1] * 4
    assert not cross_train.PAIRS.exists()
    assert not cross_train.UNSEEN.exists()
    unseen = json.loads((cross_train.FOLDER / "pairs_unseen.json").read_text("utf-8"))
    assert unseen["pairs"] == sha256(cross_train.FOLDER / "pairs.safetensors")


def test_what_can_not_be_fetched_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def lessons(_: Path) -> Lessons:
        raise NotFetched("put it into the folder by hand")

    monkeypatch.setattr(cross_train, "lessons", lessons)
    assert main([]) == 1
    assert "by hand" in capsys.readouterr().err


def hit(number: int, text: str, page: int = 1) -> Hit:
    return Hit(StoredChunk(number, "d", "a.pdf", page, page, ("Leave",), 0, len(text), "prose", "", text), 0.5, {}, {})


def test_a_chunk_answers_where_its_page_is_named_and_it_holds_the_answer() -> None:
    e5 = E5(precision="float32")
    question = Question("q-1", "en", "How many days?", "a.pdf", 1, ("25 days",), "plain", "calibration")
    told = "Nobody has more than 25 days."
    pair = cross_train.of_chunk(e5, question, hit(1, told))
    assert (pair.answered, pair.weight, len(pair.places)) == (True, 1.0, 1)
    for other in (hit(2, told, page=9), hit(3, "Nobody has 125 days.")):
        pair = cross_train.of_chunk(e5, question, other)
        assert (pair.answered, pair.weight, pair.places) == (False, readers.OTHER, ())
    unanswered = Question("q-2", "en", "Why?", None, None, (), "unanswerable", "calibration")
    assert cross_train.of_chunk(e5, unanswered, hit(1, told)).weight == 1.0


def test_the_first_chunks_are_those_that_the_quick_reader_puts_first(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = SimpleNamespace(keep=lambda states: states, score=lambda asked, kept: np.array([asked * one for one in kept]))
    monkeypatch.setattr(cross_train.reading, "reader", lambda: quick)
    encoder = SimpleNamespace(read=lambda texts, _: (None, [float(text) for text in texts]), asked=lambda texts, _: [1.0, -1.0])
    hits = [hit(n, str(n * n)) for n in range(10)]
    found = [(SimpleNamespace(question=asked), hits) for asked in ("up", "down")]
    up, down = ([one.chunk.id for one in best] for best in cross_train.best_first(found, encoder))
    assert up == [9, 8, 7, 6, 5, 4, 3, 2]
    assert down == [0, 1, 2, 3, 4, 5, 6, 7]
