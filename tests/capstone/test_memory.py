"""Memory: what was said is found by its owner alone, in any conversation, and is gone everywhere when it is deleted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from assistant.knowledge.search import dictionary, possible_words
from assistant.memory import service as room
from assistant.memory.index import Index, pieces
from assistant.memory.meaning import centred, centres
from assistant.memory.service import Memory
from assistant.store import Store
from hybridlab.rag.structured_query import WordIndex

from tests.capstone.conftest import HashEncoder

NOW = datetime(2026, 3, 12, 15, 30)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "home" / "assistant.db")
    for owner in ("mai", "tom"):
        opened.keys.ensure_user(owner)
    yield opened
    opened.close()


@pytest.fixture
def memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Memory]:
    monkeypatch.setattr(room, "IDLE", 0.01)
    opened = Memory(store, HashEncoder())
    opened.start()
    yield opened
    opened.close()


def talk(store: Store, *said: str, owner: str = "mai", days_ago: float | None = None) -> str:
    """A conversation of turns, user and assistant by turns."""
    conversation = store.conversations.begin(owner, said[0]).id
    for number, content in enumerate(said):
        store.conversations.add(owner, conversation, ("user", "assistant")[number % 2], content)
    if days_ago is not None:
        when = (NOW - timedelta(days_ago)).timestamp()
        store.database.connection.execute("UPDATE messages SET created = ? WHERE conversation = ?", (when, conversation))
    return conversation


def found(memory: Memory, question: str, k: int = 3, owner: str = "mai", **more) -> list[str]:
    return [one.turn.content for one in memory.recall(owner, question, k, **{"now": NOW, **more})]


def test_a_turn_is_found_by_words_and_by_meaning_in_any_conversation(memory: Memory, store: Store):
    talk(store, "my sister is called Lan", "a fine name")
    talk(store, "the train leaves at nine", "noted")
    assert memory.wait(20)
    best = memory.recall("mai", "what is my sister called?", 1)[0]
    assert best.turn.content == "my sister is called Lan"
    assert best.ranks == {"bm25": 1, "e5": 1}


def test_one_sentence_of_a_long_turn_speaks_for_it(memory: Memory, store: Store):
    long = " ".join(f"The {word} stands in the yard." for word in ("oak", "ash", "elm", "yew", "fir")) + " My sister is called Lan."
    talk(store, long, "What is this called?", "A sister is called a sister. So is mine.")
    assert memory.wait(20)
    by_itself = memory.encoder.passages([long, "What is this called?"]) @ memory.encoder.query(["My sister is called Lan"])[0]
    assert by_itself[0] < by_itself[1]
    assert memory.recall("mai", "My sister is called Lan", 1)[0].ranks["e5"] == 1
    assert sum(map(len, memory.recall._index_of("mai").words.values())) == 6 + 1 + 1


@pytest.mark.parametrize("content", ["one", "One. Two.", "One. Two. Three.", "chữ " * 9, "Word. " * 500, "\n\n", "?" * 9])
def test_the_pieces_of_a_turn_are_itself_and_its_sentences(content: str):
    whole, *rest = pieces(content)
    assert whole == content
    assert all(piece in content for piece in rest)
    assert len(rest) == {3: 2, 500: 63}.get(content.count("."), 0)


def test_words_are_found_at_once_and_with_diacritics_or_without(store: Store):
    slow = Memory(store, HashEncoder())  # never started: nothing is embedded
    talk(store, "chị Đặng thích cà phê sữa")
    assert found(slow, "ca phe sua") == found(slow, "cà phê") == ["chị Đặng thích cà phê sữa"]


def test_another_owners_turns_are_not_there(memory: Memory, store: Store):
    talk(store, "the gate code is 1234", owner="tom")
    assert memory.wait(20)
    assert found(memory, "gate code") == []
    assert memory.turns("mai", 9) == []
    theirs = memory.turns("tom", 9)[0].id
    with pytest.raises(KeyError):
        memory.delete("mai", theirs)
    memory.delete_all("mai")
    assert found(memory, "gate code", owner="tom") == ["the gate code is 1234"]


def test_what_was_only_asked_comes_last_but_where_that_is_asked_for(memory: Memory, store: Store):
    talk(store, "What is my sister called?", "I can't say.", "My sister is called Lan.", "Noted.")
    assert memory.wait(20)
    assert found(memory, "What is my sister called?")[0] == "My sister is called Lan."
    assert found(memory, "What is my sister called?", questions=True)[0] == "What is my sister called?"
    assert memory.search("mai", "What did I ask you about my sister?", 1)[0].turn.content == "What is my sister called?"


def test_a_turn_in_the_other_language_is_found_by_translated_words():
    encoder, index = HashEncoder(), Index(HashEncoder.dim)
    said = ("Mật khẩu của máy chủ là mười hai", "Hôm nay trời mưa", "The password is long", "My aunt collects stamps")
    for turn, content in enumerate(said):
        index.add(turn, content, encoder.passages([content]))
    for question in ("What is the password?", "Mật khẩu là gì?"):
        fit = index.look(question, encoder.query([question])[0], None)
        assert (fit.share > 0).tolist() == [True, False, True, False]
        assert fit.other.tolist() == [not fit.other[2]] * 2 + [fit.other[2]] * 2


def test_a_correction_comes_before_what_it_corrects_and_the_older_value_where_it_is_asked_for(memory: Memory, store: Store):
    first, new, other = "The gate code is 12.", "Correction: the gate code is 34.", "Actually my fridge hums loudly."
    talk(store, first, "noted", new, "noted", other, "noted")
    assert memory.wait(20)
    assert found(memory, "What is the gate code?")[:2] == [new, first]
    assert found(memory, "What was the gate code at first?")[:2] == [first, new]
    assert found(memory, "Mã cổng lúc đầu: gate code là gì?")[:2] == [first, new]
    assert found(memory, "Does my fridge hum?")[0] == other


def test_a_newer_turn_that_corrects_nothing_is_not_put_first_for_its_age(memory: Memory, store: Store):
    talk(store, "My sister has size 40 in shoes.", "noted", "My sister has a dog.", "noted")
    assert memory.wait(20)
    assert found(memory, "Which size has my sister in shoes?")[0] == "My sister has size 40 in shoes."


def test_vectors_lose_what_a_language_has_in_common_and_others_are_left_alone():
    for name, mean in centres().items():
        kind, language = name.split()
        own = np.random.default_rng(0).standard_normal((3, len(mean))).astype(np.float32)
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        assert np.allclose(centred(mean + 0.3 * own, kind, language), own, atol=1e-6)
    other = np.ones((2, 64), np.float32)
    assert centred(other, "query", "en") is other


@pytest.mark.parametrize("allowed", [None, [1, 3, 4, 9]])
def test_an_index_says_of_each_turn_what_its_best_piece_says(allowed: list[int] | None):
    said = {
        1: "My sister is called Lan. She is tall. We met in Rome.",
        2: "The gate is red.",
        3: "Chị tôi tên là Lan. Chị ấy cao. Cổng màu đỏ.",
        4: "Is she?",
        7: "The gate is red.",
    }
    encoder, index, question = HashEncoder(), Index(HashEncoder.dim), "What is my sister called?"
    for turn, content in said.items():
        for now in ("Something else. " * 5, content) if turn == 2 else (content,):
            index.add(turn, now, encoder.passages(pieces(now)))
    fit = index.look(question, encoder.query([question])[0], allowed)
    assert fit.turns.tolist() == [turn for turn in said if allowed is None or turn in allowed]
    assert fit.other.tolist() == [turn == 3 for turn in fit.turns]
    assert fit.asks.tolist() == [turn == 4 for turn in fit.turns]
    whole = {language: WordIndex() for language in ("en", "vi")}
    for turn in fit.turns.tolist():
        language = "vi" if turn == 3 else "en"
        of = pieces(said[turn])
        whole[language].add([turn * 100 + n for n in range(len(of))], [dictionary().words(piece, language) for piece in of])
    for row, turn in enumerate(fit.turns.tolist()):
        near = [float(encoder.passages([piece])[0] @ encoder.query([question])[0]) for piece in pieces(said[turn])]
        assert fit.cosine[row] == pytest.approx(max(near), abs=1e-6)
        assert near[fit.piece[row]] == pytest.approx(max(near), abs=1e-6)
        language = "vi" if turn == 3 else "en"
        shares = dict(whole[language].search(possible_words(question, "en", language), 99))
        assert fit.share[row] == pytest.approx(max((share for at, share in shares.items() if at // 100 == turn), default=0.0), abs=1e-6)


def test_what_has_not_ended_and_what_found_nothing_is_no_memory(memory: Memory, store: Store):
    from assistant.language import say

    conversation = talk(store, "where is the lamp?")
    store.conversations.add("mai", conversation, "assistant", say("no_evidence", "en"))
    cut = store.conversations.add("mai", conversation, "assistant", "", complete=False)
    assert memory.wait(20)
    assert found(memory, "lamp documents", 9) == ["where is the lamp?"]
    store.conversations.finish("mai", cut, "the lamp is in the", [], False)
    assert "the lamp is in the" not in found(memory, "lamp", 9)
    store.conversations.finish("mai", cut, "the lamp is in the hall", [], True)
    assert memory.wait(20)
    assert "the lamp is in the hall" in found(memory, "lamp", 9)
    assert len(store.turns.search_words("mai", "lamp", 9)) == 2
    store.conversations.finish("mai", cut, "the lamp is on the roof", [], True)
    assert memory.wait(20)
    assert memory.recall("mai", "roof", 1)[0].ranks == {"bm25": 1, "e5": 1}


def test_sessions_and_days_are_kept_to(memory: Memory, store: Store):
    talk(store, "the lamp is red", days_ago=9)
    middle = talk(store, "the lamp is blue", days_ago=1)
    present = talk(store, "the lamp is green", days_ago=0)
    assert memory.wait(20)
    assert found(memory, "lamp in our first conversation") == ["the lamp is red"]
    assert found(memory, "lamp last session", conversation=present) == ["the lamp is blue"]
    assert found(memory, "lamp last session", conversation=middle) == ["the lamp is green"]
    assert found(memory, "which lamp yesterday?") == ["the lamp is blue"]
    assert found(memory, "đèn lamp hôm nay") == ["the lamp is green"]
    assert found(memory, "lamp five sessions ago") == []


def test_a_deleted_turn_is_in_no_index_no_title_and_no_byte(memory: Memory, store: Store, tmp_path: Path):
    conversation = talk(store, "the zyqxsecret code", "thank you")
    talk(store, "the other code")
    assert memory.wait(20)
    assert found(memory, "zyqxsecret code", 1) == ["the zyqxsecret code"]
    memory.delete("mai", memory.turns("mai", 9)[-1].id)
    assert "the zyqxsecret code" not in found(memory, "zyqxsecret code", 9)
    assert len(memory.recall._index_of("mai")) == 2
    assert [m.content for m in store.conversations.messages("mai", conversation)] == ["thank you"]
    assert store.conversations.get("mai", conversation).title == ""
    store.database.checkpoint()
    assert not any(b"zyqxsecret" in path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())


@pytest.mark.parametrize("everything", [True, False])
def test_deleted_conversations_are_forgotten(memory: Memory, store: Store, tmp_path: Path, everything: bool):
    conversation = talk(store, "the zyqxsecret code")
    assert memory.wait(20)
    assert found(memory, "zyqxsecret")
    if everything:
        memory.delete_all("mai")
    else:
        memory.delete_conversation("mai", conversation)
    assert found(memory, "zyqxsecret code", 9) == []
    assert len(memory.recall._index_of("mai")) == 0
    assert not any(b"zyqxsecret" in path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())


def test_what_is_deleted_while_it_is_embedded_stays_deleted(store: Store):
    begun, go_on = threading.Event(), threading.Event()

    class Slow(HashEncoder):
        def passages(self, texts, progress=None):
            begun.set()
            assert go_on.wait(20)
            return super().passages(texts)

    memory = Memory(store, Slow())
    talk(store, "the zyqxsecret code")
    assert found(memory, "zyqxsecret", 9)  # the index is loaded, and empty
    memory.start()
    assert begun.wait(20)
    memory.delete("mai", memory.turns("mai", 9)[0].id)
    assert found(memory, "zyqxsecret", 9) == []  # loaded again
    go_on.set()
    assert memory.wait(20)
    memory.close()
    assert len(memory.recall._index_of("mai")) == 0


def test_what_was_not_embedded_is_after_the_next_start(store: Store):
    talk(store, "the gate is red")
    memory = Memory(store, HashEncoder())
    assert memory.recall("mai", "gate", 1)[0].ranks == {"bm25": 1}
    memory.start()
    assert memory.wait(20)
    memory.close()
    assert Memory(store, HashEncoder()).recall("mai", "gate", 1)[0].ranks == {"bm25": 1, "e5": 1}


def test_the_worker_outlives_a_failure(memory: Memory, store: Store, monkeypatch: pytest.MonkeyPatch):
    faults, passages = [RuntimeError("the encoder fell over")] * 2, memory.encoder.passages

    def faulty(texts, progress=None):
        if faults:
            raise faults.pop()
        return passages(texts)

    monkeypatch.setattr(memory.encoder, "passages", faulty)
    talk(store, "the gate is red")
    assert memory.wait(20)
    assert not faults


# --- the API --------------------------------------------------------------------------------------------------------


def test_memories_are_listed_searched_and_deleted_over_the_api(assistant):
    with assistant.client() as client:
        conversation = client.post("/v1/conversations", json={"title": ""}).json()["id"]
        for text in ("my sister is called Lan", "the train leaves at nine"):
            body = {"messages": [{"role": "user", "content": text}], "conversation": conversation, "documents": []}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
        listed = client.get("/v1/memories", params={"limit": 3}).json()
        assert [one["role"] for one in listed["data"]] == ["assistant", "user", "assistant"]
        older = client.get("/v1/memories", params={"limit": 3, "before": listed["next"]}).json()
        assert [one["content"] for one in older["data"]] == ["my sister is called Lan"]
        assert older["next"] is None
        assert assistant.service.memory.wait(20)
        first = client.post("/v1/memories/search", json={"query": "what is my sister called?"}).json()["data"][0]
        assert (first["content"], first["conversation_id"]) == ("my sister is called Lan", conversation)
        assert client.delete(f"/v1/memories/{first['id']}").json() == {"id": first["id"], "deleted": True}
        assert client.delete(f"/v1/memories/{first['id']}").json()["error"]["code"] == "no_memory"
        assert client.delete("/v1/memories").json() == {"deleted": True}
        assert client.get("/v1/memories").json()["data"] == client.get("/v1/conversations").json()["data"] == []


def test_a_key_sees_its_own_memories_only(assistant):
    other = assistant.service.store.keys.add("tom", "another")
    with assistant.client() as client:
        body = {"messages": [{"role": "user", "content": "my sister is called Lan"}], "documents": []}
        body["conversation"] = client.post("/v1/conversations", json={"title": ""}).json()["id"]
        client.post("/v1/chat/completions", json=body)
        mine = client.get("/v1/memories").json()["data"][-1]["id"]
    with assistant.client(other) as client:
        assert client.get("/v1/memories").json()["data"] == []
        assert client.post("/v1/memories/search", json={"query": "sister"}).json()["data"] == []
        assert client.delete(f"/v1/memories/{mine}").status_code == 404


# --- how well it finds ----------------------------------------------------------------------------------------------


@pytest.mark.slow(seconds=120)
def test_the_turn_that_answers_comes_first_in_long_real_style_talk(tmp_path: Path):
    from hybridlab.rag.embed import E5

    from capstone.evaluation.memory import measure

    found = measure(E5(), tmp_path)["fused"]
    assert found["questions"] == 155
    assert found["R@1"] >= 0.9
    assert found["R@5"] >= 0.95
