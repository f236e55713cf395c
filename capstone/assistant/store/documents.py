"""Documents, their pages, chunks, and embeddings. A new version takes the old one's place in the moment it can be searched."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from assistant.store.citations import unquote
from assistant.store.database import Database

if TYPE_CHECKING:
    from hybridlab.rag.chunk import Chunk
    from hybridlab.rag.parse import Parsed

COLUMNS = "id, owner, name, media_type, sha256, bytes, state, error, error_code, title, warnings, pages, chunks, created, updated"
EMBEDDED = "(SELECT count(*) FROM chunks WHERE chunks.document = documents.id AND embedding IS NOT NULL) AS embedded"
PIECES = "SELECT id, document, page, start, end, context FROM chunks"  # for `Documents._cut`


@dataclass(frozen=True)
class Document:
    """`state`: received (stored, not read yet), searchable (by words), ready (by meaning), failed (`error` and `error_code` say why)."""

    id: str
    owner: str = field(repr=False)
    name: str
    media_type: str
    sha256: str
    bytes: int
    state: str
    error: str
    error_code: str
    title: str
    warnings: list[str]
    pages: int
    chunks: int
    embedded: int
    created: float
    updated: float


@dataclass(frozen=True)
class StoredPage:
    """`number` counts from 1 as a viewer does, None where the format has no pages; `hidden` are spans of `text` no reader sees."""

    ordinal: int
    number: int | None
    heading: tuple[str, ...]
    text: str
    hidden: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class StoredChunk:
    """A chunk with its text, cut from its page."""

    id: int
    document: str
    name: str
    page: int
    number: int | None
    heading: tuple[str, ...]
    start: int
    end: int
    kind: str
    context: str
    text: str


@dataclass(frozen=True)
class Gone:
    """What other rooms have to let go of too: chunks (by id) and files (by hash; another document may still stand on them)."""

    chunks: tuple[int, ...] = ()
    files: tuple[str, ...] = ()


def give_jobs(write: sqlite3.Connection) -> None:
    """See to it that each document that isn't done has a job."""
    write.execute(
        "INSERT INTO jobs (document, step, created) SELECT id, iif(state = 'received', 'parse', 'embed'), ? FROM documents "
        "WHERE state IN ('received', 'searchable') AND id NOT IN (SELECT document FROM jobs)",
        (time.time(),),
    )


def document_of(row) -> Document:
    return Document(**{**dict(row), "warnings": json.loads(row["warnings"])})


class Documents:
    """Every call that a user's request leads to names the owner; another owner's document is not there (KeyError)."""

    def __init__(self, database: Database):
        self.database = database

    def receive(self, owner: str, name: str, media_type: str, sha256: str, size: int) -> tuple[Document, bool]:
        """Store that a file has come in, with the job to read it. The same file under the same name is not stored twice:
        then the document that is there is returned, with False."""
        now = time.time()
        with self.database.transaction() as write:
            newest = write.execute(
                "SELECT id, sha256 FROM documents WHERE owner = ? AND name = ? AND state != 'failed' ORDER BY rowid DESC", (owner, name)
            ).fetchone()
            if newest and newest["sha256"] == sha256:
                give_jobs(write)
                return self.get(owner, newest["id"]), False
            made = uuid.uuid4().hex
            write.execute(
                "INSERT INTO documents (id, owner, name, media_type, sha256, bytes, state, created, updated) "
                "VALUES (?, ?, ?, ?, ?, ?, 'received', ?, ?)",
                (made, owner, name, media_type, sha256, size, now, now),
            )
            write.execute("INSERT INTO jobs (document, step, created) VALUES (?, 'parse', ?)", (made, now))
            return self.get(owner, made), True

    def all(self, owner: str) -> list[Document]:
        """In the order in which they came."""
        rows = self.database.connection.execute(
            f"SELECT {COLUMNS}, {EMBEDDED} FROM documents WHERE owner = ? ORDER BY created, rowid", (owner,)
        )
        return [document_of(row) for row in rows]

    def get(self, owner: str, document: str) -> Document:
        row = self.database.connection.execute(
            f"SELECT {COLUMNS}, {EMBEDDED} FROM documents WHERE owner = ? AND id = ?", (owner, document)
        ).fetchone()
        if row is None:
            raise KeyError(document)
        return document_of(row)

    def page(self, owner: str, document: str, ordinal: int) -> StoredPage:
        row = self.database.connection.execute(
            "SELECT ordinal, number, heading, text, hidden FROM pages JOIN documents ON documents.id = pages.document "
            "WHERE owner = ? AND document = ? AND ordinal = ?",
            (owner, document, ordinal),
        ).fetchone()
        if row is None:
            raise KeyError((document, ordinal))
        hidden = tuple((start, end) for start, end in json.loads(row["hidden"]))
        return StoredPage(row["ordinal"], row["number"], tuple(json.loads(row["heading"])), row["text"], hidden)

    def characters(self, owner: str, document: str) -> int:
        """Of all its pages together; 0 where the owner has no such document."""
        sizes = "SELECT coalesce(sum(length(text)), 0) FROM pages JOIN documents ON documents.id = document WHERE owner = ? AND id = ?"
        return self.database.connection.execute(sizes, (owner, document)).fetchone()[0]

    def delete(self, owner: str, document: str) -> Gone:
        """Delete a document with its pages, chunks, words, embeddings, jobs, and its quotes in kept answers; the bytes are overwritten
        on disk. Raises KeyError where the owner has no such document."""
        with self.database.transaction():
            self.get(owner, document)
            gone = self._delete(owner, [document])
        self.database.checkpoint()
        return gone

    def _delete(self, owner: str, documents: Sequence[str]) -> Gone:
        chunks: list[int] = []
        files: list[str] = []
        with self.database.transaction() as write:
            for document in documents:
                chunks += [row["id"] for row in write.execute("DELETE FROM chunks WHERE document = ? RETURNING id", (document,))]
                files += [row["sha256"] for row in write.execute("DELETE FROM documents WHERE id = ? RETURNING sha256", (document,))]
                unquote(write, owner, "document_id", document)
        return Gone(tuple(chunks), tuple(files))

    def files(self) -> set[str]:
        """The hashes of all files that any document stands on."""
        return {row["sha256"] for row in self.database.connection.execute("SELECT DISTINCT sha256 FROM documents")}

    def standing_on(self, sha256: str) -> int:
        """How many documents, of all owners, stand on a file."""
        return self.database.connection.execute("SELECT count(*) FROM documents WHERE sha256 = ?", (sha256,)).fetchone()[0]

    # ---------------------------------------------------------------- ingestion

    def parsed(self, document: str, parsed: Parsed, chunks: Sequence[Chunk], warnings: Sequence[str] = ()) -> Gone:
        """Store what was read, all at once: from here on it is found by words, and every older version of it is gone.

        Raises KeyError where the document was deleted meanwhile.
        """
        now = time.time()
        with self.database.transaction() as write:
            row = write.execute("SELECT owner FROM documents WHERE id = ?", (document,)).fetchone()
            if row is None:
                raise KeyError(document)
            for ordinal, page in enumerate(parsed.pages):
                hidden = json.dumps([[span.start, span.end] for span in page.hidden])
                heading = json.dumps(list(page.heading), ensure_ascii=False)
                write.execute("INSERT INTO pages VALUES (?, ?, ?, ?, ?, ?)", (document, ordinal, page.number, heading, page.text, hidden))
            for chunk in chunks:
                write.execute(
                    "INSERT INTO chunks (document, owner, page, start, end, kind, context) VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (document, row["owner"], chunk.page, chunk.start, chunk.end, chunk.kind, chunk.context),
                )
            write.execute(
                "UPDATE documents SET state = 'searchable', title = ?, warnings = ?, pages = ?, chunks = ?, updated = ? WHERE id = ?",
                (parsed.title, json.dumps(list(warnings), ensure_ascii=False), len(parsed.pages), len(chunks), now, document),
            )
            write.execute("INSERT INTO jobs (document, step, created) VALUES (?, 'embed', ?)", (document, now))
            gone = self._delete(row["owner"], self._older(document))
        if gone.chunks:
            self.database.checkpoint()
        return gone

    def _older(self, document: str, state: str = "%") -> list[str]:
        """The versions (in a state) of a document that came before it: same owner, same name."""
        rows = self.database.connection.execute(
            "SELECT old.id FROM documents AS new JOIN documents AS old USING (owner, name) "
            "WHERE new.id = ? AND old.rowid < new.rowid AND old.state LIKE ?",
            (document, state),
        )
        return [row["id"] for row in rows]

    def failed(self, document: str, code: str, sentence: str) -> Gone:
        """Say why a document can't be read. The version that it should have replaced stays; earlier failures of that name go."""
        with self.database.transaction() as write:
            row = write.execute(
                "UPDATE documents SET state = 'failed', error = ?, error_code = ?, updated = ? WHERE id = ? RETURNING owner",
                (sentence, code, time.time(), document),
            ).fetchone()
            return self._delete(row["owner"], self._older(document, "failed")) if row else Gone()

    def to_embed(self, document: str, limit: int) -> list[tuple[int, str]]:
        """Chunks without an embedding or a reading: id, and the text that is embedded (context and chunk)."""
        rows = self.database.connection.execute(
            f"{PIECES} WHERE document = ? AND reader = '' ORDER BY id LIMIT ?", (document, limit)
        ).fetchall()
        return [(row["id"], f"{row['context']}\n{text}".strip()) for row, text in self._cut(rows)]

    def embedded(self, ids: Sequence[int], vectors: np.ndarray) -> list[int]:
        """Store embeddings [n, dim]; returns the ids whose chunks are still there."""
        kept = []
        with self.database.transaction() as write:
            for chunk, vector in zip(ids, np.asarray(vectors, "<f4"), strict=True):
                if write.execute("UPDATE chunks SET embedding = ? WHERE id = ?", (vector.tobytes(), chunk)).rowcount:
                    kept.append(chunk)
        return kept

    def ready(self, document: str) -> None:
        with self.database.transaction() as write:
            write.execute(
                "UPDATE documents SET state = 'ready', error = '', error_code = '', updated = ? WHERE id = ?", (time.time(), document)
            )

    def not_embedded(self, document: str, code: str, sentence: str) -> None:
        """Say why a document is found by words alone, and that nothing is left to be done to it."""
        with self.database.transaction() as write:
            write.execute("DELETE FROM jobs WHERE document = ?", (document,))
            write.execute(
                "UPDATE documents SET error = ?, error_code = ?, updated = ? WHERE id = ?", (sentence, code, time.time(), document)
            )

    # ---------------------------------------------------------------- search

    def vectors(self, owner: str) -> tuple[np.ndarray, np.ndarray]:
        """All embeddings of an owner: ids [n] and float32 vectors [n, dim]."""
        rows = self.database.connection.execute(
            "SELECT id, embedding FROM chunks WHERE owner = ? AND embedding IS NOT NULL ORDER BY id", (owner,)
        ).fetchall()
        ids = np.array([row["id"] for row in rows], np.int64)
        vectors = np.frombuffer(b"".join(row["embedding"] for row in rows), "<f4")
        return ids, vectors.reshape(len(ids), -1) if len(ids) else vectors.reshape(0, 0)

    def searchable(self, owner: str) -> list[str]:
        """The documents of an owner that have chunks. Those of a document come, and go, all at once."""
        rows = self.database.connection.execute("SELECT id FROM documents WHERE owner = ? AND chunks > 0 ORDER BY rowid", (owner,))
        return [row["id"] for row in rows]

    def words(self, document: str) -> tuple[list[int], list[str]]:
        """The chunks of a document, and the text that each is found by (context and chunk)."""
        found = self._cut(self.database.connection.execute(f"{PIECES} WHERE document = ? ORDER BY id", (document,)).fetchall())
        return [row["id"] for row, _ in found], [f"{row['context']}\n{text}" for row, text in found]

    def _cut(self, chunks: Sequence[sqlite3.Row]) -> list[tuple[sqlite3.Row, str]]:
        """Each chunk with its text; none whose page is gone meanwhile. Not by SQLite's substr: it reads a page from its beginning for every
        chunk, and a text file is one page, however long."""
        places = json.dumps(sorted({(row["document"], row["page"]) for row in chunks}))
        pages = {
            (row["document"], row["ordinal"]): row["text"]
            for row in self.database.connection.execute(
                "SELECT document, ordinal, text FROM json_each(?) AS place JOIN pages "
                "ON document = json_extract(place.value, '$[0]') AND ordinal = json_extract(place.value, '$[1]')",
                (places,),
            )
        }
        there = [(row, pages.get((row["document"], row["page"]))) for row in chunks]
        return [(row, page[row["start"] : row["end"]]) for row, page in there if page is not None]

    def chunk_ids(self, owner: str, documents: Iterable[str]) -> list[int]:
        """The chunks of some of an owner's documents."""
        wanted = json.dumps(list(documents))
        rows = self.database.connection.execute(
            "SELECT id FROM chunks WHERE owner = ? AND document IN (SELECT value FROM json_each(?))", (owner, wanted)
        )
        return [row["id"] for row in rows]

    def chunks(self, owner: str, ids: Sequence[int]) -> list[StoredChunk]:
        """Chunks by id, in the order asked for; those that are another owner's or gone are left out."""
        rows = self.database.connection.execute(
            "SELECT chunks.id, chunks.document, name, page, number, heading, start, end, kind, context FROM chunks "
            "JOIN documents ON documents.id = chunks.document JOIN pages ON pages.document = chunks.document AND ordinal = page "
            "WHERE chunks.owner = ? AND chunks.id IN (SELECT value FROM json_each(?))",
            (owner, json.dumps(list(map(int, ids)))),
        ).fetchall()
        cut = self._cut(rows)
        found = {row["id"]: StoredChunk(**{**dict(row), "heading": tuple(json.loads(row["heading"])), "text": text}) for row, text in cut}
        return [found[i] for i in map(int, ids) if i in found]
