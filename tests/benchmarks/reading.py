"""A file of half a million tokens, read to its end against indexed and searched: what each costs, and what each finds of what was planted.

Pairs such as `amber -> 42` stand at all depths; some again half the file further on, with the same value or another. Each side works in a
process of its own, on the assistant's defaults but one thread. What search finds is read out of its chunks without an error.
"""

import re
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assistant.knowledge.long_reading import Answered, Marked, Read, read_document
from assistant.knowledge.service import Knowledge
from assistant.settings import Settings
from assistant.store import Store
from assistant.store.documents import Document, StoredChunk
from hybridlab.data.shakespeare import fetch
from hybridlab.rag.embed import E5
from hybridlab.runtime import set_threads
from hybridlab.ssm.long_reader import LongReader
from hybridlab.ssm.planted import KEYS, draw_pairs, encode
from hybridlab.ssm.reader_training import python_text

from tests.benchmarks.record import Spent, alone, say, write

CHARACTERS = 520_000
OWNER = "local"
Said = tuple[int, int, str]  # page, character, value
ASKED = {"key": "{} ->", "question": "What stands behind {}?"}
NOTE = (
    "Found / planted. Some pairs stand twice, half the file apart: with the same value (*repeated*) or another (*changed*: both count). "
    "Search answers one word at a time, and is read without an error: each of the {evidence} chunks that the assistant gives its model. "
    "*Memory* is what the process grew by at its peak, beyond the loaded models. Both sides need the file parsed and its words stored, as "
    "every document is: {parsed}. A regular expression that knows the form finds all of it in {pattern} s."
)


@dataclass(frozen=True)
class Planted:
    """A text with statements in it: `value` is the newest of a key; `earlier` that of keys that stand twice (the same, or another)."""

    name: str
    text: str
    value: dict[str, str]
    earlier: dict[str, str]

    @property
    def repeated(self) -> set[str]:
        return {key for key, value in self.earlier.items() if self.value[key] == value}


def planted(name: str, text: str, count: int, twice: int, *, seed: int) -> Planted:
    """`count` keys, of which `twice` stand twice, every third of these with another value the second time."""
    pairs = draw_pairs(count, seed=seed)
    keys, places = list(pairs), count + twice
    first = [i * (places // 2) // twice for i in range(twice)]
    again = {place + places // 2: i for i, place in enumerate(first)}
    once = iter(range(twice, count))
    said, value, earlier = list[str](), dict(pairs), {keys[i]: pairs[keys[i]] for i in range(twice)}
    for place in range(places):
        key = keys[first.index(place)] if place in first else keys[again[place]] if place in again else keys[next(once)]
        if place in again and again[place] % 3 == 2:
            value[key] = f"{(int(value[key]) + 37) % 100:02}"
        said.append(f"{key} -> {value[key] if place in again else pairs[key]}")
    at = [text.index("\n", round((place + 0.5) / places * len(text))) for place in range(places)]
    cut = [text[a:b] for a, b in zip([0, *at], [*at, len(text)], strict=True)]
    return Planted(name, "".join(part + f"\n{one}" * bool(one) for part, one in zip(cut, [*said, ""], strict=True)), value, earlier)


def texts() -> list[Planted]:
    """Neither was seen in the reader's training."""
    plays = "\n\n\n".join(fetch().read_text("utf-8").split("\f")[:5])[:CHARACTERS]
    return [
        planted("plays by Shakespeare, 16 pairs", plays, 16, 6, seed=1),
        planted("sources of Python's library, 48 pairs", python_text(CHARACTERS), 48, 18, seed=2),
    ]


# ---------------------------------------------------------------- the two sides, each in a process of its own


def taken_in(home: Path, text: str, *, whole: bool) -> tuple[Knowledge, Document, dict[str, float], dict[str, float]]:
    """The text as a document, found by words, or by meaning too; what the first took, and what the second."""
    set_threads(1)
    settings = Settings(home=home, threads=1, _env_file=None)
    store = Store(settings.database)
    store.keys.ensure_user(OWNER)
    knowledge = Knowledge(store, E5(), settings)
    knowledge.encoder.passages(["warm up"])
    knowledge.start()
    spent = Spent()
    path = home / "text.txt"
    path.write_text(text, "utf-8")
    with path.open("rb") as stream:
        document = knowledge.add(OWNER, path.name, stream)
    while (found := knowledge.document(OWNER, document.id)).state == "received":
        time.sleep(0.05)
    words, spent = spent.told(), Spent()
    while whole and not knowledge.wait(60):
        say(f"  embedded {knowledge.document(OWNER, document.id).embedded} of {found.chunks} chunks")
    knowledge.close()
    return knowledge, found, words, spent.told()


def reading(text: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        knowledge, document, words, _ = taken_in(Path(folder), text, whole=False)
        reader, steps = LongReader.load(), []
        for _ in LongReader.load().stream(["warm up" * 400]):
            pass
        spent = Spent()
        for step in read_document(knowledge, OWNER, document, reader):
            if isinstance(step, Read) and step.characters == step.of_characters:
                cost = spent.told()
            steps.append(step)
    marks = [asdict(step) for step in steps if isinstance(step, Marked)]
    answers = {step.key: asdict(step) for step in steps if isinstance(step, Answered)}
    held = {answer.key: answer.value for answer in reader.answers() if answer.value}
    told = {"marks": marks, "answers": answers, "held": held}
    return {**cost, "words": words["cpu"], "tokens": reader.tokens, "kept": reader.state_bytes, **told}


def said_in(chunk: StoredChunk, key: str) -> list[Said]:
    """Page, character and value of each statement in a chunk. (Chunks overlap: one statement may stand in two.)"""
    found = re.finditer(rf"\b{key} -> ([0-9]{{2}})(?![0-9])", chunk.text)
    return [(chunk.page, chunk.start + said.start(), said[1]) for said in found]


def indexing(text: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        knowledge, document, _, cost = taken_in(Path(folder), text, whole=True)
        vectors, readings = knowledge.store.database.connection.execute(
            "SELECT sum(length(embedding)), (SELECT sum(length(tokens)) FROM readings) FROM chunks"
        ).fetchone()
        asked: dict[str, dict[str, list[list[Said]]]] = {}
        knowledge.search(OWNER, "fill the index")
        begin = time.process_time()
        for name, form in ASKED.items():
            asked[name] = {}
            for key in KEYS:
                hits = knowledge.search(OWNER, form.format(key), knowledge.settings.evidence, documents=[document.id])
                asked[name][key] = [said_in(hit.chunk, key) for hit in hits]
        question = 1e3 * (time.process_time() - begin) / (len(ASKED) * len(KEYS))
    kept = (vectors or 0) + (readings or 0)
    return {**cost, "chunks": document.chunks, "kept": kept, "asked": asked, "question": question}


# ---------------------------------------------------------------- what was found


def share(found: int, of: int) -> str:
    return f"{found} / {of}"


def found_by_reading(told: dict[str, Any], truth: Planted) -> list[str]:
    values = {key: answer["value"] for key, answer in told["answers"].items()}
    marked = {(mark["key"], mark["kind"]) for mark in told["marks"]}
    said = {(mark["key"], mark["earlier"], mark["value"]) for mark in told["marks"] if mark["kind"] == "changed"}
    changed = truth.earlier.keys() - truth.repeated
    return [
        share(sum(told["answers"].get(key, {}).get("marked") == value for key, value in truth.value.items()), len(truth.value)),
        share(sum(values.get(key) == value for key, value in truth.value.items()), len(truth.value)),
        share(sum((key, "repeated") in marked for key in truth.repeated), len(truth.repeated)),
        share(sum((key, truth.earlier[key], truth.value[key]) in said for key in changed), len(changed)),
        f"{sum(key not in truth.value for key in values)} (the bare state: {sum(key not in truth.value for key in told['held'])})",
    ]


def found_by_search(asked: dict[str, list[list[Said]]], truth: Planted) -> list[str]:
    first = {key: {value for *_, value in chunks[0]} if chunks else set() for key, chunks in asked.items()}
    said = {key: set().union(*chunks) for key, chunks in asked.items()}
    values = {key: {value for *_, value in places} for key, places in said.items()}
    changed = truth.earlier.keys() - truth.repeated
    return [
        share(sum(value in first[key] for key, value in truth.value.items()), len(truth.value)),
        share(sum(value in values[key] for key, value in truth.value.items()), len(truth.value)),
        share(sum(len(said[key]) > 1 for key in truth.repeated), len(truth.repeated)),
        share(sum({truth.earlier[key], truth.value[key]} <= values[key] for key in changed), len(changed)),
        f"{sum(bool(said[key]) for key in KEYS if key not in truth.value)}",
    ]


WHAT = (
    "values: marked as it went; in the best chunk",
    "values: held at the end; in the best four chunks",
    "repeated half the file apart",
    "changed half the file apart",
    "told of words that were never planted",
)


def rows(truth: Planted, read: dict[str, Any], index: dict[str, Any] | None) -> list[list[str]]:
    """What, reading, search by the word and its arrow, search by a question; the last two empty where there is no index."""
    tokens = read["tokens"]
    what = ["CPU seconds", "tokens a CPU second", "memory, MiB", "kept for later questions, KiB", "a later question, ms of CPU time"]
    of_reading = [*costs_of(read, tokens), "none: all words are told at the end"]
    of_index = [*costs_of(index, tokens), f"{index['question']:.0f}"] if index else [""] * len(what)
    searched = [found_by_search(index["asked"][name], truth) for name in ASKED] if index else [[""] * len(WHAT)] * len(ASKED)
    costs = zip(what, of_reading, of_index, [""] * len(what), strict=True)
    return [list(row) for row in (*costs, *zip(WHAT, found_by_reading(read, truth), *searched, strict=True))]


def costs_of(side: dict[str, Any], tokens: int) -> list[str]:
    return [f"{side['cpu']:.1f}", f"{tokens / side['cpu']:,.0f}", f"{side['memory']:.0f}", f"{side['kept'] / 2**10:,.0f}"]


def measure(truth: Planted, *, searched: bool) -> dict[str, Any]:
    """A text read, and indexed and `searched`: `title`, `rows`, `read` and `index` (s of CPU time), `words` and `pattern` (likewise)."""
    begin = time.process_time()
    assert len(re.findall(rf"(?:{'|'.join(KEYS)}) -> [0-9]{{2}}", truth.text)) == len(truth.value) + len(truth.earlier)
    pattern = time.process_time() - begin
    say(f"  {truth.name}: {len(encode(truth.text)):,} tokens")
    read = alone(reading, truth.text)
    say(f"  read in {read['cpu']:.1f} s of CPU time")
    index = alone(indexing, truth.text) if searched else None
    title = f"{truth.name}, {read['tokens']:,} tokens"
    costs = {"read": read["cpu"], "words": read["words"], "pattern": pattern}
    if index:
        say(f"  {index['chunks']} chunks indexed in {index['cpu']:.1f} s of CPU time")
        title, costs["index"] = f"{title}, {index['chunks']:,} chunks", index["cpu"]
    return {"name": truth.name, "title": title, "rows": rows(truth, read, index), **costs}


def keep(measured: list[dict[str, Any]]) -> None:
    parsed = " and ".join(f"{one['words']:.1f} s" for one in measured)
    pattern = f"{max(one['pattern'] for one in measured):.2f}"
    samples = {f"{one['name']}: {side}": [one[side]] for one in measured for side in ("read", "index") if side in one}
    compared = {one["title"]: one["rows"] for one in measured}
    note = NOTE.format(evidence=Settings(_env_file=None).evidence, parsed=parsed, pattern=pattern)
    write("reading", unit="s of CPU time", samples=samples, note=note, compared=compared)


def main() -> None:
    plays, sources = texts()
    keep([measure(plays, searched=True), measure(sources, searched=False)])  # of the second, what a state of this size holds
