"""The rankings that need no training: by words, by meaning, fused, with sessions and days kept to, by recency, with the last turns added.

Words are ranked by the assistant's own database (SQLite's BM25), as its memory ranks them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from assistant.cues import is_question
from assistant.memory.recall import DEPTH
from assistant.memory.when import when
from assistant.store import Store
from assistant.store.turns import Session
from hybridlab.rag.fusion import reciprocal_rank_fusion

from capstone.evaluation.memory_vectors import Seen, Vectors

FLOORS = ("bm25", "e5", "fused", "filtered", "statements", "recent", "context 1", "context 6")


Ranked = dict[str, list[int]]  # ranking → turns, best first


def nearest(seen: Seen, vector: np.ndarray, allowed: np.ndarray) -> list[int]:
    """The allowed turns by their nearest piece."""
    best = np.full(len(seen.talk.said), -1.0, np.float32)
    np.maximum.at(best, seen.of_turn, seen.pieces @ vector)
    return allowed[np.argsort(-best[allowed], kind="stable")][:DEPTH].tolist()


def rank_all(seen: Seen, encoder: Vectors) -> list[Ranked]:
    """The rankings of every question of a talk; `encoder` embeds what a floor asks for instead of the question."""
    talk = seen.talk
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        store = Store(Path(folder) / "assistant.db")
        store.keys.ensure_user("user")
        with store.database.transaction():
            names: dict[int, str] = {}
            for one in talk.said:
                if one.session not in names:
                    names[one.session] = store.conversations.begin("user", "").id
                store.conversations.add("user", names[one.session], one.role, one.text)
        first = min(turn.id for turn in store.turns.all("user", 10**6))
        try:
            return [_rank(store, first, seen, number, encoder) for number in range(len(talk.asked))]
        finally:
            store.close()


def _rank(store: Store, first: int, seen: Seen, number: int, encoder: Vectors) -> Ranked:
    talk, one = seen.talk, seen.talk.asked[number]
    before = np.arange(one.place)
    times = {s: [t.created for t in talk.said[: one.place] if t.session == s] for s in range(one.session)}
    sessions = [Session(str(s), of[0], of[-1]) for s, of in times.items()]
    asked = when(one.question, sessions, talk.now(one))

    def words(question: str, allowed: np.ndarray) -> list[int]:
        if not len(allowed):
            return []
        return [turn - first for turn, _ in store.turns.search_words("user", question, DEPTH, (allowed + first).tolist())]

    def fused(question: str, vector: np.ndarray, allowed: np.ndarray) -> list[int]:
        return [turn for turn, _ in reciprocal_rank_fusion([words(question, allowed), nearest(seen, vector, allowed)])]

    plain, vector = one.question, seen.questions[number]
    floors = {"bm25": words(plain, before), "e5": nearest(seen, vector, before), "recent": before[::-1].tolist()}
    floors["fused"] = [turn for turn, _ in reciprocal_rank_fusion([floors["bm25"], floors["e5"]])]
    if asked.everything:
        allowed, wanted = before, plain
        ranked = floors["bm25"], floors["e5"]
    else:
        allowed = np.array([
            turn for turn in before if (asked.sessions is None or str(talk.said[turn].session) in asked.sessions)
            and asked.since <= talk.said[turn].created < asked.until
        ], int)  # fmt: skip
        wanted = asked.question or plain
        ranked = words(wanted, allowed), nearest(seen, encoder.questions([wanted])[0], allowed)
    floors["filtered"] = [turn for turn, _ in reciprocal_rank_fusion(ranked)]
    floors["statements"] = [turn for turn in floors["filtered"] if not is_question(talk.said[turn].text)]
    if one.ability == "follow":
        for count in (1, 6):
            text = " ".join([*(turn.text for turn in talk.said[max(0, one.place - count) : one.place]), plain])
            floors[f"context {count}"] = fused(text, encoder.questions([text])[0], before)
    return floors

