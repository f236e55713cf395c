"""A byte-level BPE tokenizer: text to tokens and back, for merges learned here or read from a model's file.

Encoding is fast because a text repeats its words: each word is merged once and then looked up (`_words`), so a megabyte of
text costs one regular expression and one dictionary look-up a word. Only new words meet `merge_word`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hybridlab.llm.bpe import merge_word, split_words, utf8
from hybridlab.llm.byte_alphabet import BYTE_ORDER, from_printable, to_printable

if TYPE_CHECKING:
    from hybridlab.llm.gguf import GGUFFile

MOST_WORDS = 200_000  # in the memory of words: a stream of random words must not fill the machine
LONGEST_WORD = 100  # characters; longer ones come once


class BytePairTokenizer:
    """A vocabulary and its merges.

    `pieces` are the bytes of each token, `merges` pairs of tokens in the order in which they were learned, `special` the
    tokens that no text can produce, by name. A merge makes the token whose piece is that of both together; like every
    vocabulary that was trained in one go, it must make higher tokens the later it was learned (`merge_word` relies on it).
    `becomes` maps each pair to the token that it becomes.

    Raises: ValueError if a merge makes no token, or an earlier one than the merge before it.
    """

    def __init__(self, pieces: Sequence[bytes], merges: Sequence[tuple[int, int]], special: Mapping[str, int]) -> None:
        self.pieces, self.merges, self.special = list(pieces), list(merges), dict(special)
        ordinary = {piece: token for token, piece in enumerate(pieces) if token not in set(special.values())}
        self._byte = {piece[0]: token for piece, token in ordinary.items() if len(piece) == 1}
        self.becomes: dict[tuple[int, int], int] = {}
        last = -1
        for place, (left, right) in enumerate(merges):
            new = ordinary.get(pieces[left] + pieces[right], -1)
            if new <= last:
                made = f"{pieces[left]!r} + {pieces[right]!r}"
                raise ValueError(f"merge {place}, {made}, makes no token above {last}: this layout is not supported")
            self.becomes[left, right] = last = new
        self._words: dict[str, tuple[int, ...]] = {}

    @classmethod
    def trained(cls, merges: Sequence[tuple[int, int]], special: Sequence[str] = ()) -> BytePairTokenizer:
        """The tokenizer of merges that `train_bpe` learned; the special tokens stand behind all others.

        Raises: ValueError if a merge uses a token that is not made before it.
        """
        pieces = [bytes([byte]) for byte in BYTE_ORDER]
        for place, pair in enumerate(merges):
            if not all(0 <= token < len(pieces) for token in pair):
                raise ValueError(f"merge {place} is {pair}, but only the tokens below {len(pieces)} are made before it")
            pieces.append(pieces[pair[0]] + pieces[pair[1]])
        names = {name: len(pieces) + place for place, name in enumerate(special)}
        return cls(pieces + [name.encode() for name in special], merges, names)

    def __len__(self) -> int:
        """The size of the vocabulary, special tokens counted."""
        return len(self.pieces)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text. It is only ever text: "<|im_end|>" in it is eleven letters and signs, no special token.

        Raises: ValueError if the text holds a lone surrogate.
        """
        words, tokens = self._words, []
        for word in split_words(text):
            known = words.get(word)
            tokens += self._merge(word) if known is None else known
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of some tokens, special ones by their names; bytes that form no character become U+FFFD.

        Raises: ValueError if a token is not in the vocabulary.
        """
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """The bytes of some tokens: what a stream has to hold on to until a character is whole."""
        tokens = list(tokens)
        for token in tokens:
            if not 0 <= token < len(self.pieces):
                raise ValueError(f"token {token} is not in this vocabulary of {len(self)}: the tokens come from another tokenizer")
        return b"".join(self.pieces[token] for token in tokens)

    def byte_tokens(self, word: str) -> list[int]:
        """A word before any merge: one token a byte. A byte that the vocabulary lacks (SmolLM2's has 235) is left out, as
        `tokenizers` does where there is no token for the unknown."""
        return [self._byte[byte] for byte in utf8(word) if byte in self._byte]

    def _merge(self, word: str) -> tuple[int, ...]:
        merged = tuple(merge_word(self.byte_tokens(word), self.becomes))
        if len(word) <= LONGEST_WORD:
            if len(self._words) >= MOST_WORDS:
                self._words.clear()
            self._words[word] = merged
        return merged

    @classmethod
    def from_strings(
        cls, vocabulary: Mapping[str, int], merges: Iterable[tuple[str, str]], special: Mapping[str, int]
    ) -> BytePairTokenizer:
        """From a vocabulary as files hold it: printable pieces with their tokens, and merges as pairs of pieces.

        Raises: ValueError if the tokens are not 0, 1, 2 …, or a merge uses a piece that is not in the vocabulary.
        """
        names = dict(vocabulary) | dict(special)
        by_token = {token: name for name, token in names.items()}
        if sorted(by_token) != list(range(len(names))):
            raise ValueError(f"the {len(names):,} tokens are not numbered from 0 to {len(names) - 1:,}")
        ordinary = set(by_token) - set(special.values())
        pieces = [from_printable(by_token[token]) if token in ordinary else by_token[token].encode() for token in range(len(by_token))]
        try:
            return cls(pieces, [(names[left], names[right]) for left, right in merges], special)
        except KeyError as unknown:
            raise ValueError(f"a merge uses {unknown}, which is not in the vocabulary") from None

    @classmethod
    def from_gguf(cls, file: GGUFFile) -> BytePairTokenizer:
        """The tokenizer in a GGUF file's metadata. Raises ValueError, with the file's name, where it is of another kind."""
        kind = file.metadata.get("tokenizer.ggml.model")
        if kind != "gpt2":
            raise ValueError(f"{file.path} holds a tokenizer of the kind {kind!r}; this reader knows byte-level BPE ('gpt2')")
        names, types = file.metadata["tokenizer.ggml.tokens"], file.metadata["tokenizer.ggml.token_type"]
        merges = [tuple(merge.split(" ", 1)) for merge in file.metadata["tokenizer.ggml.merges"]]
        vocabulary = {name: token for token, name in enumerate(names)}
        special = {name: token for name, token in vocabulary.items() if types[token] != 1}  # 1: a normal token
        try:
            return cls.from_strings(vocabulary, merges, special)
        except ValueError as error:
            raise ValueError(f"{file.path}: {error}") from None

    @classmethod
    def from_json(cls, path: str | Path) -> BytePairTokenizer:
        """The tokenizer in a repository's tokenizer.json. Raises ValueError, with the path, where it is of another kind."""
        try:
            whole = json.loads(Path(path).read_text("utf-8"))
            merges = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in whole["model"]["merges"]]
            special = {token["content"]: token["id"] for token in whole["added_tokens"]}
            return cls.from_strings(whole["model"]["vocab"], merges, special)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no tokenizer.json of a byte-level BPE ({error}): fetch the repository again") from None

    def to_strings(self) -> tuple[dict[str, int], list[tuple[str, str]]]:
        """Vocabulary (without special tokens) and merges as files hold them: what `tokenizers.models.BPE` takes."""
        special = set(self.special.values())
        printable = [piece.decode() if token in special else to_printable(piece) for token, piece in enumerate(self.pieces)]
        vocabulary = {piece: token for token, piece in enumerate(printable) if token not in special}
        return vocabulary, [(printable[left], printable[right]) for left, right in self.merges]
