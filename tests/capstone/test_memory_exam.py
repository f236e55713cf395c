"""The floors that are measured are what the assistant's memory answers, and speak of nothing that had not been said yet."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from assistant.cues import is_question
from assistant.memory.index import pieces
from assistant.memory.recall import DEPTH, Recall
from assistant.store import Store

from capstone.evaluation.memory_floors import FLOORS, rank_all, recalled_all
from capstone.evaluation.memory_probes import Talk, examination
from capstone.evaluation.memory_vectors import Vectors, seen
from tests.capstone.conftest import HashEncoder

pytestmark = pytest.mark.slow(seconds=2)


class Encoder(HashEncoder):
    """Each word a direction of its own: no two different texts are equally near."""

    precision = "hash"

    def query(self, texts):
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row += np.random.default_rng(list(word.encode())).standard_normal(self.dim)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def talk() -> Talk:
    return next(examination("valid", [7]))


def test_vectors_are_made_once(tmp_path: Path, talk: Talk):
    first = Vectors(Encoder(), tmp_path)
    made = first.passages(["one", "two", "one"])
    assert (made[0] == made[2]).all()
    assert not (made[0] == made[1]).all()

    class Silent(Encoder):
        def passages(self, texts, progress=None):
            raise AssertionError(f"{texts} had been embedded")

    again = Vectors(Silent(), tmp_path)
    assert (again.passages(["two", "one"]) == made[[1, 0]]).all()


def test_a_ranking_holds_what_was_said_before_and_the_assistants_what_was_told_first(tmp_path: Path, talk: Talk):
    vectors = Vectors(Encoder(), tmp_path)
    of = seen([talk], vectors)[0]
    for one, ranked in zip(talk.asked, rank_all(of, vectors, recalled_all(of, vectors)), strict=True):
        assert set(ranked) == {name for name in FLOORS if one.ability == "follow" or not name.startswith("context")}
        assert all(0 <= turn < one.place for of in ranked.values() for turn in of)
        asks = [is_question(talk.said[turn].text) for turn in ranked["assistant"]]
        assert asks == sorted(asks)
        if one.ability == "session":
            for name in ("filtered", "assistant"):
                assert {talk.said[turn].session for turn in ranked[name]} == {talk.said[one.answers[0]].session}


@pytest.mark.parametrize("ability", ["plain", "session", "follow"])
def test_the_assistants_ranking_is_what_memory_recalls_that_was_told_all_at_once(tmp_path: Path, talk: Talk, ability: str):
    one = next(asked for asked in talk.asked if asked.ability == ability)
    numbered = [replace(turn, text=f"{turn.text} n{n}") for n, turn in enumerate(talk.said[: one.place])]  # no turn said twice
    told, vectors = Talk(numbered, [one]), Vectors(Encoder(), tmp_path)
    of = seen([told], vectors)[0]
    (ranked,) = rank_all(of, vectors, recalled_all(of, vectors))
    store = Store(tmp_path / "assistant.db")
    store.keys.ensure_user("mai")
    sessions: dict[int, str] = {}
    with store.database.transaction():
        for turn in told.said:
            if turn.session not in sessions:
                sessions[turn.session] = store.conversations.begin("mai", "").id
            store.conversations.add("mai", sessions[turn.session], turn.role, turn.text)
        batch = store.turns.to_embed(10**6)
        store.turns.embedded([(turn, text) for turn, _, text in batch], [vectors.passages(pieces(text)) for _, _, text in batch])
    found = Recall(store, Encoder())("mai", one.question, DEPTH, conversation=sessions[one.session])
    assert [hit.turn.content for hit in found][:20] == [told.said[turn].text for turn in ranked["assistant"]][:20]
    store.close()
