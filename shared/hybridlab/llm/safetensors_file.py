"""A safetensors file read by hand: eight bytes, a JSON table, and the tensors' bytes. No code in it can run.

    u64 length of the table, low byte first
    the table: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …, "__metadata__": {…}}
    the data; offsets count from its begin

Source: the format's description in huggingface/safetensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}


class SafetensorsError(ValueError):
    """The file can't be read as safetensors; the text names it and says what to do."""


def read_table(path: str | Path) -> dict[str, dict]:
    """Name → dtype, shape and data_offsets of every tensor, without reading one.

    Raises: SafetensorsError where the file is none, is cut off, or its table contradicts itself.
    """
    path = Path(path)
    if not path.is_file():
        raise SafetensorsError(f"{path} is not there: check the path, or fetch the model")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise SafetensorsError(f"{path} is cut off or no safetensors file: {size:,} bytes, and a table of {length:,}. Fetch it again")
        try:
            table = json.loads(file.read(length))
            table.pop("__metadata__", None)
            for name, entry in table.items():
                _require_room(name, entry, size - 8 - length)
        except (UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise SafetensorsError(f"{path} is cut off or damaged ({error}). Fetch it again") from None
    return table


def _require_room(name: str, entry: dict, size: int) -> None:
    begin, end = entry["data_offsets"]
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"{name} is of the type {entry['dtype']}; this reader knows {', '.join(DTYPES)}")
    if begin < 0 or end - begin != math.prod(entry["shape"]) * DTYPES[entry["dtype"]].itemsize:
        raise ValueError(f"{name} has {end - begin:,} bytes for the shape {entry['shape']}")
    if end > size:
        raise ValueError(f"{name} should end at byte {end:,} of the data, which has {size:,}")


def read_tensors(path: str | Path) -> Iterator[tuple[str, Shaped[Tensor, "*shape"]]]:
    """Name and values of every tensor, one after the other; each is a copy. Raises SafetensorsError as `read_table` does."""
    table = read_table(path)
    with Path(path).open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        for name, entry in table.items():
            first, last = entry["data_offsets"]
            file.seek(begin + first)
            data = bytearray(file.read(last - first))
            values = torch.frombuffer(data, dtype=DTYPES[entry["dtype"]]) if data else torch.empty(0, dtype=DTYPES[entry["dtype"]])
            yield name, values.reshape(entry["shape"])
