"""A stored document of any length, read to its end by the long reader, its passages marked as they come; and what search alone finds.

The reader (`hybridlab.ssm.reading`) carries a state of one size and needs no index. It was trained to take in planted pairs, `amber -> 42`,
and nothing else. What is held meanwhile: the page that is being read, the last pieces of text, and a few numbers a key.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from hybridlab.ssm.long_reader import CHUNK, LongReader
from hybridlab.ssm.planted import LONGEST
from hybridlab.ssm.reading import Mark, named_keys, read_file

from assistant.knowledge.service import Knowledge
from assistant.knowledge.suspicion import is_suspicious
from assistant.store.documents import Document

PIECE = 2**14  # characters that are read at once: a reading can be stopped between two pieces
REACH = (CHUNK + 1) * LONGEST  # bytes before a piece at which a mark can still lie, that comes with it
TOLD = 20  # marks that are told of one key, and strays; more are counted


@dataclass(frozen=True)
class Read:
    """How far it is: tokens; characters, of all; the page that was begun last, of all (both from 1); marks so far, told or not; seconds."""

    tokens: int
    characters: int
    of_characters: int
    page: int
    pages: int
    marks: int
    seconds: float


@dataclass(frozen=True)
class Marked:
    """A passage that the reader took in. `start` and `end` are characters of the page's text: the pair, or one letter of what is none.

    `kind`, `key`, `value`, `earlier` and `score` are those of `hybridlab.ssm.reading.Mark`.
    """

    kind: str
    key: str | None
    value: str | None
    earlier: str | None
    score: float
    page_index: int
    page: int | None
    start: int
    end: int
    passage: str
    suspicious: bool


@dataclass(frozen=True)
class Retrieved:
    """What stands behind a key in the chunks that are found for it: values, the best chunk's first; at how many places; where the first."""

    values: tuple[str, ...]
    places: int
    page_index: int
    page: int | None
    start: int
    end: int


@dataclass(frozen=True)
class Answered:
    """What is known of a key at the end. None stands for nothing.

    `value` is what the state holds of a key that was marked, with its probability, from 0 to 1; `marked` the last value that was marked,
    `times` how often one was, `apart` the tokens between the first and the last; `retrieved` what search alone finds. (Where nothing was
    marked, nothing was taken in: what the state says of such a key is invented, and is not told.)
    """

    key: str
    value: str | None
    probability: float
    marked: str | None
    times: int
    apart: int
    retrieved: Retrieved | None


Step = Read | Marked | Answered


@dataclass(frozen=True)
class Spot:
    """A piece of a page: the byte of all that is read at which it begins, and its first character in the page."""

    byte: int
    page_index: int
    page: int | None
    start: int
    text: str


class Pages:
    """A document's visible text in pieces, one page after another; and where a byte of it stands, for those that were read last."""

    def __init__(self, knowledge: Knowledge, owner: str, document: Document):
        self.knowledge, self.owner, self.document = knowledge, owner, document
        self.page, self.characters = 1, 0
        self._bytes, self._spots = 0, list[Spot]()

    def __iter__(self) -> Iterator[str]:
        """Raises KeyError where the document is deleted meanwhile."""
        for index in range(self.document.pages):
            page = self.knowledge.page(self.owner, self.document.id, index)
            visible = page.text[: page.hidden[0][0]] if page.hidden else page.text
            self.page = index + 1
            for start in range(0, len(visible) + 1, PIECE):
                self.hold()
                last = start + PIECE > len(visible)
                text = visible[start : start + PIECE] + "\n" * last
                self._keep(Spot(self._bytes, index, page.number, start, text))
                self._bytes += len(text.encode())
                self.characters += len(text) - last + last * (len(page.text) - len(visible))
                yield text

    def hold(self) -> None:
        """Raises KeyError where the document was deleted: from then on nothing of it is told."""
        self.knowledge.document(self.owner, self.document.id)

    def _keep(self, spot: Spot) -> None:
        self._spots.append(spot)
        first = bisect_right(self._spots, spot.byte - REACH, key=lambda one: one.byte)
        del self._spots[: max(0, first - 1)]

    def place_of(self, byte: int) -> tuple[Spot, int]:
        """Its spot, and its character in the page's text."""
        spot = self._spots[max(0, bisect_right(self._spots, byte, key=lambda one: one.byte) - 1)]
        return spot, spot.start + len(spot.text.encode()[: byte - spot.byte].decode(errors="ignore"))


@dataclass
class Seen:
    """What was marked of a key: how often, the first and the last token, the last value."""

    times: int = 0
    first: int = 0
    last: int = 0
    value: str | None = None

    def add(self, mark: Mark) -> int:
        self.first = self.first if self.times else mark.token
        self.times, self.last, self.value = self.times + 1, mark.token, mark.value
        return self.times


def read_document(knowledge: Knowledge, owner: str, document: Document, reader: LongReader, question: str = "") -> Iterator[Step]:
    """Read a document to its end; then what is known of the keys that the question names, or of all that were marked.

    The first step says how much there is, before anything is read. Whoever stops in between closes the iterator. Raises KeyError where the
    document is deleted meanwhile.
    """
    begin, whole = time.monotonic(), knowledge.store.documents.characters(owner, document.id)
    pages, seen, marks = Pages(knowledge, owner, document), dict[str | None, Seen](), 0
    yield Read(0, 0, whole, 1, document.pages, 0, 0.0)
    for event in read_file(pages, reader):
        if isinstance(event, Mark):
            marks += 1
            if seen.setdefault(event.key, Seen()).add(event) <= TOLD:
                yield placed(event, pages)
        else:
            yield Read(event.tokens, pages.characters, whole, pages.page, document.pages, marks, time.monotonic() - begin)
    yield Read(reader.tokens, whole, whole, document.pages, document.pages, marks, time.monotonic() - begin)
    pages.hold()
    answers = {answer.key: answer for answer in reader.answers()}
    for key in named_keys(question) or [key for key in answers if key in seen]:
        of = seen.get(key)
        held = answers[key] if of and answers[key].value else None
        value, sure = (held.value, held.probability) if held else (None, 0.0)
        marked, times, apart = (of.value, of.times, of.last - of.first) if of else (None, 0, 0)
        yield Answered(key, value, sure, marked, times, apart, retrieved(knowledge, owner, document, key))


def placed(mark: Mark, pages: Pages) -> Marked:
    """A mark with its place in the document."""
    spot, start = pages.place_of(mark.byte)
    before, behind = (len(f"{mark.key} -> "), len(mark.value)) if mark.key and mark.value else (0, 1)
    what = (mark.kind, mark.key, mark.value, mark.earlier, mark.score)
    return Marked(*what, spot.page_index, spot.page, start - before, start + behind, mark.text, is_suspicious(mark.text))


def retrieved(knowledge: Knowledge, owner: str, document: Document, key: str) -> Retrieved | None:
    """What search alone finds of a key: as many chunks as the assistant gives its model for a question, each read without an error."""
    places: dict[tuple[int, int], tuple[str, int | None]] = {}
    for hit in knowledge.search(owner, f"{key} ->", knowledge.settings.evidence, documents=[document.id]):
        for said in re.finditer(rf"\b{key} -> ([0-9]{{2}})(?![0-9])", hit.chunk.text):
            places.setdefault((hit.chunk.page, hit.chunk.start + said.start()), (said[1], hit.chunk.number))
    if not places:
        return None
    (index, start), (value, number) = next(iter(places.items()))
    values = tuple(dict.fromkeys(value for value, _ in places.values()))
    return Retrieved(values, len(places), index, number, start, start + len(f"{key} -> {value}"))
