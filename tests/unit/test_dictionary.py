"""The packaged English–Vietnamese dictionary: the file its card describes, what it translates, and what it leaves as it is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hybridlab.rag.dictionary import PACKAGED, Dictionary, segmented

CARD = PACKAGED.with_suffix(".md")


@pytest.fixture(scope="module")
def dictionary() -> Dictionary:
    return Dictionary()


def test_the_file_is_the_one_of_its_card_and_small() -> None:
    card = CARD.read_text("utf-8")
    assert hashlib.sha256(PACKAGED.read_bytes()).hexdigest() in card, "changed by hand: scripts/make_dictionary.py writes both"
    assert PACKAGED.stat().st_size < 3_000_000
    assert "licence" in card.casefold()


def test_nothing_was_learned_from_the_evaluation_s_documents() -> None:
    learned = CARD.read_text("utf-8")
    assert not [package for package in ("maint-guide", "debian-policy", "developers-reference") if package in learned]


def test_every_entry_is_a_distribution(dictionary: Dictionary) -> None:
    for table in (dictionary.to_english, dictionary.to_vietnamese):
        assert len(table) > 5000
        assert all(0 < p <= 1 for meant in table.values() for p in meant.values())
        assert all(sum(meant.values()) <= 1.01 for meant in table.values())


@pytest.mark.parametrize(
    ("vietnamese", "english"),
    [
        ("Tập tin này không thể mở", {"file", "open"}),
        ("Thư mục gốc của hệ thống tập tin", {"directory", "root", "system", "file"}),
        ("Mật khẩu của người dùng", {"password", "user"}),
        ("Cài đặt gói phần mềm mới", {"software", "package", "new"}),
        ("Giá vé máy bay và khách sạn", {"hotel", "flight"}),
        ("Nhân viên xin nghỉ ốm", {"employee", "sick"}),
    ],
)
def test_held_out_sentences_share_their_words_with_their_translations(dictionary: Dictionary, vietnamese: str, english: set[str]) -> None:
    possible = {word for meant in dictionary.translate(vietnamese, "vi") for word, p in meant.items() if p >= 0.1}
    assert english <= possible


@pytest.mark.parametrize(("english", "vietnamese"), [("passwords", "mật_khẩu"), ("directories", "thư_mục"), ("employees", "nhân_viên")])
def test_english_words_are_translated_in_every_form(dictionary: Dictionary, english: str, vietnamese: str) -> None:
    [meant] = dictionary.translate(english, "en")
    assert meant[vietnamese] > 0.1


def test_names_and_numbers_stand_for_themselves(dictionary: Dictionary) -> None:
    assert dictionary.translate("lintian 65534", "vi") == [{"lintian": 1.0}, {"65534": 1.0}]
    [meant] = dictionary.translate("employee", "en")  # may stand in a Vietnamese text as it is
    assert meant["employee"] == pytest.approx(0.5)
    assert sum(meant.values()) == pytest.approx(1.0)


def test_words_that_are_left_out_are_neither_translated_nor_translations(dictionary: Dictionary) -> None:
    [before] = dictionary.translate("thư mục", "vi")
    [after] = dictionary.translate("thư mục", "vi", leave_out={"directory"})
    assert "directory" in before
    assert "directory" not in after
    assert sum(after.values()) == pytest.approx(1.0)
    assert dictionary.translate("mật khẩu", "vi", leave_out={"mật_khẩu"}) == []


def test_an_index_counts_words_as_a_question_is_translated(dictionary: Dictionary) -> None:
    assert dictionary.words("Packages, package; PACKAGE'S; motorbikes", "en") == [*["package"] * 3, "s", "motorbike"]
    assert dictionary.words("Mật khẩu của Người dùng", "vi") == ["mật_khẩu", "của", "người_dùng"]
    decomposed = "M\u00e2\u0323t kh\u00e2\u0309u"
    assert dictionary.words(decomposed, "vi") == ["mật_khẩu"]


def test_the_longest_compound_is_taken() -> None:
    assert segmented(["a", "b", "c", "d"], {"a_b", "a_b_c"}) == ["a_b_c", "d"]
    assert segmented(["a"], {"a_b"}) == ["a"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "dictionary.json"
    for text in ("{", json.dumps({"vi": {}}), "[]"):
        damaged.write_text(text, "utf-8")
        with pytest.raises(ValueError, match="make it again"):
            Dictionary(damaged)
