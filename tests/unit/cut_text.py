"""A model that carries a state gives the same, wherever a text is cut."""

import torch
from torch import Tensor, nn


def assert_cuts_change_nothing(model: nn.Module, tokens: Tensor, cuts: list[int], *, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    """Outputs and last states of `tokens` (batch, time) read whole, and read in pieces of `cuts` tokens, are equal."""
    with torch.no_grad():
        whole, end = model(tokens)
        state, pieces = None, []
        for piece in tokens.split(cuts, 1):
            y, state = model(piece, state)
            pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=rtol, atol=atol)
    for mine, other in zip(state, end, strict=True):
        torch.testing.assert_close(tuple(mine), tuple(other), rtol=rtol, atol=atol)
