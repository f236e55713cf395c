"""An E5 of two layers and sixty words, at random: what a cross-encoder needs of the file, without the file; and what it can learn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hybridlab.rag.cross_encoder import LINEAR
from hybridlab.rag.cross_training import TokenPair
from hybridlab.rag.e5_file import Dimensions

WORDS, DIM, POSITIONS = 60, 32, 64
KINDS, FIRST, OWN = 3, 6, 5  # kinds that are asked for, where a passage begins, and its tokens


@dataclass(frozen=True)
class TinyE5:
    dimensions: Dimensions
    tensors: dict[str, np.ndarray]
    words: np.ndarray
    bos: int = 0
    eos: int = 2

    def embed(self, ids: np.ndarray) -> np.ndarray:
        return self.words[ids]


def tiny_e5(seed: int = 0) -> TinyE5:
    of = Dimensions(hidden=DIM, layers=2, heads=4, d_ff=2 * DIM, vocab_size=WORDS, positions=POSITIONS, eps=1e-5)
    chance = np.random.default_rng(seed)

    def random(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * chance.normal(size=shape)).astype(np.float32)

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.w": np.ones(DIM, np.float32), f"{name}.b": np.zeros(DIM, np.float32)}

    tensors = {"emb.pos": random(POSITIONS * DIM, scale=0.3), "emb.type": np.zeros(DIM, np.float32), **norm("emb.ln")}
    for layer in range(of.layers):
        for part in LINEAR:
            d_out, d_in = {"fi": (of.d_ff, DIM), "fo": (DIM, of.d_ff)}.get(part, (DIM, DIM))
            tensors[f"l{layer}.{part}.w"] = random(d_out, d_in, scale=d_in**-0.5)
            tensors[f"l{layer}.{part}.b"] = np.zeros(d_out, np.float32)
        tensors |= {**norm(f"l{layer}.aln"), **norm(f"l{layer}.oln")}
    return TinyE5(of, tensors, random(WORDS, DIM))


def asked(count: int, seed: int) -> list[TokenPair]:
    """A question asks for a kind; one of the passage's tokens is of a kind, of the same where it is answered."""
    chance, made = np.random.default_rng(seed), []
    for _ in range(count):
        passage = chance.choice(np.arange(20, WORDS), OWN, replace=False)
        place, kind, answered = int(chance.integers(OWN)), int(chance.integers(KINDS)), bool(chance.integers(2))
        passage[place] = 4 + (kind if answered else (kind + 1 + int(chance.integers(KINDS - 1))) % KINDS)
        ids = np.array([0, 3, 4 + kind, 2, 2, 3, *passage, 2], np.int32)
        made.append(TokenPair(ids, FIRST, answered, places=((FIRST + place, FIRST + place),) if answered else ()))
    return made
