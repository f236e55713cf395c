"""The month's project is graded by what the notebook's file can do: measured in another process, whatever was printed."""

import dataclasses

import pytest
import torch
from coursekit.course import load_course
from coursekit.mistake import Mistake
from coursekit.runner import Runner
from coursekit.stub import reference_source
from hybridlab.data import shakespeare
from hybridlab.data.characters import CharacterVocabulary
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.pretrained import save_gpt

PROJECT = "month01_project"
SYMBOL = "hybridlab.transformer.pretrained.load_gpt"
FILE = "mini_gpt.pt"


def small_model(vocab_size, **changes):
    torch.manual_seed(0)
    shape = {"d_model": 32, "n_layers": 1, "n_heads": 2, "max_time": 64, **changes}
    return MiniTransformer(TransformerConfig.llama(vocab_size, **shape))


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """Measure the file in a notebook's folder, on a text that a small model learns in a second."""
    vocabulary = CharacterVocabulary("ab")
    easy = torch.arange(4000) % 2
    random = torch.randint(2, (4000,), generator=torch.Generator().manual_seed(0))
    texts = {"honest": shakespeare.Corpus(vocabulary, easy, easy), "leaked": shakespeare.Corpus(vocabulary, random, easy)}
    declared = load_course().week(PROJECT).checks[SYMBOL]
    monkeypatch.setenv("COURSE_NOTEBOOK_FOLDER", str(tmp_path))

    def run(text="honest"):
        monkeypatch.setattr(shakespeare, "load_shakespeare", lambda: texts[text])
        declared.judge(None, outcome=True)

    run.folder, run.vocabulary, run.easy = tmp_path, vocabulary, easy
    return run


def learned(easy):
    model = small_model(2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(200):
        window = easy[step % 2 : step % 2 + 65]
        loss = torch.nn.functional.cross_entropy(model(window[None, :-1])[0], window[1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    return model


def refused(call):
    with pytest.raises(Mistake) as error:
        call()
    return error.value.code


@pytest.mark.slow(seconds=2)
def test_a_model_that_knows_the_unseen_text_passes(measure):
    save_gpt(measure.folder / FILE, learned(measure.easy), measure.vocabulary)
    measure()


def test_no_file_is_named(measure):
    assert refused(measure) == "GPT-10"


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_damaged_file_is_named(measure, content):
    save_gpt(measure.folder / FILE, small_model(2), measure.vocabulary)
    whole = (measure.folder / FILE).read_bytes()
    (measure.folder / FILE).write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert refused(measure) == "GPT-11"


def test_a_model_of_another_text_is_named(measure):
    save_gpt(measure.folder / FILE, small_model(2), CharacterVocabulary("xy"))
    assert refused(measure) == "GPT-11"


def test_a_model_over_the_budget_is_named(measure):
    save_gpt(measure.folder / FILE, small_model(2, d_model=256, n_layers=2), measure.vocabulary)
    assert refused(measure) == "GPT-12"


def test_a_model_that_was_hardly_trained_is_named_with_its_loss(measure):
    model = small_model(2)
    torch.nn.init.constant_(model.norm.weight, 100.0)  # very sure of itself
    save_gpt(measure.folder / FILE, model, measure.vocabulary)
    assert refused(measure) == "GPT-13"


def test_a_model_with_nan_weights_does_not_pass(measure):
    model = small_model(2)
    torch.nn.init.constant_(model.norm.weight, float("nan"))
    save_gpt(measure.folder / FILE, model, measure.vocabulary)
    assert refused(measure) == "GPT-13"


@pytest.mark.slow(seconds=3)
def test_a_model_that_knows_the_unseen_text_better_than_the_trained_one_is_named(measure):
    save_gpt(measure.folder / FILE, learned(measure.easy), measure.vocabulary)
    assert refused(lambda: measure("leaked")) == "GPT-14"


@pytest.mark.slow(seconds=3)
def test_dropout_of_the_saved_shape_does_not_count(measure):
    model = learned(measure.easy)
    model.config = dataclasses.replace(model.config, dropout=0.9)
    save_gpt(measure.folder / FILE, model, measure.vocabulary)
    measure()


@pytest.mark.slow(seconds=7)
def test_the_runner_measures_the_file_beside_the_notebook_on_the_real_text(tmp_path):
    project = load_course().week(PROJECT)
    answer = reference_source(SYMBOL)
    with Runner(project, folder=tmp_path) as runner:
        assert runner.check("load-gpt", answer).code == "GPT-10"
        vocabulary = shakespeare.load_shakespeare().vocabulary
        save_gpt(tmp_path / FILE, small_model(len(vocabulary)), vocabulary)
        verdict = runner.check("load-gpt", answer)
    assert verdict.code == "GPT-13"
    assert "the target is 1.75" in verdict.evidence
