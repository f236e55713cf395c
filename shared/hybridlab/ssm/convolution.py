"""One linear system, run in two ways: as a recurrence, step by step, and as one long convolution.

    x_k = Ā x_{k-1} + B̄ u_k                     K_j = C Ā^j B̄
    y_k = C x_k                      equals      y_k = K_0 u_k + K_1 u_{k-1} + … + K_k u_0

    as a recurrence     time · n² operations, state of n numbers, one step after the other: for reading as it comes
    as a convolution    time · log(time) operations with the FFT, all steps at once: for training

Symbols as in `discretize`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.ssm.fft_length import fast_length
from hybridlab.ssm.stability import require_finite, require_no_overflow


@exercise
def run_recurrence(
    A_bar: Float[Tensor, "n n"],
    B_bar: Float[Tensor, "n"],
    C: Float[Tensor, "n"],
    u: Float[Tensor, "*batch time"],
    state: Float[Tensor, "*batch n"] | None = None,
) -> tuple[Float[Tensor, "*batch time"], Float[Tensor, "*batch n"]]:
    """Run x_k = Ā x_{k-1} + B̄ u_k, y_k = C x_k over the last axis of u, from `state` (zeros if None).

    Every sequence of the batch has a state of its own. The output at step k already knows u_k. A sequence that is read in pieces, each
    beginning with the state that the one before returned, gives the same outputs as if it were read at once. Gradients flow through
    everything.

    Returns: (y, the state after the last step). With time = 0, an empty y and the state as it came. No input changes.
    Raises: ValueError if a number of u or state is NaN or infinite (and says which of the two), if state is not (*batch, n), or if an
    output overflows: `require_no_overflow("the recurrence", y, A_bar)`, which is given, raises it.
    Source: S4, arXiv 2111.00396, equation 3.
    """
    shape = (*u.shape[:-1], *B_bar.shape)  # (*batch, n)
    if state is None:
        state = u.new_zeros(shape)
    if state.shape != shape:
        raise ValueError(f"state is {tuple(state.shape)}; for u {tuple(u.shape)} it must be {shape}")
    require_finite("u", u)
    require_finite("state", state)
    states = []
    for u_k in u.unbind(-1):  # u[..., k] in a loop would make backward quadratic: a full-size gradient for each slice
        state = state @ A_bar.T + u_k[..., None] * B_bar
        states.append(state)
    y = torch.stack(states, dim=-2) @ C if states else u.clone()
    require_no_overflow("the recurrence", y, A_bar)  # an infinite state makes y NaN even where C is 0
    return y, state


@exercise
def recurrence_kernel(
    A_bar: Float[Tensor, "n n"], B_bar: Float[Tensor, "n"], C: Float[Tensor, "n"], length: int
) -> Float[Tensor, "length"]:
    """The numbers with which the system answers a single 1: K_j = C Ā^j B̄ for j = 0 … length - 1.

    They are its output for the input 1, 0, 0, …; convolved with any other input they give its output for that. Gradients flow to all
    three.

    Returns: (length,), in A_bar's dtype.
    Raises: ValueError if length is less than 1, or if the kernel overflows: `require_no_overflow("the kernel", numbers, A_bar)`, which
    is given, raises it.
    Source: S4, arXiv 2111.00396, equation 5.
    """
    if length < 1:
        raise ValueError(f"length is {length}; a kernel has at least one number")
    powers = [B_bar]
    for _ in range(length - 1):
        powers.append(A_bar @ powers[-1])
    kernel = torch.stack(powers) @ C
    require_no_overflow("the kernel", kernel, A_bar)
    return kernel


@exercise
def causal_convolution(u: Float[Tensor, "*batch time"], kernel: Float[Tensor, "*features taps"]) -> Float[Tensor, "*batch time"]:
    """y_k = K_0 u_k + K_1 u_{k-1} + … + K_k u_0 over the last axis, by way of the FFT.

    What comes before the first u counts as zero: no output knows a later input, nor the end of the sequence. The kernel may be shorter
    or longer than u; what reaches back before the beginning has no effect. Leading axes of the kernel are broadcast against those of u:
    u (batch, d, time) with a kernel (d, taps) gives each feature a kernel of its own. Computed in float32, or in float64 if u or kernel
    is float64.

    Returns: shape and dtype of u. Gradients flow to both. Neither changes.
    Raises: ValueError if u or kernel has an empty last axis, or holds NaN or infinity (the FFT would spread it over every output).
    Source: S4, arXiv 2111.00396, section 2.4.
    """
    time, taps = u.shape[-1], kernel.shape[-1]
    if not time or not taps:
        raise ValueError(f"u has {time} steps and the kernel {taps} taps; both need at least one")
    require_finite("u", u)
    require_finite("kernel", kernel)
    exact = torch.promote_types(torch.promote_types(u.dtype, kernel.dtype), torch.float32)  # the FFT knows no bfloat16
    room = fast_length(time + taps - 1)  # the FFT convolves in a circle: with this much room, the end can't reach round to the beginning
    spectrum = torch.fft.rfft(u.to(exact), n=room) * torch.fft.rfft(kernel.to(exact), n=room)
    return torch.fft.irfft(spectrum, n=room)[..., :time].to(u.dtype)
