"""Mimetic initialisation: a Mamba-2 layer that begins as linear attention, and so can look things up before it has learned how."""

import torch

from hybridlab.exercise import exercise
from hybridlab.ssm.mamba2_block import Mamba2Mixer


@exercise
def mimetic_init(mixer: Mamba2Mixer) -> None:
    """Change a new mixer's weights in place, so that a token finds what stood behind tokens like itself, and says it.

    The rows of `in_proj.weight` make, in this order: the gate (d_inner), x (d_inner), B (n_groups · d_state), C (as many), the steps
    (n_heads). The channels of `conv1d` are x, B, C; its last tap reads the present token. Afterwards

    1. the rows of C are those of B: what is read resembles what was written; the other rows stay
    2. all taps are 0 but one, which is 1: for x and C that of the present token, **for B that of the token before**; the bias is 0. So a
       value is written under the key that stands before it, and looked up under the key that asks
    3. `A_log` is 0, A = -1 in all heads; D is 0: the layer says only what it finds
    4. `out_proj.weight` is the transpose of the rows of x: a value that is read comes out as itself

    The parameters stay the same objects and keep learning; none of this is seen by autograd. Nothing else is changed.

    Raises:
        ValueError: a convolution of width 1 has no token before.

    Source: Trockman et al., 2410.11135, in Mamba-2's parameters: 1, A, and taps that pass on what comes. OUR ADDITIONS, without which
    a hundred values were not learned in 120 steps: the shift of B (the paper leaves it to another layer), 4, and D.
    """
    if mixer.config.d_conv < 2:
        raise ValueError(f"d_conv={mixer.config.d_conv}: a convolution of at least 2 tokens is needed to see the one before")
    inner, states = mixer.config.d_inner, mixer.config.n_groups * mixer.config.d_state
    with torch.no_grad():
        rows, taps = mixer.in_proj.weight, mixer.conv1d.weight
        rows[2 * inner + states : 2 * inner + 2 * states] = rows[2 * inner : 2 * inner + states]
        mixer.out_proj.weight.copy_(rows[inner : 2 * inner].T)
        taps.zero_()
        taps[..., -1] = 1
        taps[inner : inner + states, :, -2:] = torch.tensor([1.0, 0.0])
        mixer.conv1d.bias.zero_()
        mixer.A_log.zero_()
        mixer.D.zero_()
