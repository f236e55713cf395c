"""A model in 8 bits instead of 4 says the same: its numbers, its metadata, its next words."""

import numpy as np
import pytest
import torch
from hybridlab.llm import eight_bits
from hybridlab.llm.eight_bits import in_eight_bits
from hybridlab.llm.embedded import EmbeddedModel
from hybridlab.llm.gguf import GGUFFile
from hybridlab.llm.smollm2 import gguf_path, load_model, load_tokenizer

pytestmark = pytest.mark.slow(seconds=12)
FILE_TYPE = "general.file_type"
SENTENCE = (
    "A package that is removed but not purged leaves its configuration files behind, so that a person who installs it again finds the "
    "machine as it was; whoever wants them gone asks for that by name."
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return in_eight_bits(gguf_path(), tmp_path_factory.mktemp("cache"))


def test_every_number_is_near_and_nothing_else_changes(copy):
    before, after = GGUFFile(gguf_path()), GGUFFile(copy)
    assert {**before.metadata, FILE_TYPE: 7} == after.metadata
    assert list(before.tensors) == list(after.tensors)
    for name in list(before.tensors)[:24]:
        one, other = before.tensor(name), after.tensor(name)
        assert one.shape == other.shape
        largest = np.abs(one.reshape(-1, 32)).max(1, keepdims=True)
        assert (np.abs(one - other).reshape(-1, 32) <= largest / 225).all(), name  # half a step of 127; the scale is a float16


def test_next_words_are_as_likely(copy):
    """Against the same numbers in float32, by transformers; in 4 bits llama.cpp lies 0.07 nats beside them."""
    tokens = load_tokenizer()(SENTENCE)["input_ids"]
    with torch.inference_mode():
        exact = load_model()(torch.tensor([tokens])).logits[0].log_softmax(-1)
    model = EmbeddedModel(base=copy, threads=1)
    beside = [
        abs(value - exact[end - 1, token].item())
        for end in range(8, len(tokens) + 1, 4)
        for token, value in model.next_tokens(tokens[:end]).items()
    ]
    assert np.mean(beside) < 0.15


def test_is_made_once(copy):
    before = copy.stat()
    assert in_eight_bits(gguf_path(), copy.parent) == copy
    assert copy.stat() == before
    assert in_eight_bits(copy, copy.parent) == copy  # nothing in it is of 4 bits


def test_a_conversion_that_ends_suddenly_leaves_nothing(tmp_path, monkeypatch):
    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gguf.GGUFWriter.write_kv_data_to_file", full)
    with pytest.raises(OSError, match="No space"):
        in_eight_bits(gguf_path(), tmp_path)
    assert not list(tmp_path.glob("*.gguf"))
    assert not list(tmp_path.glob("*draft*"))


def test_damaged_file(tmp_path):
    half = tmp_path / "half.gguf"
    half.write_bytes(gguf_path().read_bytes()[:3_000_000])
    with pytest.raises(ValueError, match=r"half\.gguf"):
        eight_bits.in_eight_bits(half, tmp_path)
