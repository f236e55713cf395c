"""What the assistant recalls, beside simpler rankings: by words, by meaning, fused, with sessions and days kept to, by recency, with the
last turns added.

Words are ranked by the assistant's own database (SQLite's BM25). What it recalls is asked of its own memory, told turn by turn.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from assistant.memory.recall import DEPTH, Recall
from assistant.memory.when import when
from assistant.store import Store
from assistant.store.turns import Session
from hybridlab.rag.fusion import reciprocal_rank_fusion

from capstone.evaluation.memory_vectors import Seen, Vectors

FLOORS = ("bm25", "e5", "fused", "filtered", "assistant", "recent", "context 1", "context 6")
Ranked = dict[str, list[int]]  # ranking → turns, best first


def nearest(seen: Seen, vector: np.ndarray, allowed: np.ndarray) -> list[int]:
    """The allowed turns by their nearest piece."""
    best = np.full(len(seen.talk.said), -1.0, np.float32)
    np.maximum.at(best, seen.of_turn, seen.pieces @ vector)
    return allowed[np.argsort(-best[allowed], kind="stable")][:DEPTH].tolist()


class Asking:
    """An encoder of questions whose vectors are kept."""

    def __init__(self, vectors: Vectors):
        self.vectors, self.dim = vectors, vectors.encoder.dim

    def ask(self, question: str, depth: int, *, exact: bool) -> tuple[np.ndarray, None]:
        """The vector alone: nothing is read here."""
        return self.vectors.questions([question])[0], None


@contextmanager
def told(seen: Seen, turns: int) -> Iterator[tuple[Store, list[str]]]:
    """A store in which a user has been told the first turns of a talk, and the name of each session."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        store, names = Store(Path(folder) / "assistant.db"), []
        store.keys.ensure_user("user")
        try:
            tell(store, seen, names, 0, turns)
            yield store, names
        finally:
            store.close()


def tell(store: Store, seen: Seen, names: list[str], start: int, end: int) -> list[int]:
    """Tell some turns of a talk; their numbers in the store. `names` gets the sessions that begin."""
    with store.database.transaction():
        made = []
        for one in seen.talk.said[start:end]:
            if one.session == len(names):
                names.append(store.conversations.begin("user", "").id)
            made.append(store.conversations.add("user", names[one.session], one.role, one.text))
    return made


def rank_all(seen: Seen, encoder: Vectors, found: Sequence[list[int]]) -> list[Ranked]:
    """The rankings of every question of a talk, for which the assistant has found what it has (`recalled_all`); `encoder` embeds what a
    floor asks for instead of the question."""
    with told(seen, len(seen.talk.said)) as (store, _):
        first = min(turn.id for turn in store.turns.all("user", 10**6))
        ranked = [_rank(store, first, seen, number, encoder) for number in range(len(seen.talk.asked))]
    return [{**floors, "assistant": of} for floors, of in zip(ranked, found, strict=True)]


class Lifted(Recall):
    """Recalls with what is given instead of what a state says, where a state would be asked; `asked` says whether one would."""

    given: np.ndarray | float = 0.0
    asked = False

    def _lift(self, *_) -> np.ndarray | float:
        self.asked = True
        return self.given


def recalled_all(seen: Seen, encoder: Vectors) -> list[list[int]]:
    """What the assistant's memory, without a state, answers to every question of a talk at its place: turns of the talk, best first."""
    return lifted_all(seen, encoder, [[0.0] * len(seen.talk.asked)])[0]


def lifted_all(seen: Seen, encoder: Vectors, lifts: Sequence[Sequence[np.ndarray | float]]) -> list[list[list[int]]]:
    """The same with each of `lifts`: for every question what is added to the scores of the turns before it, where it leans on others."""
    found: list[list[list[int]]] = [[[] for _ in seen.talk.asked] for _ in lifts]
    vectors = np.split(seen.pieces, np.flatnonzero(np.diff(seen.of_turn)) + 1)
    with told(seen, 0) as (store, names):
        recall, numbers = Lifted(store, Asking(encoder)), []
        for number in sorted(range(len(seen.talk.asked)), key=lambda number: seen.talk.asked[number].place):
            one, start = seen.talk.asked[number], len(numbers)
            numbers += tell(store, seen, names, start, one.place)
            new = range(start, one.place)
            store.turns.embedded([(numbers[turn], seen.talk.said[turn].text) for turn in new], [vectors[turn] for turn in new])
            for turn in new:
                recall.add("user", numbers[turn], seen.talk.said[turn].text, vectors[turn])
            place = {stored: turn for turn, stored in enumerate(numbers)}
            present, now = names[one.session] if one.session < len(names) else None, seen.talk.now(one)
            times = [(seen.talk.said[turn].created, numbers[turn]) for turn in new]
            store.database.connection.executemany("UPDATE messages SET created = ? WHERE id = ?", times)
            recall.asked = False
            for ranking, of in zip(found, lifts, strict=True):
                if ranking is found[0] or recall.asked:
                    recall.given = of[number]
                    hits = recall("user", one.question, DEPTH, conversation=present, now=now)
                ranking[number] = [place[hit.turn.id] for hit in hits]
    return found


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
    if one.ability == "follow":
        for count in (1, 6):
            text = " ".join([*(turn.text for turn in talk.said[max(0, one.place - count) : one.place]), plain])
            floors[f"context {count}"] = fused(text, encoder.questions([text])[0], before)
    return floors

