"""E5's vectors without what all texts of a language have in common.

Any two texts of one language are alike to E5 (cosines from .75), and two languages lie apart however like their meanings are. Nearly all of
that is one direction, the mean of a language's vectors: without it a cosine of 0 says that two texts have nothing to do with each other,
and turns in two languages can be compared. (Mu, Viswanath, All-but-the-Top, arXiv 1702.01417, takes out the mean and the first directions.)

The means are of talk that is invented: `python -m capstone.evaluation.memory_centres`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32
from safetensors.numpy import load_file

from assistant.language import Language

CENTRES = Path(__file__).with_name("centres.safetensors")
Kind = Literal["query", "passage"]


@cache
def centres() -> dict[str, Float32[np.ndarray, " dim"]]:
    """The mean vector of each kind and language, as `query en`."""
    return load_file(CENTRES)


def centred(vectors: Float32[np.ndarray, "*n dim"], kind: Kind, language: Language) -> Float32[np.ndarray, "*n dim"]:
    """Vectors of length 1 again, without the mean of their kind and language. Those of another encoder than E5, which have another
    number of dimensions, are as they were."""
    mean = centres()[f"{kind} {language}"]
    if vectors.shape[-1] != len(mean):
        return vectors
    left = vectors - mean
    return left / np.linalg.norm(left, axis=-1, keepdims=True)
