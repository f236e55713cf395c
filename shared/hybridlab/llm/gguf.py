"""A GGUF file read by hand: header, metadata, table of tensors, then the tensors' bytes.

Layout, all numbers with the low byte first:

    "GGUF", version u32, number of tensors u64, number of metadata entries u64
    metadata: key (u64 length, UTF-8), type u32, value
    tensors:  name (as a key), number of axes u32, sizes u64 (fastest axis first), type u32, offset u64
    filling up to a multiple of `general.alignment` (32), then the data, each tensor at its offset

Source: the GGUF specification in ggml's docs/gguf.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from hybridlab.llm.gguf_blocks import BLOCK, dequantize_q4_1, dequantize_q8_0

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
VERSIONS = (2, 3)


class GGUFError(ValueError):
    """The file can't be read as GGUF; the text names it and says what to do."""


@dataclass(frozen=True)
class Storage:
    """How one type keeps its numbers: so many bytes for so many weights."""

    name: str
    weights: int
    size: int
    read: Callable[[np.ndarray], np.ndarray]


STORAGES = {
    0: Storage("F32", 1, 4, lambda rows: rows.view("<f4")),
    1: Storage("F16", 1, 2, lambda rows: rows.view("<f2").astype(np.float32)),
    3: Storage("Q4_1", BLOCK, 20, dequantize_q4_1),
    8: Storage("Q8_0", BLOCK, 34, dequantize_q8_0),
}


@dataclass(frozen=True)
class TensorInfo:
    """One entry of the tensors' table. `shape` is PyTorch's: rows first, the fastest axis last. `offset` is from the data's begin."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


class GGUFFile:
    """Metadata and tensors of one file. Nothing but the header is read until a tensor is asked for.

    Raises: GGUFError where the file is none, is cut off, or contradicts itself.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise GGUFError(f"{self.path} is not there: check the path, or fetch the model")
        self._bytes = np.memmap(self.path, np.uint8, "r") if self.path.stat().st_size else np.zeros(0, np.uint8)
        self._place = 0
        if (magic := self._take(4)) != b"GGUF":
            raise GGUFError(f"{self.path} is no GGUF file: it begins with {magic!r}, not with b'GGUF'")
        if (version := self._number("<I")) not in VERSIONS:
            raise GGUFError(f"{self.path} is GGUF version {version}; this reader knows {VERSIONS}: convert it anew")
        n_tensors, n_entries = self._number("<Q"), self._number("<Q")
        self.metadata = {self._string(): self._value(self._number("<I")) for _ in range(n_entries)}
        self.tensors = {info.name: info for info in (self._info() for _ in range(n_tensors))}
        alignment = self.metadata.get("general.alignment", 32)
        self.data_begin = math.ceil(self._place / alignment) * alignment
        for info in self.tensors.values():
            if info.type in STORAGES:
                self._raw(info)

    def tensor(self, name: str) -> Float32[np.ndarray, ...]:
        """A tensor's numbers as float32.

        Raises: GGUFError if there is no such tensor, or if it is stored in a way that this reader does not know.
        """
        if name not in self.tensors:
            raise GGUFError(f"{self.path} has no tensor {name!r}; it has {len(self.tensors)}, among them {list(self.tensors)[:3]}")
        info = self.tensors[name]
        if info.type not in STORAGES:
            known = ", ".join(storage.name for storage in STORAGES.values())
            raise GGUFError(f"{name} in {self.path} is stored as type {info.type}; this reader knows {known}: take a file in one of these")
        return STORAGES[info.type].read(self._raw(info)).reshape(info.shape)

    def raw(self, name: str) -> np.ndarray:
        """A tensor's bytes as they lie in the file, one block a row."""
        return self._raw(self.tensors[name])

    def _raw(self, info: TensorInfo) -> np.ndarray:
        storage = STORAGES[info.type]
        if not info.shape or info.shape[-1] % storage.weights:
            raise GGUFError(f"{self.path} is damaged: {info.name} has the shape {info.shape}, no rows of {storage.weights}. Fetch it again")
        begin = self.data_begin + info.offset
        size = math.prod(info.shape) // storage.weights * storage.size
        if begin + size > len(self._bytes):
            raise GGUFError(
                f"{self.path} is cut off: {info.name} should end at byte {begin + size:,}, "
                f"and the file has {len(self._bytes):,}. Fetch it again"
            )
        return self._bytes[begin : begin + size].reshape(-1, storage.size)

    def _take(self, size: int) -> bytes:
        if size > len(self._bytes) - self._place:
            raise GGUFError(
                f"{self.path} is cut off or damaged: at byte {self._place:,} of {len(self._bytes):,} "
                f"it promises {size:,} more. Fetch it again"
            )
        self._place += size
        return self._bytes[self._place - size : self._place].tobytes()

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _string(self) -> str:
        return self._take(self._number("<Q")).decode("utf-8", errors="replace")

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            kind, count = self._number("<I"), self._number("<Q")
            if kind in SCALARS:  # in one go: a vocabulary has 49,152 of them
                dtype = np.dtype(SCALARS[kind])
                return np.frombuffer(self._take(count * dtype.itemsize), dtype).tolist()
            return [self._value(kind) for _ in range(count)]
        if kind not in SCALARS:
            raise GGUFError(f"{self.path} is damaged: at byte {self._place:,} stands a value of the unknown type {kind}. Fetch it again")
        return self._number(SCALARS[kind])

    def _info(self) -> TensorInfo:
        name, axes = self._string(), self._number("<I")
        if axes > 4:
            raise GGUFError(f"{self.path} is damaged: {name!r} has {axes} axes. Fetch it again")
        shape = tuple(self._number("<Q") for _ in range(axes))[::-1]
        return TensorInfo(name, shape, self._number("<I"), self._number("<Q"))
