"""How well memory finds what was said in the invented talks, by ability and by distance, beside simpler rankings.

    python -m capstone.evaluation.memory_exam       # prints the table, and writes memory_exam.json beside this file
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from hybridlab.rag.embed import E5
from hybridlab.runtime import set_threads
from sklearn.metrics import roc_auc_score

from capstone.evaluation.memory_floors import FLOORS, rank_all, recalled_all
from capstone.evaluation.memory_probes import DISTANCES, examination
from capstone.evaluation.memory_scores import printed, table
from capstone.evaluation.memory_vectors import Seen, Vectors, seen

RESULTS = Path(__file__).with_name("memory_exam.json")
SPLIT, SEEDS = "test", range(200, 220)
FOLLOWS = ("follow", *(f"follow {name}" for name in DISTANCES), "follow ≥ 50")
GROUPS = ("plain", "mixed", "long", "corrected", "older", "session", *FOLLOWS)


def measure(talks: Sequence[Seen], vectors: Vectors, found: Sequence[Sequence[list[int]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Ranking → group → its shares. Those behind the last turns (`context`) are of follow-ups alone."""
    ranked = [rank_all(one, vectors, of) for one, of in zip(talks, found, strict=True)]
    made = {}
    for name in FLOORS:
        of = table([one.talk for one in talks], [[question.get(name, []) for question in one] for one in ranked])
        made[name] = {group: of[group] for group in GROUPS if group in FOLLOWS or not name.startswith("context")}
    return made


def never_said(talks: Sequence[Seen]) -> float:
    """The area under the curve of the best cosine, among direct questions, as a sign that something was said."""
    scores, answered = [], []
    for one in talks:
        for asked, vector in zip(one.talk.asked, one.questions, strict=True):
            if asked.ability not in ("follow", "session"):
                scores.append(float((one.pieces[one.of_turn < asked.place] @ vector).max()))
                answered.append(asked.ability != "never")
    return float(roc_auc_score(answered, scores))


def main() -> None:
    set_threads()
    vectors = Vectors(E5())
    talks = seen(examination(SPLIT, SEEDS), vectors)
    began = time.process_time()
    recalled = [recalled_all(one, vectors) for one in talks]
    each = (time.process_time() - began) / sum(len(one.talk.asked) for one in talks)
    found, never = measure(talks, vectors, recalled), never_said(talks)
    print(f"{'R@1':14}" + "".join(f"{group.removeprefix('follow ') if group != 'follow' else group:>11}" for group in GROUPS))
    print(f"{'questions':14}" + "".join(f"{found['fused'][group]['n']:11}" for group in GROUPS))
    for name, of in found.items():
        print(printed(name, of, GROUPS))
    print(f"never said: area under the curve of the best cosine {never:.2f}")
    print(f"{1000 * each:.0f} ms of CPU time a question, with the turns that were told before it, without E5's own")
    record = {"command": "python -m capstone.evaluation.memory_exam", "split": SPLIT, "seeds": [SEEDS.start, SEEDS.stop], "never": never}
    RESULTS.write_text(json.dumps({**record, **found}, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
