"""How many bytes a layer keeps from its forward pass until its backward pass.

This, not the weights, is what fills the memory in training. Every tensor that comes into being during the forward pass
is watched; those still alive at its end are kept for backward, however they are held.
"""

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Births(TorchDispatchMode):
    """Remembers the storage of every tensor that comes into being, without keeping it alive; views of older ones don't count."""

    def __init__(self) -> None:
        super().__init__()
        self.older: set[int] = set()
        self.born: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.older |= {key for key, _ in _storages((args, kwargs)) if key not in self.born}
        result = func(*args, **kwargs)
        for key, storage in _storages(result):
            if key not in self.older:
                self.born[key] = (StorageWeakRef(storage), storage.nbytes())
        return result


def _storages(tree: object) -> list[tuple[int, torch.UntypedStorage]]:
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
    return [(tensor.untyped_storage()._cdata, tensor.untyped_storage()) for tensor in tensors]


def saved_bytes(call: Callable[[Tensor], Tensor], x: Shaped[Tensor, "..."]) -> int:
    """Bytes that `call(x)` keeps for backward: x itself, and what was computed on the way; its result is not counted.

    Weights are not counted either: they are there before and after.
    """
    births = _Births()
    with births:
        result = call(x)
    ((result_key, _),) = _storages(result)
    kept = [size for key, (storage, size) in births.born.items() if key != result_key and not storage.expired()]
    return sum(kept) + x.untyped_storage().nbytes()
