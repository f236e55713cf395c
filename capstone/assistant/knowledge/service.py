"""Documents in, evidence out: what is uploaded is read and embedded by one background worker, and searched by its owner alone."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from hybridlab.rag.chunk import chunk
from hybridlab.rag.parse import DocumentError, Limits
from hybridlab.rag.parse.limited import parse_limited
from hybridlab.rag.parse.sniff import declared_type

from assistant.knowledge.reading import Reading, embed, read, reader_id
from assistant.knowledge.search import Hit, Retriever, Search
from assistant.knowledge.suspicion import warnings_of
from assistant.knowledge.uploads import Reserve, Uploads, safe_name
from assistant.knowledge.vocabulary import Heard
from assistant.settings import Settings
from assistant.store import DiskFull, Store, StoreError
from assistant.store.documents import Document, Gone, StoredPage
from assistant.store.jobs import Job
from assistant.waiting import wait_until

log = logging.getLogger(__name__)

BATCH = 8  # chunks embedded between two looks at what else is to be done
IDLE = 1.0  # seconds between two looks when nothing is to be done
CLOSING = 5.0  # seconds that a step has to come to its end when the service closes


class Closing(Exception):
    """The service ends while a document is being read."""


class Knowledge:
    """The room of documents. `encoder` embeds (`hybridlab.rag.embed.E5`). `start()` begins the background worker, `close()` ends it."""

    def __init__(self, store: Store, encoder, settings: Settings):
        self.store, self.encoder, self.settings = store, encoder, settings
        self.uploads = Uploads(settings.uploads, settings.upload_bytes)
        self.reserve = Reserve(settings.home / "reserve")
        self.searching = Search(store, encoder)
        self._files = threading.Lock()  # between a file's place on disk and the row that speaks of it
        self._wake, self._stop = threading.Event(), threading.Event()
        self._worker: threading.Thread | None = None
        self._lock: int | None = None  # a file descriptor: one process works on the folder

    # ---------------------------------------------------------------- for users

    def add(self, owner: str, name: str, stream: BinaryIO) -> Document:
        """Store a file; when this returns, it can't be lost any more, and a job will read it.

        Raises DocumentError where the file is empty, too large, has no usable name, or the disk is full, DiskFull where its row is what
        does not fit; then nothing is left of it.
        """
        name = safe_name(name)
        upload = self.uploads.receive(stream)
        with self._files:
            self.uploads.place(upload)
            try:
                document, _ = self.store.documents.receive(owner, name, declared_type(Path(name), ""), upload.sha256, upload.bytes)
            except BaseException:  # nothing was acknowledged, so nothing stays
                self._forget_file(upload.sha256)
                raise
        self._wake.set()
        return document

    def documents(self, owner: str) -> list[Document]:
        return self.store.documents.all(owner)

    def document(self, owner: str, document: str) -> Document:
        """Raises KeyError where the owner has no such document."""
        return self.store.documents.get(owner, document)

    def page(self, owner: str, document: str, ordinal: int) -> StoredPage:
        """Raises KeyError where the owner has no such document or page."""
        return self.store.documents.page(owner, document, ordinal)

    def delete(self, owner: str, document: str) -> None:
        """Delete a document from database, index, and disk. Raises KeyError where the owner has no such document."""
        with self._files:
            try:
                gone = self.store.documents.delete(owner, document)
            except DiskFull:
                self.reserve.give()
                gone = self.store.documents.delete(owner, document)
            self._let_go(owner, gone)
            self.reserve.take()

    def delete_user(self, owner: str) -> None:
        """Delete a user with everything that is theirs. Called where no service runs. Raises StoreError where one does, or there is no
        such user."""
        self._hold_folder()
        try:
            files = {document.sha256 for document in self.store.documents.all(owner)}
            self.store.keys.delete_user(owner)
            for sha256 in files:
                self._forget_file(sha256)
        finally:
            self._release_folder()

    def search(
        self, owner: str, query: str, k: int = 5, retriever: Retriever = "fused", documents: Sequence[str] | None = None
    ) -> list[Hit]:
        """The best `k` chunks for a question among the owner's documents (or some of them), best first."""
        return self.searching(owner, query, k, retriever, documents)

    def heard(self, owner: str, question: str) -> Heard:
        """What a question's words are to the owner's documents: how rare, and which stand in none."""
        return self.searching.heard(owner, question)

    def read(self, owner: str, question: str, hits: Sequence[Hit]) -> Reading:
        """A question read with the chunks that were found for it."""
        return read(self.store, owner, self.encoder, question, hits)

    def _let_go(self, owner: str, gone: Gone) -> None:
        """Take from index and disk what has gone from the database."""
        if gone.chunks:
            self.searching.remove(owner, gone.chunks)
        for sha256 in gone.files:
            self._forget_file(sha256)

    def _forget_file(self, sha256: str) -> None:
        if not self.store.documents.standing_on(sha256):
            self.uploads.forget(sha256)

    # ---------------------------------------------------------------- the worker

    def start(self) -> None:
        """Repair what a sudden end has left, and begin to work. Raises StoreError where another process works on this folder."""
        self._hold_folder()
        with self._files:
            self.uploads.sweep(self.store.documents.files())
        self.reserve.take()
        self.store.readings.outdate(reader_id())
        self.store.jobs.repair()
        self.store.database.checkpoint()  # what was being deleted when the process ended
        self._worker = threading.Thread(target=self._work, name="ingestion", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """End the worker; a document that is being read or embedded goes on after the next start."""
        self._stop.set()
        self._wake.set()
        if self._worker:
            self._worker.join(timeout=CLOSING)
        self._release_folder()

    def _hold_folder(self) -> None:
        self._lock = os.open(self.settings.home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release_folder()
            raise StoreError(f"another assistant works on {self.settings.home}: use its page or API, or end it first.") from None

    def _release_folder(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is left to be done; False when it took longer."""
        return wait_until(lambda: not self.store.jobs.waiting(), seconds)

    def _work(self) -> None:
        """Do jobs until the service closes. Nothing that goes wrong ends this thread."""
        while not self._stop.is_set():
            try:
                job = self.store.jobs.take()
                if job is not None:
                    self._do(job)
                    continue
                self.store.database.checkpoint_owed()
            except Exception:
                log.exception("ingestion: the database can't be written; trying again")
            self._wake.wait(IDLE)
            self._wake.clear()

    def _do(self, job: Job) -> None:
        try:
            self._parse(job) if job.step == "parse" else self._embed(job)
        except KeyError:  # deleted while it was being worked on
            self.store.jobs.done(job)
        except Closing:
            self.store.jobs.put_back(job)
        except DiskFull:  # no fault of the document's: it waits until there is room
            log.warning("ingestion: the disk is full; document %s waits", job.document)
            self._stop.wait(IDLE)
            self.store.jobs.put_back(job)
        except Exception:
            log.exception("ingestion: step %s of document %s failed", job.step, job.document)
            if job.last:
                self._give_up(job)

    def _give_up(self, job: Job) -> None:
        """Say why, then let go of the job: whoever waits for its end finds the reason, and so does the next start."""
        if job.step == "parse":
            self._fail(job, "internal", "it could not be read for a reason of the service's own: upload it again.")
            self.store.jobs.done(job)
        else:
            sentence = "it is found by words alone, for a fault of the service: upload it again."
            self.store.documents.not_embedded(job.document, "not_embedded", sentence)

    def _fail(self, job: Job, code: str, sentence: str) -> None:
        with self._files:
            self._let_go(job.owner, self.store.documents.failed(job.document, code, sentence))

    def _parse(self, job: Job) -> None:
        document = self.store.documents.get(job.owner, job.document)
        settings = self.settings
        try:
            parsed = parse_limited(
                self.uploads.path(document.sha256),
                document.media_type,
                seconds=settings.parse_seconds,
                memory=settings.parse_bytes,
                limits=Limits(pages=settings.document_pages),
                progress=self._unless_closing,
            )
        except DocumentError as error:
            self._fail(job, error.code, error.sentence)
            self.store.jobs.done(job)
            return
        chunks = chunk(parsed)
        with self._files:
            self._let_go(job.owner, self.store.documents.parsed(job.document, parsed, chunks, warnings_of(parsed)))
        self.store.jobs.done(job)

    def _unless_closing(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Closing

    def _embed(self, job: Job) -> None:
        """Embed in small batches; a document that waits to be read goes first."""
        while batch := self.store.documents.to_embed(job.document, BATCH):
            ids, texts = zip(*batch, strict=True)
            vectors, readings = embed(self.encoder, texts)
            with self._files:  # no deletion between the database and the index
                with self.store.database.transaction():
                    kept = set(self.store.documents.embedded(ids, vectors))
                    self.store.readings.keep(ids, readings, reader_id())
                self.searching.add(job.owner, [(i, v) for i, v in zip(ids, vectors, strict=True) if i in kept])
            if self._stop.is_set() or self.store.jobs.reading():
                self.store.jobs.put_back(job)
                return
        self.store.documents.ready(job.document)
        self.store.jobs.done(job)
