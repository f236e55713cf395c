"""Which tokens may be drawn, and how boldly: temperature, top-k and top-p as one change to the logits."""

from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise


@exercise
def filter_logits(
    logits: Float[Tensor, "*batch vocab"],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "*batch vocab"]:
    """Divide the logits by the temperature and set those of tokens that may not be drawn to -inf.

    Three steps, in this order, each on what the step before left:

    1. `temperature`: divide by it. Below 1 the distribution becomes sharper, above 1 flatter.
    2. `top_k`: keep the k largest logits of each row. A token that ties with the k-th is kept too. A k larger than
       the vocabulary keeps everything.
    3. `top_p`: keep the smallest set of most probable tokens whose probabilities add up to at least p. So, going
       from the most probable token down, a token is kept as long as those *before* it add up to less than p: the
       token that crosses p stays, and the most probable one always does. `top_p=1.0` keeps everything.

    `None` leaves a step out. The logits of tokens that stay are those of step 1. The input is not changed.

    Raises:
        ValueError: `temperature` is not above 0 (the greedy choice is an argmax, not a temperature), `top_k` is
            below 1, or `top_p` is not in (0, 1].

    Source: top-k, Hierarchical Neural Story Generation (arXiv 1805.04833); top-p, The Curious Case of Neural Text
    Degeneration (arXiv 1904.09751), section 3.1; transformers' `TopKLogitsWarper` and `TopPLogitsWarper`.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0, got {temperature}: for the most probable token take argmax")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}: leave it None to keep every token")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}: leave it None to keep every token")
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        kth = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        probabilities = ordered.softmax(dim=-1)
        dropped = probabilities.cumsum(dim=-1) - probabilities >= top_p  # by rank
        logits = logits.masked_fill(dropped.scatter(-1, order, dropped), float("-inf"))  # by token
    return logits
