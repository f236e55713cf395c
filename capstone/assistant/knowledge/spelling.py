"""Names of a question as a passage writes them: `Hà Nội` is `Hanoi` in English, and who has no Vietnamese keyboard types `Ha Noi`.

What has learned that another city is another city takes another spelling for one, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from assistant.knowledge.vocabulary import WORD
from assistant.store.words import folded

LONGEST = 3  # words of a name


def tight(text: str) -> str:
    """Without diacritics and spaces, so that Hà Nội is Hanoi."""
    return re.sub(r"\s+", "", folded(text))


def as_written(question: str, passage: str) -> str:
    """The question with each name in the passage's spelling, where one of both has diacritics and the other has none: Lân is not Lấn. The
    first word alone is no name: it has its capital letter anyway."""
    written: dict[str, str] = {}
    for start, end in names_in(passage, list(WORD.finditer(passage))):
        written.setdefault(tight(passage[start:end]), passage[start:end])
    words = list(WORD.finditer(question))
    made, at = [], 0
    for start, end in names_in(question, words):
        name = question[start:end]
        there = written.get(tight(name), name)
        if start >= at and (start, end) != words[0].span() and there.isascii() != name.isascii():
            made += [question[at:start], there]
            at = end
    return "".join([*made, question[at:]])


def names_in(text: str, words: Sequence[re.Match[str]]) -> Iterator[tuple[int, int]]:
    """Where words stand that begin with a capital letter, alone or one after the other; from each word, the longest first."""
    for first in range(len(words)):
        last = first
        while last < min(len(words), first + LONGEST) and words[last].group()[0].isupper():
            if last > first and not text[words[last - 1].end() : words[last].start()].isspace():
                break
            last += 1
        for end in range(last, first, -1):
            yield words[first].start(), words[end - 1].end()
