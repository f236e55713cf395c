"""What a state is worth for questions that name nothing: the state space model beside nothing, a window, all turns and a GRU.

    python -m capstone.evaluation.memory_train mamba none window gru attention
    python -m capstone.evaluation.memory_follow     # the tables on the valid and the test world, in memory_follow.json

All rank with the assistant's memory, which adds to the scores of turns what each says (`memory_floors.lifted_all`). *Two steps* is a rule:
the last turn that is like the question is what it refers to, and turns like that one are lifted; its numbers are chosen on the valid world.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from assistant.language import language_of
from assistant.memory.meaning import centred
from assistant.memory.stream import Shape, StreamReader
from hybridlab.rag.embed import E5
from hybridlab.runtime import set_threads
from torch import Tensor

from capstone.evaluation.memory_controls import NAMES, mixer
from capstone.evaluation.memory_floors import lifted_all
from capstone.evaluation.memory_lessons import Lesson, lesson
from capstone.evaluation.memory_probes import ABILITIES, DISTANCES, examination
from capstone.evaluation.memory_scores import hits, table
from capstone.evaluation.memory_train import SEEDS, kept, lifted
from capstone.evaluation.memory_vectors import Seen, Vectors, seen

RESULTS = Path(__file__).with_name("memory_follow.json")
VALID, TEST = ("valid", range(100, 112)), ("test", range(200, 220))
AGE, ALIKE = 0.4, 0.5  # of the rule: what a referent loses with the logarithm of its age, and what likeness to it counts
FOLLOWS = ("follow", *(f"follow {name}" for name in DISTANCES), "follow ≥ 50")
GROUPS = (*FOLLOWS, *ABILITIES[:6])
DRAWS = 2000  # of the bootstrap

Lifts = list[np.ndarray]  # of each question: what the turns before it gain


def questions_of(talk: Seen) -> tuple[Tensor, list[int]]:
    """The vectors of a talk's questions, centred, and how many turns stand before each."""
    vectors = [centred(v, "query", language_of(one.question)) for v, one in zip(talk.questions, talk.talk.asked, strict=True)]
    return torch.tensor(np.stack(vectors)), [one.place for one in talk.talk.asked]


@torch.inference_mode()
def by_reader(reader: StreamReader, talk: Seen, of: Lesson) -> Lifts:
    """What a reader adds, in the scores of `memory/recall.py`."""
    questions, places = questions_of(talk)
    gained, _, base, *_ = lifted(reader, of, questions, torch.tensor(places))
    return [row[:place].numpy() for row, place in zip(gained / base, places, strict=True)]


@torch.inference_mode()
def by_rule(talk: Seen, of: Lesson) -> Lifts:
    """What the rule adds."""
    made = []
    for question, place in zip(*questions_of(talk), strict=True):
        told = of.turns[:place] @ question - AGE * torch.log1p(torch.arange(place, 0, -1))
        referent = of.turns[int((told - 9 * (1 - of.marks[:place, 0])).argmax())]
        best = torch.full((len(of.turns),), -1.0).scatter_reduce(0, of.of_piece, of.pieces @ referent, "amax")
        made.append((ALIKE * best[:place]).numpy())
    return made


def trained(name: str, seed: int) -> StreamReader:
    """A reader that `memory_train` has kept. Raises FileNotFoundError where it has not."""
    shape = Shape()
    reader = StreamReader(shape, mixer(name, shape, torch.eye(shape.dim)))
    reader.load_state_dict(torch.load(kept(name, seed), weights_only=True))
    return reader.eval()


def rankings(split: str, seeds: Sequence[int], vectors: Vectors) -> tuple[list[Seen], dict[str, list[list[list[int]]]]]:
    """The talks of a world, and for each way of ranking, by name, the turns found for every question of every talk."""
    talks = seen(examination(split, seeds), vectors)
    readers = {f"{name} {seed}": trained(name, seed) for name in NAMES for seed in SEEDS if kept(name, seed).is_file()}
    found: dict[str, list[list[list[int]]]] = {name: [] for name in ("assistant", "two steps", *readers)}
    for talk in talks:
        of = lesson(talk)
        nothing = [np.zeros(one.place, np.float32) for one in talk.talk.asked]
        lifts = [nothing, by_rule(talk, of), *(by_reader(reader, talk, of) for reader in readers.values())]
        for name, ranking in zip(found, lifted_all(talk, vectors, lifts), strict=True):
            found[name].append(ranking)
    return talks, found


def right(talks: Sequence[Seen], ranking: Sequence, group: str) -> list[np.ndarray]:
    """For each talk, whether each question of a group has its answer first."""
    of = hits([one.talk for one in talks], ranking, 1)[group]
    return [np.array([hit for number, hit in of if number == talk], float) for talk in range(len(talks))]


def difference(one: Sequence[list[np.ndarray]], other: Sequence[list[np.ndarray]]) -> dict[str, float]:
    """R@1 of one way less that of another, each with its seeds, and the 95 % interval: talks and seeds drawn anew."""
    chance, drawn = np.random.default_rng(0), []
    sums = [np.array([[of.sum() for of in seed] for seed in way]) for way in (one, other)]  # (seeds, talks)
    counts = np.array([len(of) for of in one[0]])
    for _ in range(DRAWS):
        talks = chance.integers(len(counts), size=len(counts))
        means = [way[chance.integers(len(way), size=len(way))][:, talks].mean(0).sum() / counts[talks].sum() for way in sums]
        drawn.append(means[0] - means[1])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"difference": float((sums[0].mean(0) - sums[1].mean(0)).sum() / counts.sum()), "low": float(low), "high": float(high)}


def summary(talks: Sequence[Seen], found: dict[str, list]) -> dict[str, dict]:
    """Way → group → R@1 and R@5, mean of its seeds, and the difference in R@1 to the assistant without a state."""
    ways: dict[str, list[str]] = {}
    for key in found:
        ways.setdefault(key.rstrip("0123456789").rstrip(), []).append(key)
    tables = {key: table([one.talk for one in talks], found[key]) for keys in ways.values() for key in keys}
    made: dict[str, dict] = {}
    for name, keys in ways.items():
        made[name] = {}
        for group in GROUPS:
            ours, theirs = ([right(talks, found[key], group) for key in of] for of in (keys, ["assistant"]))
            means = {k: float(np.mean([tables[key][group][k] for key in keys])) for k in ("R@1", "R@5")}
            made[name][group] = {"n": tables[keys[0]][group]["n"], **means, **(difference(ours, theirs) if name != "assistant" else {})}
    for other in ("window", "gru", "attention", "none"):
        if other in made and "mamba" in made:
            for group in ("follow", "follow ≥ 50"):
                two = [[right(talks, found[key], group) for key in ways[name]] for name in ("mamba", other)]
                made["mamba"].setdefault(f"over {other}", {})[group] = difference(*two)
    return made


def main() -> None:
    set_threads()
    vectors = Vectors(E5())
    made = {}
    for split, seeds in (VALID, TEST):
        talks, found = rankings(split, seeds, vectors)
        made[split] = summary(talks, found)
        for name, of in made[split].items():
            print(f"{split:6}{name:10}" + "".join(f"{of[group]['R@1']:6.2f} / {of[group]['R@5']:.2f}" for group in GROUPS))
    record = {"command": "python -m capstone.evaluation.memory_follow", **made}
    RESULTS.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
