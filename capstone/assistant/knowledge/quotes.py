"""From a chunk to a quote: the sentences of it that speak of the question, word for word as they stand on the page."""

from __future__ import annotations

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
    vector = encoder.query([question])[0]
    made: list[Citation] = []
    for hit in hits:
        chunk = hit.chunk
        start, end = best_span(encoder, vector, question, chunk.text)
        start, end = chunk.start + start, chunk.start + end
        quote = chunk.text[start - chunk.start : end - chunk.start]
        if is_verbatim(store, owner, chunk.document, chunk.page, start, end, quote):
            place = (chunk.number, chunk.page, chunk.heading)
            made.append(Citation(len(made) + 1, chunk.document, chunk.name, *place, quote, start, end, round(hit.score, 6)))
    return made


def best_span(encoder, vector: np.ndarray, question: str, text: str) -> tuple[int, int]:
    """The sentence of `text` nearest to the question, with its neighbours as far as they fit into a quote's length."""
    spans = [span for span in sentence_spans(text, 0, len(text)) if text[slice(*span)].strip()] or [(0, len(text))]
    if len(spans) > 1 and spans[-1][1] - spans[0][0] > LONGEST:
        wanted = set(map(folded, terms(question)))
        overlap = [len(wanted & set(map(folded, terms(text[a:b])))) / max(1, len(wanted)) for a, b in spans]
        nearness = encoder.passages([text[a:b] for a, b in spans]) @ vector
        best = int(np.argmax(np.array(overlap) + 4.0 * nearness))  # E5's cosines lie within about 0.2 of each other
    else:
        best = 0
    first = last = best
    while True:
        wider = [(first, last + 1)] if last + 1 < len(spans) else []
        wider += [(first - 1, last)] if first > 0 else []
        fitting = [(a, b) for a, b in wider if spans[b][1] - spans[a][0] <= LONGEST]
        if not fitting:
            break
        first, last = fitting[0]
    start, end = spans[first][0], min(spans[last][1], spans[first][0] + LONGEST)
    return trimmed(text, start, end)


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
