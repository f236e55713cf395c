"""The thorough reader: a cross-encoder that learns from other people's questions, then from the calibration questions.

python -m capstone.evaluation.cross_train              trains it: minutes on a GPU, a week or two without one
python -m capstone.evaluation.cross_train --steps 2    shows whether all of it runs here; its files go into .build/data/cross

First it learns what an answer is, and what only looks like one, from open sets of questions (`open_questions.py`, `xquad.py`) and
invented documents (`near_misses.py`, twice); then from the chunks that were found for the calibration questions, mixed with some of the
former. It is asked most questions about invented documents, and most calibration questions, in the other language too. The second stage
is done once without each fold of the questions, to hear what is said of questions that were not seen (`calibrate.py`), and once with all:
that one is the assistant's. Each training's weights are kept in .build/data/cross, so an interrupted run goes on after the last one that
it finished.

The assistant's file was trained on an H200, in eleven minutes, by `cross_training.train_pairs` on these pairs, but with the first stage
in two parts, since the time was not known before: 2,879 steps, then 2,150 more from there with a rate that rose to 8e-4 and fell again
(4.6 epochs in all). So it can be made anew, but not bit for bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from assistant.knowledge import reading
from assistant.knowledge.abstention import calibration
from assistant.knowledge.reading import PAIRS, text_of
from assistant.knowledge.search import Hit
from hybridlab.exercise import sha256
from hybridlab.rag import cross_encoder, cross_training
from hybridlab.rag.cross_encoder import CrossEncoder
from hybridlab.rag.cross_training import AT_ONCE, TokenPair, Words, odds_of, token_pair, train_pairs
from hybridlab.rag.e5_file import E5File, read_e5
from hybridlab.rag.embed import E5, MissingModel, packaged_model
from hybridlab.rag.reader import DEPTH
from rich.console import Console
from safetensors.torch import load_file, save_file

from capstone.evaluation import base, documents, evaluate, near_misses, open_questions, xquad
from capstone.evaluation.calibrate import UNSEEN, as_found, folds_of, key_of
from capstone.evaluation.invented import Pair
from capstone.evaluation.progress import told
from capstone.evaluation.questions import OF_LIBRARY, Question, load, otherwise
from capstone.evaluation.readers import answered_by

FOLDER = documents.REPO / ".build" / "data" / "cross"
SEED = 0
FIRST_STEPS, WARM = 5000, 300
RATE, HEADS_RATE = 1e-3, 1.25e-3
EPOCHS, SLOWER = 2, 0.4  # of the second stage, and its rates beside the first one's
MIXED = 5000  # pairs of the first stage that it goes on seeing in the second
CHUNKS, LEARNED = 8, 5  # of a question, the first in the quick reader's order: those that are predicted, and those to learn from
AT_A_TIME = 64  # chunks whose states are held
console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Lessons:
    """Pairs of the first stage; the calibration questions' ids, their chunks' names and pairs, and the first of them asked in the other
    language; indices of questions to learn from and to predict, for each fold."""

    first: list[TokenPair]
    questions: list[str]
    chunks: list[list[str]]
    asked: list[list[TokenPair]]
    otherwise: list[list[TokenPair]]
    folds: Sequence[tuple[np.ndarray, np.ndarray]]


def lessons(home: Path) -> Lessons:
    """All that is learned from. Raises NotFetched, NotReadable, MissingModel."""
    sets = open_questions.make(open_questions.fetch(), SEED), xquad.make(xquad.fetch(), SEED)
    other = otherwise()
    near = [near_misses.make(SEED, folder, other) for folder in near_misses.FOLDERS]
    documents.fetch()
    rooms = (evaluate.tested(home), load()), (evaluate.library(home), load(OF_LIBRARY))
    found = [(one.question, one.hits) for one in evaluate.searched(rooms) if one.hits]
    encoder: E5 = rooms[0][0].encoder
    best = best_first(found, base.Remembered(encoder, evaluate.REMEMBERED))
    vectors = encoder.query([question.question for question, _ in found])
    return Lessons(
        [*token_pairs(encoder, sets, "open questions"), *token_pairs(encoder, near, "near misses") * 2],
        [question.id for question, _ in found],
        [[key_of(hit) for hit in hits] for hits in best],
        [[of_chunk(encoder, question, hit) for hit in hits] for (question, _), hits in zip(found, best, strict=True)],
        [
            [of_chunk(encoder, replace(asked, question=other[asked.question]), hit) for hit in hits[:LEARNED] if asked.question in other]
            for (asked, _), hits in zip(found, best, strict=True)
        ],
        folds_of(vectors, np.array([question.answerable for question, _ in found])),
    )


def token_pairs(encoder: E5, made: Sequence[tuple[list[str], list[Pair]]], what: str) -> list[TokenPair]:
    """Of passages and the questions that are asked of them."""
    asked = [(passages[one.passage], one) for passages, pairs in made for one in pairs]
    some = told(asked, what, len(asked), console)
    return [token_pair(encoder, one.question, passage, one.answered, spans=one.spans) for passage, one in some]


def best_first(found: Sequence[tuple[Question, Sequence[Hit]]], encoder: base.Remembered) -> list[list[Hit]]:
    """The first CHUNKS of each question's hits, as the quick reader orders them."""
    quick = reading.reader()
    texts = list(dict.fromkeys(text_of(hit) for _, hits in found for hit in hits))
    kept = {}
    for some in told([texts[i : i + AT_A_TIME] for i in range(0, len(texts), AT_A_TIME)], "reading", -(-len(texts) // AT_A_TIME), console):
        kept |= {text: quick.keep(states) for text, states in zip(some, encoder.read(some, DEPTH)[1], strict=True)}
    best = []
    for states, (_, hits) in zip(encoder.asked([question.question for question, _ in found], DEPTH), found, strict=True):
        odds = quick.score(states, [kept[text_of(hit)] for hit in hits]).clip(min=reading.LEAST_ODDS)
        best.append([hits[n] for n in as_found(odds, calibration()["place"])[:CHUNKS]])
    return best


def of_chunk(encoder: E5, question: Question, hit: Hit) -> TokenPair:
    """What `answered_by` says of a question and a chunk."""
    spans, weight = answered_by(question, hit)
    return token_pair(encoder, question.question, text_of(hit), spans is not None, weight, spans or ())


class Training:
    """One model that learns the stages one after the other, each for `most` steps at most, and keeps what it has learned in a folder."""

    def __init__(self, file: E5File, known: Lessons, most: int | None, folder: Path):
        self.known, self.most, self.folder = known, most or math.inf, folder
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.words = Words(file, [*known.first, *chain(*known.asked, *known.otherwise)], device)
        self.model = CrossEncoder(file, seed=SEED).to(device)
        self.run = fingerprint(known, most)

    def first(self) -> None:
        """The first stage."""
        self._learn("first", self.known.first, FIRST_STEPS, WARM, 1.0, SEED)

    def second(self, learned: Sequence[int], fold: int) -> None:
        """The second, after the first, on some of the questions."""
        before = random.Random(fold).sample(self.known.first, min(MIXED, len(self.known.first)))
        pairs = [*chain(*(self.known.asked[i][:LEARNED] + self.known.otherwise[i] for i in learned)), *before]
        steps = EPOCHS * math.ceil(len(pairs) / AT_ONCE)
        self._learn(f"second-{fold}", pairs, steps, min(WARM, steps // 10 + 1), SLOWER, fold)

    def odds(self, question: int) -> dict[str, float]:
        """Log odds of a question's chunks, by the chunks' names."""
        odds = odds_of(self.model, self.words, self.known.asked[question]).tolist()
        return {key: round(one, 4) for key, one in zip(self.known.chunks[question], odds, strict=True)}

    def _learn(self, stage: str, pairs: Sequence[TokenPair], steps: int, warm: int, slower: float, seed: int) -> None:
        path, steps = self._path(stage), int(min(steps, self.most))
        if not path.is_file():
            if stage != "first":
                self._load("first")
            losses = train_pairs(self.model, self.words, pairs, steps, warm, slower * RATE, slower * HEADS_RATE, seed)
            follow(losses, f"{stage} of {len(pairs)} pairs", steps)
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_suffix(".tmp")
            save_file({name: value.detach().cpu().contiguous() for name, value in self.model.learned().items()}, draft)
            draft.replace(path)
        self._load(stage)

    def _load(self, stage: str) -> None:
        self.model.load_state_dict(load_file(self._path(stage)), strict=False)  # E5's own weights are there
        self.model.eval()

    def _path(self, stage: str) -> Path:
        return self.folder / f"{self.run}-{stage}.safetensors"


def follow(losses: Iterator[float], what: str, steps: int) -> None:
    """Let a training run, and say how it goes."""
    last: deque[float] = deque(maxlen=100)
    last.extend(told(losses, what, steps, console))
    console.print(f"{what}: loss {np.mean(last):.3f}")


def fingerprint(known: Lessons, most: int | None) -> str:
    """Of the pairs, the steps and the code: what another run has learned is learned anew."""
    made = hashlib.sha256(str(most).encode())
    for module in (cross_encoder.__file__, cross_training.__file__, __file__):
        made.update(Path(module).read_bytes())
    for pair in [*known.first, *chain(*known.asked, *known.otherwise)]:
        made.update(pair.ids.tobytes() + repr((pair.first, pair.answered, pair.weight, pair.places)).encode())
    for _, held in known.folds:
        made.update(np.asarray(held, np.int64).tobytes())
    return made.hexdigest()[:12]


def train(file: E5File, known: Lessons, most: int | None, folder: Path, pairs: Path, unseen: Path) -> None:
    """Both stages; writes the reader that has seen everything to `pairs`, and what those that had not said to `unseen`."""
    training = Training(file, known, most, folder)
    training.first()
    odds: dict[int, dict[str, float]] = {}
    for fold, (learned, held) in enumerate(known.folds):
        training.second(learned.tolist(), fold)
        odds |= {i: training.odds(i) for i in held.tolist()}
    training.second(range(len(known.asked)), len(known.folds))
    training.model.save(pairs)
    rows = ",\n".join(f"  {json.dumps(known.questions[i])}: {json.dumps(odds[i])}" for i in sorted(odds))
    unseen.write_text(f'{{\n "pairs": "{sha256(pairs)}",\n "odds": {{\n{rows}\n }}\n}}\n', "utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m capstone.evaluation.cross_train", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, metavar="N", help="no more of each training, as a trial; the assistant keeps its files")
    chosen = parser.parse_args(arguments)
    pairs, unseen = (FOLDER / path.name if chosen.steps else path for path in (PAIRS, UNSEEN))
    try:
        with tempfile.TemporaryDirectory(prefix="cross-") as home:
            known = lessons(Path(home))
        train(read_e5(packaged_model()), known, chosen.steps, FOLDER, pairs, unseen)
    except (documents.NotFetched, base.NotReadable, MissingModel) as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    console.print(f"written: {pairs} and {unseen}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
