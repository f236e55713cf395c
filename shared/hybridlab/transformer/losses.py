"""From logits to a loss: log-softmax and cross-entropy that survive logits of any size.

Shannon's cross-entropy, in nats: L = -mean_i log p_i[target_i], p = softmax(logits).
exp() overflows float32 above 88.7, so no probability is ever formed from a raw logit.
"""

from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.exercise import exercise


@exercise
def log_softmax(logits: Float[Tensor, "..."], dim: int = -1) -> Float[Tensor, "..."]:
    """The logarithm of softmax along `dim`: logits - log(sum(exp(logits))).

    Same shape and dtype as `logits`. Finite for finite logits of any size (try 1e4 and -1e4), exact where the
    probabilities are too small for float32, and so is its gradient. A logit of minus infinity (a
    forbidden token) gives minus infinity, as long as another one in its row is finite.
    """
    shifted = logits - logits.amax(dim, keepdim=True).detach()
    return shifted - shifted.exp().sum(dim, keepdim=True).log()


@exercise
def cross_entropy(
    logits: Float[Tensor, "*batch vocab"],
    targets: Int[Tensor, "*batch"],
    ignore_index: int = -100,
) -> Float[Tensor, ""]:
    """The mean of -log_softmax(logits)[target], in nats, over the positions whose target is not `ignore_index`.

    Any number of leading axes. A position whose target is `ignore_index` (padding) adds nothing to the loss, to
    its gradient, or to the number that the sum is divided by, whatever stands in its logits (NaN too).
    If all are ignored, the loss is 0, with a gradient of zeros.

    Raises `ValueError` if `targets.shape` is not `logits.shape[:-1]`, or if a target that is not ignored lies
    outside 0 ... vocab - 1 (the message names it).
    """
    if targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"targets have shape {tuple(targets.shape)}, logits {tuple(logits.shape)}: "
            f"one target per row of logits is needed, shape {tuple(logits.shape[:-1])}"
        )
    counted = targets != ignore_index
    rows, wanted = logits[counted], targets[counted]
    outside = (wanted < 0) | (wanted >= logits.shape[-1])
    if outside.any():
        raise ValueError(
            f"target {wanted[outside][0].item()} is outside 0 ... {logits.shape[-1] - 1}; "
            f"use ignore_index={ignore_index} for positions that must not count"
        )
    picked = log_softmax(rows).gather(-1, wanted.unsqueeze(-1))
    return -picked.sum() / max(len(wanted), 1)
