"""Reverse-mode automatic differentiation, small enough to read whole.

Each result remembers its parents and one thing per parent: how to carry a gradient back to it.

    term here    what it is                                             PyTorch's word
    slope        d(result)/d(parent), one number (`Value`)              -
    pull         function: gradient of the result -> of the parent      backward of a `Function`, "VJP"
    flowing      gradients on their way in one backward pass            gradient buffers of the engine
    grad         what has arrived, added up over passes                 `Tensor.grad`

Source: Baydin et al., "Automatic Differentiation in Machine Learning: a Survey" (arXiv 1502.05767), section 3.2.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import numpy as np
from jaxtyping import Float

from hybridlab.exercise import exercise


class Node(Protocol):
    """Anything that remembers what it was computed from."""

    parents: tuple[Any, ...]


SomeNode = TypeVar("SomeNode", bound=Node)


def topological_order(root: SomeNode) -> list[SomeNode]:
    """Every node that `root` was computed from, each after all of its parents; `root` is last.

    Works without recursion, so a graph may be deeper than Python's recursion limit.
    """
    order: list[SomeNode] = []
    seen: set[SomeNode] = set()
    stack = [(root, False)]
    while stack:
        node, parents_are_in = stack.pop()
        if parents_are_in:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((parent, False) for parent in node.parents)
    return order


class Operators:
    """The operators that follow from `+`, `*` and `**`: `-a`, `a - b`, `a / b`, and each with a plain number on the left."""

    __array_ufunc__ = None  # numpy leaves `ndarray + ours` to `__radd__`

    def __neg__(self: Any) -> Any:
        return self * -1.0

    def __sub__(self: Any, other: Any) -> Any:
        return self + -other

    def __truediv__(self: Any, other: Any) -> Any:
        return self * other**-1.0

    def __radd__(self: Any, other: Any) -> Any:
        return self + other

    def __rsub__(self: Any, other: Any) -> Any:
        return -self + other

    def __rmul__(self: Any, other: Any) -> Any:
        return self * other

    def __rtruediv__(self: Any, other: Any) -> Any:
        return self**-1.0 * other


class ArrayBase(Operators):
    """`Operators`, and `backward` for nodes that hold arrays: `data`, `grad`, `parents`, and one pull for each parent."""

    data: np.ndarray
    grad: np.ndarray
    parents: tuple
    pulls: tuple[Callable, ...]

    def backward(self) -> None:
        """Add d(self)/d(node) to `node.grad` for all nodes: `Value.backward` with `pull(gradient)` for `slope * gradient`.

        Raises `ValueError` if this is not a single number.
        """
        if self.data.size != 1:
            raise ValueError(f"backward starts at one number, this array has shape {self.data.shape}; sum it first")
        flowing = {self: np.ones(self.data.shape)}
        for node in reversed(topological_order(self)):
            gradient = flowing[node]
            node.grad = node.grad + gradient
            for parent, pull in zip(node.parents, node.pulls, strict=True):
                flowing[parent] = flowing.get(parent, 0.0) + pull(gradient)


@exercise
class Value(Operators):
    """One number that remembers how it was computed.

    `data` is the number, `grad` collects d(output)/d(this number). A result keeps its `parents` and,
    for each parent, one `slope`: the local derivative d(result)/d(parent), as a plain number.
    `exp` and `log` are written for you as examples. A plain number may stand where a `Value` may:
    `Value.lift` wraps it. `name` is only for drawings.
    """

    def __init__(self, data: float, parents: tuple = (), slopes: tuple = (), name: str = "") -> None:  # given
        self.data = float(data)
        self.grad = 0.0
        self.parents = parents
        self.slopes = slopes
        self.name = name

    @staticmethod
    def lift(number: "Value | float") -> "Value":  # given
        return number if isinstance(number, Value) else Value(number)

    def exp(self) -> "Value":  # given
        result = math.exp(self.data)
        return Value(result, (self,), (result,), "exp")

    def log(self) -> "Value":  # given
        return Value(math.log(self.data), (self,), (1.0 / self.data,), "log")

    def __add__(self, other: "Value | float") -> "Value":
        """self + other."""
        other = Value.lift(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0), "+")

    def __mul__(self, other: "Value | float") -> "Value":
        """self * other."""
        other = Value.lift(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data), "*")

    def __pow__(self, exponent: float) -> "Value":
        """self ** exponent, where the exponent is a plain number (not a `Value`)."""
        slope = exponent * self.data ** (exponent - 1)
        return Value(self.data**exponent, (self,), (slope,), f"**{exponent:g}")

    def tanh(self) -> "Value":
        """The hyperbolic tangent (`math.tanh`)."""
        result = math.tanh(self.data)
        return Value(result, (self,), (1.0 - result**2,), "tanh")

    def backward(self) -> None:
        """Add d(self)/d(node) to `node.grad`, for this node and for every node it was computed from.

        A node hands its gradient on to its parents once, when all of it has arrived: go through
        `topological_order(self)` from its end. A node that is used several times gets the sum over all uses.
        Calling `backward` again adds the same gradients to `grad` once more, as PyTorch does.
        """
        flowing = {self: 1.0}
        for node in reversed(topological_order(self)):
            gradient = flowing[node]
            node.grad += gradient
            for parent, slope in zip(node.parents, node.slopes, strict=True):
                flowing[parent] = flowing.get(parent, 0.0) + slope * gradient

    def __repr__(self) -> str:  # given
        return f"Value({self.data:.4g}, grad={self.grad:.4g})"


@exercise
def unbroadcast(gradient: Float[np.ndarray, "..."], shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Sum `gradient` back to `shape`, the shape an array had before broadcasting stretched it.

    Broadcasting does two things to an array: it puts new axes in front, and it repeats axes of size 1.
    A number that was used several times gets the sum of the gradients of all its uses, so both are
    undone by a sum. The result has exactly the shape `shape`.

    Raises `ValueError` if an array of shape `shape` does not broadcast to `gradient.shape`.
    """
    if np.broadcast_shapes(gradient.shape, shape) != gradient.shape:
        raise ValueError(
            f"shape {shape} does not broadcast to the gradient's shape {gradient.shape}; "
            f"pass the shape that the array had before the operation"
        )
    new_axes = gradient.ndim - len(shape)
    stretched = [axis for axis, size in enumerate(shape, start=new_axes) if size == 1]
    return gradient.sum(axis=(*range(new_axes), *stretched)).reshape(shape)


@exercise
class Array(ArrayBase):
    """An array of numbers (float64) that remembers how it was computed.

    Like `Value`, with one change: a slope was a number; here each parent has a `pull`, a function that takes
    the gradient of the result (result's shape) and returns the gradient of the parent (parent's shape).
    `__add__`, `exp` and the others marked as given show how; `backward` comes from `ArrayBase`. numpy arrays and plain numbers may stand
    where an `Array` may: `Array.lift` wraps them.
    """

    def __init__(self, data: Any, parents: tuple = (), pulls: tuple = ()) -> None:  # given
        self.data = np.asarray(data, dtype=np.float64)
        self.grad = np.zeros_like(self.data)
        self.parents = parents
        self.pulls = pulls

    @staticmethod
    def lift(numbers: Any) -> "Array":  # given
        return numbers if isinstance(numbers, Array) else Array(numbers)

    @property
    def shape(self) -> tuple[int, ...]:  # given
        return self.data.shape

    def __add__(self, other: Any) -> "Array":  # given
        other = Array.lift(other)
        return Array(
            self.data + other.data,
            (self, other),
            (lambda gradient: unbroadcast(gradient, self.shape), lambda gradient: unbroadcast(gradient, other.shape)),
        )

    def __pow__(self, exponent: float) -> "Array":  # given
        return Array(self.data**exponent, (self,), (lambda gradient: gradient * exponent * self.data ** (exponent - 1),))

    def exp(self) -> "Array":  # given
        result = np.exp(self.data)
        return Array(result, (self,), (lambda gradient: gradient * result,))

    def log(self) -> "Array":  # given
        return Array(np.log(self.data), (self,), (lambda gradient: gradient / self.data,))

    def tanh(self) -> "Array":  # given
        result = np.tanh(self.data)
        return Array(result, (self,), (lambda gradient: gradient * (1.0 - result**2),))

    def __mul__(self, other: Any) -> "Array":
        """self * other, element by element, with numpy's broadcasting."""
        other = Array.lift(other)
        return Array(
            self.data * other.data,
            (self, other),
            (
                lambda gradient: unbroadcast(gradient * other.data, self.shape),
                lambda gradient: unbroadcast(gradient * self.data, other.shape),
            ),
        )

    def __matmul__(self, other: Any) -> "Array":
        """self @ other: a matrix product over the last two axes; the axes before them broadcast.

        Raises `ValueError` if one of the two has fewer than two axes.
        """
        other = Array.lift(other)
        if self.data.ndim < 2 or other.data.ndim < 2:
            raise ValueError(f"@ needs two axes or more on both sides, got shapes {self.shape} and {other.shape}")
        return Array(
            self.data @ other.data,
            (self, other),
            (
                lambda gradient: unbroadcast(gradient @ other.data.mT, self.shape),
                lambda gradient: unbroadcast(self.data.mT @ gradient, other.shape),
            ),
        )

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> "Array":
        """The sum over one axis, several axes (a tuple), or all (`None`), as `numpy.sum`."""

        def pull(gradient):
            if axis is not None and not keepdims:
                gradient = np.expand_dims(gradient, axis)
            return np.broadcast_to(gradient, self.shape)

        return Array(self.data.sum(axis=axis, keepdims=keepdims), (self,), (pull,))

    def __getitem__(self, index: Any) -> "Array":
        """self[index], for whatever numpy takes as an index: numbers, slices, arrays of row numbers.

        A row that is taken several times gets the sum of the gradients of all its copies. Looking up
        embeddings, and picking the log-probability of the right token, is this operation.
        """

        def pull(gradient):
            scattered = np.zeros(self.shape)
            np.add.at(scattered, index, gradient)
            return scattered

        return Array(self.data[index], (self,), (pull,))

    def __repr__(self) -> str:  # given
        return f"Array(shape={self.shape})"
