"""A dialogue reads each turn once: the same answers as reading everything anew, in pieces of whole characters."""

import pytest
import torch
from hybridlab.llm.chat import Chat
from hybridlab.llm.chat_template import encode_chat
from hybridlab.llm.request import OutOfBlocks
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.generation import generate
from hybridlab.transformer.model import MiniTransformer


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.trained([], special=["<|im_start|>", "<|im_end|>"])


@pytest.fixture(scope="module")
def model(tokenizer) -> MiniTransformer:
    torch.manual_seed(1)
    made = MiniTransformer(TransformerConfig.llama(len(tokenizer), d_model=32, n_layers=2, n_heads=4, max_time=999)).double().eval()
    for weight in made.parameters():
        weight.data.mul_(4)
    return made


def test_every_turn_gives_what_reading_the_whole_dialogue_gives_and_reads_only_what_is_new(model, tokenizer):
    chat, messages = Chat(model, tokenizer, system="Be brief.", max_tokens=800), [{"role": "system", "content": "Be brief."}]
    for turn, question in enumerate(("Hà Nội?", "And now?", "Bye")):
        pieces = list(chat.say(question, 12))
        messages.append({"role": "user", "content": question})
        prompt = encode_chat(messages, tokenizer)
        alone = generate(model, torch.tensor([prompt]), 12, temperature=0)[0, len(prompt) :].tolist()
        end = tokenizer.special["<|im_end|>"]
        alone = alone[: alone.index(end)] if end in alone else alone
        text = "".join(pieces)
        assert tokenizer.decode_bytes(alone).decode(errors="replace").startswith(text)
        assert len(text.encode()) >= len(tokenizer.decode_bytes(alone)) - 3 or "\ufffd" in text
        messages.append({"role": "assistant", "content": text})
        assert chat.messages == messages
        assert chat.read <= len(prompt)
        if turn:
            assert chat.read < len(encode_chat(messages[-3:], tokenizer)) + 12


def test_a_seed_gives_the_same_dialogue_again(model, tokenizer):
    said = [["".join(Chat(model, tokenizer, temperature=0.9, top_p=0.9, seed=seed).say("x", 20))] for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]


def test_a_dialogue_that_is_too_long_says_so(model, tokenizer):
    chat = Chat(model, tokenizer, system="s", max_tokens=64)
    with pytest.raises(OutOfBlocks, match="blocks are asked for"):
        list(chat.say("a long question " * 9))
