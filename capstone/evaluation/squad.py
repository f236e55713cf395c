"""Questions of SQuAD 2.0 in English, to teach a reader what an answer is, and what only looks like one.

Rajpurkar, Jia and Liang, Know What You Don't Know: Unanswerable Questions for SQuAD, arXiv 1806.03822: people wrote questions about a
paragraph of Wikipedia that it seems to answer and does not. CC BY-SA 4.0: downloaded where the reader is trained, never committed, and the
reader's weights are under the same licence (capstone/assistant/knowledge/reader.md). The file is the half of the development set that
Stanford's course CS224n hands out: 646 paragraphs, 6,078 questions, 3,168 of them without an answer.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from capstone.evaluation.documents import REPO
from capstone.evaluation.download import download
from capstone.evaluation.invented import Pair

FOLDER = REPO / ".build" / "data" / "squad"
COMMIT = "85623adeb9e6639f145081fea9cae2d8f3a26379"
SOURCE = f"https://raw.githubusercontent.com/chrischute/squad/{COMMIT}/data"
FILES = {"dev-v2.0.json": "e67e5969b6dc6c1642154740806b79263b77fc048c7c11ee60d534eb48ef81e8"}
ELSEWHERE = 0.5  # of the answered questions that are also asked of another paragraph of their article


def fetch(folder: Path = FOLDER, source: str = SOURCE) -> list[Path]:
    """Download what is missing (2.2 MB). Raises NotFetched where that can't be done, or what comes is another file."""
    return download(FILES, source, folder)


def make(files: list[Path], seed: int = 0) -> tuple[list[str], list[Pair]]:
    """Paragraphs, and each question with its own, which answers it or only seems to; some that are answered with another paragraph too."""
    chance = random.Random(seed)
    passages: list[str] = []
    pairs: list[Pair] = []
    for article in json.loads(files[0].read_text("utf-8"))["data"]:
        first, count = len(passages), len(article["paragraphs"])
        passages += [paragraph["context"] for paragraph in article["paragraphs"]]
        for number, paragraph in enumerate(article["paragraphs"]):
            for asked in paragraph["qas"]:
                answered = not asked["is_impossible"]
                spans = {(one["answer_start"], one["answer_start"] + len(one["text"])) for one in asked["answers"]} if answered else ()
                pairs.append(Pair(asked["question"].strip(), first + number, answered, tuple(sorted(spans))))
                if answered and count > 1 and chance.random() < ELSEWHERE:
                    other = chance.choice([n for n in range(count) if n != number])
                    pairs.append(Pair(asked["question"].strip(), first + other, False))
    return passages, pairs
