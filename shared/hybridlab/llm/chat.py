"""A conversation with a model, streamed: what was said stays in the cache, and each turn reads only what is new."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from hybridlab.llm.chat_template import END, encode_chat
from hybridlab.llm.paged_forward import forward_paged, make_paged_cache
from hybridlab.llm.text_stream import whole_characters
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.transformer.generation import choose_token
from hybridlab.transformer.model import MiniTransformer


class Chat:
    """A dialogue of at most `max_tokens` tokens. `say(text)` yields the answer in pieces and remembers both.

    `read` is the number of tokens that the last turn had to read before it could answer.
    """

    def __init__(
        self,
        model: MiniTransformer,
        tokenizer: BytePairTokenizer,
        *,
        system: str | None = None,
        max_tokens: int = 2048,
        temperature: float = 0.0,
        top_p: float | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.tokenizer, self.temperature, self.top_p = model, tokenizer, temperature, top_p
        self.messages = [] if system is None else [{"role": "system", "content": system}]
        self.cache = make_paged_cache(model, -(-max_tokens // 16))
        self.sequence, self.read = self.cache.add(), 0
        self.in_cache: list[int] = []
        self.generator = torch.Generator().manual_seed(seed)

    def say(self, text: str, max_new_tokens: int = 128) -> Iterator[str]:
        """Answer `text`, piece by piece; a piece ends with a whole character.

        Raises: OutOfBlocks where the dialogue has become too long for the cache.
        """
        self.messages.append({"role": "user", "content": text})
        tokens = encode_chat(self.messages, self.tokenizer)
        fresh = self._unread(tokens)
        self.read = len(fresh)
        end, waiting, answer = self.tokenizer.special[END], b"", ""
        for _ in range(max_new_tokens):
            hidden = forward_paged(self.model, torch.tensor([fresh]), self.cache, [self.sequence])
            self.in_cache += fresh
            logits = self.model.lm_head(hidden[:, -1]).detach()
            token = int(choose_token(logits, temperature=self.temperature, top_k=None, top_p=self.top_p, generator=self.generator))
            if token == end:
                break
            fresh = [token]
            piece, waiting = whole_characters(waiting + self.tokenizer.decode_bytes(fresh))
            answer += piece
            if piece:
                yield piece
        self.messages.append({"role": "assistant", "content": answer})

    def _unread(self, tokens: list[int]) -> list[int]:
        """The tokens that the cache does not hold yet; what it holds beyond the common beginning is forgotten."""
        same = 0
        while same < min(len(self.in_cache), len(tokens) - 1) and self.in_cache[same] == tokens[same]:
            same += 1
        self.cache.truncate(self.sequence, same)
        self.in_cache = self.in_cache[:same]
        return tokens[same:]
