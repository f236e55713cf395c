"""What an RWKV carries from one piece of a text to the next, and what its models look at before they read one."""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from jaxtyping import Int
from torch import Tensor

State = TypeVar("State")


class RwkvState(NamedTuple):
    """The state of one RWKV block.

    `time` and `channel`: (batch, d_model), the last inputs of time mixing and channel mixing (token shift). `memory`: (batch, 3, d_model)
    in RWKV-4 (see `wkv4`) and (batch, heads, d_head, d_head) in RWKV-7 (see `delta_rule`), in float32 at least.
    """

    time: Tensor
    memory: Tensor
    channel: Tensor


def layer_states(tokens: Int[Tensor, "batch time"], state: Sequence[State] | None, n_layers: int) -> Sequence[State | None]:
    """The state of each layer: the one given, or None for each.

    Raises:
        ValueError: no tokens; a state of another number of layers.
    """
    if not tokens.numel():
        raise ValueError(f"tokens has shape {tuple(tokens.shape)}: there is nothing to read")
    if state is None:
        return [None] * n_layers
    if len(state) != n_layers:
        raise ValueError(f"a state of {len(state)} layers was given, and the model has {n_layers}: it belongs to another model")
    return state
