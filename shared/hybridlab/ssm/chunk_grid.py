"""Chunks on one grid: however a stream of tokens is cut and wherever it is interrupted, the model reads the same pieces."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from hybridlab.exercise import exercise
from hybridlab.ssm.mamba_model import ModelState
from hybridlab.ssm.place import Place


@exercise
def read_on_grid(
    place: Place,
    tokens: Int[np.ndarray, " new"],
    chunk: int,
    run: Callable[[Int[np.ndarray, " chunk"], ModelState | None], ModelState],
) -> Place:
    """Read new tokens as far as they fill whole chunks; the rest waits. Gives the place behind that, and changes nothing in `place`.

    `place.pending` are the tokens that still wait from before; the new ones come behind them. `run(piece, state)` reads exactly `chunk`
    tokens with the state behind all earlier ones (None at the very beginning), and gives the new state. So the pieces that are run are
    tokens 0 … chunk-1 of the whole stream, then chunk … 2 · chunk - 1, and so on, whatever portions the tokens came in.

    In the place that is given back, `state` is the one behind the last piece, `tokens` has grown by the tokens that were run, and `pending`
    holds the fewer than `chunk` that are left, as an array of its own: a slice would keep all of the tokens in memory. `rest` and
    `source` are as before. There may be no new tokens, fewer than a chunk, or many chunks at once.

    Raises:
        ValueError: chunk is below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting, state = np.concatenate([place.pending, tokens]), place.state
    whole = len(waiting) // chunk * chunk
    for start in range(0, whole, chunk):
        state = run(waiting[start : start + chunk], state)
    return place._replace(state=state, pending=waiting[whole:].copy(), tokens=place.tokens + whole)
