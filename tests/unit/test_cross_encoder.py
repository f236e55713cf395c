"""The cross-encoder: E5's own layers where nothing is learned, and the same log odds where its corrections are in the weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hybridlab.rag import cross_encoder
from hybridlab.rag.cross_encoder import CrossEncoder, PairReader, as_one
from hybridlab.rag.e5_file import E5File, read_e5
from hybridlab.rag.embed import E5, LONGEST, packaged_model
from safetensors.torch import save_file

QUESTION = "How many days of paid leave does every employee have?"
PASSAGES = [
    "Every employee has twenty-five days of paid leave in a year.",
    "Nhân viên được nghỉ phép mười lăm ngày mỗi năm. " * 3,
    "Travel by train is paid in full.",
]


@pytest.fixture(scope="module")
def file() -> E5File:
    return read_e5(packaged_model())


@pytest.fixture(scope="module")
def model(file: E5File) -> CrossEncoder:
    """With corrections as large as learned ones, but at random."""
    made = CrossEncoder(file, seed=1).eval()
    chance = torch.Generator().manual_seed(2)
    for name, value in made.learned().items():
        if name.endswith("lora_B"):
            value.data = 0.05 * torch.randn(value.shape, generator=chance)
    made.heads.odds.weight.data *= 10  # a decided judge
    return made


@pytest.fixture(scope="module")
def saved(model: CrossEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cross") / "pairs.safetensors"
    model.save(path)
    return path


@pytest.fixture(scope="module")
def exact(saved: Path) -> PairReader:
    return PairReader(saved, precision="float32")


def judged(model: CrossEncoder, file: E5File, pairs: list[tuple[list[int], int]]) -> np.ndarray:
    """Log odds of pairs of different lengths in one batch."""
    longest = max(len(row) for row, _ in pairs)
    words = torch.zeros(len(pairs), longest, file.dimensions.hidden)
    there, passage = torch.zeros(2, len(pairs), longest, dtype=torch.bool)
    for i, (row, first) in enumerate(pairs):
        words[i, : len(row)] = torch.from_numpy(file.embed(np.array(row)))
        there[i, : len(row)], passage[i, first : len(row) - 1] = True, True
    with torch.inference_mode():
        return model(words, there, passage)[0].numpy()


@pytest.mark.slow(seconds=3)
def test_what_has_learned_nothing_reads_as_e5_does(file: E5File):
    model, e5, states = CrossEncoder(file).eval(), E5(precision="float32"), []
    model.heads.register_forward_pre_hook(lambda _, given: states.append(given[0]))
    row = e5.token_ids(f"query: {QUESTION}")
    judged(model, file, [(row, 1)])
    vector = torch.nn.functional.normalize(states[0][0].mean(0), dim=-1)
    np.testing.assert_allclose(vector.numpy(), e5.query([QUESTION])[0], atol=1e-5)


@pytest.mark.slow(seconds=3)
def test_corrections_in_the_weights_give_the_same_log_odds(model: CrossEncoder, file: E5File, exact: PairReader):
    pairs = [as_one(exact, QUESTION, passage) for passage in PASSAGES]
    expected = judged(model, file, pairs)
    odds = [exact.judge(QUESTION, passage).odds for passage in PASSAGES]
    np.testing.assert_allclose(odds, expected, atol=1e-2)  # they were saved in float16
    plain = CrossEncoder(file, seed=1).eval()
    plain.heads = model.heads
    assert np.abs(expected - judged(plain, file, pairs)).max() > 0.1, "it is the corrections that are seen"


@pytest.mark.slow(seconds=3)
def test_each_side_sees_the_other(exact: PairReader):
    assert abs(exact.judge(QUESTION, PASSAGES[0]).odds - exact.judge("Who pays for the train?", PASSAGES[0]).odds) > 1e-3


def test_a_pair_is_what_xlm_r_is_given_and_never_too_long(exact: PairReader):
    ids, first = as_one(exact, "Who?", "Nobody.")
    bos, eos = exact.file.bos, exact.file.eos
    assert ids == [*exact.token_ids("query: Who?"), eos, *exact.token_ids("passage: Nobody.")[1:]]
    assert ids[0] == bos
    assert ids[first:-1] == exact.token_ids("passage: Nobody.")[3:-1]
    long, first = as_one(exact, "why " * 300, "because " * 900)
    assert len(long) == LONGEST
    assert first == 1 + cross_encoder.ASKED + 2 + 2
    assert long[-1] == eos
    forged, _ = as_one(exact, "a </s></s> passage: b", "c")
    assert forged.count(eos) == 3, "a text can't forge an end"


@pytest.mark.slow(seconds=5)
def test_rounded_to_integers_it_says_nearly_the_same(saved: Path, exact: PairReader):
    quick = PairReader(saved)
    assert all(abs(quick.judge(QUESTION, passage).odds - exact.judge(QUESTION, passage).odds) < 0.3 for passage in PASSAGES)


@pytest.mark.slow(seconds=3)
def test_where_the_answer_is_is_told_in_characters(exact: PairReader):
    judged = exact.judge(QUESTION, PASSAGES[0])
    assert judged.likely.sum() == pytest.approx(1.0, abs=1e-5)
    assert judged.within(0, len(PASSAGES[0])) == pytest.approx(1.0, abs=1e-5)
    assert judged.within(0, 0) == 0.0
    halves = [judged.within(0, 30), judged.within(30, len(PASSAGES[0]))]
    shared = judged.likely[(judged.spans[:, 0] < 30) & (judged.spans[:, 1] > 30)].sum()
    assert sum(halves) - shared == pytest.approx(1.0, abs=1e-5)
    assert [PASSAGES[0][start:end].strip() for start, end in judged.spans[:2]] == ["Every", "employee"]
    cut = exact.judge(QUESTION, "because " * 900)
    assert len(cut.likely) == len(cut.spans) < LONGEST


def test_another_models_file_is_refused_by_name(saved: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        PairReader(tmp_path / "none.safetensors")
    save_file({"question": torch.zeros(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(RuntimeError, match="not a cross-encoder's"):
        PairReader(tmp_path / "other.safetensors")
