"""What a reader of turns learns from: invented talks of the training worlds, centred, with what each question without a subject refers to.

Half of the talks of every world speak of the matters of all training worlds (`memory_talk.world`): then no word for a matter goes with one
way of speaking.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from assistant.language import language_of, passage_language
from assistant.memory.index import Index
from assistant.memory.meaning import centred
from assistant.memory.recall import MEANING, OTHER
from assistant.memory.stream import KINDS, mark
from jaxtyping import Bool, Float, Int
from torch import Tensor

from capstone.evaluation.memory_probes import Asked, touches, training
from capstone.evaluation.memory_talk import MIXED, SPLITS, Said
from capstone.evaluation.memory_vectors import Seen, Vectors, seen

OWN, SHARED = range(14), range(100, 106)  # seeds of the talks of one world: about its own matters, and about those of all
EACH = 60  # questions of a talk, of which about 27 name nothing


@dataclass(frozen=True)
class Question:
    asked: Asked
    vector: Float[Tensor, " dim"]
    base: Float[Tensor, " place"]  # the scores of the turns before it, without a state
    asks: Bool[Tensor, " place"]  # turns that only ask: they answer nothing
    answers: Int[Tensor, " answers"]
    referents: Int[Tensor, " referents"]  # turns about what it refers to


@dataclass(frozen=True)
class Lesson:
    """A talk, centred, with its questions that name nothing. `kinds`: which turns touch a matter of each kind."""

    turns: Float[Tensor, "n dim"]
    marks: Float[Tensor, "n marks"]
    kinds: Float[Tensor, "n kinds"]
    pieces: Float[Tensor, "pieces dim"]
    of_piece: Int[Tensor, " pieces"]
    matters: Int[Tensor, " n"]  # a number for each matter, and for each thing that is said of any; 0 for turns of neither
    sayings: Int[Tensor, " n"]
    questions: list[Question]


def lesson(seen: Seen) -> Lesson:
    """What a talk teaches."""
    said, starts = seen.talk.said, np.flatnonzero(np.diff(seen.of_turn, prepend=-1))
    index, parts = Index(seen.pieces.shape[1]), np.split(seen.pieces, starts[1:])
    for number, (one, vectors) in enumerate(zip(said, parts, strict=True)):
        index.add(number, one.text, vectors)
    questions = []
    for one, vector in zip(seen.talk.asked, seen.questions, strict=True):
        if one.ability != "follow":
            continue
        fit = index.look(one.question, vector, range(one.place))
        alike = _about(said[: one.place], said[one.referent], fact=one.kind in ("same", "before"))
        stated = [t for t in alike if said[t].event in ("fact", "answer")] if one.kind == "before" else list(one.answers)
        asked = torch.tensor(centred(vector, "query", language_of(one.question)))
        base = torch.tensor(fit.share + MEANING * (fit.cosine + OTHER * fit.other))
        if stated := [turn for turn in stated if not fit.asks[turn]]:  # some facts look like questions
            questions.append(Question(one, asked, base, torch.tensor(fit.asks), torch.tensor(stated), torch.tensor(alike)))
    pieces = torch.tensor(np.concatenate([centred(of, "passage", passage_language(one.text)) for one, of in zip(said, parts, strict=True)]))
    begins = np.diff([one.session for one in said], prepend=-1) > 0
    marks = torch.stack([mark(one.role, one.text, bool(new)) for one, new in zip(said, begins, strict=True)])
    kinds = torch.tensor([[touches(one, kind) for kind in KINDS] for one in said]).float()
    return Lesson(pieces[torch.tensor(starts)], marks, kinds, pieces, torch.tensor(seen.of_turn), *_numbers(said), questions)


def _numbers(said: Sequence[Said]) -> tuple[Tensor, Tensor]:
    """A number for the matter of each turn, and for what is said of it; 0 where there is none."""
    matters = [one.entity and (one.entity.kind, one.entity.id) for one in said]
    sayings = [one.entity and one.fact and (one.entity.kind, one.fact) for one in said]
    numbers = ({name: number for number, name in enumerate(sorted({x for x in of if x}), 1)} for of in (matters, sayings))
    return tuple(torch.tensor([number.get(x, 0) for x in of]) for number, of in zip(numbers, (matters, sayings), strict=True))


def _about(said: Sequence[Said], referent: Said, fact: bool) -> list[int]:
    """The turns about the matter of a referent; of a question, those about the same fact."""
    return [turn for turn, one in enumerate(said) if one.entity == referent.entity and (not fact or one.fact == referent.fact)]


def worlds(vectors: Vectors) -> list[list[Lesson]]:
    """The lessons of each training world."""
    made = []
    for split in (split for split in SPLITS if split.startswith("train")):
        talks = [*training(split, OWN, EACH), *training(split + MIXED, SHARED, EACH)]
        made.append([lesson(one) for one in seen(talks, vectors)])
    return made

