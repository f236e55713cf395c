"""Text out of bytes, piece after piece, in whatever encoding; what is no text is refused with the place where that shows."""

import codecs
import hashlib
from pathlib import Path

HEAD = 4096  # bytes at the beginning by which a file is known again


class ReadError(ValueError):
    """A text that can't be read, and why."""


class TextDecoder:
    """Turns pieces of a file into pieces of UTF-8. `state` is all that is needed to go on elsewhere.

    Raises:
        ReadError: an encoding that Python does not know.
    """

    def __init__(self, encoding: str) -> None:
        try:
            "".encode(encoding)  # refuses what is a codec, but not of text
            self._decoder = codecs.getincrementaldecoder(encoding)()
        except (LookupError, ValueError):
            raise ReadError(f"{encoding!r} is not an encoding of text that Python knows: try 'utf-8', 'utf-16' or 'cp1252'") from None
        self.encoding, self.taken = encoding, 0

    def feed(self, raw: bytes, *, last: bool) -> bytes:
        """The next piece as UTF-8; half a character at its end waits for the next one.

        Raises:
            ReadError: bytes that mean nothing in this encoding, or a NUL, which no text has: it is binary, or in another encoding.
        """
        waiting, where = len(self._decoder.getstate()[0]), f"bytes {self.taken:,} to {self.taken + len(raw):,}"
        try:
            text = self._decoder.decode(raw, last)
        except UnicodeDecodeError as error:
            place = self.taken - waiting + error.start
            what = f"byte 0x{error.object[error.start]:02x} at {place:,}" if error.start < len(error.object) else f"the end at {place:,}"
            raise ReadError(
                f"{what} is not {self.encoding} ({error.reason}): the file is binary, or in another encoding; name it by encoding='…'"
            ) from None
        except UnicodeError as error:  # some codecs don't say which byte: UTF-16 without its mark
            raise ReadError(f"{where} are not {self.encoding} ({error}): it is another encoding; name it by encoding='…'") from None
        if "\0" in text:
            raise ReadError(f"a NUL character within {where}: the file is binary, or in another encoding")
        self.taken += len(raw)
        return to_utf8(text)

    @property
    def state(self) -> dict:
        """Plain values, for JSON."""
        waiting, flag = self._decoder.getstate()
        return {"encoding": self.encoding, "taken": self.taken, "waiting": waiting.hex(), "flag": flag}

    @classmethod
    def resumed(cls, state: dict) -> "TextDecoder":
        """The decoder whose `state` it was."""
        decoder = cls(state["encoding"])
        decoder._decoder.setstate((bytes.fromhex(state["waiting"]), state["flag"]))
        decoder.taken = state["taken"]
        return decoder


def to_utf8(text: str) -> bytes:
    """Raises ReadError for half a surrogate pair, which no encoding can write."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ReadError(f"{text[error.start]!r} at character {error.start:,} is half a surrogate pair and no character") from None


def fingerprint(path: Path) -> dict:
    """By what a file is known again: its size, and a hash of its first 4,096 bytes."""
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "head": hashlib.sha256(file.read(HEAD)).hexdigest()}
