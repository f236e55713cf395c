"""What the reader keeps of a passage: made with its embedding, used when it is asked of, made anew for another reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assistant.knowledge import reading
from assistant.knowledge.service import Knowledge
from assistant.settings import Settings
from assistant.store import Store
from hybridlab.rag.cross_encoder import Judged

from tests.capstone.conftest import HashEncoder

TEXT = "Paid leave is twenty-five days. The canteen opens at noon."
WORDS = TEXT.split()


class Words(HashEncoder):
    """A token is a word; its state is an axis, the same for the same word. Counts the passages that it reads."""

    def __init__(self):
        self.read_of: list[str] = []

    def states(self, text: str) -> np.ndarray:
        return np.eye(384, dtype=np.float32)[[sum(map(ord, word.strip(".?"))) % 384 for word in text.split()]]

    def read(self, texts, depth):
        self.read_of += texts
        return self.query(texts), [self.states(text) for text in texts]

    def token_states(self, texts, depth, *, question):
        return [self.states(text) for text in texts]

    def token_spans(self, passage):
        return [(at := passage.index(word), at + len(word)) for word in passage.split()]


def opened(home: Path, encoder: Words) -> Knowledge:
    settings = Settings(home=home, _env_file=None)
    store = Store(settings.database)
    store.keys.ensure_user("mai")
    knowledge = Knowledge(store, encoder, settings)
    knowledge.start()
    return knowledge


@pytest.fixture
def encoder() -> Words:
    return Words()


@pytest.fixture
def knowledge(tmp_path: Path, encoder: Words):
    import io

    made = opened(tmp_path / "home", encoder)
    made.add("mai", "leave.txt", io.BytesIO(TEXT.encode()))
    assert made.wait(20)
    yield made
    made.close()


def test_a_question_reads_no_passage_that_is_embedded(knowledge: Knowledge, encoder: Words) -> None:
    hits = knowledge.search("mai", "paid leave", 4)
    before = list(encoder.read_of)
    read = knowledge.read("mai", "Paid leave", hits)
    assert encoder.read_of == before != []
    assert [kept.shape for kept in read.kept] == [(len(WORDS), 64)]
    assert read.odds() > knowledge.read("mai", "Unheard things", hits).odds()
    nothing = knowledge.read("mai", "Paid leave", [])
    assert nothing.odds() == nothing.pair_odds() == reading.LEAST_ODDS


def test_a_passage_that_is_not_embedded_yet_is_read_when_it_is_asked_of(knowledge: Knowledge, encoder: Words) -> None:
    hits = knowledge.search("mai", "paid leave", 4)
    stored = knowledge.read("mai", "Paid leave", hits)
    knowledge.store.database.connection.execute("DELETE FROM readings")
    again = knowledge.read("mai", "Paid leave", hits)
    assert encoder.read_of[-1] == reading.text_of(hits[0])
    assert [kept.tolist() for kept in again.kept] == [kept.tolist() for kept in stored.kept]


def test_a_part_is_judged_by_its_own_tokens(knowledge: Knowledge) -> None:
    hits = knowledge.search("mai", "paid leave", 4)
    first = TEXT.index("The")
    leave, canteen, nothing = knowledge.read("mai", "Paid leave", hits).of_parts(0, [(0, first), (first, len(TEXT)), (0, 0)])
    assert leave > canteen
    assert nothing == reading.LEAST_ODDS
    swapped = knowledge.read("mai", "canteen noon", hits).of_parts(0, [(0, first), (first, len(TEXT))])
    assert swapped[0] < swapped[1]


def test_parts_are_judged_by_where_the_thorough_reader_found_the_answer_too(knowledge: Knowledge) -> None:
    (hit,) = knowledge.search("mai", "paid leave", 4)
    hit = replace(hit, chunk=replace(hit.chunk, context="House rules"))  # read before the text, and never quoted
    read, before = knowledge.read("mai", "Paid leave", [hit]), len("House rules\n")
    parts = [(0, 4), (5, len(TEXT))]
    quick = read.of_parts(0, parts)
    tokens = np.array([[before, before + 4], [before + 5, before + 10]])
    read.judged[hit.chunk.id] = Judged(1.0, np.array([0.1, 0.9], np.float32), tokens)
    np.testing.assert_allclose(read.of_parts(0, parts), quick / 2 + np.log([0.1, 0.9]), rtol=1e-5)
    assert read.of_parts(0, [(0, 0)])[0] == reading.LEAST_ODDS / 2 + np.log(reading.LEAST_SHARE)


def test_what_answers_best_is_cited_first_and_what_was_not_read_comes_last(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch) -> None:
    (hit,) = knowledge.search("mai", "paid leave", 4)
    hits = [replace(hit, score=1.0 - n / 10, ranks={"n": n}) for n in range(4)]
    read = replace(knowledge.read("mai", "Paid leave", hits[:1]), hits=hits, kept=[np.full((1, 64), n, np.int8) for n in range(4)])
    monkeypatch.setattr(reading.Reading, "together", [-1.0, -2.0, 0.5])
    for place, order in ((0.0, [2, 0, 1, 3]), (9.0, [0, 1, 2, 3])):
        best = read.best_first(place)
        assert [one.ranks["n"] for one in best.hits] == order
        assert [int(kept[0, 0]) for kept in best.kept] == order
        assert [one.score for one in best.hits] == [1.0, 0.9, 0.8, 0.7]


@pytest.mark.slow(seconds=3)
def test_chunks_are_read_together_with_the_question_until_one_answers(knowledge: Knowledge) -> None:
    (hit,) = knowledge.search("mai", "paid leave", 4)
    other = replace(hit, chunk=replace(hit.chunk, id=hit.chunk.id + 1, text="The canteen opens at noon and closes at two."))
    read = knowledge.read("mai", "How many days of paid leave are there?", [other, hit, hit])
    assert read.together[0] < 0 < read.together[1]
    assert len(read.together) == 2
    assert read.pair_odds() == read.together[1]
    text = hit.chunk.text
    first, last = (0, text.index("The")), (text.index("The"), len(text))
    assert np.argmax(read.best_first(0.0).of_parts(0, [last, first])) == 1
    assert read.best_first(0.0).hits[0].chunk == hit.chunk


def test_another_reader_reads_everything_again_and_meanwhile_all_is_found(
    knowledge: Knowledge, encoder: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (document,) = knowledge.documents("mai")
    knowledge.close()
    knowledge.store.close()
    monkeypatch.setattr(reading, "reader_id", lambda: "another")
    monkeypatch.setattr("assistant.knowledge.service.reader_id", lambda: "another")
    store = Store(knowledge.settings.database)
    store.readings.outdate("another")
    assert [(one.state, one.embedded) for one in store.documents.all("mai")] == [("searchable", document.chunks)]
    assert store.readings.of("mai", store.documents.chunk_ids("mai", [document.id]), "another") == {}
    store.close()
    again = opened(tmp_path / "home", encoder)
    assert again.wait(20)
    assert len(encoder.read_of) == 2 * document.chunks
    assert [one.state for one in again.documents("mai")] == ["ready"]
    chunks = again.store.documents.chunk_ids("mai", [document.id])
    assert set(again.store.readings.of("mai", chunks, "another")) == set(chunks)
    again.close()
