"""Promises of the files read by hand: the numbers of `gguf` and `safetensors`, and a sentence for a file that is not whole."""

import json
import random

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
from hybridlab.llm.gguf import GGUFError, GGUFFile
from hybridlab.llm.gguf_blocks import dequantize_q4_1, dequantize_q8_0
from hybridlab.llm.safetensors_file import SafetensorsError, read_table, read_tensors
from hybridlab.llm.smollm2 import gguf_path


@pytest.fixture(scope="module")
def smollm2() -> GGUFFile:
    return GGUFFile(gguf_path())


@pytest.fixture
def small(tmp_path):
    """A file of every kind of entry and tensor that the reader knows."""
    path, rng = tmp_path / "small.gguf", np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("a.text", "Hà Nội 😀")
    writer.add_bool("a.flag", True)
    writer.add_float64("a.double", 0.1)
    writer.add_int8("a.small", -3)
    writer.add_array("a.words", ["x", "", "đ"])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_tensor("f32", rng.standard_normal((3, 5)).astype(np.float32))
    writer.add_tensor("f16", rng.standard_normal((2, 4)).astype(np.float16))
    for kind in (gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0):
        packed = gguf.quantize(rng.standard_normal((4, 64)).astype(np.float32), kind)
        writer.add_tensor(kind.name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q8_0])
def test_blocks_are_unpacked_as_gguf_does(kind):
    own = {"Q4_1": dequantize_q4_1, "Q8_0": dequantize_q8_0}[kind.name]
    rng = np.random.default_rng(1)
    for scale in (1e-4, 1.0, 1000.0):
        blocks = gguf.quantize((scale * rng.standard_normal((50, 32))).astype(np.float32), kind)
        np.testing.assert_array_equal(own(blocks), gguf.dequantize(blocks, kind))


@pytest.mark.slow(seconds=6)
def test_the_models_metadata_and_tensors_are_those_that_gguf_reads(smollm2):
    reader = gguf.GGUFReader(gguf_path())
    assert {t.name: tuple(int(n) for n in t.shape[::-1]) for t in reader.tensors} == {t.name: t.shape for t in smollm2.tensors.values()}
    for key, value in smollm2.metadata.items():
        if not key.startswith("tokenizer.ggml.") or not isinstance(value, list):
            assert reader.fields[key].contents() == value, key
    for tensor in reader.tensors[:11]:  # F32, Q4_1, Q8_0
        np.testing.assert_array_equal(smollm2.tensor(tensor.name), gguf.dequantize(tensor.data, tensor.tensor_type))


def test_every_kind_of_entry_and_tensor_is_read(small):
    file, reader = GGUFFile(small), gguf.GGUFReader(small)
    assert file.metadata["a.text"] == "Hà Nội 😀"
    assert file.metadata["a.words"] == ["x", "", "đ"]
    assert (file.metadata["a.flag"], file.metadata["a.double"], file.metadata["a.small"]) == (True, 0.1, -3)
    assert file.metadata["a.numbers"] == [1, 2, 3]
    for tensor in reader.tensors:
        if tensor.name != "Q4_0":
            np.testing.assert_array_equal(file.tensor(tensor.name), gguf.dequantize(tensor.data, tensor.tensor_type))


def test_what_the_reader_does_not_know_is_named(small):
    file = GGUFFile(small)
    with pytest.raises(GGUFError, match=r"Q4_0 in .*small\.gguf is stored as type 2; this reader knows F32, F16, Q4_1, Q8_0"):
        file.tensor("Q4_0")
    with pytest.raises(GGUFError, match=r"small\.gguf has no tensor 'none'"):
        file.tensor("none")


def test_a_file_cut_off_anywhere_is_one_sentence_with_its_name(small, tmp_path):
    whole, cut = small.read_bytes(), tmp_path / "cut.gguf"
    for size in [*range(0, 800, 7), *range(800, len(whole) - 200, 97)]:
        cut.write_bytes(whole[:size])
        with pytest.raises(GGUFError, match=r"cut\.gguf (is cut off|is no GGUF)") as caught:
            GGUFFile(cut).tensor("Q4_0" if size > len(whole) - 400 else "f32")
        assert "\n" not in str(caught.value)


def test_a_damaged_header_is_read_or_refused_and_nothing_else(small, tmp_path):
    whole, path, rng, refused = small.read_bytes(), tmp_path / "damaged.gguf", random.Random(0), []
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.randrange(600)] = rng.choice([0, 0xFF, 0x7F, rng.randrange(256)])
        path.write_bytes(damaged)
        try:
            GGUFFile(path)
        except GGUFError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all("damaged.gguf" in text for text in refused)


@pytest.mark.parametrize("data", [b"", b"GGUF", b"{}", b"PK\x03\x04 a zip"])
def test_another_file_is_no_gguf(tmp_path, data):
    path = tmp_path / "other.gguf"
    path.write_bytes(data)
    with pytest.raises(GGUFError, match=r"other\.gguf"):
        GGUFFile(path)
    with pytest.raises(GGUFError, match="is not there"):
        GGUFFile(tmp_path / "none.gguf")


# --- safetensors -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tensors(tmp_path):
    generator = torch.Generator().manual_seed(0)
    made = {str(dtype): torch.randn(3, 4, generator=generator).to(dtype) for dtype in (torch.float32, torch.float16, torch.bfloat16)}
    made |= {"whole": torch.arange(5), "empty": torch.zeros(0, 3), "flags": torch.tensor([True, False])}
    safetensors.torch.save_file(made, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def test_tensors_are_those_that_safetensors_reads(tensors):
    expected, read = safetensors.torch.load_file(tensors), dict(read_tensors(tensors))
    assert set(read) == set(expected)
    for name, tensor in expected.items():
        assert read[name].dtype == tensor.dtype
        torch.testing.assert_close(read[name], tensor, rtol=0, atol=0)


def test_a_safetensors_file_that_is_cut_off_or_damaged_is_one_sentence(tensors, tmp_path):
    whole, path = tensors.read_bytes(), tmp_path / "cut.safetensors"
    for size in range(0, len(whole) - 1, 5):
        path.write_bytes(whole[:size])
        with pytest.raises(SafetensorsError, match=r"cut\.safetensors is cut off") as caught:
            read_table(path)
        assert "\n" not in str(caught.value)
    table = {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}
    for wrong in (table, [1], {"x": 3}, {"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}):
        text = json.dumps(wrong).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
        with pytest.raises(SafetensorsError, match=r"cut\.safetensors is cut off or damaged"):
            read_table(path)
    with pytest.raises(SafetensorsError, match="is not there"):
        read_table(tmp_path / "none.safetensors")
