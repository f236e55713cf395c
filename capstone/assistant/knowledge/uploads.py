"""The uploaded files, by their content's hash. A file is whole and on disk before the database speaks of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import unicodedata
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hybridlab.rag.parse import DocumentError

from assistant.store import StoreError

NAME_LIMIT = 200  # characters
PIECE = 2**20
RESERVED = 8 * 2**20  # bytes: twice the most that SQLite's log grows to by itself


@dataclass(frozen=True)
class Upload:
    """A file that is on disk: where, its SHA-256, and its size in bytes."""

    path: Path
    sha256: str
    bytes: int


def safe_name(name: str) -> str:
    """A document's name as it is stored and shown: the last part of a path, without control characters, at most 200 characters.

    Raises DocumentError where nothing is left of it.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    clean = "".join(c for c in last if unicodedata.category(c)[0] != "C" or c == "\u200d").strip(" .\u200d")
    if len(clean) > NAME_LIMIT:
        stem, dot, ending = clean.rpartition(".")
        clean = f"{stem[: NAME_LIMIT - len(ending) - 2]}….{ending}" if dot and len(ending) < 10 else clean[:NAME_LIMIT]
    if not clean:
        raise DocumentError("bad_name", f"{name[:40]!r} can't be a document's name: give it one with a letter in it.")
    return clean


class Reserve:
    """Room on the disk that is held back, since deleting is written down too and a full disk would forbid it."""

    def __init__(self, path: Path):
        self.path = path

    def take(self) -> None:
        """Hold the room, where there is any."""
        with contextlib.suppress(OSError), self.path.open("ab") as out:
            os.posix_fallocate(out.fileno(), 0, RESERVED)

    def give(self) -> None:
        self.path.unlink(missing_ok=True)


class Uploads:
    """Files in one folder, named by hash, so that the same file is kept once and no name of a user's reaches the disk."""

    def __init__(self, folder: Path, limit: int):
        """Raises StoreError where the folder can't be made."""
        self.folder, self.limit = folder, limit
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StoreError(f"{folder} can't be used for uploaded files ({error.strerror}): choose another folder.") from error

    def path(self, sha256: str) -> Path:
        return self.folder / sha256

    def receive(self, stream: BinaryIO) -> Upload:
        """Write a stream to disk. Raises DocumentError where it is empty, too large, or the disk is full; then nothing is left of it."""
        partial = self.folder / f".incoming-{uuid.uuid4().hex}"
        try:
            digest, size = self._write(stream, partial)
            if size == 0:
                raise DocumentError("empty", "the file is empty: choose the file again.")
        except BaseException as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DocumentError("disk_full", "the disk is full: delete documents or free some space, then upload again.") from error
            raise
        return Upload(partial, digest, size)

    def _write(self, stream: BinaryIO, path: Path) -> tuple[str, int]:
        digest, size = hashlib.sha256(), 0
        with path.open("xb") as out:
            os.fchmod(out.fileno(), 0o600)
            while piece := stream.read(PIECE):
                size += len(piece)
                if size > self.limit:
                    limit = f"{self.limit / 2**20:.0f} MiB"
                    raise DocumentError("too_large", f"the file is larger than {limit}: split it, or compress its pictures.")
                digest.update(piece)
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        return digest.hexdigest(), size

    def place(self, upload: Upload) -> None:
        """Give a received file its place, where `path` finds it. (The caller sees to it that nobody forgets that hash meanwhile.)"""
        os.replace(upload.path, self.path(upload.sha256))
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the name is on disk too
        finally:
            os.close(folder)

    def sweep(self, wanted: Iterable[str]) -> int:
        """Remove every file that is not among the hashes `wanted`; returns how many went."""
        keep, gone = set(wanted), 0
        for path in self.folder.iterdir():
            if path.name not in keep:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                gone += 1
        return gone

    def forget(self, sha256: str) -> None:
        self.path(sha256).unlink(missing_ok=True)
