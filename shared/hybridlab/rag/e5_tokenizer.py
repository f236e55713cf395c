"""E5's tokenizer: SentencePiece's unigram over 250,000 pieces, of which a start builds those that it needs.

Most pieces are of scripts that neither English nor Vietnamese is written in, and to build them in takes a second: they wait for a text with
such a character. A text without one can only be cut into pieces without one, so its tokens are the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cached_property

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from hybridlab.rag.e5_file import E5File

LATIN = re.compile(r"[\0-\u024f\u02b0-\u036f\u1e00-\u1eff\u2000-\u2bff]*")  # letters, marks, punctuation, and symbols


class E5Tokenizer:
    """Decomposed text (NFD) gives the same ids as composed."""

    def __init__(self, file: E5File):
        self.file = file
        pieces = file.pieces
        least = min(range(len(pieces)), key=lambda i: pieces[i][1])  # what no piece has is scored by the least of all
        self._numbers = sorted({file.unk, least, *(i for i, (piece, _) in enumerate(pieces) if LATIN.fullmatch(piece))})
        self._latin = self._made([pieces[i] for i in self._numbers], self._numbers.index(file.unk))

    @cached_property
    def whole(self) -> Tokenizer:
        """With all pieces."""
        return self._made(self.file.pieces, self.file.unk)

    def encode(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text's tokens, and of which characters each is, from and to."""
        if LATIN.fullmatch(unicodedata.normalize("NFKC", text)):
            made = self._latin.encode(text, add_special_tokens=False)
            return [self._numbers[i] for i in made.ids], made.offsets
        made = self.whole.encode(text, add_special_tokens=False)
        return made.ids, made.offsets

    def _made(self, pieces: Sequence[tuple[str, float]], unk: int) -> Tokenizer:
        tokenizer = Tokenizer(models.Unigram(list(pieces), unk_id=unk))
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
