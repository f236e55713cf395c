"""Weights in blocks of 32: a scale for each block, and few bits for each weight (llama.cpp's Q4_1 and Q8_0)."""

import numpy as np
from jaxtyping import Float32, UInt8

from hybridlab.exercise import exercise

BLOCK = 32  # weights


def dequantize_q8_0(blocks: UInt8[np.ndarray, "n 34"]) -> Float32[np.ndarray, "n 32"]:
    """Bytes 0–1: a float16 scale d. Bytes 2–33: 32 signed bytes q. A weight is d · q.

    Source: block_q8_0 in llama.cpp's ggml-common.h.
    """
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    return scales * blocks[:, 2:].view(np.int8).astype(np.float32)


@exercise
def dequantize_q4_1(blocks: UInt8[np.ndarray, "n 20"]) -> Float32[np.ndarray, "n 32"]:
    """The weights of blocks in Q4_1: 20 bytes hold 32 weights, so 5 bits a weight.

    Bytes 0–1 of a block are a scale d, bytes 2–3 a minimum m, both float16 with the low byte first (numpy: "<f2"). Bytes 4–19 hold
    two numbers q of four bits each (0 … 15): byte 4 + i has that of weight i in its low half and that of weight
    i + 16 in its high half. A weight is d · q + m, computed in float32.

    Returns: the weights of each block in a row, float32. `blocks` itself stays as it is.
    Source: block_q4_1 in llama.cpp's ggml-common.h, dequantize_row_q4_1.
    """
    scales, minima = blocks[:, :4].copy().view("<f2").astype(np.float32).T[..., None]
    nibbles = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return scales * nibbles.astype(np.float32) + minima
