"""Speculative decoding: a cheap draft writes ahead, and the model reads all of it in one pass; what comes out is the model's own.

Decoding is slow because every token fetches all weights from memory. Reading five tokens fetches them once, too. So a draft guesses
a few tokens, the model scores them together, and a rule keeps as many as the model would have written itself.

Source: Leviathan et al., arXiv 2211.17192 (algorithm 1); Chen et al., arXiv 2302.01318.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.llm.paged_forward import forward_paged, make_paged_cache
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.sampling import filter_logits


@exercise
def accept_draft(
    drafted: Int[Tensor, "n_draft"],
    draft_probs: Float[Tensor, "n_draft vocab"],
    target_probs: Float[Tensor, "n_draft_and_one vocab"],
    generator: torch.Generator | None = None,
) -> Int[Tensor, "n_kept_and_one"]:
    """How much of a draft is kept, and the token that follows, so that the result is distributed as if the target had written it.

    Row i of `draft_probs`, q, is the distribution that token i of the draft was drawn from; row i of `target_probs`, p, is what the
    target says at the same place. `target_probs` has one row more: the place behind the draft. From the first token on:

    - the token x is kept with probability min(1, p(x) / q(x));
    - the first that is not kept ends the draft. In its place comes a token drawn from max(0, p - q), made to add up to 1;
    - if all are kept, one more token is drawn from the last row of `target_probs`.

    Greedy decoding is the case in which every row is 1 at one token and 0 elsewhere. A draft of no tokens is allowed. All
    randomness comes from `generator` (None: torch's own). The inputs stay as they are.

    Returns: the kept tokens and the one that follows, int64: between 1 and n_draft + 1 tokens.
    Raises: ValueError if the two do not have the same vocabulary, or target_probs does not have one row more than the draft.
    Source: Leviathan et al., arXiv 2211.17192, section 2.3 and algorithm 1.
    """
    if draft_probs.shape[1] != target_probs.shape[1]:
        raise ValueError(f"the draft's vocabulary has {draft_probs.shape[1]} tokens and the target's {target_probs.shape[1]}")
    if len(target_probs) != len(drafted) + 1:
        raise ValueError(f"a draft of {len(drafted)} tokens needs {len(drafted) + 1} rows of target_probs, got {len(target_probs)}")
    for place, token in enumerate(drafted.tolist()):
        p, q = target_probs[place], draft_probs[place]
        if torch.rand((), generator=generator) * q[token] >= p[token]:
            left = (p - q).clamp(min=0)
            return torch.cat([drafted[:place], torch.multinomial(left, 1, generator=generator)])
    return torch.cat([drafted, torch.multinomial(target_probs[-1], 1, generator=generator)])


class Draft(Protocol):
    """What writes ahead: `propose(tokens, n)` guesses at most n tokens behind `tokens`, with the distribution each was drawn from."""

    vocab_size: int

    def propose(self, tokens: list[int], n: int) -> tuple[Int[Tensor, "n_draft"], Float[Tensor, "n_draft vocab"]]: ...


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn; `temperature=0` is greedy. The target and a model that drafts for it use the same."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def distribution(self, logits: Float[Tensor, "n vocab"]) -> Float[Tensor, "n vocab"]:
        """The probabilities that are drawn from; greedy: 1 at the largest."""
        if self.temperature == 0:
            return F.one_hot(logits.argmax(-1), logits.shape[-1]).to(logits.dtype)
        return filter_logits(logits, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p).softmax(-1)


class PromptLookup:
    """A draft without a model: where the last tokens occurred before, what followed them then. Good at quoting and at code.

    Source: prompt lookup decoding (transformers' `prompt_lookup_num_tokens`).
    """

    def __init__(self, vocab_size: int, longest: int = 3) -> None:
        self.vocab_size, self.longest = vocab_size, longest

    def propose(self, tokens: list[int], n: int) -> tuple[Int[Tensor, "n_draft"], Float[Tensor, "n_draft vocab"]]:
        drafted = torch.tensor(self._followed(tokens)[:n], dtype=torch.int64)
        return drafted, F.one_hot(drafted, self.vocab_size).float()

    def _followed(self, tokens: list[int]) -> list[int]:
        """What followed the last occurrence of the longest run of tokens that the text ends with."""
        for size in range(min(self.longest, len(tokens) - 1), 0, -1):
            end = tokens[-size:]
            for start in range(len(tokens) - size - 1, -1, -1):
                if tokens[start : start + size] == end:
                    return tokens[start + size :]
        return []


class ModelDraft:
    """A second, cheaper model with the same vocabulary that writes ahead; its cache goes back where its guess was not kept."""

    def __init__(self, model: MiniTransformer, max_tokens: int, sampling: Sampling, generator: torch.Generator | None = None) -> None:
        self.model, self.sampling, self.generator = model, sampling, generator
        self.vocab_size = model.config.vocab_size
        self.cache = make_paged_cache(model, -(-max_tokens // 16))
        self.sequence = self.cache.add()
        self.seen: list[int] = []

    def propose(self, tokens: list[int], n: int) -> tuple[Int[Tensor, "n_draft"], Float[Tensor, "n_draft vocab"]]:
        same = next((i for i, (a, b) in enumerate(zip(self.seen, tokens, strict=False)) if a != b), min(len(self.seen), len(tokens)))
        same = min(same, len(tokens) - 1)  # the last token is read again: its logits are wanted
        self.cache.truncate(self.sequence, same)
        fresh, drafted, rows = tokens[same:], [], []
        for _ in range(n):
            hidden = forward_paged(self.model, torch.tensor([fresh]), self.cache, [self.sequence])
            rows.append(self.sampling.distribution(self.model.lm_head(hidden[0, -1:]).detach()))
            fresh = [int(torch.multinomial(rows[-1], 1, generator=self.generator))]
            drafted += fresh
        self.seen = [*tokens, *drafted[:-1]] if n else tokens[:same]
        return torch.tensor(drafted, dtype=torch.int64), torch.cat(rows) if rows else torch.zeros(0, self.vocab_size)


@dataclass
class Speculated:
    """The new tokens, how many were drafted and kept, and in how many passes of the target."""

    tokens: list[int]
    drafted: int = 0
    kept: int = 0
    passes: int = 0

    @property
    def acceptance(self) -> float:
        """The share of drafted tokens that were kept; 0 where nothing was drafted."""
        return self.kept / max(1, self.drafted)


@torch.no_grad()
def speculative_generate(
    model: MiniTransformer,
    draft: Draft,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    n_draft: int = 4,
    sampling: Sampling = Sampling(),
    generator: torch.Generator | None = None,
) -> Speculated:
    """Continue `prompt` by `max_new_tokens` tokens, distributed as if `model` wrote them alone; greedy: the same tokens.

    Raises: ValueError if the draft has another vocabulary, the prompt is empty, or n_draft is less than 1.
    """
    if draft.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"the draft's vocabulary has {draft.vocab_size:,} tokens and the model's {model.config.vocab_size:,}: "
            "a draft has to use the same tokenizer as the model"
        )
    if not len(prompt):
        raise ValueError("the prompt is empty: give at least one token to begin from")
    if n_draft < 1:
        raise ValueError(f"n_draft is {n_draft}; at least one token is drafted")
    cache = make_paged_cache(model, -(-(len(prompt) + max_new_tokens) // 16))
    sequence, tokens, result = cache.add(), list(prompt), Speculated([])
    while (left := len(prompt) + max_new_tokens - len(tokens)) > 0:
        drafted, draft_probs = draft.propose(tokens, min(n_draft, left - 1))
        fresh = tokens[cache.lengths[sequence] :] + drafted.tolist()
        hidden = forward_paged(model, torch.tensor([fresh]), cache, [sequence])
        target_probs = sampling.distribution(model.lm_head(hidden[0, -1 - len(drafted) :]))
        new = accept_draft(drafted, draft_probs, target_probs, generator).tolist()
        cache.truncate(sequence, len(tokens) + len(new) - 1)  # the token behind the kept ones has not been read yet
        tokens += new
        result.drafted += len(drafted)
        result.kept += len(new) - 1
        result.passes += 1
    result.tokens = tokens[len(prompt) :]
    return result
