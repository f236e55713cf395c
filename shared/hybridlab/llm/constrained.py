"""Constrained decoding: before each token, everything that would break the grammar is taken away; what is left is chosen from.

The mask is a question to an automaton: which tokens, byte by byte, lead to a state from which the text can still be completed?
Source: Willard & Louf, Efficient Guided Generation for Large Language Models, arXiv 2307.09702.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.llm.automaton import Automaton
from hybridlab.llm.paged_forward import forward_paged, make_paged_cache
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.transformer.model import MiniTransformer


@exercise
def token_mask(automaton: Automaton, state: int, pieces: Sequence[bytes], end_token: int) -> Bool[Tensor, "vocab"]:
    """Which tokens may come next: True = allowed.

    `pieces[t]` are the bytes of token t. A token is allowed if the automaton can read all of its bytes, one after the other, from
    `state` on: `automaton.step(state, byte)` is the next state, or None where the way ends. A token without bytes is
    not allowed: it would change nothing, for ever.

    `end_token` is the exception: whatever its bytes, it is allowed if and only if `automaton.accepts(state)`.

    Returns: Bool, one entry a token.
    Raises: ValueError if end_token is not a token of the vocabulary.
    Source: arXiv 2307.09702, section 4, without its index.
    """
    if not 0 <= end_token < len(pieces):
        raise ValueError(f"end_token {end_token} is not in the vocabulary of {len(pieces)} tokens")
    allowed = []
    for piece in pieces:
        now: int | None = state
        for byte in piece:
            now = automaton.step(now, byte)
            if now is None:
                break
        allowed.append(now is not None and len(piece) > 0)
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


def plain_pieces(tokenizer: BytePairTokenizer) -> list[bytes]:
    """The bytes of each token; special tokens have none, so that no grammar lets them in."""
    special = set(tokenizer.special.values())
    return [b"" if token in special else piece for token, piece in enumerate(tokenizer.pieces)]


class Constrained(NamedTuple):
    """The new tokens without the end token; `complete` is False where max_new_tokens came before the end of the grammar."""

    tokens: list[int]
    complete: bool


class Grammar:
    """An automaton for a vocabulary, with the masks that were asked for before: states come back, masks are costly."""

    def __init__(self, automaton: Automaton, pieces: Sequence[bytes], end_token: int) -> None:
        self.automaton, self.pieces, self.end_token = automaton, pieces, end_token
        self._masks: dict[int, Bool[Tensor, vocab]] = {}

    def mask(self, state: int) -> Bool[Tensor, "vocab"]:
        if state not in self._masks:
            self._masks[state] = token_mask(self.automaton, state, self.pieces, self.end_token)
        return self._masks[state]

    def after(self, state: int, token: int) -> int:
        """The state behind a token. Raises: ValueError if the grammar does not allow it."""
        for byte in self.pieces[token]:
            following = self.automaton.step(state, byte)
            if following is None:
                raise ValueError(f"token {token} ({self.pieces[token]!r}) is not allowed here")
            state = following
        return state


@torch.no_grad()
def generate_constrained(model: MiniTransformer, prompt: Sequence[int], grammar: Grammar, max_new_tokens: int) -> Constrained:
    """The greedy continuation of `prompt` among those that the grammar allows.

    Raises: ValueError if grammar and model have different vocabularies.
    """
    if len(grammar.pieces) != model.config.vocab_size:
        raise ValueError(f"the grammar's vocabulary has {len(grammar.pieces):,} tokens and the model's {model.config.vocab_size:,}")
    cache = make_paged_cache(model, -(-(len(prompt) + max_new_tokens) // 16))
    sequence, state, fresh = cache.add(), grammar.automaton.start, list(prompt)
    written: list[int] = []
    for _ in range(max_new_tokens):
        hidden = forward_paged(model, torch.tensor([fresh]), cache, [sequence])
        logits = model.lm_head(hidden[0, -1]).masked_fill(~grammar.mask(state), -torch.inf)
        token = int(logits.argmax())
        if token == grammar.end_token:
            return Constrained(written, True)
        state, fresh = grammar.after(state, token), [token]
        written.append(token)
    return Constrained(written, grammar.automaton.accepts(state))
