"""A small price on forgetting: the mean of dt · |A|, by how much the states of a Mamba-2 fade in a step.

With relu steps this drives the steps of tokens that carry nothing to exactly 0, where the state neither fades nor takes anything in.
DEVIATION: neither Mamba paper has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.ssm.mamba2_block import Mamba2Mixer
from hybridlab.ssm.mamba_config import step_size
from hybridlab.ssm.mamba_model import Mamba


class DecayWatch:
    """What the mixers of a model did in its last forward pass."""

    def __init__(self) -> None:
        self.fading: dict[Mamba2Mixer, Float[Tensor, "batch time heads"]] = {}

    def mean(self) -> Float[Tensor, ""]:
        """Mean of dt · |A| over tokens and heads, summed over the layers; with gradients."""
        return torch.stack([part.mean() for part in self.fading.values()]).sum()


@contextmanager
def watch_decay(model: Mamba) -> Iterator[DecayWatch]:
    """Within the block, the watch holds dt · |A| of the model's last forward pass, layer by layer.

    Raises:
        ValueError: the model is not a Mamba-2.
    """
    if model.config.version != 2:
        raise ValueError(f"version={model.config.version}: the decay of a whole head, dt · A, is Mamba-2's alone")
    watch = DecayWatch()

    def note(mixer: Mamba2Mixer, projected: Float[Tensor, "batch time channels"]) -> None:
        z = projected[..., -mixer.config.n_heads :] + mixer.dt_bias
        watch.fading[mixer] = step_size(z, mixer.config.step) * torch.exp(mixer.A_log)

    def hook(mixer: Mamba2Mixer):
        return mixer.in_proj.register_forward_hook(lambda _module, _inputs, projected: note(mixer, projected))

    handles = [hook(layer.mixer) for layer in model.layers]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()
