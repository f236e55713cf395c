"""A file of any length, read in constant memory, with the passages marked as they come.

    reader = LongReader.load()
    for event in read_file("report.txt", reader):
        if isinstance(event, Mark):
            print(f"line {event.line}: {event.text!r} {event.kind} {event.score:.2f}")
        else:                                   # Progress(tokens, bytes, of_bytes)
            print(f"{event.bytes / event.of_bytes:.0%}")
    answer_question(reader, "What stands behind amber?")

A passage is marked where the last layer's step is greater than 0: there, and nowhere else, the model takes something into its state. It
learned to do so for planted pairs, `amber -> 42`. Wherever else it opens is marked as well, as "stray": that is the model's mistake, and
is not hidden.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from hybridlab.ssm.answers import Answer
from hybridlab.ssm.long_reader import Chunk, LongReader, Progress
from hybridlab.ssm.planted import FIRST_KEY, FIRST_VALUE, KEYS, VALUES, decode

BEFORE, BEHIND = 80, 40  # tokens of a passage, before a mark and behind it


@dataclass(frozen=True)
class Mark:
    """A passage that the model took into its state.

    `token`: the number of the token at which it did, from 0; `byte` and `line`: where that token begins, in the text's UTF-8 (a byte order
    mark does not count), from 0 and from 1; `text`: the passage, as far as it lies in the chunk and the one before.

    `kind`: "new", a key that was not known before; "repeated", one that was, with the same value; "changed", with another value, `earlier`;
    "stray", no pair at all: then `key` and `value` are None. `score`: how sure the state is of the value right behind the chunk, from 0 to
    1; 0 if it gives another one. "Before" is the state at the beginning of the chunk: two pairs of one chunk of 1,024 tokens don't
    know of each other.
    """

    token: int
    byte: int
    line: int
    text: str
    kind: Literal["new", "repeated", "changed", "stray"]
    key: str | None
    value: str | None
    earlier: str | None
    score: float


class Marker:
    """Finds the marks of chunk after chunk. Carries the end of the last chunk and two counts."""

    def __init__(self, reader: LongReader) -> None:
        self._reader = reader
        self._tail: list[int] = []
        self._bytes, self._lines = 0, 1

    def marks(self, chunk: Chunk) -> list[Mark]:
        """The marks of the next chunk, in order."""
        tail = self._tail
        tokens = tail + chunk.tokens.tolist()
        places = [len(tail) + i for i in (chunk.opened > 0).nonzero()[:, 0].tolist()]
        known = {a.key: a.value for a in self._reader.answers_of(chunk.before)} if places else {}
        held = {a.key: a for a in self._reader.answers_of(chunk.after)} if places else {}
        found = [self._mark(chunk.start - len(tail), tokens, i, len(tail), known, held) for i in places]
        data = decode(chunk.tokens.tolist())
        self._bytes, self._lines, self._tail = self._bytes + len(data), self._lines + data.count(b"\n"), tokens[-BEFORE:]
        return found

    def _mark(self, start: int, tokens: list[int], i: int, fresh: int, known: dict[str, str | None], held: dict[str, Answer]) -> Mark:
        ahead = decode(tokens[fresh:i])
        text = decode(tokens[max(0, i - BEFORE) : i + BEHIND]).decode(errors="ignore")
        key, value, earlier, score, kind = None, None, None, 0.0, "stray"
        if i and FIRST_KEY <= tokens[i - 1] < FIRST_VALUE <= tokens[i]:
            key, value = KEYS[tokens[i - 1] - FIRST_KEY], VALUES[tokens[i] - FIRST_VALUE]
            earlier = known[key]
            score = held[key].probability if held[key].value == value else 0.0
            kind = "new" if earlier is None else "repeated" if earlier == value else "changed"
        line = self._lines + ahead.count(b"\n")
        return Mark(start + i, self._bytes + len(ahead), line, text, kind, key, value, earlier, score)


def read_file(source: str | os.PathLike | Iterable[str], reader: LongReader, *, encoding: str = "utf-8-sig") -> Iterator[Progress | Mark]:
    """Read a file (a path) or pieces of text to the end; gives each mark as it is found, and Progress after every 64 KiB, or each piece.

    The reader carries on from whatever it has read before, and has the text's state afterwards: ask it, save it. Whoever stops in between
    has read as far as the last Progress, and can go on with a file by `reader.resume(path)`.

    Raises:
        FileNotFoundError: there is no such file.
        ReadError: binary, another or an unknown encoding, with the place; the reader then is as it was before.
    """
    marker, chunks = Marker(reader), []
    for progress in reader.stream(source, encoding=encoding, observe=chunks.append):
        for chunk in chunks:
            yield from marker.marks(chunk)
        chunks.clear()
        yield progress
    for chunk in [*chunks, *filter(None, [reader.waiting()])]:
        yield from marker.marks(chunk)


def named_keys(question: str) -> list[str]:
    """The keys that a question names, each once, in its order."""
    return [word for word in dict.fromkeys(re.findall(r"\w+", question.lower())) if word in KEYS]


def answer_question(reader: LongReader, question: str) -> list[Answer]:
    """What the state knows of the keys that a question names, in its order; all that was found where it names none."""
    answers = {answer.key: answer for answer in reader.answers()}
    return [answers[key] for key in named_keys(question)] or [answer for answer in answers.values() if answer.value is not None]
