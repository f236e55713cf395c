"""Search by words in memory gives what SQLite's FTS5 gives, of what the database holds now, and of one owner alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from assistant.knowledge.words import Words
from assistant.store import Store
from assistant.store.words import TOKENIZER, folded, ranked

from tests.capstone.test_store import put

TEXTS = (
    "Maintainers upload packages; a maintainer's upload of the package is built. Copyright-format 1.0 applies, as does copyright format 2.",
    "Nhân viên được nghỉ phép hai mươi lăm ngày mỗi năm, trừ ngày lễ. Đơn xin nghỉ phép gửi cho trưởng phòng.",
    "The dpkg-source program unpacks source packages. dpkg_source is another word, and dpkg source are two.",
    "Ống khói nghi ngút. Straße, Ünïcödé, ½ and x² are odd; naïve cafés aren't. Don't!",
    "packaging packaged packages package the the the the the the",
    "Nghi phep, nghe nghiep: typed without diacritics.",
)
QUESTIONS = (
    "Who maintains the packages?",
    "nghi phep bao nhieu ngay",
    "nghỉ phép bao nhiêu ngày",
    "copyright-format",
    "What does dpkg-source do with dpkg_source?",
    "Don't the naive cafes' maintainers aren't?",
    "straße ½ x² unicode",
    "the",
    "Đơn của trưởng-phòng",
    "nothing-of-this stands here",
    "?!",
    "",
)


@pytest.fixture
def store(tmp_path: Path):
    made = Store(tmp_path / "assistant.db")
    for owner in ("mai", "an"):
        made.keys.ensure_user(owner)
    yield made
    made.close()


def found(words: Words, question: str) -> set[str]:
    chunks = words.store.documents.chunks(words.owner, [i for i, _ in words.search(question, 99)])
    return {chunk.name for chunk in chunks}


def test_scores_and_order_are_those_of_fts5(store: Store) -> None:
    chance = random.Random(0)
    sentences = [sentence for text in TEXTS for sentence in text.split(". ")]
    for n in range(12):
        put(store, "mai", f"{n}.txt", "\n\n".join(" ".join(chance.choices(sentences, k=chance.randint(1, 60))) for _ in range(3)))
    with store.database.transaction() as write:
        write.execute(f"CREATE VIRTUAL TABLE theirs USING fts5(words, folded, tokenize = '{TOKENIZER}')")
        for document in store.documents.searchable("mai"):
            for i, text in zip(*store.documents.words(document), strict=True):
                write.execute("INSERT INTO theirs (rowid, words, folded) VALUES (?, ?, ?)", (i, text, folded(text)))
    words, all_found = Words(store, "mai"), 0
    for question in QUESTIONS:
        for k in (3, 99):
            theirs = ranked(store.database, "theirs", question, k, "SELECT id FROM chunks WHERE owner = ?", ["mai"])
            ours = words.search(question, k)
            assert [i for i, _ in ours] == [i for i, _ in theirs], question
            assert [score for _, score in ours] == pytest.approx([score for _, score in theirs], rel=1e-9)
            all_found += len(theirs)
    assert all_found > 99


def test_it_is_what_the_database_holds_now_and_of_one_owner(store: Store) -> None:
    words, another = Words(store, "mai"), Words(store, "an")
    assert words.search("canteen", 9) == []
    lunch = put(store, "mai", "lunch.txt", "The canteen opens at noon.")
    put(store, "an", "theirs.txt", "The canteen of another user.")
    assert found(words, "canteen") == {"lunch.txt"}
    assert found(another, "canteen") == {"theirs.txt"}
    tea = put(store, "mai", "tea.txt", "Tea is served in the canteen.")
    assert found(words, "canteen") == found(Words(store, "mai"), "canteen") == {"lunch.txt", "tea.txt"}
    (only,) = store.documents.chunk_ids("mai", [tea])
    assert [i for i, _ in words.search("canteen", 9, [tea])] == [only]
    assert words.search("canteen", 9, []) == words.search("canteen", 9, store.documents.searchable("an")) == []
    alone = words.search("tea", 9)
    put(store, "an", "more.txt", "Tea, tea, and more tea.")
    assert words.search("tea", 9) == alone, "what others have counts in nobody else's scores"
    store.documents.delete("mai", lunch)
    assert found(words, "canteen opens") == {"tea.txt"}
    put(store, "mai", "tea.txt", "Tea is served in the hall.")
    assert words.search("canteen", 9) == []
    assert found(words, "hall") == {"tea.txt"}


def test_questions_leave_nothing_behind(store: Store) -> None:
    put(store, "mai", "lunch.txt", "The canteen opens at noon.")
    words = Words(store, "mai")
    words.search("canteen", 9)
    held = len(words._pieces), len(words._numbers)
    for n in range(20):
        words.search(f"what is number{n}?", 9)
    assert (len(words._pieces), len(words._numbers)) == held
