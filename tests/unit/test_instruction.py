"""Dialogues as tokens and labels: SmolLM2's own template, several turns, and what happens when it is too long."""

import pytest
import torch
from hybridlab.llm.instruction import IGNORE, dialogue_example, dialogue_pieces
from hybridlab.llm.smollm2 import load_tokenizer

SYSTEM = {"role": "system", "content": "Answer in one word."}


def ask(n: int) -> dict[str, str]:
    return {"role": "user", "content": f"Question {n}, and a few words more?"}


def say(n: int) -> dict[str, str]:
    return {"role": "assistant", "content": f"Answer{n}"}


LONG = [SYSTEM, ask(1), say(1), ask(2), say(2), ask(3), say(3)]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


def whole(tokenizer, messages) -> list[int]:
    """transformers' own rendering and tokens of a dialogue."""
    return tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)


def learned(tokenizer, example) -> str:
    return tokenizer.decode(example.labels[example.labels != IGNORE])


@pytest.mark.parametrize("messages", [LONG, LONG[:3], LONG[1:3], LONG[1:5]], ids=["long", "one", "no-system", "two"])
def test_the_tokens_are_those_of_the_chat_template(tokenizer, messages):
    example = dialogue_example(messages, tokenizer, 500)
    expected = whole(tokenizer, messages)
    assert expected[: len(example.tokens)] == example.tokens.tolist()
    assert tokenizer.decode(expected[len(example.tokens) :]).strip() == ""  # only the line break after the last answer is left out


def test_every_answer_is_learned_with_the_mark_that_ends_it_and_nothing_else(tokenizer):
    example = dialogue_example(LONG, tokenizer, 500)
    assert learned(tokenizer, example) == "Answer1<|im_end|>Answer2<|im_end|>Answer3<|im_end|>"
    counted = example.labels != IGNORE
    assert torch.equal(example.labels[counted], example.tokens[counted])
    assert example.tokens.dtype == example.labels.dtype == torch.int64


def test_at_inference_the_model_is_asked_with_the_same_tokens(tokenizer):
    pieces = dialogue_pieces(LONG[:3], tokenizer)
    asked = tokenizer.apply_chat_template(LONG[:2], tokenize=True, add_generation_prompt=True, return_dict=False)
    assert pieces[0].tokens == asked


def test_a_dialogue_that_is_too_long_loses_its_oldest_exchanges_whole(tokenizer):
    lengths = {n: len(dialogue_example([SYSTEM, *LONG[2 * n + 1 :]], tokenizer, 500).tokens) for n in range(3)}
    for n, length in lengths.items():
        for max_time in (length, length + 1):
            example = dialogue_example(LONG, tokenizer, max_time)
            expected = dialogue_example([SYSTEM, *LONG[2 * n + 1 :]], tokenizer, 500)
            assert torch.equal(example.tokens, expected.tokens)
            assert torch.equal(example.labels, expected.labels)
    with pytest.raises(ValueError, match=f"alone has {lengths[2]} tokens, and max_time is {lengths[2] - 1}"):
        dialogue_example(LONG, tokenizer, lengths[2] - 1)


def test_a_dialogue_without_an_answer_at_its_end_is_refused(tokenizer):
    for messages in ([], LONG[:2], LONG[:4]):
        with pytest.raises(ValueError, match="must end with an assistant's message"):
            dialogue_example(messages, tokenizer, 100)


def test_a_template_that_writes_earlier_turns_anew_is_refused():
    class Forgetful:
        eos_token = "|"

        def apply_chat_template(self, messages, tokenize, add_generation_prompt):
            shown = [m["content"] if i == len(messages) - 1 else "…" for i, m in enumerate(messages)]
            return "|".join(shown) + ("|>" if add_generation_prompt else "|")

    with pytest.raises(ValueError, match="changes what stands before message"):
        dialogue_pieces(LONG[:5], Forgetful())
