"""Owners never see each other's rows: random operations of three owners against a model of what each should see."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from assistant.knowledge.words import Words
from assistant.store import Store
from hybridlab.rag.chunk import Chunk
from hybridlab.rag.parse import Page, Parsed
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

pytestmark = pytest.mark.slow(seconds=2)

OWNERS = ("mai", "an", "binh")
owners = st.sampled_from(OWNERS)


class Owners(RuleBasedStateMachine):
    documents = Bundle("documents")
    conversations = Bundle("conversations")

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name) / "assistant.db")
        for owner in OWNERS:
            self.store.keys.ensure_user(owner)
        self.theirs: dict[str, dict[str, tuple[str, str]]] = {owner: {} for owner in OWNERS}  # id -> name, hash
        self.talks: dict[str, dict[str, list[str]]] = {owner: {} for owner in OWNERS}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    @rule(target=documents, owner=owners, name=st.sampled_from("ab"), content=st.sampled_from("12"), readable=st.booleans())
    def upload(self, owner: str, name: str, content: str, readable: bool):
        document, new = self.store.documents.receive(owner, name, "text/plain", content, 1)
        assert document.owner == owner
        if not new:
            assert self.theirs[owner][document.id] == (name, content)
            return multiple()
        if readable:
            text = f"common {owner}"
            gone = self.store.documents.parsed(document.id, Parsed("", (Page(1, (), text),)), [Chunk(0, 0, len(text), "prose", "")])
            ids = [i for i, _ in self.store.documents.to_embed(document.id, 9)]
            self.store.documents.embedded(ids, np.eye(1, 4, OWNERS.index(owner), dtype=np.float32))
            older = [i for i, (n, _) in self.theirs[owner].items() if n == name]
            assert len(gone.files) == len(older)
            for one in older:
                del self.theirs[owner][one]
        else:
            self.store.documents.failed(document.id, "unsupported", "it is a picture.")
            failed = [i for i, (n, c) in self.theirs[owner].items() if n == name and c == "failed"]
            for one in failed:
                del self.theirs[owner][one]
        self.theirs[owner][document.id] = (name, content if readable else "failed")
        return document.id

    @rule(owner=owners, document=documents)
    def look(self, owner: str, document: str) -> None:
        if document in self.theirs[owner]:
            assert self.store.documents.get(owner, document).id == document
            return
        with pytest.raises(KeyError):
            self.store.documents.get(owner, document)
        with pytest.raises(KeyError):
            self.store.documents.page(owner, document, 0)
        assert self.store.documents.chunk_ids(owner, [document]) == []

    @rule(owner=owners, document=documents)
    def delete(self, owner: str, document: str) -> None:
        if self.theirs[owner].pop(document, None):
            self.store.documents.delete(owner, document)
        else:
            with pytest.raises(KeyError):
                self.store.documents.delete(owner, document)

    @rule(target=conversations, owner=owners)
    def talk(self, owner: str):
        made = self.store.conversations.begin(owner, f"of {owner}").id
        self.talks[owner][made] = []
        return made

    @rule(owner=owners, conversation=conversations)
    def say(self, owner: str, conversation: str) -> None:
        if conversation in self.talks[owner]:
            message = self.store.conversations.add(owner, conversation, "user", "draft")
            for other in OWNERS:
                self.store.conversations.finish(other, message, f"by {other}", [], True)
                if other != owner:
                    assert f"by {other}" not in [m.content for m in self.store.conversations.messages(owner, conversation)]
            self.store.conversations.finish(owner, message, owner, [], True)
            self.talks[owner][conversation].append(owner)
            return
        with pytest.raises(KeyError):
            self.store.conversations.add(owner, conversation, "user", "forged")
        with pytest.raises(KeyError):
            self.store.conversations.messages(owner, conversation)

    @rule(owner=owners, conversation=conversations)
    def end(self, owner: str, conversation: str) -> None:
        if self.talks[owner].pop(conversation, None) is not None:
            self.store.conversations.delete(owner, conversation)
        else:
            with pytest.raises(KeyError):
                self.store.conversations.delete(owner, conversation)

    @rule(owner=owners)
    def leave_and_return(self, owner: str) -> None:
        self.store.keys.delete_user(owner)
        self.store.keys.ensure_user(owner)
        self.theirs[owner], self.talks[owner] = {}, {}

    @invariant()
    def each_sees_what_is_theirs(self) -> None:
        if not hasattr(self, "store"):
            return
        everything = [i for owner in OWNERS for i in self.store.documents.vectors(owner)[0]]
        for place, owner in enumerate(OWNERS):
            assert {d.id for d in self.store.documents.all(owner)} == set(self.theirs[owner])
            readable = sum(content != "failed" for _, content in self.theirs[owner].values())
            ids, vectors = self.store.documents.vectors(owner)
            assert len(ids) == readable
            assert all((vector == np.eye(1, 4, place)).all() for vector in vectors)
            assert sorted(i for i, _ in Words(self.store, owner).search("common", 99)) == sorted(ids)
            assert [c.id for c in self.store.documents.chunks(owner, everything)] == list(ids)
            assert {c.id for c in self.store.conversations.all(owner)} == set(self.talks[owner])
            for conversation, said in self.talks[owner].items():
                assert [m.content for m in self.store.conversations.messages(owner, conversation)] == said


Owners.TestCase.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
TestOwners = Owners.TestCase
