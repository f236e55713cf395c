"""The state that reads a user's turns: kept, gone on with to the last bit, and after a deletion as if it had never seen what is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from assistant.memory.service import Memory
from assistant.memory.states import BEHIND
from assistant.store import Store

from tests.capstone.told import ENCODER, SAID, embed, follow, learned, opened, states, talk, without


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = opened(tmp_path / "assistant.db")
    yield made
    made.close()


# --- one stream, read once ------------------------------------------------------------------------------------------


def test_a_state_that_goes_on_is_the_one_that_was_never_interrupted(store: Store, tmp_path: Path):
    done = 0
    for end in (1, 2, 7, 16, len(SAID)):  # a new States each time, as after a restart
        talk(store, SAID[done:end], done=done)
        data, done = follow(states(store)), end
    assert data == without(set(), tmp_path)
    assert store.states.size() == (1, states(store).bytes) == (1, len(data))


def test_a_turn_is_read_once_and_from_the_vector_that_is_kept(store: Store, monkeypatch: pytest.MonkeyPatch):
    of, read = states(store), []
    whole = of.reader.read
    monkeypatch.setattr(of.reader, "read", lambda vector, *more: (read.append(vector[0].numpy().copy()), whole(vector, *more))[1])
    for done in range(0, len(SAID), 6):
        talk(store, SAID[done : done + 6], done=done)
        follow(of)
    assert np.array_equal(read, ENCODER.passages(SAID))


def test_a_long_turn_is_read_as_a_whole(store: Store):
    conversation = store.conversations.begin("mai", "").id
    turn = store.conversations.add("mai", conversation, "user", "One. Two. Three.")
    pieces = ENCODER.passages(["One. Two. Three.", "One. Two.", "Two. Three."])
    store.turns.embedded([(turn, "One. Two. Three.")], [pieces])
    (one,) = store.states.log("mai", 0, 99, ENCODER.dim, 9)
    assert one.vector == pieces[0].tobytes()


def test_a_state_is_as_large_after_two_hundred_turns_as_after_one(store: Store):
    sizes = []
    for said in (SAID[:1], SAID * 8):
        talk(store, said)
        sizes.append(len(follow(states(store))))
    assert sizes[0] == sizes[1] == states(store).bytes


def test_one_users_turns_are_not_in_anothers_state(store: Store):
    talk(store, SAID)
    of = states(store)
    alone = follow(of)
    talk(store, ["the gate code is 1234"] * 9, "tom")
    assert store.states.behind(of.name) == ["tom"]
    assert follow(of) == alone
    assert follow(of, "tom") != alone
    assert store.states.behind(of.name) == []


# --- what is deleted was never said ---------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", [0, 5, 6, 23])
def test_a_state_after_a_deletion_never_saw_what_is_gone(store: Store, tmp_path: Path, gone: int):
    turns, of = talk(store, SAID), states(store)
    before = follow(of)
    store.turns.delete("mai", turns[gone])
    assert store.states.of("mai", of.name) is None  # gone with the turn, in the same transaction
    assert follow(of) == without({gone}, tmp_path) != before


def test_a_turn_that_was_not_read_yet_is_deleted_without_the_state(store: Store, tmp_path: Path):
    talk(store, SAID[:20])
    of = states(store)
    before = follow(of)
    turns = talk(store, SAID[20:], done=20)
    store.turns.delete("mai", turns[1])
    assert store.states.of("mai", of.name).data == before
    assert follow(of) == without({21}, tmp_path)


def test_a_state_after_a_deleted_conversation_never_saw_it(store: Store, tmp_path: Path):
    talk(store, SAID)
    of = states(store)
    follow(of)
    store.conversations.delete("mai", store.turns.sessions("mai")[1].id)
    assert store.states.of("mai", of.name) is None
    assert follow(of) == without(set(range(6, 12)), tmp_path)
    store.turns.delete_all("mai")
    assert store.states.size() == (0, 0)
    assert follow(of) == b""


def test_a_deleted_user_has_no_state_and_a_revoked_key_leaves_it(store: Store):
    key = store.keys.add("mai")
    talk(store, SAID)
    talk(store, SAID, "tom")
    of = states(store)
    data, other = follow(of), follow(of, "tom")
    store.keys.revoke(next(one.id for one in store.keys.all() if one.owner == "mai"))
    assert store.keys.owner_of(key) is None
    assert follow(of) == data
    store.keys.delete_user("mai")
    assert follow(of) == b""
    assert store.states.of("tom", of.name).data == other
    assert store.states.size() == (1, of.bytes)


def test_what_was_deleted_is_in_no_byte_of_the_log_the_indexes_and_the_state(store: Store, tmp_path: Path):
    memory = Memory(store, ENCODER, learned())
    secret = talk(store, [*SAID[:5], "the zyqxsecret code"])[-1]
    follow(memory.states)
    assert memory.recall("mai", "zyqxsecret code", 1)[0].turn.id == secret
    old, never = store.states.of("mai", memory.states.name).data, without(set(), tmp_path, SAID[:5])
    traces = [old[at : at + 64] for at in range(0, len(old), 64) if old[at : at + 64] not in never]
    row = store.database.connection.execute("SELECT embedding FROM messages WHERE id = ?", (secret,)).fetchone()
    marks = (b"zyqxsecret", row["embedding"][:64], traces[0], traces[-1])

    def held() -> list[int]:
        kept = b"".join(path.read_bytes() for path in tmp_path.glob("assistant.db*"))
        return [kept.count(one) for one in marks]

    store.database.checkpoint()
    assert all(held())
    memory.delete("mai", secret)
    assert held() == [0, 0, 0, 0]
    assert secret not in memory.recall._index_of("mai").turns()
    assert store.turns.search_words("mai", "zyqxsecret", 9) == []
    assert not memory.states.up_to_date()  # what is left waits to be read again
    assert memory.states.work()
    assert store.states.of("mai", memory.states.name).data == never
    assert "the zyqxsecret code" not in [one.turn.content for one in memory.recall("mai", "zyqxsecret code", 9)]
    assert held() == [0, 0, 0, 0]


def test_what_was_deleted_while_it_was_read_is_not_kept(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    turns, of = talk(store, SAID), states(store)
    read = of._read

    def while_deleting(*one):
        store.turns.delete("mai", turns[3])
        return read(*one)

    monkeypatch.setattr(of, "_read", while_deleting)
    of.follow("mai")
    assert store.states.of("mai", of.name) is None
    monkeypatch.undo()
    assert follow(of) == without({3}, tmp_path)


def test_what_was_said_anew_under_the_same_number_while_it_was_read_is_not_taken_for_it(store: Store, monkeypatch: pytest.MonkeyPatch):
    """SQLite gives the newest turn's number again once that turn is deleted."""
    turns, of = talk(store, SAID[:6]), states(store)
    read = of._read

    def while_replacing(*one):
        conversation = store.turns.get("mai", turns[-1:])[0].conversation
        store.turns.delete("mai", turns[-1])
        assert store.conversations.add("mai", conversation, "assistant", "something else") == turns[-1]
        embed(store)
        return read(*one)

    monkeypatch.setattr(of, "_read", while_replacing)
    of.follow("mai")
    assert store.states.of("mai", of.name) is None


# --- the order of the log -------------------------------------------------------------------------------------------


def test_another_readers_state_is_made_anew(store: Store):
    talk(store, SAID)
    first, second = follow(states(store)), follow(states(store, seed=1))
    assert first != second
    assert store.states.of("mai", "reader 0") is None
    assert store.states.behind("reader 0") == ["mai"]
    assert follow(states(store)) == first


def test_nothing_is_read_beyond_a_question_whose_answer_is_being_written(store: Store, tmp_path: Path):
    turns, of = talk(store, SAID), states(store)
    store.conversations.finish("mai", turns[9], "", [], False)  # as if the answer to turn 8 were still being written
    follow(of)
    assert store.states.of("mai", of.name).through == turns[7]
    store.conversations.finish("mai", turns[9], SAID[9], [], True)  # and has no vector yet
    follow(of)
    assert store.states.of("mai", of.name).through == turns[8]
    embed(store)
    assert follow(of) == without(set(), tmp_path)


def test_what_was_read_before_a_deleted_question_stays_read(store: Store):
    """Its answer was being written: the older answer before it is not its question."""
    turns, of = talk(store, SAID), states(store)
    store.conversations.finish("mai", turns[9], "", [], False)
    store.turns.delete("mai", turns[8])
    follow(of)
    assert store.states.of("mai", of.name).through == turns[7]


def test_an_answer_that_never_came_holds_nothing_up(store: Store, tmp_path: Path):
    turns, of = talk(store, SAID), states(store)
    store.conversations.finish("mai", turns[9], "", [], False)
    store.database.connection.execute("UPDATE messages SET created = created - 4000 WHERE id = ?", (turns[9],))
    assert follow(of) == without({9}, tmp_path)


def test_a_turn_that_comes_late_all_the_same_is_read_in_its_place(store: Store, tmp_path: Path):
    turns, of = talk(store, SAID), states(store)
    store.conversations.finish("mai", turns[9], "cut", [], False)
    assert follow(of) == without({9}, tmp_path)
    store.conversations.finish("mai", turns[9], SAID[9], [], True)
    embed(store)
    assert store.states.of("mai", of.name) is None
    assert follow(of) == without(set(), tmp_path)


# --- a question -----------------------------------------------------------------------------------------------------


def test_a_question_leaves_the_state_as_it_was_and_sees_what_is_not_yet_in_it(store: Store):
    turns, of = talk(store, SAID), states(store)
    unread = of.now("mai")
    data = follow(of)
    assert unread.numpy().tobytes() == data == of.now("mai").numpy().tobytes()
    assert store.states.of("mai", of.name).data == data
    assert of.now("mai", before=turns[-1]) is None  # the state has read beyond that place
    while of.work():
        pass
    talk(store, (SAID * 4)[: BEHIND + 1])
    assert of.now("mai") is None  # far behind: memory answers without it meanwhile
    assert of.work()
    assert of.now("mai") is not None


def test_a_question_does_not_read_itself_or_what_follows(store: Store, tmp_path: Path):
    turns, of = talk(store, SAID), states(store)
    assert of.now("mai", before=turns[12]).numpy().tobytes() == without(set(range(12, 24)), tmp_path)
