"""What the state of the stream of turns changes: how a question that leans on others is answered. Nothing for any other question, and
nothing where there is no reader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from assistant.history import leans
from assistant.memory.learned import Learned
from assistant.memory.recall import Recalled
from assistant.memory.service import Memory
from assistant.store import Store

from tests.capstone.told import ENCODER, ask, begin, embed, learned, opened

TOLD = (
    "My sister is called Lan. She lives in Hue. She has a dog.",
    "Noted.",
    "The gate code is 12.",
    "What is the gate code?",
    "Correction: the gate code is 34.",
    "It is 34.",
    "Chị tôi thích cà phê sữa.",
    "The blue lamp stands in the hall.",
)
LEANING = ("And the second one?", "What about her?", "Còn cái thứ hai?", "Where is it?")
ALONE = (
    "What is my sister called?",
    "Which lamp stands in the hall?",
    "Mã cổng lúc đầu: gate code là gì?",
    "Where was it in our first conversation?",  # leans, and names a session
    "And yesterday?",
    "Who takes over the contract with the northern supplier?",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = opened(tmp_path / "assistant.db")
    for half in (TOLD[:4], TOLD[4:]):
        conversation = made.conversations.begin("mai", "").id
        for number, text in enumerate(half):
            made.conversations.add("mai", conversation, ("user", "assistant")[number % 2], text)
    embed(made)
    yield made
    made.close()


def found(memory: Memory, question: str, **more) -> list[Recalled]:
    return memory.recall("mai", question, 50, **more)


# --- finding what was said ------------------------------------------------------------------------------------------


def test_no_other_question_is_answered_otherwise_with_a_reader_than_without(store: Store):
    with_it, without = Memory(store, ENCODER, learned()), Memory(store, ENCODER)
    for question in ALONE:
        assert found(with_it, question) == found(without, question)
        assert with_it.search("mai", question, 9) == without.search("mai", question, 9)
    for question in LEANING:
        assert leans(question)
        assert found(with_it, question) != found(without, question)


def test_the_state_adds_to_the_score_of_each_turn_and_puts_no_question_before_what_was_told(store: Store, monkeypatch):
    memory = Memory(store, ENCODER, learned())
    for turn in store.turns.all("mai", 99):
        asked: list[int] = []

        def lift(question, state, vectors, of_piece, wanted=turn.id, counts=asked):
            counts += torch.bincount(of_piece).tolist()
            place = sorted(one.id for one in store.turns.all("mai", 99)).index(wanted)
            return 100.0 * (torch.arange(len(counts)) == place)

        monkeypatch.setattr(memory.states.reader, "lift", lift)
        now = found(memory, "And the second one?")
        assert asked == [3, 1, 1, 1, 1, 1, 1, 1]  # the first turn has three pieces
        assert [one.turn.content.endswith("?") for one in now] == [False] * (len(now) - 1) + [True]
        if not turn.content.endswith("?"):
            assert now[0].turn == turn


def test_the_reader_gets_the_question_the_state_before_it_and_the_turns_before_it(store: Store, monkeypatch):
    memory, given = Memory(store, ENCODER, learned()), []
    monkeypatch.setattr(memory.states.reader, "lift", lambda *four: (given.append(four), torch.zeros(int(four[3].max()) + 1))[1])
    turns = sorted(one.id for one in store.turns.all("mai", 99))
    found(memory, "And the second one?", before=turns[3])
    ((question, state, vectors, of_piece),) = given
    assert np.array_equal(question.numpy(), ENCODER.query(["And the second one?"])[0])
    assert of_piece.tolist() == [0, 0, 0, 1, 2]
    assert np.array_equal(vectors.numpy()[[0, 3, 4]], ENCODER.passages(TOLD[:3]))
    for turn in turns[3:]:
        store.turns.delete("mai", turn)
    assert torch.equal(state, memory.states.now("mai"))


def test_while_a_state_is_being_made_memory_answers_without_it(store: Store, monkeypatch):
    monkeypatch.setattr("assistant.memory.states.BEHIND", 3)
    memory, floor = Memory(store, ENCODER, learned()), Memory(store, ENCODER)
    for question in LEANING:
        assert found(memory, question) == found(floor, question)
        assert memory.recall.referent("mai", question) is None
    while memory.states.work():
        pass
    assert found(memory, LEANING[0]) != found(floor, LEANING[0])


def test_another_owners_turns_and_an_empty_memory_are_no_matter(store: Store):
    memory = Memory(store, ENCODER, learned())
    assert memory.recall("tom", "And the second one?", 9) == []
    assert memory.recall.referent("tom", "And the second one?") is None


@pytest.mark.parametrize("n", range(len(TOLD)))
def test_what_a_question_refers_to_is_the_nearest_of_the_persons_own_turns(store: Store, monkeypatch, n: int):
    memory = Memory(store, ENCODER, learned())
    monkeypatch.setattr(memory.states.reader, "refer", lambda *_: torch.tensor(ENCODER.passages([TOLD[n]])[0]))
    turn = memory.recall.referent("mai", "And the second one?")
    assert turn.role == "user"
    assert n % 2 or turn.content == TOLD[n]
    assert memory.recall.referent("mai", "And in our first conversation?") is None
    assert Memory(store, ENCODER).recall.referent("mai", "And the second one?") is None


# --- asking documents -----------------------------------------------------------------------------------------------


@pytest.fixture
def reading(serve, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """An assistant with a reader to which every question refers to the turn that says "paid leave", and what its documents are asked."""

    def start(reader: Learned | None):
        monkeypatch.setattr("assistant.api.service.reader_for", lambda dim: (reader, ""))
        running, looked = serve(), []
        search = running.service.knowledge.search

        def looking(owner: str, asked: str, *args, **more):
            looked.append(asked)
            return search(owner, asked, *args, **more)

        monkeypatch.setattr(running.service.knowledge, "search", looking)
        return running, looked

    reader = learned()
    monkeypatch.setattr(reader.reader, "refer", lambda *_: torch.tensor(ENCODER.query(["I want to know about paid leave."])[0]))
    start.reader = reader
    return start


@pytest.mark.slow(seconds=5)
def test_a_question_that_has_nothing_to_lean_on_is_put_into_what_memory_says_that_it_refers_to(reading, monkeypatch):
    known = ("leave", "days", "train")
    monkeypatch.setattr("assistant.orchestrator.is_evidence", lambda question, *_: any(word in question for word in known))
    running, looked = reading(reading.reader)
    document = running.upload()
    with running.client() as client:
        ask(client, "I want to know about paid leave.", begin(client))
        ask(client, "The train was late today.", begin(client))
        assert running.service.memory.wait(20)
        looked.clear()
        answer = ask(client, "And how many?", begin(client))
        assert looked == ["And how many?", "I want to know about paid leave. and how many?"]
        assert answer["citations"][0]["document_id"] == document
        assert running.engine.requests[-1].messages[-1].content.endswith("And how many?")  # the model reads what was asked
        looked.clear()
        ask(client, "And how many days?", begin(client))
        assert looked == ["And how many days?"]  # finds evidence as it stands
        talk = begin(client)
        looked.clear()
        ask(client, "Is travel by train paid in full?", talk)
        for text, whole in (
            ("How many days of leave has every employee?", "How many days of leave has every employee?"),  # stands alone
            ("And by bus?", "How many days of leave has every employee? and by bus?"),  # its own conversation comes first
        ):
            ask(client, text, talk)
            assert looked[-1] == whole
        ask(client, "Thanks!", begin(client))  # asks nothing
        ask(client, "And how many days?", begin(client), documents=[document])  # is to be answered from these alone
        assert looked[-2:] == ["Thanks!", "And how many days?"]


@pytest.mark.slow(seconds=5)
def test_documents_are_asked_the_same_with_a_reader_as_without_where_a_question_stands_alone(reading, question: str):
    def all_of(reader: Learned | None) -> tuple:
        running, looked = reading(reader)
        running.upload()
        with running.client() as client:
            talk = begin(client)
            asked = ("My sister is called Lan.", question, "And by train?", "What is my sister called?")
            answers = [ask(client, text, talk) for text in asked]
            assert running.service.memory.wait(20)
        told = [(one["choices"][0]["message"]["content"], [c["quote"] for c in one["citations"]]) for one in answers]
        return told, looked, running.engine.requests

    assert all_of(reading.reader) == all_of(None)
