"""Reading a text of any length with a state that is carried from piece to piece: memory does not grow with the length.

No other exercise stands here and none is imported, so that promoted code, which brings its notebook's import cell along, may import
it whichever module comes first.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.ssm.stateful import StatefulModel


@exercise
def read_stream(model: StatefulModel, pieces: Iterable[Int[Tensor, "batch piece"]]) -> tuple[Float[Tensor, "batch d_model"], list[Any]]:
    """Read a text piece after piece: what the model gives for its last token, and the state behind that.

    `model.read(tokens, state)` reads one piece: it takes the state of the piece before (None before the first), and gives (a vector for
    each token, the new state). Pieces may differ in length, and one without tokens is passed over. `pieces` may be a generator: each piece
    is asked for only when it is read, and nothing is kept of it but its last token's vector. Nothing is kept for a backward pass.

    Raises:
        ValueError: there is no token in any piece.
    """
    last, state = None, None
    with torch.inference_mode():
        for tokens in pieces:
            if tokens.shape[1]:
                read, state = model.read(tokens, state)
                last = read[:, -1].clone()  # a slice would keep the whole piece
    if last is None:
        raise ValueError("there is no token to read")
    return last, state
