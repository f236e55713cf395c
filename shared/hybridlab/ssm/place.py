"""Where a reader stands in a text."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from hybridlab.ssm.mamba_model import ModelState


class Place(NamedTuple):
    """All that a reader carries: whoever has it goes on as if nothing had happened.

    `state`: behind the last whole chunk, None before the first; `pending`: tokens that do not fill a chunk yet; `rest`: bytes that may
    become one token or several; `tokens`: how many have been read, without those that wait; `source`: how far a file has been read, while
    it is not at its end.
    """

    state: ModelState | None = None
    pending: Int[np.ndarray, " waiting"] = np.empty(0, np.int64)
    rest: bytes = b""
    tokens: int = 0
    source: dict | None = None
