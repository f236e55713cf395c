"""Trains and calibrates what says whether something was said at all: a reader of questions and turns (`hybridlab.rag.reader`).

    python -m capstone.evaluation.memory_said    # ten minutes of one core, or some more: weights, and memory_said.json beside this file

The reader of documents goes on learning, on five invented worlds: which of the turns that memory recalls answers a question, and that none
does where a matter was never told (`never`), or where the same was told of others only (`stranger`). From which log odds on a turn is
evidence is chosen on the valid world; the test world and BFCL's questions are asked once.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from assistant.knowledge.reading import LEAST_ODDS
from assistant.knowledge.reading import READER as OF_DOCUMENTS
from assistant.remembered import LOOKED_AT, READ, WEIGHTS, is_meant, weighed
from assistant.store.turns import Turn
from hybridlab.rag.embed import E5, States
from hybridlab.rag.reader import DEPTH, Example, Reader, train
from hybridlab.runtime import set_threads
from jaxtyping import Bool, Float
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from capstone.evaluation.memory import told_to
from capstone.evaluation.memory_floors import recalled_all
from capstone.evaluation.memory_probes import Asked, Talk, examination, training
from capstone.evaluation.memory_talk import KINDS, LANGUAGES, MIXED, SPLITS, Said, sentence, world
from capstone.evaluation.memory_vectors import Seen, Vectors, seen

RESULTS = Path(__file__).with_name("memory_said.json")
TALKS = 16  # of each training world
VALID, TEST = ("valid", range(100, 118)), ("test", range(200, 220))
STRANGERS = 6  # questions of a talk
EPOCHS, RATE = 5, 1e-3
NOTHING = ("never", "stranger")  # abilities of questions that no turn answers
DIRECT = ("plain", "mixed", "long", "corrected", "older", *NOTHING)


@dataclass(frozen=True)
class Case:
    """A question and the turns that are read for it, as text and as token states. `right` says of each turn whether it answers, None where
    it states another value of the matter: neither."""

    ability: str
    asked: str
    question: States
    texts: Sequence[str]
    turns: Sequence[States]
    right: Sequence[bool | None]


class Texts:
    """Token states, of each text once."""

    def __init__(self, encoder: E5):
        self.encoder = encoder
        self._turns: dict[str, States] = {}

    def turns(self, texts: Sequence[str]) -> list[States]:
        if new := [text for text in dict.fromkeys(texts) if text not in self._turns]:
            self._turns |= dict(zip(new, self.encoder.read(new, DEPTH)[1], strict=True))
        return [self._turns[text] for text in texts]

    def question(self, text: str) -> States:
        return self.encoder.ask(text, DEPTH, exact=True)[1]


def strangers(split: str, said: Sequence[Said], chance: random.Random) -> Iterator[Asked]:
    """Questions, at the end of a talk, about somebody or something that it never names, in the words for what it tells of others."""
    known = {one.entity.id for one in said if one.entity}
    for _ in range(STRANGERS):
        kind, language = chance.choice(KINDS), chance.choice(LANGUAGES)
        new = [noun for noun in world(split)[kind]["nouns"] if not any(name.startswith(noun[0].split("{")[0]) for name in known)]
        told = {one.fact for one in said if one.entity and one.entity.kind == kind and one.fact}
        if new and told:
            name = dict(zip(LANGUAGES, chance.choice(new), strict=True))[language].format(p=chance.choice(world(split)["places"]))
            matter = chance.choice(sorted(told))
            fact = next(fact for fact in world(split)[kind]["facts"] if fact["name"] == matter)
            asked = sentence(chance.choice(fact["ask"][language]).format(e=name))
            yield Asked("stranger", asked, language, len(said), said[-1].session, ())


def with_strangers(split: str, talks: Iterable[Talk]) -> list[Talk]:
    """Talks with their direct questions, and those about strangers."""
    made = []
    for i, talk in enumerate(talks):
        direct = [one for one in talk.asked if one.ability in DIRECT]
        made.append(Talk(talk.said, [*direct, *strangers(split, talk.said, random.Random(f"strangers {split} {i}"))]))
    return made


def cases(talks: Iterable[Seen], vectors: Vectors, texts: Texts) -> Iterator[Case]:
    """What the assistant's memory recalls for every direct question of a talk, at its place, and what of it the assistant reads."""
    for one in talks:
        said = one.talk.said
        for asked, ranked in zip(one.talk.asked, recalled_all(one, vectors), strict=True):
            read = [turn for turn in ranked[:LOOKED_AT] if is_meant(_turn(said[turn]), None)][:READ]
            about = [(said[turn].entity, said[turn].fact) for turn in asked.answers]
            other = [turn not in asked.answers and (said[turn].entity, said[turn].fact) in about for turn in read]
            right = [None if neither else turn in asked.answers for turn, neither in zip(read, other, strict=True)]
            told = [said[turn].text for turn in read]
            yield Case(asked.ability, asked.question, texts.question(asked.question), told, texts.turns(told), right)


def _turn(one: Said) -> Turn:
    return Turn(0, "", one.role, one.text, one.created)


def learned(of: Sequence[Case]) -> Reader:
    """The reader of documents after it has gone on with these."""
    passages: dict[int, int] = {}  # of a turn's states → its number
    turns: list[States] = []
    examples = []
    for number, case in enumerate(of):
        for states, right in zip(case.turns, case.right, strict=True):
            if id(states) not in passages:
                passages[id(states)] = len(turns)
                turns.append(states)
            if right is not None:
                examples.append(Example(number, passages[id(states)], right))
    reader = Reader.load(OF_DOCUMENTS)
    return train(reader, [case.question for case in of], turns, examples, EPOCHS, RATE, at_once=16)


def odds(reader: Reader, case: Case) -> Float[np.ndarray, " turns"]:
    """Of each turn, as the assistant weighs them."""
    read = reader.score(case.question, [reader.keep(turn) for turn in case.turns]) if case.turns else np.zeros(0, np.float32)
    return np.array([weighed(case.asked, text, one) for text, one in zip(case.texts, read, strict=True)])


def judged(reader: Reader, of: Sequence[Case]) -> tuple[Bool[np.ndarray, " cases"], Float[np.ndarray, " cases"]]:
    """Whether a question was answered by what was said, and the log odds of the best turn."""
    best = [max(odds(reader, case).tolist(), default=LEAST_ODDS) for case in of]
    return np.array([case.ability not in NOTHING for case in of]), np.maximum(best, LEAST_ODDS)


def threshold(answered: Bool[np.ndarray, " cases"], scores: Float[np.ndarray, " cases"]) -> float:
    """Below which of these log odds nothing was said: where F1 of saying so is greatest."""
    edges = np.unique(scores.round(1))
    f1 = [precision_recall_fscore_support(~answered, scores < edge, average="binary", zero_division=0)[2] for edge in edges]
    return float(edges[int(np.argmax(f1))])


def figures(reader: Reader, of: Sequence[Case], least: float) -> dict[str, float]:
    """Areas under the curve, and precision, recall and F1 of saying that nothing was said; `kept`: the share of what was said that is
    not refused; `first`: of what was said, where the right turn is the one with the highest odds."""
    answered, scores = judged(reader, of)
    ability = np.array([case.ability for case in of])
    precision, recall, f1, _ = precision_recall_fscore_support(~answered, scores < least, average="binary", zero_division=0)
    first = [case.right[int(np.argmax(odds(reader, case)))] is True for case in of if case.ability not in NOTHING and case.turns]
    made = {"questions": len(of), "answered": int(answered.sum()), "precision": precision, "recall": recall, "f1": f1}
    for name in NOTHING:
        if (ability == name).any():
            chosen = answered | (ability == name)
            made[f"area, {name}"] = roc_auc_score(answered[chosen], scores[chosen])
            made[f"recall, {name}"] = np.mean(scores[ability == name] < least)
    made |= {"kept": np.mean(scores[answered] >= least), "first": np.mean(first)}
    return {name: round(float(value), 3) for name, value in made.items()}


def bfcl(encoder: E5, texts: Texts) -> list[Case]:
    """BFCL's questions, each of which is answered."""
    with tempfile.TemporaryDirectory() as folder, told_to(encoder, Path(folder)) as (memory, asked):
        made = []
        for scenario, question, turn in asked:
            read = [hit.turn for hit in memory.recall(scenario, question, LOOKED_AT) if is_meant(hit.turn, None)][:READ]
            told = [one.content for one in read]
            made.append(Case("plain", question, texts.question(question), told, texts.turns(told), [one.id == turn for one in read]))
        return made


def main() -> None:
    set_threads()
    encoder = E5()
    vectors, texts = Vectors(encoder), Texts(encoder)
    known: list[Case] = []
    for split in (f"{name}{MIXED}" for name in SPLITS if name.startswith("train")):
        known += cases(seen(with_strangers(split, training(split, range(TALKS))), vectors), vectors, texts)
        print(f"{split}: {len(known)} questions so far", flush=True)
    reader = learned(known)
    reader.save(WEIGHTS)
    reader, former = Reader.load(WEIGHTS), Reader.load(OF_DOCUMENTS)
    examined = (with_strangers(name, examination(name, seeds)) for name, seeds in (VALID, TEST))
    valid, test = (list(cases(seen(talks, vectors), vectors, texts)) for talks in examined)
    told = bfcl(encoder, texts)
    record: dict = {"command": "python -m capstone.evaluation.memory_said", "learned from": len(known)}
    for name, one in (("reader of turns", reader), ("reader of documents", former)):
        least = threshold(*judged(one, valid))
        found = {"valid": figures(one, valid, least), "test": figures(one, test, least), "BFCL": figures(one, told, least)}
        record[name] = {"least": least, **found}
        for split, of in found.items():
            print(f"{name}, from {least} on, {split}: {of}", flush=True)
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
