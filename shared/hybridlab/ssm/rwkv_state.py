"""What an RWKV carries from one piece of a text to the next."""

from typing import NamedTuple

from torch import Tensor


class RwkvState(NamedTuple):
    """The state of one RWKV block.

    `time` and `channel`: (batch, d_model), the last inputs of time mixing and channel mixing (token shift). `memory`: (batch, 3, d_model)
    in RWKV-4 (see `wkv4`) and (batch, heads, d_head, d_head) in RWKV-7 (see `delta_rule`), in float32 at least.
    """

    time: Tensor
    memory: Tensor
    channel: Tensor
