"""Documents in, evidence out: what is uploaded is read and embedded by one background worker, and searched by its owner alone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from hybridlab.rag.chunk import chunk
from hybridlab.rag.parse import DocumentError, Limits
from hybridlab.rag.parse.limited import parse_limited
from hybridlab.rag.parse.sniff import declared_type

from assistant.knowledge.search import Hit, Retriever, Search
from assistant.knowledge.uploads import Uploads, safe_name
from assistant.settings import Settings
from assistant.store import Store
from assistant.store.documents import Document, StoredPage
from assistant.store.jobs import Job

log = logging.getLogger(__name__)

BATCH = 8  # chunks embedded between two looks at what else is to be done
IDLE = 1.0  # seconds between two looks when nothing is to be done


class Knowledge:
    """The room of documents. `encoder` embeds (`hybridlab.rag.embed.E5`). `start()` begins the background worker, `close()` ends it."""

    def __init__(self, store: Store, encoder, settings: Settings):
        self.store, self.encoder, self.settings = store, encoder, settings
        self.uploads = Uploads(settings.uploads, settings.upload_bytes)
        self.searching = Search(store, encoder)
        self._files = threading.Lock()  # between a file's place on disk and the row that speaks of it
        self._wake, self._stop = threading.Event(), threading.Event()
        self._worker: threading.Thread | None = None

    # ---------------------------------------------------------------- for users

    def add(self, owner: str, name: str, stream: BinaryIO) -> Document:
        """Store a file; when this returns, it can't be lost any more, and a job will read it.

        Raises DocumentError where the file is empty, too large, has no usable name, or the disk is full.
        """
        name = safe_name(name)
        upload = self.uploads.receive(stream)
        with self._files:
            self.uploads.place(upload)
            document, _ = self.store.documents.receive(owner, name, declared_type(Path(name), ""), upload.sha256, upload.bytes)
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
            sha256 = self.store.documents.get(owner, document).sha256
            gone = self.store.documents.chunk_ids(owner, [document])
            self.store.documents.delete(owner, document)
            self.searching.remove(owner, gone)
            self._forget_file(sha256)

    def delete_user(self, owner: str) -> None:
        """Delete a user with everything that is theirs. Raises StoreError where there is no such user."""
        with self._files:
            files = {document.sha256 for document in self.store.documents.all(owner)}
            self.store.keys.delete_user(owner)
            self.searching.forget(owner)
            for sha256 in files:
                self._forget_file(sha256)

    def search(
        self, owner: str, query: str, k: int = 5, retriever: Retriever = "fused", documents: Sequence[str] | None = None
    ) -> list[Hit]:
        """The best `k` chunks for a question among the owner's documents (or some of them), best first."""
        return self.searching(owner, query, k, retriever, documents)

    def _forget_file(self, sha256: str) -> None:
        if sha256 not in self.store.documents.files():
            self.uploads.forget(sha256)

    # ---------------------------------------------------------------- the worker

    def start(self) -> None:
        """Repair what a sudden end has left, and begin to work."""
        with self._files:
            self.uploads.sweep(self.store.documents.files())
        self.store.jobs.repair()
        self._worker = threading.Thread(target=self._work, name="ingestion", daemon=True)
        self._worker.start()

    def close(self) -> None:
        """End the worker after its current step; what is left is done after the next start."""
        self._stop.set()
        self._wake.set()
        if self._worker:
            self._worker.join(timeout=30)

    def wait(self, seconds: float) -> bool:
        """Wait until nothing is left to be done; False when it took longer."""
        pause = threading.Event()
        for _ in range(int(seconds * 20)):
            if not self.store.jobs.waiting():
                return True
            pause.wait(0.05)
        return not self.store.jobs.waiting()

    def _work(self) -> None:
        while not self._stop.is_set():
            job = self.store.jobs.take()
            if job is None:
                self._wake.wait(IDLE)
                self._wake.clear()
                continue
            try:
                self._parse(job) if job.step == "parse" else self._embed(job)
            except KeyError:  # deleted while it was being worked on
                self.store.jobs.done(job)
            except Exception:
                log.exception("ingestion: step %s of document %s failed", job.step, job.document)
                if not self.store.jobs.again(job):
                    self.store.documents.failed(job.document, "it could not be read for a reason of the service's own: upload it again.")

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
            )
        except DocumentError as error:
            self.store.documents.failed(job.document, error.sentence)
            self.store.jobs.done(job)
            return
        replaced = self.store.documents.parsed(job.document, parsed, chunk(parsed))
        self.store.jobs.done(job)
        if replaced:
            self.searching.forget(job.owner)
            with self._files:
                self._forget_file(replaced)

    def _embed(self, job: Job) -> None:
        """Embed in small batches; a document that waits to be read goes first."""
        while batch := self.store.documents.to_embed(job.document, BATCH):
            ids, texts = zip(*batch, strict=True)
            vectors = self.encoder.passages(texts)
            kept = set(self.store.documents.embedded(ids, vectors))
            self.searching.add(job.owner, [(i, v) for i, v in zip(ids, vectors, strict=True) if i in kept])
            if self._stop.is_set() or self.store.jobs.reading():
                self.store.jobs.put_back(job)
                return
        self.store.documents.ready(job.document)
        self.store.jobs.done(job)
