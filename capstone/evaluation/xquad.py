"""XQuAD's questions in English and Vietnamese, to teach a reader what an answer is in real text.

Artetxe, Ruder and Yogatama, On the Cross-lingual Transferability of Monolingual Representations, arXiv 1910.11856: 240 paragraphs of
Wikipedia with 1,190 questions, translated by professionals. CC BY-SA 4.0: downloaded where the reader is trained, never committed, and
the reader's weights are under the same licence (capstone/assistant/knowledge/reader.md).
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from hybridlab.rag.sentences import sentence_spans

from capstone.evaluation.documents import REPO
from capstone.evaluation.download import download
from capstone.evaluation.invented import LANGUAGES, Pair
from capstone.evaluation.questions import contains

FOLDER = REPO / ".build" / "data" / "xquad"
COMMIT = "7d30520c717524000f0d9d2f9c10a069acd9d285"
SOURCE = f"https://raw.githubusercontent.com/google-deepmind/xquad/{COMMIT}"
FILES = {
    "xquad.en.json": "e4c57d1c9143aaa1c5d265ba5987a65f4e69528d2a98f29d6e75019b10344f29",
    "xquad.vi.json": "f619a1eb11fb42d3ab0834259e488a65f585447ef6154437bfb7199d85161a04",
}
NEAR_MISSES = 700  # paragraphs without the sentence that answers
LEFT = 0.25  # of a passage's characters that have to be left without its answer


def fetch(folder: Path = FOLDER, source: str = SOURCE) -> list[Path]:
    """Download what is missing (1.5 MB). Raises NotFetched where that can't be done, or what comes is another file."""
    return download(FILES, source, folder)


def make(files: list[Path], seed: int = 0) -> tuple[list[str], list[Pair]]:
    """Passages, and each question in both languages: answered by its paragraph (in either language), and not by another one of the same
    article, nor by its own without the sentences that hold the answer."""
    chance = random.Random(seed)
    english, vietnamese = (json.loads(path.read_text("utf-8"))["data"] for path in files)
    passages: list[str] = []
    pairs: list[Pair] = []
    misses: list[tuple[str, str]] = []
    for articles in zip(english, vietnamese, strict=True):
        first = len(passages)
        paragraphs = list(zip(*(article["paragraphs"] for article in articles), strict=True))
        passages += [side["context"] for both in paragraphs for side in both]  # each in English, then in Vietnamese
        for number, both in enumerate(paragraphs):
            others = [n for n in range(len(paragraphs)) if n != number]
            for asked in zip(*(side["qas"] for side in both), strict=True):
                for one in asked:
                    side = chance.randrange(2)
                    spans = {(there["answer_start"], there["answer_start"] + len(there["text"])) for there in asked[side]["answers"]}
                    pairs.append(Pair(one["question"], first + 2 * number + side, True, tuple(sorted(spans))))
                    pairs.append(Pair(one["question"], first + 2 * chance.choice(others) + chance.randrange(2), False))
                side = chance.randrange(len(LANGUAGES))
                if cut := without(both[side]["context"], [answer["text"] for answer in asked[side]["answers"]]):
                    misses.append((chance.choice(asked)["question"], cut))
    for question, cut in chance.sample(misses, min(NEAR_MISSES, len(misses))):
        pairs.append(Pair(question, len(passages), False))
        passages.append(cut)
    return passages, pairs


def without(text: str, answers: list[str]) -> str:
    """A near miss: the text without the sentences that hold an answer; empty where too little would be left."""
    sentences = [text[a:b] for a, b in sentence_spans(text, 0, len(text))]
    left = " ".join(sentence for sentence in sentences if not any(contains(sentence, answer) for answer in answers))
    return left if len(left) >= LEFT * len(text) and not any(contains(left, answer) for answer in answers) else ""
