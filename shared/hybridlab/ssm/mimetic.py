"""Mimetic initialisation: a Mamba-2 layer that begins as linear attention, and so can look things up before it has learned how."""

import torch

from hybridlab.ssm.mamba2_block import Mamba2Mixer


@torch.no_grad()
def mimetic_init(mixer: Mamba2Mixer) -> None:
    """Change a mixer's new weights in place, so that a token finds what stood behind tokens like itself, and says it.

    From the paper: W_C begins equal to W_B (what is read resembles what was written), the convolution passes on what comes, unmixed, and
    A = -1 in all heads. OUR ADDITIONS, without which a hundred values were not learned in 120 steps: B comes from the token before, so
    that a value is written under the key that stands before it (the paper leaves that shift to another layer); `out_proj` begins as the
    transpose of what makes x, so that a value that is read comes out as itself; D = 0, the layer says only what it finds.

    Raises:
        ValueError: a convolution of width 1 has no token before.

    Source: Trockman et al., 2410.11135, in Mamba-2's parameters.
    """
    if mixer.config.d_conv < 2:
        raise ValueError(f"d_conv={mixer.config.d_conv}: a convolution of at least 2 tokens is needed to see the one before")
    inner, states = mixer.config.d_inner, mixer.config.n_groups * mixer.config.d_state
    rows = mixer.in_proj.weight  # gate, x, B, C, step
    rows[2 * inner + states : 2 * inner + 2 * states] = rows[2 * inner : 2 * inner + states]
    mixer.out_proj.weight.copy_(rows[inner : 2 * inner].T)
    taps = mixer.conv1d.weight  # x, B, C
    taps.zero_()
    taps[..., -1] = 1
    taps[inner : inner + states, :, -2:] = torch.tensor([1.0, 0.0])
    mixer.conv1d.bias.zero_()
    mixer.A_log.zero_()
    mixer.D.zero_()
