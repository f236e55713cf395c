"""The engines that are compared give the same kind of answer: exactly as many tokens as asked for, the most probable ones."""

import pytest
import torch
from hybridlab.llm.engines import QUESTIONS, LlamaCpp, Own, Transformers, measure, question_prompts
from hybridlab.llm.gguf import GGUFFile
from hybridlab.llm.llama import from_transformers, load_folder
from hybridlab.llm.smollm2 import gguf_path, model_folder
from hybridlab.llm.tokenizer import BytePairTokenizer
from transformers import LlamaConfig, LlamaForCausalLM


def test_ours_gives_transformers_tokens_for_prompts_of_different_lengths():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    network = LlamaForCausalLM(LlamaConfig(vocab_size=96, **sizes)).eval().double()
    for parameter in network.parameters():
        parameter.data.mul_(4)
    prompts = [[5, 6, 7], [1], [9] * 20, [3, 4]]
    ours = Own(from_transformers(network)).answer(prompts, 9)
    assert ours == Transformers(network).answer(prompts, 9)
    assert {len(answer) for answer in ours} == {9}


@pytest.mark.slow(seconds=12)
def test_llama_cpp_begins_as_the_dequantised_weights_do():
    """Its products are rounded to 8 bits, so that near ties may fall the other way: the second-best token is allowed."""
    tokenizer = BytePairTokenizer.from_gguf(GGUFFile(gguf_path()))
    prompts = question_prompts(tokenizer)
    assert len(prompts) == len(QUESTIONS)
    answers = LlamaCpp(1, streams=2).answer(prompts[:3], 3)
    assert {len(answer) for answer in answers} == {3}
    model = load_folder(model_folder(), max_time=128)
    with torch.no_grad():
        for prompt, answer in zip(prompts, answers, strict=False):
            assert answer[0] in model(torch.tensor([prompt]))[0, -1].topk(2).indices.tolist()


def test_speed_is_tokens_over_seconds_and_a_first_call_is_not_counted(monkeypatch):
    calls, clock = [], iter([0.0, 0.5, 10.0, 12.0, 20.0, 28.0])
    monkeypatch.setattr("hybridlab.llm.engines.time.perf_counter", lambda: next(clock))

    class Engine:
        def answer(self, prompts, n_new):
            calls.append((len(prompts), n_new))
            return [[0] * n_new for _ in prompts]

    speed, answers = measure(Engine(), [[1]] * 4, 6)
    assert calls == [(1, 2), (1, 1), (1, 6), (4, 6)]
    assert (speed.first, speed.one, speed.many) == (0.5, 3.0, 3.0)
    assert [len(answer) for answer in answers] == [6] * 4
