"""Instruction data: a dialogue becomes tokens, and labels that count in the answers alone.

Notable:
- The chat template is the tokenizer's own, so a model is tuned on exactly the text that it will be asked with.
- Prompt and answer are tokenised apart, as at inference: there the model's answer begins with a token of its own, too.
- The mark that ends an answer is part of it: a model that never learned to write it never stops.
- A dialogue that is too long loses its oldest exchanges, whole; never a piece of the last question, never the answer.

Source: the masking of TRL's SFTTrainer (`assistant_only_loss`); ChatML for SmolLM2's template.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from hybridlab.exercise import exercise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100  # the label that no loss counts (PyTorch's ignore_index)
Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": …}


class Piece(NamedTuple):
    """A stretch of a dialogue's tokens that is either given to the model or to be written by it."""

    tokens: list[int]
    is_answer: bool


class Example(NamedTuple):
    """One dialogue to learn from. `labels[i]` is `tokens[i]` where that token is to be learned, and -100 elsewhere."""

    tokens: Int[Tensor, "time"]
    labels: Int[Tensor, "time"]


def dialogue_pieces(messages: Sequence[Message], tokenizer: "PreTrainedTokenizerBase") -> list[Piece]:
    """The tokens of a dialogue in pieces: what the model is given, its answer, what it is given next, its next answer …

    An answer is the text of an assistant's message with the mark that ends it (`tokenizer.eos_token`). All the rest is given:
    system and user turns, the head of the assistant's turn, line breaks between turns. After the last answer nothing follows.

    Raises:
        ValueError: the dialogue does not end with an answer; or the template writes earlier turns anew as the dialogue
            goes on, so that they can't be told from what follows.
    """
    if not messages or messages[-1]["role"] != "assistant":
        raise ValueError("a dialogue to learn from must end with an assistant's message: that is the answer")

    def text(count: int, prompt: bool) -> str:
        return tokenizer.apply_chat_template(list(messages[:count]), tokenize=False, add_generation_prompt=prompt)

    pieces, done = [], ""
    for count, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        given, whole = text(count, True), text(count + 1, False)
        if not (given.startswith(done) and whole.startswith(given)):
            raise ValueError(f"the chat template changes what stands before message {count}: tune on one exchange at a time")
        end = whole.rfind(tokenizer.eos_token)
        upto = end + len(tokenizer.eos_token) if end >= len(given) else len(whole)
        for part, is_answer in ((given[len(done) :], False), (whole[len(given) : upto], True)):
            pieces.append(Piece(tokenizer(part, add_special_tokens=False)["input_ids"], is_answer))
        done = whole[:upto]
    return pieces


@exercise
def dialogue_example(messages: Sequence[Message], tokenizer: "PreTrainedTokenizerBase", max_time: int) -> Example:
    """Turn a dialogue into at most `max_time` tokens, with labels that count in the assistant's answers alone.

    `dialogue_pieces(messages, tokenizer)` gives the tokens in pieces `(tokens, is_answer)`; joined in order they are the tokens
    of the example. The label of a token is the token itself in an answer (in every answer of the dialogue), and IGNORE (-100)
    in all that the model is given. Labels are *not* shifted here: the loss does that. Both are int64 of shape (time,).

    A dialogue that is too long is made shorter by leaving out its oldest exchange, again and again, and taking the pieces of
    the shorter dialogue. An exchange begins with a message of the role "user" and goes on to the next one. A system
    message at the beginning always stays. Nothing else is ever cut: half a question would teach to answer what was not said.
    `messages` itself is not changed.

    Raises:
        ValueError: the last exchange alone has more than `max_time` tokens. The message names both numbers.
    """
    pieces = dialogue_pieces(messages, tokenizer)
    start = 1 if messages[0]["role"] == "system" else 0
    system, turns = list(messages[:start]), list(messages[start:])
    while (length := sum(len(piece.tokens) for piece in pieces)) > max_time:
        later = [i for i, message in enumerate(turns) if i > 0 and message["role"] == "user"]
        if not later:
            raise ValueError(
                f"the last exchange alone has {length} tokens, and max_time is {max_time}: make its text shorter, "
                "or max_time larger; cutting it would cut off its answer, or what the answer rests on"
            )
        turns = turns[later[0] :]
        pieces = dialogue_pieces(system + turns, tokenizer)
    tokens = [token for piece in pieces for token in piece.tokens]
    labels = [token if piece.is_answer else IGNORE for piece in pieces for token in piece.tokens]
    return Example(torch.tensor(tokens), torch.tensor(labels))
