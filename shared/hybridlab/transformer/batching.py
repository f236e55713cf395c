"""Batches for next-token prediction, cut at random places from one long row of tokens.

No epochs and no padding: every step draws fresh windows, and each window teaches `time` predictions at once,
because the target of every position is simply the token after it.
"""

import torch
from jaxtyping import Int
from torch import Tensor

from hybridlab.exercise import exercise


@exercise
def random_batch(
    tokens: Int[Tensor, "n_tokens"],
    batch_size: int,
    time: int,
    generator: torch.Generator,
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """Cut `batch_size` windows at random places and return (inputs, targets), both `int64`.

    A window that begins at `s` has the inputs `tokens[s : s + time]`. Its targets are the same window one place
    later, `tokens[s + 1 : s + time + 1]`. Each place where a whole window fits is equally likely: the first is 0,
    and the last is the one whose last target is the last token. Windows may overlap.

    All randomness comes from `generator`: the same generator state gives the same batch, and torch's global
    random state stays untouched. `tokens` may be of any integer type (`uint8` for characters).

    Raises:
        ValueError: there are fewer than `time + 1` tokens, so that not one window fits (the message names both numbers).

    Source: `get_batch` of nanoGPT's train.py does the same.
    """
    n_starts = len(tokens) - time
    if n_starts < 1:
        raise ValueError(
            f"{len(tokens)} tokens hold no window of {time} inputs and their targets: "
            "give a longer text or a smaller time"
        )
    starts = torch.randint(n_starts, (batch_size, 1), generator=generator)
    places = starts + torch.arange(time)  # batch time
    return tokens[places].long(), tokens[places + 1].long()
