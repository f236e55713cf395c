"""Passages in the other language: told apart by most of their words, found by translated words, and given places; nothing else moves."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assistant.knowledge.across import PLACES, Found, likelihood, placed, with_place
from assistant.knowledge.search import DEPTH, FUSION_K
from assistant.knowledge.service import Knowledge
from assistant.language import language_of, passage_language
from assistant.settings import Settings
from assistant.store import Store
from hybridlab.rag.fusion import reciprocal_rank_fusion


class Blind:
    """An encoder to which all texts mean the same: what is found is found by words."""

    dim = 8

    def query(self, texts):
        return np.full((len(texts), self.dim), self.dim**-0.5, np.float32)

    def ask(self, question, depth, *, exact=False):
        return self.query([question])[0], np.zeros((0, 384), np.float32)

    def read(self, texts, depth):
        return self.query(texts), [np.zeros((0, 384), np.float32)] * len(texts)


RANKING = [(1, 0.5), (2, 0.4), (3, 0.3), (4, 0.2), (5, 0.1)]
ENGLISH = {
    "passwords.md": "# Passwords\n\nA password has at least fourteen characters.\n",
    "parking.md": "# Parking\n\nEmployees may leave their motorbikes in the car park behind the building.\n",
    "lunch.md": "# Lunch\n\nThe canteen serves lunch from half past eleven.\n",
    "printers.md": "# Printers\n\nA broken printer is reported to the help desk.\n",
    "meetings.md": "# Meetings\n\nMeeting rooms are booked one week ahead.\n",
}
VIETNAMESE = {
    "xe.md": "# Xe đưa đón\n\nXe buýt của công ty chạy lúc bảy giờ sáng ở cổng chính.\n",
    "luong.md": "# Lương\n\nTiền lương được trả vào ngày mười hằng tháng.\n",
    "phep.md": "# Nghỉ phép\n\nNhân viên mới có mười hai ngày nghỉ phép mỗi năm.\n",
    "dong-phuc.md": "# Đồng phục\n\nĐồng phục được phát vào đầu năm.\n",
    "tiec.md": "# Tiệc\n\nTiệc cuối năm tổ chức ở nhà hàng bên sông.\n",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Knowledge]:
    """Three readers' documents: in both languages, in English, in Vietnamese."""
    readers = {"both": ENGLISH | VIETNAMESE, "en": ENGLISH, "vi": VIETNAMESE}
    return {name: knowledge_of(tmp_path_factory.mktemp(name), documents) for name, documents in readers.items()}


def knowledge_of(home: Path, documents: dict[str, str]) -> Knowledge:
    settings = Settings(home=home, _env_file=None)
    store = Store(settings.database)
    store.keys.ensure_user("mai")
    knowledge = Knowledge(store, Blind(), settings)
    for name, text in documents.items():
        knowledge.add("mai", name, io.BytesIO(text.encode()))
    knowledge.start()
    assert knowledge.wait(120)
    knowledge.close()
    return knowledge


def names(hits) -> list[str]:
    return [hit.chunk.name for hit in hits]


@pytest.mark.slow(seconds=7)
@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Mật khẩu phải có ít nhất bao nhiêu ký tự?", "passwords.md"),
        ("Nhân viên để xe máy ở đâu?", "parking.md"),
        ("When is the salary paid each month?", "luong.md"),
        ("How many days of leave does a new employee have?", "phep.md"),
    ],
)
def test_a_passage_is_found_by_translated_words_alone(library, question: str, answer: str) -> None:
    hits = library["both"].search("mai", question, 10)
    assert answer in names(hits)[:4]
    found = next(hit for hit in hits if hit.chunk.name == answer)
    assert found.ranks["translated"] == 1
    assert 0 < found.scores["translated"] <= 1
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.slow(seconds=7)
@pytest.mark.parametrize(("only", "question"), [("en", "Where do I report a broken printer?"), ("vi", "Tiền lương được trả ngày nào?")])
def test_within_one_language_nothing_but_words_and_meaning_counts(library, only: str, question: str) -> None:
    hits = library[only].search("mai", question, 10)
    by_words = [i for i, _ in library[only].searching.by_words("mai", question, DEPTH)]
    by_meaning = [hit.chunk.id for hit in library[only].search("mai", question, DEPTH, "e5")]
    assert [(hit.chunk.id, hit.score) for hit in hits] == reciprocal_rank_fusion([by_words, by_meaning], FUSION_K)[:10]
    assert not any("translated" in hit.ranks for hit in hits)


@pytest.mark.slow(seconds=7)
@pytest.mark.parametrize(
    ("only", "question", "answer"),
    [("en", "Mật khẩu phải có ít nhất bao nhiêu ký tự?", "passwords.md"), ("vi", "When is the salary paid each month?", "luong.md")],
)
def test_where_the_own_language_has_nothing_the_other_leads(library, only: str, question: str, answer: str) -> None:
    assert names(library[only].search("mai", question, 10))[0] == answer


@pytest.mark.slow(seconds=7)
def test_documents_that_were_not_asked_are_not_found_in_the_other_language_either(library) -> None:
    knowledge, few = library["both"], {"lunch.md", "luong.md"}
    only = [document.id for document in knowledge.documents("mai") if document.name in few]
    hits = knowledge.search("mai", "Mật khẩu phải có ít nhất bao nhiêu ký tự?", 10, documents=only)
    assert set(names(hits)) == few


def test_a_deleted_document_is_not_found_by_translated_words(tmp_path: Path) -> None:
    knowledge, question = knowledge_of(tmp_path, dict(list(ENGLISH.items())[:2])), "Mật khẩu phải có ít nhất bao nhiêu ký tự?"
    assert names(knowledge.search("mai", question, 10)) == ["passwords.md", "parking.md"]
    [gone] = [document.id for document in knowledge.documents("mai") if document.name == "passwords.md"]
    knowledge.delete("mai", gone)
    assert names(knowledge.search("mai", question, 10)) == ["parking.md"]


def test_a_vietnamese_name_makes_no_vietnamese_passage() -> None:
    assert passage_language("The spectrometer is in room B-112, and Nguyễn Thu Hà is responsible for its calibration every month.") == "en"
    assert passage_language("Nhà ăn mở từ 11:15 đến 13:00; suất ăn phải đăng ký trước 9:00 trên máy ở cổng B.") == "vi"
    assert passage_language("") == "en"


def test_words_and_meaning_rank_the_other_language_together() -> None:
    found = Found(meaning=[(1, 0.90), (2, 0.80), (3, 0.80)], words=[(2, 0.9), (4, 0.1)])
    # 1 and 3 have at most 0.1 of the words, 4 at most a cosine of 0.8
    assert [(i, round(score, 6)) for i, score in found.ranking()] == [(2, 2.5), (1, 1.9), (3, 1.7), (4, 1.7)]
    assert Found([], []).ranking() == []


def test_the_better_the_other_language_fits_the_likelier_it_is() -> None:
    own = Found(meaning=[(1, 0.85)], words=[(1, 0.5)])
    fits = [likelihood(own, Found(meaning=[(2, 0.80)], words=[(2, share)])) for share in (0.1, 0.3, 0.5, 0.7)]
    assert fits == sorted(fits)
    assert 0 < fits[0] < fits[-1] < 1
    assert likelihood(Found([], []), own) == 1.0


@pytest.mark.parametrize("likely", [1.0, 0.9, 0.7, 0.1])
def test_places_are_given_by_likelihood_and_scores_descend(likely: float) -> None:
    other = [(11, 3.0), (12, 2.0), (13, 1.0)]
    ranking = placed(RANKING, other, likely)
    places = next(places for least, places in PLACES if likely >= least)[:3]
    assert [ranking[place - 1][0] for place in places] == [i for i, _ in other][: len(places)]
    assert [i for i, _ in ranking if i < 10] == [1, 2, 3, 4, 5]
    assert [score for _, score in ranking] == sorted((score for _, score in ranking), reverse=True)
    assert placed(RANKING, [], likely) == RANKING


@pytest.mark.parametrize("wanted", [5, 9])
def test_what_is_wanted_stands_fourth_and_scores_descend(wanted: int) -> None:
    ranking = with_place(RANKING, wanted, 4)
    assert [i for i, _ in ranking][:4] == [1, 2, 3, wanted]
    assert {1, 2, 3, 4, 5, wanted} == {i for i, _ in ranking}
    scores = [score for _, score in ranking]
    assert scores == sorted(scores, reverse=True)


def test_what_stands_higher_already_is_left_there() -> None:
    assert with_place(RANKING, 2, 4) == RANKING


def test_a_short_ranking_gets_it_last() -> None:
    assert with_place([(1, 0.5)], 7, 4) == [(1, 0.5), (7, 0.5)]
    assert with_place([], 7, 4) == [(7, 0.0)]


def test_what_was_translated_for_tuning_is_of_the_calibration_part_alone() -> None:
    from capstone.evaluation.languages import translated  # imports all that an evaluation needs, which takes seconds
    from capstone.evaluation.questions import load

    questions = load()
    asked = translated(questions)
    assert len(asked) > 70
    assert {question.split for question in asked} == {"calibration"}
    own = {question.id: question.language for question in questions}
    assert all(question.kind == "crossed" and question.language == language_of(question.question) != own[question.id] for question in asked)
    unseen = [replace(question, split="test") for question in questions]
    with pytest.raises(ValueError, match="has to stay unseen"):
        translated(unseen)
