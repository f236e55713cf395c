"""Packing: several short examples in one row, each as if it stood alone.

Padding makes every example as long as the longest; packing fills the room with other examples. Three things keep them apart:
attention within an example only, positions that restart, and no label that asks for an example's first token (the
last token of its neighbour would have to predict it). Then the losses are those of one by one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.llm.instruction import IGNORE, Example


class PackedRows(NamedTuple):
    """Examples in rows of equal length. Padding has the segment -1 and the label -100."""

    tokens: Int[Tensor, "rows time"]
    labels: Int[Tensor, "rows time"]
    positions: Int[Tensor, "rows time"]  # the place within the example: 0, 1, 2, … and 0 again where the next begins
    segments: Int[Tensor, "rows time"]  # which example of the row: 0, 1, 2, …; -1 is padding


@exercise
def pack_examples(examples: Sequence[Example], max_time: int, pad_token: int = 0) -> PackedRows:
    """Put examples into as few rows as first-fit finds, each row at most `max_time` tokens long.

    First-fit: take the examples in their order; each goes behind the others in the first row that has room for it,
    or opens a new row at the end. All rows are filled up to the length of the fullest one (not to `max_time`).

    For each row, all int64:
    - `tokens`: the examples' tokens one after the other, then `pad_token`;
    - `labels`: their labels, but -100 for each example's first token, which nothing of its own can predict; padding -100;
    - `positions`: 0, 1, 2, … within each example, beginning at 0 again with the next one; padding 0;
    - `segments`: 0 for the row's first example, 1 for its second, …; padding -1.

    The examples themselves are not changed.

    Raises ValueError:
        - if there are no examples; the message says that the training set is empty;
        - if an example is longer than `max_time`; the message names its number and its length.

    Source: Efficient Sequence Packing without Cross-contamination, arXiv 2107.02027; first-fit bin packing.
    """
    if not examples:
        raise ValueError("the training set is empty: there is no example to pack")
    rows: list[list[Example]] = []
    used: list[int] = []
    for number, example in enumerate(examples):
        length = len(example.tokens)
        if length > max_time:
            raise ValueError(f"example {number} has {length} tokens, and a row holds {max_time}: shorten it, or make max_time larger")
        place = next((row for row in range(len(rows)) if used[row] + length <= max_time), len(rows))
        if place == len(rows):
            rows.append([])
            used.append(0)
        rows[place].append(example)
        used[place] += length
    shape = (len(rows), max(used))
    packed = PackedRows(*(torch.full(shape, fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, members in enumerate(rows):
        start = 0
        for segment, example in enumerate(members):
            end = start + len(example.tokens)
            packed.tokens[row, start:end] = example.tokens
            packed.labels[row, start + 1 : end] = example.labels[1:]
            packed.positions[row, start:end] = torch.arange(end - start)
            packed.segments[row, start:end] = segment
            start = end
    return packed


@exercise
def packed_mask(segments: Int[Tensor, "rows time"]) -> Bool[Tensor, "rows 1 time time"]:
    """Which token may look at which in packed rows: True = may look.

    A token sees itself and what stands before it in its own segment, and nothing else. Padding (segment -1) follows the same
    rule among itself: so no row of the mask is empty, and softmax has something to divide by. Dimension 1 stands for all heads.
    The mask lies on the segments' device.
    """
    same = segments[:, None, :, None] == segments[:, None, None, :]  # (rows, 1, query, key)
    return same.tril()
