"""Text as numbers, one number per character: the smallest tokenizer there is."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor


@dataclass(frozen=True)
class CharacterVocabulary:
    """The characters that a model knows; a character's place in `characters` is its token.

    >>> vocabulary = CharacterVocabulary.of("banana")
    >>> vocabulary.characters, vocabulary.encode("nab").tolist()
    ('abn', [2, 0, 1])
    """

    characters: str

    def __post_init__(self) -> None:
        if not self.characters or len(set(self.characters)) != len(self.characters):
            raise ValueError(f"a vocabulary needs characters that differ, got {self.characters!r}")

    @classmethod
    def of(cls, text: str) -> "CharacterVocabulary":
        """The vocabulary of all characters in `text`, in sorted order."""
        return cls("".join(sorted(set(text))))

    @cached_property
    def _token_of(self) -> dict[str, int]:
        return {character: token for token, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Int[Tensor, "time"]:
        """One int64 token per character. ValueError names a character that is not in the vocabulary."""
        try:
            return torch.tensor([self._token_of[character] for character in text], dtype=torch.int64)
        except KeyError as unknown:
            raise ValueError(
                f"the character {unknown} is not in this vocabulary of {len(self)} characters: {self.characters!r}"
            ) from None

    def decode(self, tokens: Int[Tensor, "time"]) -> str:
        """The text of a row of tokens; the inverse of `encode`."""
        return "".join(self.characters[token] for token in tokens.tolist())
