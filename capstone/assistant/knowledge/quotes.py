"""From a chunk to a quote: the sentences of it that speak of the question, word for word as they stand on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from hybridlab.rag.sentences import sentence_spans

from assistant.knowledge.search import Hit
from assistant.store import Store
from assistant.store.words import folded, terms

LONGEST = 400  # characters of a quote


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

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "heading": list(self.heading)}


def cite(store: Store, owner: str, encoder, question: str, hits: list[Hit]) -> list[Citation]:
    """A citation per hit, numbered from 1. What is not verbatim on its page, or reaches into hidden text, is left out."""
    made: list[Citation] = []
    for hit, (start, end) in zip(hits, best_spans(encoder, question, [hit.chunk.text for hit in hits]), strict=True):
        chunk = hit.chunk
        quote = chunk.text[start:end]
        start, end = chunk.start + start, chunk.start + end
        if is_verbatim(store, owner, chunk.document, chunk.page, start, end, quote):
            place = (chunk.number, chunk.page, chunk.heading)
            made.append(Citation(len(made) + 1, chunk.document, chunk.name, *place, quote, start, end, round(hit.score, 6)))
    return made


def best_spans(encoder, question: str, texts: Sequence[str]) -> list[tuple[int, int]]:
    """Of each text, the sentence nearest to the question, with its neighbours as far as they fit into a quote's length.

    The sentences of all texts are embedded together, since a first word waits for it; those of a text that fits as a whole are not.
    """
    choices = [sentences_of(text) for text in texts]
    parts = [text[a:b] for text, spans in zip(texts, choices, strict=True) if len(spans) > 1 for a, b in spans]
    nearness = iter((encoder.passages(parts) @ encoder.query([question])[0]).tolist() if parts else ())
    wanted = set(map(folded, terms(question)))
    found = []
    for text, spans in zip(texts, choices, strict=True):
        best = 0
        if len(spans) > 1:
            overlap = [len(wanted & set(map(folded, terms(text[a:b])))) / max(1, len(wanted)) for a, b in spans]
            # E5's cosines lie within about 0.2 of each other
            best = int(np.argmax([share + 4.0 * next(nearness) for share in overlap]))
        found.append(trimmed(text, *widened(spans, best)))
    return found


def sentences_of(text: str) -> list[tuple[int, int]]:
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
    return spans if whole[1] - whole[0] > LONGEST else [whole]


def widened(spans: Sequence[tuple[int, int]], best: int) -> tuple[int, int]:
    """The span `best` with its neighbours, those after it first, as far as a quote's length goes."""
    first = last = best
    while True:
        wider = [(first, last + 1)] if last + 1 < len(spans) else []
        wider += [(first - 1, last)] if first > 0 else []
        fitting = [(a, b) for a, b in wider if spans[b][1] - spans[a][0] <= LONGEST]
        if not fitting:
            break
        first, last = fitting[0]
    return spans[first][0], min(spans[last][1], spans[first][0] + LONGEST)


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
