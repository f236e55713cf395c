"""Which token can move which answer: a picture of what flows where, for any MiniTransformer.

In a causal model everything above the diagonal is exactly 0. A bug that lets the future leak in shows at once, and so
does one that cuts the past off.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.transformer.model import MiniTransformer


def influence(model: MiniTransformer, tokens: Int[Tensor, "1 time"]) -> Float[Tensor, "time time"]:
    """Row i, column j: how strongly the embedding of token j moves the logits at position i (norm of the gradient).

    The gradient is that of the logits' length at position i. Dropout should be off (`model.eval()`).

    Raises:
        ValueError: more than one sequence is given.
    """
    if tokens.ndim != 2 or tokens.shape[0] != 1:
        raise ValueError(f"influence looks at one sequence at a time, got shape {tuple(tokens.shape)}: pass tokens[:1]")
    embedded = model.embed_tokens(tokens).detach().requires_grad_()
    x = model.embed_positions(embedded, 0)
    for layer in model.layers:
        x = layer(x)
    logits = model.lm_head(model.norm(x))[0]
    rows = [torch.autograd.grad(answer.norm(), embedded, retain_graph=True)[0][0].norm(dim=-1) for answer in logits]
    return torch.stack(rows)
