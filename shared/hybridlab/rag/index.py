"""Exact search by inner product over float32 vectors with ids: FAISS, with deletion and a filter that works before ranking."""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np
from jaxtyping import Float32, Int64


class DenseIndex:
    """Vectors of `dim` numbers by id. Rows of length 1 make the inner product a cosine."""

    def __init__(self, dim: int):
        self.dim = dim
        self._index = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))

    def __len__(self) -> int:
        return self._index.ntotal

    def add(self, ids: Int64[np.ndarray, " n"], vectors: Float32[np.ndarray, "n dim"]) -> None:
        """Add vectors; an id that is there already gets the new one. Raises ValueError where shapes do not fit."""
        ids, vectors = np.ascontiguousarray(ids, np.int64), np.ascontiguousarray(vectors, np.float32)
        if vectors.shape != (len(ids), self.dim):
            raise ValueError(f"got {len(ids)} ids and vectors of shape {vectors.shape}; expected ({len(ids)}, {self.dim})")
        self.remove(ids)
        self._index.add_with_ids(vectors, ids)

    def remove(self, ids: Sequence[int] | Int64[np.ndarray, " n"]) -> int:
        """Remove vectors; ids that are not there are passed over. Returns how many went."""
        return self._index.remove_ids(faiss.IDSelectorBatch(np.ascontiguousarray(ids, np.int64)))

    def search(self, vector: Float32[np.ndarray, " dim"], k: int, allowed: Sequence[int] | None = None) -> list[tuple[int, float]]:
        """The `k` nearest, best first: (id, inner product). With `allowed`, nothing else takes part, not even in the ranking."""
        query = np.ascontiguousarray(vector, np.float32)[None]  # (1, dim)
        if query.shape[1] != self.dim:
            raise ValueError(f"got a vector of {query.shape[1]} numbers; the index holds vectors of {self.dim}")
        parameters = None
        if allowed is not None:
            parameters = faiss.SearchParameters(sel=faiss.IDSelectorBatch(np.ascontiguousarray(allowed, np.int64)))
        scores, ids = self._index.search(query, min(k, max(1, len(self))), params=parameters)
        return [(int(i), float(s)) for i, s in zip(ids[0], scores[0], strict=True) if i >= 0]
