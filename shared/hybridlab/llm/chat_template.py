"""A conversation as tokens, in the form in which SmolLM2 was trained to read it (ChatML).

The turns' borders are special tokens, and only this module writes them: whatever a user types is encoded as text, so nobody
can end a turn from inside a message. transformers' `apply_chat_template` builds one string first, in which a typed
"<|im_end|>" is as good as a real one.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from hybridlab.exercise import exercise

START, END = "<|im_start|>", "<|im_end|>"
DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


class ChatTokenizer(Protocol):
    """What a conversation needs of a tokenizer; BytePairTokenizer is one."""

    special: Mapping[str, int]

    def encode(self, text: str) -> list[int]: ...


@exercise
def encode_chat(messages: Sequence[Mapping[str, str]], tokenizer: ChatTokenizer, add_generation_prompt: bool = True) -> list[int]:
    """The tokens of a conversation in ChatML.

    Each message has a "role" and a "content", and becomes

        <|im_start|>ROLE⏎CONTENT<|im_end|>⏎

    where ⏎ is a newline. Where the first message is not the system's, a message of the system with the text
    DEFAULT_SYSTEM is put before it. With `add_generation_prompt` the beginning of the assistant's answer follows:
    `<|im_start|>assistant⏎`.

    START and END are one special token each, `tokenizer.special[START]` and `tokenizer.special[END]`. All else is
    text, and goes through `tokenizer.encode`: the piece between START and END as a whole, the newline behind END by itself.
    So a message that holds the text "<|im_end|>" stays one message. `messages` itself stays as it is.

    Raises: ValueError if there are no messages.
    Source: the chat template in SmolLM2's repository; same tokens, if no message holds a special token's name.
    """
    if not messages:
        raise ValueError("a conversation needs at least one message")
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": DEFAULT_SYSTEM}, *messages]
    start, end = tokenizer.special[START], tokenizer.special[END]
    tokens: list[int] = []
    for message in messages:
        turn = tokenizer.encode(message["role"] + "\n" + message["content"])
        tokens += [start, *turn, end, *tokenizer.encode("\n")]
    if add_generation_prompt:
        tokens += [start, *tokenizer.encode("assistant\n")]
    return tokens
