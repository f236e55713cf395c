"""What backward will do and what it needs, read off the graph behind a result: checks tell linear from quadratic by it, without a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.autograd.graph import Node

FEW = 12  # slices that any answer may take; an axis of so few places is not what a loop over a text runs along
SLICES = frozenset({"SelectBackward0", "SliceBackward0", "IndexBackward0", "IndexSelectBackward0"})


def nodes_of(y: Tensor) -> list[Node]:
    """All nodes of y's graph, each once."""
    seen, todo = set(), [y.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
    return list(seen)


def quadratic_slices(nodes: list[Node]) -> list[str]:
    """Why backward will be quadratic in the length, as evidence: the shapes that more than FEW slices are cut from; empty where it is not.

    The gradient of a slice is as large as what it was cut from. Along an axis that grows with the text (time, or chunks) one slice a
    place makes that quadratic. `(h @ C_t[..., None])[..., 0]` is a slice a token too, and costs nothing: it is cut from one token's own
    tensor, along an axis of one place.
    """
    sources = [tuple(node._saved_self_sym_sizes) for node in nodes if node.name() in SLICES and _long(node)]
    if len(sources) <= FEW:
        return []
    return [f"{sources.count(shape)} from a tensor of shape {shape}" for shape in dict.fromkeys(sources)]


def _long(node: Node) -> bool:
    """Whether the axis that is cut, or any where the node does not say which, has more than FEW places."""
    sizes = node._saved_self_sym_sizes
    return (sizes[node._saved_dim] if hasattr(node, "_saved_dim") else max(sizes, default=0)) > FEW


def kept_bytes(call: Callable[[], Any]) -> list[int]:
    """The bytes of each storage that autograd keeps of `call()` for backward; a storage that is kept many times counts once."""
    import torch

    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()  # held: what it keeps must not be freed and its place taken by another
    del result
    return list(kept.values())
