"""E5's tokenizer: SentencePiece's unigram over 250,000 pieces, of which a start builds those that it needs.

Most pieces are of scripts that neither English nor Vietnamese is written in, and to build them in takes a second: they wait for a text with
such a character. A text without one can only be cut into pieces without one, so its tokens are the same.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from hybridlab.rag.e5_file import E5File

LATIN = ((0x0, 0x24F), (0x2B0, 0x36F), (0x1E00, 0x1EFF), (0x2000, 0x2BFF))  # letters, marks, punctuation, and symbols
IN_LATIN = re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in LATIN) + "]*")


class E5Tokenizer:
    """Decomposed text (NFD) gives the same ids as composed."""

    def __init__(self, file: E5File):
        self.file = file
        least = int(file.pieces.scores.argmin())  # what no piece has is scored by the least of all
        numbers = np.union1d([file.unk, least], file.pieces.within(LATIN))
        self._numbers: list[int] = numbers.tolist()
        self._latin = self._made(file.pieces.of(numbers), self._numbers.index(file.unk))

    @cached_property
    def whole(self) -> Tokenizer:
        """With all pieces."""
        return self._made(self.file.pieces.of(np.arange(len(self.file.pieces))), self.file.unk)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text's tokens, and of which characters each is, from and to."""
        if IN_LATIN.fullmatch(unicodedata.normalize("NFKC", text)):
            made = self._latin.encode(text, add_special_tokens=False)
            return [self._numbers[i] for i in made.ids], made.offsets
        made = self.whole.encode(text, add_special_tokens=False)
        return made.ids, made.offsets

    def _made(self, pieces: list[tuple[str, float]], unk: int) -> Tokenizer:
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=unk))
        removed, spaces = (
            Regex("[" + "".join(rf"\x{{{ord(c):x}}}" for c in characters) + "]") for characters in (self.file.removed, self.file.spaces)
        )
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.Replace(removed, ""),
                normalizers.Replace(spaces, " "),
                normalizers.NFKC(),
                normalizers.Replace(Regex(" {2,}"), " "),
                normalizers.Strip(),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        return tokenizer
