"""What the assistant does with each question: what it finds, cites, and says, and how long that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
from assistant.engines.base import Message
from assistant.knowledge.abstention import best_first, is_evidence
from assistant.knowledge.quotes import Citation, cite, is_verbatim
from assistant.knowledge.reading import Reading
from assistant.knowledge.search import Hit, Retriever
from assistant.knowledge.service import Knowledge
from assistant.knowledge.vocabulary import Heard
from assistant.orchestrator import Cited, Delta, Done, Options, Orchestrator
from scipy.stats import bootstrap

from capstone.evaluation import metrics
from capstone.evaluation.base import STAFF
from capstone.evaluation.questions import Place, Question

DEEP = 10  # hits that are looked at
ANSWER_TOKENS = 96


def place_of(document: str, page: int | None, heading: Sequence[str]) -> Place:
    """A hit's or a citation's place as questions name it: a page, or the heading of a section where there are no pages."""
    return document, page if page is not None else (heading[-1] if heading else "")


def rank_of(question: Question, hits: Sequence[Hit]) -> int | None:
    """The rank, from 1, of the first chunk from a page on which the answer stands."""
    places = [place_of(hit.chunk.name, hit.chunk.number, hit.chunk.heading) for hit in hits]
    return next((rank for rank, place in enumerate(places, 1) if place in question.places), None)


def by_part(measured: Callable[[list[Any]], dict[str, Any]], items: Sequence[Question | Evidence]) -> dict[str, dict[str, Any]]:
    """A measure of questions, or of what they lead to, for the first test part, for the second, and for both together."""
    first, second = ([item for item in items if item.part == part] for part in (1, 2))
    return {"first": measured(first), "second": measured(second), "both": measured(list(items))}


# ---------------------------------------------------------------- retrieval


def retrieval(knowledge: Knowledge, questions: Sequence[Question]) -> dict[str, Any]:
    """Recall at 1, 5 and 10, MRR, and times in milliseconds, by retriever and for each language and kind of question."""
    answerable = [question for question in questions if question.answerable]
    result: dict[str, Any] = {}
    for retriever in get_args(Retriever):
        ranks: dict[str, int | None] = {}
        times: list[float] = []
        for question in answerable:
            began = time.perf_counter()
            hits = knowledge.search(STAFF, question.question, DEEP, retriever)
            times.append(1000 * (time.perf_counter() - began))
            ranks[question.id] = rank_of(question, hits)
        groups = {"all": answerable} | {g: [q for q in answerable if g in (q.language, q.kind)] for g in ("en", "vi", "table", "crossed")}
        for language in ("en", "vi"):
            groups[f"{language}, document in {language}"] = [q for q in groups[language] if q.kind != "crossed"]
        result[retriever] = {name: ranking([ranks[q.id] for q in group]) for name, group in groups.items()}
        result[retriever]["milliseconds"] = timing(times)
    return result


def ranking(ranks: Sequence[int | None]) -> dict[str, float]:
    recalls = {f"recall@{k}": round(metrics.recall_at(ranks, k), 4) for k in (1, 5, DEEP)}
    return {"questions": len(ranks), **recalls, "mrr": round(metrics.mean_reciprocal_rank(ranks), 4)}


def timing(milliseconds: Sequence[float]) -> dict[str, float]:
    return {"p50": round(metrics.percentile(milliseconds, 0.5), 1), "p95": round(metrics.percentile(milliseconds, 0.95), 1)}


# ---------------------------------------------------------------- evidence, without an engine


@dataclass(frozen=True)
class Evidence:
    """What a question leads to before anything is said: hits, the decision about them, and the citations that would be given."""

    question: Question
    hits: list[Hit]
    citations: list[Citation]
    answered: bool

    @property
    def part(self) -> int:
        return self.question.part


def evidence(
    knowledge: Knowledge, question: Question, decide: Callable[[str, Sequence[Hit], Heard, Reading], bool] = is_evidence
) -> Evidence:
    hits = knowledge.search(STAFF, question.question, knowledge.settings.evidence)
    reading = knowledge.read(STAFF, question.question, hits)
    heard = knowledge.heard(STAFF, question.question)
    answered = decide(question.question, hits, heard, reading)
    ordered = best_first(reading)
    citations = cite(knowledge.store, STAFF, question.question, ordered)
    return Evidence(question, list(ordered.hits), citations, bool(citations) and answered)


def abstention(found: Sequence[Evidence]) -> dict[str, Any]:
    """How well the assistant knows that there is nothing: the positive class is a question that the documents do not answer."""

    def of(group: Sequence[Evidence]) -> dict[str, float]:
        measured = metrics.detection([not e.answered for e in group], [not e.question.answerable for e in group])
        return {"questions": len(group), **{name: round(value, 4) for name, value in asdict(measured).items()}}

    return {"all": of(found)} | {language: of([e for e in found if e.question.language == language]) for language in ("en", "vi")}


def citations(knowledge: Knowledge, found: Sequence[Evidence]) -> dict[str, Any]:
    """Of the answered questions that have an answer: how many citations (and how many first ones) name its document, and its page;
    the first quote as an answer of its own (the extractive baseline); and the share of all quotes that are verbatim."""
    answered = [e for e in found if e.answered and e.question.answerable]
    every = [(e, c) for e in answered for c in e.citations]
    first = [(e, e.citations[0]) for e in answered]
    quotes = [c for e in found for c in e.citations]
    exact = [is_verbatim(knowledge.store, STAFF, c.document_id, c.page_index, c.start, c.end, c.quote) for c in quotes]

    def right(pairs: Sequence[tuple[Evidence, Citation]], *, page: bool) -> float:
        hits = [
            any(c.document == d and (not page or place_of(c.document, c.page, c.heading) == (d, p)) for d, p in e.question.places)
            for e, c in pairs
        ]
        return round(sum(hits) / max(1, len(hits)), 4)

    return {
        "questions": len(answered),
        "document_precision": right(every, page=False),
        "page_precision": right(every, page=True),
        "first_document_precision": right(first, page=False),
        "first_page_precision": right(first, page=True),
        "verbatim": round(sum(exact) / max(1, len(exact)), 4),
        "quotes": len(quotes),
    }


def quality(pairs: Sequence[tuple[str, Question]]) -> dict[str, Any]:
    """Answers against golds: word F1, and the share that contains every gold string."""
    count = max(1, len(pairs))
    return {
        "questions": len(pairs),
        "f1": round(sum(metrics.token_f1(text, q.answer) for text, q in pairs) / count, 4),
        "containment": round(sum(metrics.contained(text, q.answer) for text, q in pairs) / count, 4),
    }


def by_language(pairs: Sequence[tuple[str, Question]]) -> dict[str, Any]:
    """The quality of all answers, and of those in each language."""
    groups = {name: [pair for pair in pairs if name in ("all", pair[1].language)] for name in ("all", "en", "vi")}
    return {name: quality(group) for name, group in groups.items()}


def sentences(found: Sequence[Evidence], questions: Sequence[Question]) -> dict[str, Any]:
    """What the engine's answers to these questions have to beat: the sentence of the first quote that answers best, without any model of
    language; nothing where the assistant abstained."""
    asked = {question.id for question in questions}
    return by_language([(e.citations[0].answer if e.answered else "", e.question) for e in found if e.question.id in asked])


def extractive(found: Sequence[Evidence]) -> dict[str, Any]:
    """The baseline without a model: the first citation's quote is the answer; nothing where the assistant abstained."""
    return quality([(e.citations[0].quote if e.answered else "", e.question) for e in found if e.question.answerable])


# ---------------------------------------------------------------- answers, with the engine


@dataclass(frozen=True)
class Answered:
    """What was said to a question (its id), nothing where the assistant abstained; milliseconds to the first word and to the last."""

    question: str
    text: str
    first: float | None
    whole: float | None


async def answer(orchestrator: Orchestrator, question: Question) -> Answered:
    """Ask as a user would."""
    text, first, began, abstained = "", None, time.perf_counter(), False
    async with aclosing(orchestrator.answer(STAFF, [Message("user", question.question)], Options(max_tokens=ANSWER_TOKENS))) as events:
        async for event in events:
            if isinstance(event, Delta):
                first = first or 1000 * (time.perf_counter() - began)
                text += event.text
            elif isinstance(event, Done):
                abstained = event.abstained
            elif not isinstance(event, Cited):
                raise TypeError(f"the orchestrator sent {event!r}, which is no event of an answer")
    if abstained or first is None:
        return Answered(question.id, "" if abstained else text, None, None)
    return Answered(question.id, text, first, 1000 * (time.perf_counter() - began))


def answers(given: Sequence[Answered], questions: Sequence[Question]) -> dict[str, Any]:
    """What the engine's answers to these questions are worth, and how long they took."""
    known = {question.id: question for question in questions}
    pairs = [(one.text, known[one.question]) for one in given]
    times = {"first_token": [one.first for one in given if one.first], "answer": [one.whole for one in given if one.whole]}
    return {**by_language(pairs), **{f"{name}_milliseconds": timing(taken) for name, taken in times.items()}}


def gain(before: Sequence[Answered], after: Sequence[Answered], questions: Sequence[Question]) -> dict[str, dict[str, float]]:
    """How much better the later answers to the same questions are, with 95 % intervals (bootstrap over the questions)."""
    asked = {question.id: question.answer for question in questions}
    made = {}
    for name, measured in (("f1", metrics.token_f1), ("containment", metrics.contained)):
        pairs = zip(before, after, strict=True)
        each = np.array([float(measured(b.text, asked[b.question])) - measured(a.text, asked[a.question]) for a, b in pairs])
        low, high = bootstrap((each,), np.mean, method="percentile", random_state=0).confidence_interval if each.std() else each[[0, 0]]
        made[name] = {"difference": round(float(each.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}
    return made
