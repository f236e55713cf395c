"""Find again what was said: by words and meaning, in both languages at once, over one owner's turns and no one else's.

What fits a question is told by E5's cosine and by the share of the question's words, translated where a turn is in the other language,
in one score (index.py); SQLite's ranking by words stands beside it, which also finds what has not been embedded yet, and words typed
without diacritics. Turns that only ask come last: a question that was asked before is the nearest turn to itself, and tells nothing.
Of turns that state the same matter newest.py says which is asked for. The numbers are chosen on the valid world of the invented talks and
on BFCL's questions (docs/memory.md).

Where a question leans on others and names no session or day, the state of the stream of turns (states.py) adds to the scores.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import torch
from hybridlab.rag.reader import DEPTH as DEPTH_OF_READER
from jaxtyping import Float32

from assistant.cues import is_question
from assistant.history import REFUSALS, leans
from assistant.language import language_of
from assistant.memory.index import Fit, Index, pieces
from assistant.memory.meaning import centred
from assistant.memory.newest import AMONG, asks_for_former, corrects, weighed
from assistant.memory.states import States
from assistant.memory.when import when
from assistant.store import Store
from assistant.store.turns import Turn

DEPTH = 50  # candidates
MEANING = 4.0  # of a cosine beside the share of the question's words
OTHER = 0.05  # of a cosine, that a turn in the other language lacks
FIRST, SLOWLY = 0.2, 60  # what the first place by SQLite's words counts; and how slowly that falls with the place


@dataclass(frozen=True)
class Recalled:
    """A turn and why it was found: its score, and its rank (from 1) by SQLite's words and by meaning (`bm25`, `e5`), where it has one."""

    turn: Turn
    score: float
    ranks: dict[str, int]


def query_of(question: str, vector: Float32[np.ndarray, " dim"]) -> Float32[torch.Tensor, " dim"]:
    """A question's vector as the reader of turns takes it."""
    return torch.tensor(centred(vector, "query", language_of(question)))


class Recall:
    """Callable; keeps one index per owner, filled from the database when the owner first asks. `states` where turns are read."""

    def __init__(self, store: Store, encoder, states: States | None = None):
        self.store, self.encoder, self.states = store, encoder, states
        self._indexes: dict[str, Index] = {}
        self._lock = threading.RLock()

    def __call__(
        self,
        owner: str,
        question: str,
        k: int,
        *,
        conversation: str | None = None,
        before: int | None = None,
        now: datetime | None = None,
        questions: bool = False,
    ) -> list[Recalled]:
        """The best `k` turns, best first. `conversation` is the present one: "the last session" is the one before it. `before` is the
        turn that asks: neither it nor what follows it is recalled. `questions`: what was asked is wanted, and not what was told."""
        sessions = [session for session in self.store.turns.sessions(owner) if session.id != conversation]
        asked = when(question, sessions, now or datetime.now())
        allowed = None if asked.everything else self.store.turns.ids(owner, asked.sessions, asked.since, asked.until)
        if allowed == []:
            return []
        wanted, depth = asked.question or question, max(k, DEPTH)
        words = [turn for turn, _ in self.store.turns.search_words(owner, wanted, depth, allowed) if before is None or turn < before]
        vector = self.encoder.ask(wanted, DEPTH_OF_READER, exact=True)[0]
        fit = self._fit(owner, wanted, vector, allowed, before)
        lift = self._lift(owner, question, vector, fit, before) if asked.everything and leans(question) else 0.0
        return self._ranked(owner, fit, words, depth, asks_for_former(wanted), questions, lift)[:k]

    def referent(self, owner: str, question: str, *, before: int | None = None) -> Turn | None:
        """What of the person's own turns a question that leans on others refers to; None where it names a session or day, or no state
        tells."""
        state = self.states.now(owner, before) if self.states else None
        if state is None or not when(question, self.store.turns.sessions(owner), datetime.now()).everything:
            return None
        vector = self.encoder.ask(question, DEPTH_OF_READER, exact=True)[0]
        fit = self._fit(owner, question, vector, None, before)
        vectors, of_piece = fit.pieces()
        near = np.full(len(fit.turns), -1.0, np.float32)
        with torch.inference_mode():
            np.maximum.at(near, of_piece, vectors @ self.states.reader.refer(query_of(question, vector), state).numpy())
        turns = self.store.turns.get(owner, fit.turns[np.argsort(-near, kind="stable")][:DEPTH].tolist())
        return next((turn for turn in turns if turn.role == "user"), None)

    def _lift(
        self, owner: str, question: str, vector: Float32[np.ndarray, " dim"], fit: Fit, before: int | None
    ) -> Float32[np.ndarray, " turns"] | float:
        """What the state adds to the turns' scores, for a question that leans on others; 0 where there is none."""
        state = self.states.now(owner, before) if self.states else None
        if state is None or not len(fit.turns):
            return 0.0
        vectors, of_piece = map(torch.from_numpy, fit.pieces())
        with torch.inference_mode():
            return self.states.reader.lift(query_of(question, vector), state, vectors, of_piece).numpy()

    def _fit(
        self, owner: str, question: str, vector: Float32[np.ndarray, " dim"], allowed: list[int] | None, before: int | None
    ) -> Fit:
        with self._lock:
            index = self._index_of(owner)
            if allowed is None and before is not None:
                allowed = [turn for turn in index.turns() if turn < before]
            return index.look(question, vector, allowed)

    def _ranked(
        self, owner: str, fit: Fit, words: list[int], depth: int, former: bool, questions: bool, lift: np.ndarray | float
    ) -> list[Recalled]:
        """Of the turns that fit best, or are found by words, those of the wanted kind first; `lift` is added to their scores."""
        scores = fit.share + MEANING * (fit.cosine + OTHER * fit.other) + lift
        best = np.lexsort((-scores, fit.asks != questions))[:depth]
        turns = self.store.turns.get(owner, list(dict.fromkeys([*fit.turns[best].tolist(), *words])))
        told = {turn.id: turn for turn in turns if turn.content not in REFUSALS}
        unwanted = {turn.id for turn in told.values() if is_question(turn.content) != questions}
        row_of = fit.rows(list(told))
        score = {turn: float(scores[row_of[turn]]) if turn in row_of else 0.0 for turn in told}
        for place, turn in enumerate(turn for turn in words if turn in told and turn not in unwanted):
            score[turn] += FIRST * SLOWLY / (SLOWLY + place)
        order = sorted(told, key=lambda turn: (turn in unwanted, -score[turn]))
        compared = [turn for turn in order[:AMONG] if turn in row_of and turn not in unwanted]
        rows = [row_of[turn] for turn in compared]
        correcting = [corrects(pieces(told[turn].content)[fit.piece[row]]) for turn, row in zip(compared, rows, strict=True)]
        vectors = fit.vectors[fit.nearest[rows]]
        standing = np.array([score[turn] for turn in compared])
        now = weighed(standing, np.array(compared), vectors @ vectors.T, np.array(correcting, bool), former)
        score |= dict(zip(compared, now.tolist(), strict=True))
        order = sorted(order[:AMONG], key=lambda turn: (turn in unwanted, -score[turn])) + order[AMONG:]
        ranks = {"bm25": words, "e5": fit.turns[np.argsort(-fit.cosine, kind="stable")][:depth].tolist()}
        places = {name: {turn: place for place, turn in enumerate(of, 1)} for name, of in ranks.items()}
        return [Recalled(told[turn], score[turn], {name: of[turn] for name, of in places.items() if turn in of}) for turn in order]

    def _index_of(self, owner: str) -> Index:
        if owner not in self._indexes:
            self._indexes[owner] = Index(self.encoder.dim)
            for turn, content, vectors in self.store.turns.vectors(owner, self.encoder.dim):
                self._indexes[owner].add(turn, content, vectors)
        return self._indexes[owner]

    def add(self, owner: str, turn: int, content: str, vectors: np.ndarray) -> None:
        """Put a turn's new vectors into an index that is loaded; one that is not reads them from the database."""
        with self._lock:
            if owner in self._indexes:
                self._indexes[owner].add(turn, content, vectors)

    def forget(self, owner: str) -> None:
        """Drop an owner's index, after a deletion: the next question reads what is left from the database."""
        with self._lock:
            self._indexes.pop(owner, None)
