"""A small price on forgetting: the mean of dt · |A|, by how much the states of a Mamba-2 fade in a step.

With relu steps this drives the steps of tokens that carry nothing to exactly 0, where the state neither fades nor takes anything in. Steps
that are *nearly* open pay as well (MARGIN), so that they stay shut in a text that differs a little from those of the training.
DEVIATION: neither Mamba paper has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from hybridlab.exercise import exercise
from hybridlab.ssm.mamba2_block import Mamba2Mixer
from hybridlab.ssm.mamba_config import StepKind
from hybridlab.ssm.mamba_model import Mamba

MARGIN = 1.0  # what z has to stay below 0, to cost nothing


@exercise
def fading(z: Float[Tensor, "... heads"], A_log: Float[Tensor, " heads"], kind: StepKind) -> Float[Tensor, "... heads"]:
    """By how much each head's state fades at each token: dt · |A|, so that exp(-fading) of it is left. Never below 0.

    dt is softplus(z) for the kind "softplus", and relu(z), max(z, 0), for "relu"; A = -exp(A_log). Computed in float32 at least,
    whatever comes in: both are widened before anything is computed. No z overflows. Gradients flow to both.

    Raises:
        ValueError: another kind.

    Source: Dao & Gu, 2405.21060, section 7 (softplus). relu is a deviation.
    """
    wide = torch.promote_types(z.dtype, torch.float32)
    if kind == "softplus":
        dt = F.softplus(z.to(wide))
    elif kind == "relu":
        dt = F.relu(z.to(wide))
    else:
        raise ValueError(f"the kind of step is {kind!r}: choose softplus or relu")
    return dt * torch.exp(A_log.to(wide))


@exercise
def survival(fading: Float[Tensor, "... time heads"]) -> Float[Tensor, "... time heads"]:
    """What is left at the end of a text of what each token wrote: exp(-s), where s is the sum of the fading of all tokens *behind* it.

    The last token keeps 1. A token's own fading does not touch what it writes itself. Sums run from the end of the text: the difference
    of two sums from its beginning would lose all small numbers behind one large.
    """
    from_end = fading.flip(-2).cumsum(-2)
    behind = F.pad(from_end[..., :-1, :], (0, 0, 1, 0)).flip(-2)
    return torch.exp(-behind)


class DecayWatch:
    """What the mixers of a model did in its last forward pass."""

    def __init__(self) -> None:
        self.z: dict[Mamba2Mixer, Float[Tensor, "batch time heads"]] = {}

    @property
    def fading(self) -> dict[Mamba2Mixer, Float[Tensor, "batch time heads"]]:
        """dt · |A| of each mixer, in the order of the layers."""
        return self._fading(0.0)

    def price(self, margin: float = MARGIN) -> Float[Tensor, ""]:
        """Mean fading over tokens and heads, summed over the layers, if every z were higher by `margin`; with gradients."""
        return torch.stack([part.mean() for part in self._fading(margin).values()]).sum()

    def _fading(self, margin: float) -> dict[Mamba2Mixer, Float[Tensor, "batch time heads"]]:
        return {mixer: fading(z + margin, mixer.A_log, mixer.config.step) for mixer, z in self.z.items()}


@contextmanager
def watch_decay(model: Mamba) -> Iterator[DecayWatch]:
    """Within the block, the watch knows what steps are made of in the model's last forward pass, layer by layer.

    Raises:
        ValueError: the model is not a Mamba-2.
    """
    if model.config.version != 2:
        raise ValueError(f"version={model.config.version}: the decay of a whole head, dt · A, is Mamba-2's alone")
    watch = DecayWatch()

    def note(mixer: Mamba2Mixer, projected: Float[Tensor, "batch time channels"]) -> None:
        watch.z[mixer] = projected[..., -mixer.config.n_heads :] + mixer.dt_bias

    def hook(mixer: Mamba2Mixer):
        return mixer.in_proj.register_forward_hook(lambda _module, _inputs, projected: note(mixer, projected))

    handles = [hook(layer.mixer) for layer in model.layers]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()
