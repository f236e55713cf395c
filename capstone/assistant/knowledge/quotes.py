"""From a chunk to a quote: the sentences of it that speak of the question, word for word as they stand on the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from hybridlab.rag.sentences import sentence_spans

from assistant.knowledge.reading import Reading
from assistant.knowledge.suspicion import is_suspicious
from assistant.store import Store
from assistant.store.words import folded, terms

LONGEST = 400  # characters of a quote
FEWEST = 4  # words of a sentence that says something
SAYS = re.compile(r"[.!?…。:;][\"'”’»)\]]*$|:.*\|")  # a sentence's end, or a table's row with the names of its columns
BY_PLACE = (480, LONGEST, 240)  # of the first, the second, the others: a first word waits for all, and they answer ever more seldom


@dataclass(frozen=True)
class Citation:
    """A quote and where it stands: `page` as a viewer counts (None without pages), `page_index` to open it, and characters there."""

    number: int
    document_id: str
    document: str
    page: int | None
    page_index: int
    heading: tuple[str, ...]
    quote: str
    start: int
    end: int
    score: float
    suspicious: bool = False  # it holds what looks like an instruction to a machine
    kind: Literal["document"] = "document"
    answer: str = ""  # the sentence of the quote that answers best; of the first citation alone, and not for others' eyes

    def as_dict(self) -> dict[str, Any]:
        shown = {name: value for name, value in asdict(self).items() if name != "answer"}
        return {**shown, "heading": list(self.heading)}


def cite(store: Store, owner: str, question: str, reading: Reading) -> list[Citation]:
    """A citation per chunk that was read, numbered from 1. What is not verbatim on its page, or reaches into hidden text, is left out."""
    made: list[Citation] = []
    for number, hit in enumerate(reading.hits):
        chunk = hit.chunk
        longest = BY_PLACE[min(number, len(BY_PLACE) - 1)]

        def judge(spans: Sequence[tuple[int, int]], number: int = number) -> np.ndarray:
            return reading.of_parts(number, spans)

        start, end = best_span(question, chunk.text, judge, longest)
        quote = chunk.text[start:end]
        answer = "" if made else chunk.text[slice(*best_of(question, chunk.text, statements(chunk.text, start, end), judge))]
        start, end = chunk.start + start, chunk.start + end
        if is_verbatim(store, owner, chunk.document, chunk.page, start, end, quote):
            place = (chunk.number, chunk.page, chunk.heading)
            made.append(Citation(len(made) + 1, chunk.document, chunk.name, *place, quote, start, end, round(hit.score, 6), answer=answer))
    return made


def best_span(
    question: str, text: str, judge: Callable[[Sequence[tuple[int, int]]], np.ndarray], longest: int = LONGEST
) -> tuple[int, int]:
    """Of the sentences, each with its neighbours as far as they fit into `longest` characters, those together that answer best.

    `judge` gives the reader's log odds of parts of the text; it isn't asked where the text fits as a whole.
    """
    sentences = sentences_of(text, longest)
    choices = list(dict.fromkeys(trimmed(text, *widened(sentences, i, longest)) for i in range(len(sentences))))
    return best_of(question, text, choices, judge)


def best_of(
    question: str, text: str, choices: Sequence[tuple[int, int]], judge: Callable[[Sequence[tuple[int, int]]], np.ndarray]
) -> tuple[int, int]:
    """Of parts of a text the one that answers best, by the reader's log odds and the share of the question's words."""
    if len(choices) == 1:
        return choices[0]
    wanted = set(map(folded, terms(question)))
    overlap = [len(wanted & set(map(folded, terms(text[a:b])))) / max(1, len(wanted)) for a, b in choices]
    return choices[int(np.argmax(judge(choices) + np.array(overlap)))]


def sentences_of(text: str, longest: int) -> list[tuple[int, int]]:
    """The sentences to choose from, each with the marks that follow it: a table of contents has hundreds of dots in a row.

    One span where the whole fits into a quote.
    """
    spans: list[tuple[int, int]] = []
    for start, end in sentence_spans(text, 0, len(text)):
        if spans and not any(map(str.isalnum, text[start:end])):
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    whole = (spans[0][0], spans[-1][1]) if spans else (0, len(text))
    return spans if whole[1] - whole[0] > longest else [whole]


def statements(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """The sentences and rows of a part of a text that say something: no heading, and no row of nothing but columns' names. All of it where
    there are none, and nothing that gives an instruction to a machine where there is anything else."""
    spans = [(a, b) for a, b in sentence_spans(text, start, end) if any(map(str.isalnum, text[a:b]))]
    saying = [(a, b) for a, b in spans if len(text[a:b].split()) >= FEWEST and SAYS.search(text[a:b])]
    return [(a, b) for a, b in saying if not is_suspicious(text[a:b])] or saying or [(start, end)]


def widened(spans: Sequence[tuple[int, int]], best: int, longest: int) -> tuple[int, int]:
    """The span `best` with its neighbours, those after it first, as far as a quote's length goes."""
    first = last = best
    while True:
        wider = [(first, last + 1)] if last + 1 < len(spans) else []
        wider += [(first - 1, last)] if first > 0 else []
        fitting = [(a, b) for a, b in wider if spans[b][1] - spans[a][0] <= longest]
        if not fitting:
            break
        first, last = fitting[0]
    return spans[first][0], min(spans[last][1], spans[first][0] + longest)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def is_verbatim(store: Store, owner: str, document: str, page: int, start: int, end: int, quote: str) -> bool:
    """Whether the quote is what stands on that page at that place, where a reader of the document sees it."""
    try:
        stored = store.documents.page(owner, document, page)
    except KeyError:
        return False
    hidden = any(start < b and end > a for a, b in stored.hidden)
    return bool(quote) and stored.text[start:end] == quote and not hidden
