"""The reader has the last word on the order of passages: an answer comes first, what was not read keeps its place, scores descend."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from assistant.knowledge import search
from assistant.knowledge.rereading import AMONG, read_again
from assistant.knowledge.service import Knowledge
from assistant.settings import Settings
from assistant.store import Store
from hybridlab.rag.reader import DEPTH

from tests.capstone.conftest import HashEncoder

RANKING = [(10, 0.5), (11, 0.4), (12, 0.3), (13, 0.2)]


def test_what_answers_best_comes_first_and_scores_still_descend() -> None:
    assert read_again(RANKING, {10: 0.0, 11: 1.0, 12: 9.0, 13: -5.0}, place=1.0) == [(12, 0.5), (11, 0.4), (10, 0.3), (13, 0.2)]


def test_how_much_a_place_counts_is_weighed() -> None:
    odds = {10: 0.0, 11: 0.5, 12: 0.0, 13: 0.0}
    assert [i for i, _ in read_again(RANKING, odds, place=0.5)] == [11, 10, 12, 13]  # half of log 2 is 0.35
    assert [i for i, _ in read_again(RANKING, odds, place=1.0)] == [10, 11, 12, 13]  # log 2 is 0.69
    assert read_again(RANKING, dict.fromkeys(odds, 0.0), place=0.0) == RANKING


def test_what_was_not_read_keeps_its_place() -> None:
    assert [i for i, _ in read_again(RANKING, {10: 0.0, 12: 5.0}, place=1.0)] == [12, 11, 10, 13]
    assert read_again(RANKING, {}, place=1.0) == RANKING
    assert read_again([], {}, place=1.0) == []


def test_only_the_first_places_are_read() -> None:
    long = [(i, 1.0 / (1 + i)) for i in range(AMONG + 5)]
    again = [i for i, _ in read_again(long, {i: float(i) for i, _ in long}, place=0.0)]
    assert again[:AMONG] == list(reversed(range(AMONG)))
    assert again[AMONG:] == list(range(AMONG, AMONG + 5))


class Counting(HashEncoder):
    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def ask(self, question, depth, *, exact=False):
        self.asked.append((question, depth))
        return super().ask(question, depth, exact=exact)


@pytest.fixture
def knowledge(tmp_path: Path):
    settings = Settings(home=tmp_path, _env_file=None)
    store = Store(settings.database)
    for owner in ("mai", "an"):
        store.keys.ensure_user(owner)
    made = Knowledge(store, Counting(), settings)
    made.start()
    for name in ("one", "two", "three"):
        made.add("mai", f"{name}.md", io.BytesIO(f"# {name}\n\nThe canteen of {name} opens at noon.\n".encode()))
    assert made.wait(20)
    yield made
    made.close()


def test_a_search_is_in_the_readers_order_and_asks_alike(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch) -> None:
    before = [hit.chunk.name for hit in knowledge.search("mai", "When does the canteen of one open?", 3)]
    monkeypatch.setattr(search, "judged", lambda store, owner, asked, chunks: {chunk: float(n) for n, chunk in enumerate(chunks)})
    monkeypatch.setattr(search, "calibration", lambda: {"place": 0.0})
    hits = knowledge.search("mai", "When does the canteen of one open?", 3)
    assert [hit.chunk.name for hit in hits] == before[::-1]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    knowledge.read("mai", "When does the canteen of one open?", hits)
    assert set(knowledge.encoder.asked) == {("When does the canteen of one open?", DEPTH)}, "search and reading ask alike: E5 remembers it"
    assert [hit.chunk.name for hit in knowledge.search("mai", "When does the canteen of one open?", 1)] == [before[-1]]
    one = knowledge.search("mai", "When does the canteen of one open?", 3, "bm25")
    assert [hit.chunk.name for hit in one] != before[::-1], "a retriever by itself is as it is"


def test_another_owners_passages_are_not_judged(knowledge: Knowledge) -> None:
    from assistant.knowledge.reading import judged

    chunks = [hit.chunk.id for hit in knowledge.search("mai", "canteen", 3)]
    assert judged(knowledge.store, "an", np.ones((2, 384), np.float32), chunks) == {}
