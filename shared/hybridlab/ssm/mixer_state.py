"""What a mixer carries from one piece of a text to the next. Its size does not depend on the length of the text."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor


class MixerState(NamedTuple):
    """The state of one Mamba or Mamba-2 mixer.

    `past`: (batch, d_conv - 1, channels), the last inputs of the convolution. `memory`: the scan's state, (batch, d_inner, d_state) in
    Mamba and (batch, heads, d_head, d_state) in Mamba-2, in float32 at least.
    """

    past: Tensor
    memory: Tensor


def state_bytes(states: Iterable[MixerState]) -> int:
    """Bytes that a model's state takes: the sum over its layers."""
    return sum(tensor.nbytes for state in states for tensor in state)
