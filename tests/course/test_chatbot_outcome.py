"""Month 2's project is graded by what the exported adapter answers: asked in another process, whatever was printed."""

import shutil

import pytest
import torch
from coursekit.course import load_course
from coursekit.mistake import Mistake
from coursekit.paths import REPO
from coursekit.runner import Runner
from coursekit.stub import reference_source
from hybridlab.llm import embedded
from hybridlab.llm.chatbot_data import make_groups
from hybridlab.llm.gguf_adapter import save_gguf_adapter
from hybridlab.llm.lora import LoRAConfig, inject_lora

PROJECT = "month02_project"
SYMBOL = "hybridlab.llm.gguf_adapter.interleave_halves"
FILE = "chatbot.gguf"
RECORDED = REPO / "months" / "02_llm" / "project" / "expert" / "sources.gguf"
RIGHT = {str(case.prompt): case.answer for group in make_groups(4, part="test", seed=2024) for case in group}


def one_block(**changes):
    """Adapters (that change nothing yet) for a Llama of SmolLM2's shapes, of which the first block is enough."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "hidden_size": 576, **changes}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=40, num_hidden_layers=1, **shape))
    inject_lora(model, LoRAConfig(rank=2, targets=("q_proj",)))
    return model


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measure the file in a notebook's folder; with `right`, by an engine that answers so many cases as they should be."""
    declared = load_course().week(PROJECT).checks[SYMBOL]
    monkeypatch.setenv("COURSE_NOTEBOOK_FOLDER", str(tmp_path))

    def run(right=None):
        if right is not None:
            asked = []

            class Answers:
                def __init__(self, adapters, threads):
                    assert [path.name for path in adapters] == [FILE]

                def answer(self, prompt, *, adapter, max_tokens, grammar):
                    assert adapter == 0
                    asked.append(prompt)
                    return RIGHT[str(prompt)] if len(asked) <= right else "I do not know."

            monkeypatch.setattr(embedded, "EmbeddedModel", Answers)
        declared.judge(None, outcome=True)

    run.folder = tmp_path
    return run


def refused(call):
    with pytest.raises(Mistake) as error:
        call()
    return error.value.code


def test_no_file_is_named(measure):
    assert refused(measure) == "WEAVE-10"


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_damaged_file_is_named(measure, content):
    path = save_gguf_adapter(one_block(), measure.folder / FILE)
    path.write_bytes(path.read_bytes()[:-500] if content is None else content)
    assert refused(measure) == "WEAVE-11"


def test_an_adapter_of_a_model_of_another_size_is_named(measure):
    save_gguf_adapter(one_block(hidden_size=288), measure.folder / FILE)
    assert refused(measure) == "WEAVE-11"


def test_the_target_is_the_number_of_right_answers(measure):
    save_gguf_adapter(one_block(), measure.folder / FILE)
    measure(right=8)
    assert refused(lambda: measure(right=7)) == "WEAVE-12"


def test_the_engines_time_is_not_the_answers(tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr(Runner, "ask", lambda runner, job: jobs.append(job))
    for folder in (tmp_path, None):
        Runner(load_course().week(PROJECT), folder=folder).check("interleave-halves", reference_source(SYMBOL))
    assert jobs[0]["seconds"] == jobs[1]["seconds"] + 90


@pytest.mark.slow(seconds=40)
def test_the_runner_asks_the_file_beside_the_notebook(tmp_path):
    """In the sandbox, with the real engine: an adapter that changes nothing is told what it lacks, the recorded one passes."""
    answer = reference_source(SYMBOL)
    with Runner(load_course().week(PROJECT), folder=tmp_path) as runner:
        assert runner.check("interleave-halves", answer).code == "WEAVE-10"
        save_gguf_adapter(one_block(), tmp_path / FILE)
        verdict = runner.check("interleave-halves", answer)
        assert (verdict.code, "held-out cases are right" in verdict.evidence) == ("WEAVE-12", True)
        shutil.copy(RECORDED, tmp_path / FILE)
        assert runner.check("interleave-halves", answer).passed
