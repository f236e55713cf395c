"""Several questions about one text in one row: what they have in common is read once, and each goes on from there by itself.

Questions about the same sources begin with the same hundreds of tokens. Packed one behind the other they would be read again and
again; here they stand once, as the row's first segment, and every question sees them and itself:

    row       sources …  question 1 answer 1  question 2 answer 2
    segment   0 0 0 0 0  1 1 1 1 1 1 1 1 1 1  2 2 2 2 2 2 2 2 2 2
    position  0 1 2 3 4  5 6 7 …              5 6 7 …

The loss and its gradient are those of one by one: the common part's own states do not depend on what follows.

Source: the tree attention of speculative decoding (SpecInfer, arXiv 2305.09781, section 4.2), used for training.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.llm.instruction import IGNORE, Example
from hybridlab.llm.packing import PackedRows


def common_length(examples: Sequence[Example]) -> int:
    """How many tokens at their beginning all examples share, of those that may be read once for all.

    Each keeps at least the token before its first answer: the answer's first token is predicted from there.

    Raises ValueError where there are no examples, or one of them has no answer.
    """
    if not examples:
        raise ValueError("the training set is empty: a group without examples has nothing in common")
    length = len(examples[0].tokens)
    for number, example in enumerate(examples):
        counted = (example.labels != IGNORE).nonzero()
        if not len(counted):
            raise ValueError(f"example {number} of the group has no answer to learn: all of its labels are masked (-100)")
        length = min(length, max(int(counted[0]) - 1, 0))
        same = example.tokens[:length] == examples[0].tokens[:length]
        length = length if same.all() else int((~same).nonzero()[0])
    return length


@exercise
def prefix_rows(groups: Sequence[Sequence[Example]], pad_token: int = 0) -> PackedRows:
    """One row for each group of examples: their common beginning once, then what is left of each, one after the other.

    `common_length(group)` says how many tokens are common. All rows are filled up to the length of the longest.
    For each row, all int64:
    - `tokens`: the common tokens, then the rest of each example in its order, then `pad_token`;
    - `labels`: -100 for the common tokens and for the first token of each rest (what stands before it in the row
      is another example's); the examples' own labels elsewhere; padding -100;
    - `positions`: 0, 1, 2, … in the common part; each rest goes on where the common part ends; padding 0;
    - `segments`: 0 for the common part, 1 for the first example's rest, 2 for the second's, …; padding -1. Where nothing is
      common, no token has the segment 0.

    The examples themselves are not changed.

    Raises ValueError:
        - if there are no groups; the message says that the training set is empty;
        - what `common_length` raises.
    """
    if not groups:
        raise ValueError("the training set is empty: there is no group to lay out")
    commons = [common_length(group) for group in groups]
    lengths = [common + sum(len(example.tokens) - common for example in group) for common, group in zip(commons, groups, strict=True)]
    shape = (len(groups), max(lengths))
    rows = PackedRows(*(torch.full(shape, fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, (common, group) in enumerate(zip(commons, groups, strict=True)):
        rows.tokens[row, :common] = group[0].tokens[:common]
        rows.positions[row, :common] = torch.arange(common)
        rows.segments[row, :common] = 0
        start = common
        for segment, example in enumerate(group, 1):
            end = start + len(example.tokens) - common
            rows.tokens[row, start:end] = example.tokens[common:]
            rows.labels[row, start + 1 : end] = example.labels[common + 1 :]
            rows.positions[row, start:end] = torch.arange(common, len(example.tokens))
            rows.segments[row, start:end] = segment
            start = end
    return rows


@exercise
def prefix_mask(segments: Int[Tensor, "rows time"]) -> Bool[Tensor, "rows 1 time time"]:
    """Which token may look at which in rows with a common beginning: True = may look.

    A token sees itself and what stands before it in its own segment; from a segment above 0 it also sees all of segment 0, the
    common part (which itself sees nothing of the rest). Padding (segment -1) sees what stands before it among the padding, itself
    included, and nothing else.
    Dimension 1 stands for all heads. The mask lies on the segments' device.
    """
    query, key = segments[:, None, :, None], segments[:, None, None, :]
    return ((query == key) | ((key == 0) & (query > 0))).tril()
