"""What was said as evidence: turns that answer a question, and quoted word for word.

Whether one does is told by a reader that has learned from talk (`memory/said.md`): talk is short and of few things, so its near misses are
nearer than those of documents. Rules tell apart what it takes for the same (`memory/apart.py`). What was only asked tells nothing, and
neither does an answer whose own source has been deleted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from hybridlab.rag.dictionary import JOIN
from hybridlab.rag.reader import DEPTH, Reader

from assistant.cues import Cue, is_question
from assistant.knowledge.quotes import best_span
from assistant.knowledge.reading import Reading
from assistant.knowledge.search import Hit, dictionary, possible_words
from assistant.knowledge.suspicion import is_suspicious
from assistant.language import language_of, passage_language
from assistant.memory.apart import apart
from assistant.memory.recall import Recalled
from assistant.memory.service import Memory
from assistant.store import Store
from assistant.store.documents import StoredChunk
from assistant.store.turns import Turn
from assistant.store.words import folded

LOOKED_AT = 16  # turns that are recalled
READ = 4  # of them that the reader reads
QUOTED = 2  # turns that an answer cites
LEAST = -0.9  # log odds from which on a turn is evidence: chosen by `python -m capstone.evaluation.memory_said`
WEIGHTS = Path(__file__).parent / "memory" / "said.safetensors"
ALL_WORDS = 2.0  # what it counts that every word of the question stands in a turn, in log odds
LIKELY = 0.1  # of a translation, from which on it counts as the word


@cache
def reader_of_turns() -> Reader:
    return Reader.load(WEIGHTS)


@dataclass(frozen=True)
class TurnCitation:
    """A quote of a turn, and where it stands: the turn, its conversation, who said it and when (seconds since 1970)."""

    number: int
    turn: int
    conversation_id: str
    role: str
    created: float
    quote: str
    start: int
    end: int
    score: float
    suspicious: bool  # it holds what looks like an instruction to a machine
    kind: Literal["turn"] = "turn"

    @property
    def answer(self) -> str:
        """What answers, in its own words: all of the quote, since talk is short."""
        return self.quote

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def from_memory(
    memory: Memory, store: Store, owner: str, question: str, cue: Cue | None, *, conversation: str | None, before: int | None
) -> tuple[TurnCitation, ...]:
    """Citations of the owner's turns that answer a question, best first, numbered from 1; none where nothing of it was said.

    `conversation` is the one in which it is asked, `before` its own number there: it does not answer itself.
    """
    wanted = cue.question if cue else question
    questions = bool(cue and cue.questions)
    recalled = memory.recall(owner, wanted, LOOKED_AT, conversation=conversation, before=before, questions=questions)
    meant = [one for one in recalled if is_meant(one.turn, cue) and _stands(store, owner, one.turn)][:READ]
    if not meant:
        return ()
    reading = _read(memory.encoder, wanted, meant)
    scores = [weighed(wanted, one.turn.content, odds) for odds, one in zip(reading.each, meant, strict=True)]
    made: list[TurnCitation] = []
    for place in sorted(range(len(meant)), key=lambda one: -scores[one])[:QUOTED]:
        if is_said(scores[place]):
            made += _cited(store, owner, wanted, reading, place, meant[place], len(made) + 1)
    return tuple(made)


def is_said(score: float) -> bool:
    """Whether a turn is evidence, by its weighed log odds."""
    return score >= LEAST


def weighed(question: str, turn: str, odds: float) -> float:
    """A turn's log odds with what its words say."""
    if apart(question, turn):
        return -math.inf
    return float(odds) + (ALL_WORDS if has_all_words(question, turn) else 0.0)


def has_all_words(question: str, turn: str) -> bool:
    """Whether every word of a question that means something stands in a turn, with diacritics or without, or translated."""
    asked, language = language_of(question), passage_language(turn)
    there = {folded(part) for word in dictionary().words(turn, language) for part in (word, *word.split(JOIN))}
    wanted = [word for word in possible_words(question, asked, language) if word]
    return bool(wanted) and all(any(p >= LIKELY and folded(one) in there for one, p in word.items()) for word in wanted)


def is_meant(turn: Turn, cue: Cue | None) -> bool:
    """Without a cue, what the person told; with one, whose turns it names, and questions where it asks what was asked."""
    roles, questions = (cue.roles, cue.questions) if cue else (("user",), False)
    return turn.role in roles and is_question(turn.content) == questions


def _stands(store: Store, owner: str, turn: Turn) -> bool:
    """Whether everything that a turn quotes is still there."""
    if turn.role == "user":
        return True
    try:
        messages = store.conversations.messages(owner, turn.conversation)
    except KeyError:
        return False
    return any(message.id == turn.id and all(one["quote"] for one in message.citations) for message in messages)


def _read(encoder, question: str, found: Sequence[Recalled]) -> Reading:
    """A question read with turns as if they were a document's chunks."""
    chunks = [
        StoredChunk(one.turn.id, one.turn.conversation, "", 0, None, (), 0, len(one.turn.content), "prose", "", one.turn.content)
        for one in found
    ]
    hits = [Hit(chunk, one.score, one.ranks, {}) for chunk, one in zip(chunks, found, strict=True)]
    kept = [reader_of_turns().keep(states) for states in encoder.read([one.turn.content for one in found], DEPTH)[1]]
    return Reading(encoder, question, encoder.ask(question, DEPTH, exact=True)[1], hits, kept, reader_of_turns())


def _cited(store: Store, owner: str, question: str, reading: Reading, place: int, one: Recalled, number: int) -> list[TurnCitation]:
    """The citation of a turn; none where it was deleted meanwhile."""
    turn = one.turn
    start, end = best_span(question, turn.content, lambda spans: reading.of_parts(place, spans))
    quote = turn.content[start:end]
    if not quote or [still.content[start:end] for still in store.turns.get(owner, [turn.id])] != [quote]:
        return []
    where = (turn.id, turn.conversation, turn.role, turn.created)
    return [TurnCitation(number, *where, quote, start, end, round(one.score, 6), is_suspicious(quote))]
