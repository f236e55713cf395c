"""One question, top to bottom: retrieve, decide whether there is evidence, prompt, stream, cite, keep.

Documents are asked first, and what was said before (the memory) where they have nothing; the other way round for a question that says
that it is about what was said. So no talk, however much of it, takes a document's place.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime

import anyio
import anyio.to_thread
from hybridlab.llm.grounded_prompt import NO_EVIDENCE, grounded_messages
from hybridlab.llm.span_grammar import LANGUAGE, span_grammar

from assistant.cues import cue_of, is_question, tells
from assistant.engines.base import Engine, Finish, Message, Request, Usage
from assistant.history import last_turns, leans, read_again, shortened, whole_question
from assistant.knowledge.abstention import best_first, is_evidence
from assistant.knowledge.quotes import Citation, cite
from assistant.knowledge.service import Knowledge
from assistant.knowledge.suspicion import instructions, is_suspicious
from assistant.language import SPEAKERS, Language, language_of, say
from assistant.memory.service import Memory
from assistant.remembered import TurnCitation, from_memory
from assistant.settings import Settings
from assistant.store import Store

MARKS = str.maketrans("«»", "“”")  # a source's own marks can't end its quotation
MOST_STOPS = 4  # that OpenAI's API takes
CONTROL = re.compile(r"<(?=[|/a-zA-Z])|\[(?=/?INST\])")  # how chat templates mark turns: `<|im_start|>`, `</s>`, `[INST]`


def quoted(text: str) -> str:
    """A source's text as data: it can neither close its quotation nor begin a turn of the conversation.

    Sentences that look like instructions to a machine are left out of what the model reads (a small one follows them, whatever it
    was told); the reader sees them in the citation, which stays verbatim and says that it is suspicious.
    """
    for start, end in reversed(instructions(text)):
        text = f"{text[:start]}[…]{text[end:]}"
    return without_marks(text.translate(MARKS))


def without_marks(text: str) -> str:
    """The text with its turn marks broken, so that it can begin no turn of the conversation."""
    return CONTROL.sub(lambda mark: f"{mark.group()} ", text)


@dataclass(frozen=True)
class Options:
    """What a request may choose. `documents`: None for all of the owner's, and for what was said; a list for some of them and nothing
    else; an empty one for none (plain chat)."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    json_schema: dict | None = None
    documents: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Cited:
    """Comes first: what the answer rests on. Empty where there is no evidence, or none was asked for."""

    citations: tuple[Citation | TurnCitation, ...]


@dataclass(frozen=True)
class Delta:
    text: str


@dataclass(frozen=True)
class Done:
    """Comes last. `abstained`: the assistant said that it found no evidence."""

    finish: Finish
    usage: Usage
    abstained: bool = False


Event = Cited | Delta | Done


@dataclass(frozen=True)
class Place:
    """Where a question is asked: its conversation, its number there and its answer's, and the last turns before it."""

    conversation: str
    question: int
    answer: int
    earlier: list[Message]


@dataclass
class Orchestrator:
    engine: Engine
    knowledge: Knowledge
    memory: Memory
    store: Store
    settings: Settings
    active: int = field(default=0)

    async def answer(
        self, owner: str, messages: Sequence[Message], options: Options, conversation: str | None = None
    ) -> AsyncGenerator[Event, None]:
        """Answer the last message. With `conversation`, question and answer are kept: the question before anything else, the
        answer as far as it came, marked as incomplete where it was cut off; and where the question comes alone, its last turns are
        read before it. A caller who sends turns has chosen them.

        Raises EngineBusy, PromptTooLong, EngineError, and KeyError where the conversation is not the owner's.
        """
        place = await anyio.to_thread.run_sync(self._begin, owner, conversation, messages[-1].content) if conversation else None
        text: list[str] = []
        citations: tuple[Citation | TurnCitation, ...] = ()
        complete = False
        self.active += 1
        try:
            async with aclosing(self._events(owner, place, messages, options)) as events:
                async for event in events:
                    if isinstance(event, Cited):
                        citations = event.citations
                    elif isinstance(event, Delta):
                        text.append(event.text)
                    else:
                        complete = True
                    if complete and place:
                        await anyio.to_thread.run_sync(self._finish, owner, place.answer, text, citations, complete)
                    yield event
        finally:
            self.active -= 1
            if place and not complete:
                with anyio.CancelScope(shield=True):  # a client that went away has cancelled this task
                    await anyio.to_thread.run_sync(self._finish, owner, place.answer, text, citations, complete)

    def _begin(self, owner: str, conversation: str, question: str) -> Place:
        """Keep the question, and begin its answer."""
        earlier = last_turns(self.store.conversations.messages(owner, conversation))
        with self.store.database.transaction():  # both or none: who reads what was said waits for the answer of what was asked
            asked = self.store.conversations.add(owner, conversation, "user", question)
            answer = self.store.conversations.add(owner, conversation, "assistant", "", complete=False)
        return Place(conversation, asked, answer, earlier)

    def _finish(
        self, owner: str, message: int, text: list[str], citations: tuple[Citation | TurnCitation, ...], complete: bool
    ) -> None:
        self.store.conversations.finish(owner, message, "".join(text), [c.as_dict() for c in citations], complete)

    async def _events(
        self, owner: str, place: Place | None, messages: Sequence[Message], options: Options
    ) -> AsyncGenerator[Event, None]:
        *before, asked = messages
        earlier = place.earlier if place and not before else []
        turns = [Message(turn.role, without_marks(turn.content)) for turn in read_again(earlier)]
        citations: tuple[Citation | TurnCitation, ...] = ()
        prompt: tuple[Message, ...] = (*turns, *messages)
        if options.documents != ():
            whole = whole_question(asked.content, [*earlier, *before])
            citations, refusal = await anyio.to_thread.run_sync(self._evidence, owner, asked.content, whole, options.documents, place)
            if refusal:
                yield Cited(())
                yield Delta(refusal)
                yield Done("stop", Usage(0, 0), abstained=True)
                return
            prompt = prompt_of(asked.content, citations, [*turns, *before])
        request = Request(
            prompt,
            max_tokens=min(options.max_tokens, self.settings.max_tokens),
            temperature=options.temperature,
            top_p=options.top_p,
            stop=options.stop,
            seed=options.seed,
            json_schema=options.json_schema,
            use="sources" if citations else "",
        )
        yield Cited(citations)
        free = not citations or options.json_schema is not None
        async with aclosing(self._said(request) if free else self._from_sources(request, asked.content, citations)) as events:
            async for event in events:
                yield event

    async def _said(self, request: Request) -> AsyncGenerator[Event, None]:
        """What the engine says to a request."""
        async with aclosing(self.engine.stream(request)) as pieces:
            async for piece in pieces:
                if piece.text:
                    yield Delta(piece.text)
                if piece.finish:
                    yield Done(piece.finish, piece.usage or Usage(0, 0))

    async def _from_sources(
        self, request: Request, question: str, citations: Sequence[Citation | TurnCitation]
    ) -> AsyncGenerator[Event, None]:
        """What is said from sources: by an expert, in their words, where there is one; else by the engine's model. Where neither knows the
        question's language, an expert finds nothing, or the model only counts sources, the sentence that answers best."""
        language, sentence = language_of(question), Delta(f"{quoted(citations[0].answer)} [1]")
        expert = any(expert.card.use == request.use for expert in self.engine.experts)
        spoken = {LANGUAGE} if expert else self.engine.languages
        if spoken is not None and language not in spoken:
            yield sentence
            yield Done("stop", Usage(0, 0))
            return
        if expert:
            request = replace(request, grammar=span_grammar([source_of(one, language) for one in citations]))
            says_nothing = NO_EVIDENCE[language].startswith
        else:
            request = replace(request, stop=ends_before_more(request.stop, citations))
            says_nothing = is_wordless
        text, found = "", False
        async with aclosing(self._said(request)) as events:
            async for event in events:
                if isinstance(event, Delta) and not found:
                    text += event.text
                    if found := not says_nothing(text):
                        yield Delta(text)
                elif isinstance(event, Done) and not found:
                    yield sentence
                    yield replace(event, finish="stop")
                else:
                    yield event

    def _evidence(
        self, owner: str, asked: str, whole: str, documents: tuple[str, ...] | None, place: Place | None
    ) -> tuple[tuple[Citation | TurnCitation, ...], str]:
        """The citations for what was `asked`, looked for as the `whole` question; or none, and the sentence that says why."""
        cue = cue_of(whole)

        def said() -> tuple[TurnCitation, ...]:
            if documents is not None or tells(asked):
                return ()
            conversation, before = (place.conversation, place.question) if place else (None, None)
            return from_memory(self.memory, self.store, owner, whole, cue, conversation=conversation, before=before)

        def written() -> tuple[Citation, ...]:
            citations = self._from_documents(owner, whole, documents)
            if not citations and documents is None and (put := self._referred(owner, whole, place)) != whole:
                citations = self._from_documents(owner, put, documents)
            return citations

        for source in (said, written) if cue else (written, said):
            if citations := source():
                return citations, ""
        if cue:
            return (), say("not_said", language_of(whole))
        return (), say("noted" if place and tells(asked) else self._why_nothing(owner), language_of(whole))

    def _referred(self, owner: str, question: str, place: Place | None) -> str:
        """A question that leans, and found nothing by itself, put into what memory says that it refers to."""
        if not (leans(question) and is_question(question)):
            return question
        turn = self.memory.recall.referent(owner, question, before=place.question if place else None)
        return whole_question(question, [Message("user", shortened(turn.content))]) if turn else question

    def _from_documents(self, owner: str, question: str, documents: tuple[str, ...] | None) -> tuple[Citation, ...]:
        hits = self.knowledge.search(owner, question, self.settings.evidence, documents=documents)
        reading = self.knowledge.read(owner, question, hits)
        if not is_evidence(question, hits, self.knowledge.heard(owner, question), reading):
            return ()
        return tuple(replace(c, suspicious=is_suspicious(c.quote)) for c in cite(self.store, owner, question, best_first(reading)))

    def _why_nothing(self, owner: str) -> str:
        states = {document.state for document in self.knowledge.documents(owner)}
        if states & {"searchable", "ready"}:
            return "no_evidence"
        return "not_read_yet" if "received" in states else "no_documents"


def is_wordless(text: str) -> bool:
    """Whether a text has no letter: a small model likes to go on counting its sources, "1. [1] [2] [3] ..."."""
    return not any(map(str.isalpha, text))


def ends_before_more(stop: tuple[str, ...], citations: Sequence[Citation | TurnCitation]) -> tuple[str, ...]:
    """The caller's ends of an answer, and the number of a source that is not there, unless a source itself has it ("as in [5]")."""
    beyond = f"[{len(citations) + 1}]"
    return stop if len(stop) >= MOST_STOPS or any(beyond in one.quote for one in citations) else (*stop, beyond)


def prompt_of(question: str, citations: Sequence[Citation | TurnCitation], before: Sequence[Message] = ()) -> tuple[Message, ...]:
    """The question with its sources, each between marks that its own text can't forge, after what was said `before`.

    Instructions come first, as chat templates want it: ours, then the caller's.
    """
    language = language_of(question)
    system, asked = grounded_messages(question, [source_of(one, language) for one in citations], language)
    ordered = sorted(before, key=lambda message: message.role != "system")
    return (Message(**system), *ordered, Message(**asked))


def source_of(citation: Citation | TurnCitation, language: Language) -> str:
    """What the model reads of a source: its quote, and of a turn also who said it and on which day."""
    if isinstance(citation, Citation):
        return quoted(citation.quote)
    return f"{datetime.fromtimestamp(citation.created):%Y-%m-%d}, {SPEAKERS[citation.role][language]}: {quoted(citation.quote)}"
