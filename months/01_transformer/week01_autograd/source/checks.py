"""The checks of week 1. Oracle everywhere: PyTorch, in float64 where the exercise is exact."""

import math

import numpy as np
import torch
import torch._dynamo  # torch.optim loads it at its first step, for a second; here it is loaded once, beforehand
from coursekit.checks import Mistake, check, close, must_raise
from torch import Tensor

A = "hybridlab.transformer.autograd."
L = "hybridlab.transformer.losses."
O = "hybridlab.transformer.optim."


def exactly(got, expected, code, what, hint="", rtol=1e-9, atol=1e-12):
    """`close` in float64, for plain numbers and lists of them too."""
    expected = expected if isinstance(expected, Tensor) else np.asarray(expected, dtype=np.float64)
    close(np.asarray(got, dtype=np.float64), expected, code, what, hint, rtol=rtol, atol=atol)


# ---------------------------------------------------------------- Value

OPERATIONS = {
    "+": (lambda a, b: a + b, lambda a, b: (1.0, 1.0)),
    "*": (lambda a, b: a * b, lambda a, b: (b, a)),
    "** 3": (lambda a, b: a**3, lambda a, b: (3 * a**2,)),
    "** 0.5": (lambda a, b: (a * a) ** 0.5, lambda a, b: (0.5 / abs(a),)),
    "tanh": (lambda a, b: a.tanh(), lambda a, b: (1 - math.tanh(a) ** 2,)),
}


class CountedParents(tuple):
    """A node's parents that count how often somebody goes through them."""

    seen = 0

    def __iter__(self):
        CountedParents.seen += 1
        return super().__iter__()


@check(
    A + "Value",
    visible=[{"seed": 0}],
    hidden=[{"seed": 11}, {"seed": 12, "depth": 8000}],
    forbids=("torch", "autograd"),
    hints=(
        "Each operation is local: it knows its inputs and d(result)/d(input), nothing else. For a * b the slopes are b and a.",
        "backward: start with gradient 1 for `self`; go through reversed(topological_order(self)); each node adds slope * gradient to what "
        "its parents have received so far in this pass.",
        "Keep this pass's gradients in a dictionary: flowing = {self: 1.0}. For each node: node.grad += flowing[node], and for each parent "
        "and slope: flowing[parent] = flowing.get(parent, 0.0) + slope * flowing[node].",
    ),
)
def check_value(Value, seed, depth=3000):
    """Results, slopes and gradients equal PyTorch's, for numbers used once, twice, and in graphs thousands of nodes deep."""
    rng = np.random.default_rng(seed)
    a, b = (float(x) for x in rng.uniform(0.3, 1.5, 2) * rng.choice([-1, 1], 2))

    for name, (call, slopes_of) in OPERATIONS.items():
        result = call(Value(a), Value(b))
        if not hasattr(result, "parents"):
            raise Mistake(
                "GRAD-01", f"`{name}` does not return a Value", f"got {type(result).__name__}", "return Value(result, parents, slopes)"
            )
        exactly(
            result.data,
            call(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)),
            "GRAD-01",
            f"`{name}` gives a wrong result",
            rtol=1e-12,
            atol=1e-12,
        )
        if len(result.parents) != len(slopes_of(a, b)) or len(result.slopes) != len(result.parents):
            raise Mistake(
                "GRAD-02",
                f"`{name}` must keep its parents, and one slope for each",
                f"{len(result.parents)} parents, {len(result.slopes)} slopes",
                "for a * b: parents (a, b), slopes (b.data, a.data)",
            )
        if not all(isinstance(slope, (int, float)) for slope in result.slopes):
            raise Mistake("GRAD-02", f"the slopes of `{name}` must be plain numbers", f"got {type(result.slopes[0]).__name__}", "use .data")
        exactly(
            list(result.slopes),
            list(slopes_of(a, b)),
            "GRAD-02",
            f"a slope of `{name}` is wrong",
            "it is d(result)/d(parent), at the parent's data",
            rtol=1e-9,
            atol=1e-12,
        )

    for name, call in {
        "value + 2": lambda v: v + 2,
        "value * 2": lambda v: v * 2,
        "2 * value": lambda v: 2 * v,
        "2 - value": lambda v: 2 - v,
    }.items():
        try:
            got = call(Value(a)).data
        except AttributeError as error:
            raise Mistake(
                "GRAD-08", "a plain number can't stand beside a Value", f"{name} raised {error}", "other = Value.lift(other)"
            ) from None
        exactly(got, call(a), "GRAD-01", f"`{name}` gives a wrong result", rtol=1e-12, atol=1e-12)

    x = Value(a)
    alone = x * 3.0
    alone.backward()
    exactly(alone.grad, 1.0, "GRAD-05", "the output's own gradient is not 1", "d(output)/d(output) = 1 is where backward starts")
    exactly(x.grad, 3.0, "GRAD-09", "the gradient of 3 * x is not 3")

    x = Value(a)
    (x * x + x).backward()
    if math.isclose(x.grad, 1.0) or math.isclose(x.grad, a) or math.isclose(x.grad, 2 * a):
        raise Mistake(
            "GRAD-03",
            "a number that is used several times keeps the gradient of one use only",
            f"for x * x + x at x = {a:.3f}: got {x.grad:.4f}, expected {2 * a + 1:.4f}",
            "gradients of several uses add up",
        )
    exactly(
        x.grad,
        2 * a + 1,
        "GRAD-04",
        "x * x + x: a gradient is handed on before all of it has arrived, or twice",
        "go through topological_order from its end, each node once",
    )

    diamond_after_chain(Value, a, b)
    several_passes(Value, a, b)
    deep_graph(Value, depth)
    many_paths(Value)
    small_network(Value, rng)


def diamond_after_chain(Value, a, b):
    """A node with a short and a long way to the output: only the right order gives the right numbers."""
    x, y = Value(a), Value(b)
    middle = x * y
    long_way = ((middle.tanh() + 1.0) * y).tanh()
    (middle * long_way + middle).backward()
    t, u = torch.tensor(a, dtype=torch.float64, requires_grad=True), torch.tensor(b, dtype=torch.float64, requires_grad=True)
    m = t * u
    (m * ((m.tanh() + 1.0) * u).tanh() + m).backward()
    hint = "every user of a node comes before the node itself: reversed(topological_order(self))"
    exactly(
        [x.grad, y.grad],
        [t.grad, u.grad],
        "GRAD-04",
        "a node hands its gradient on before all of it has arrived",
        hint,
        rtol=1e-9,
        atol=1e-12,
    )


def several_passes(Value, a, b):
    x, y = Value(a), Value(b)
    middle = x * y
    out = middle * middle + x
    out.backward()
    first = (x.grad, y.grad)
    exactly(first, (2 * a * b * b + 1, 2 * a * a * b), "GRAD-09", "gradients differ from PyTorch's", rtol=1e-9, atol=1e-12)
    out.backward()
    twice = (2 * first[0], 2 * first[1])
    exactly(
        (x.grad, y.grad),
        twice,
        "GRAD-06",
        "a second backward() must add the same gradients once more",
        "what flows in one pass must not start from what earlier passes left in .grad",
        rtol=1e-9,
        atol=1e-12,
    )
    exactly(
        (middle.grad, out.grad),
        (4 * a * b, 2.0),
        "GRAD-06",
        "a second backward() must add the same gradients once more, at every node",
        rtol=1e-9,
        atol=1e-12,
    )


def deep_graph(Value, depth):
    x = Value(0.001)
    total = Value(0.0)
    for _ in range(depth):
        total = total + x
    try:
        total.backward()
    except RecursionError:
        raise Mistake(
            "GRAD-07",
            f"a graph {depth} nodes deep is too deep for recursion",
            "RecursionError",
            "topological_order does not recurse; a loop over it is enough",
        ) from None
    exactly(x.grad, float(depth), "GRAD-09", f"a number added {depth} times has a gradient of {depth}")


def many_paths(Value, doublings=12):
    x = Value(1.0)
    first = node = x + x
    for _ in range(doublings):
        node = node + node
    CountedParents.seen = 0
    first.parents = CountedParents(first.parents)
    node.backward()
    if CountedParents.seen > 100:
        raise Mistake(
            "GRAD-07",
            "backward walks along every path, so its time doubles with each layer",
            f"a node with {2**doublings} paths to the output was visited {CountedParents.seen} times",
            "visit each node once",
        )
    exactly(x.grad, 2.0 ** (doublings + 1), "GRAD-09", "gradients differ from PyTorch's")


def small_network(Value, rng):
    inputs, weights = rng.normal(size=(3, 2)), rng.normal(size=(2, 3))
    ours = [Value(w) for w in weights.ravel()]
    theirs = torch.tensor(weights.ravel(), requires_grad=True)

    def loss(w, number):
        total = 0.0
        for row in inputs:
            hidden = [(w[i] * row[0] + w[3 + i] * row[1]).tanh() for i in range(3)]
            out = hidden[0] * hidden[1] / (hidden[2] ** 2 + 1.5) - 0.5
            total = total + (out.exp() + out**2 + 1.0).log()
        return total * number

    loss(ours, 0.7).backward()
    loss(theirs, 0.7).backward()
    exactly([w.grad for w in ours], theirs.grad, "GRAD-09", "gradients of a small network differ from PyTorch's", rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- unbroadcast


@check(
    A + "unbroadcast",
    visible=[{"seed": 0, "wide": (4, 3), "narrow": (3,)}, {"seed": 1, "wide": (2, 4, 3), "narrow": (4, 1)}],
    hidden=[
        {"seed": 11, "wide": (3, 3), "narrow": (3,)},
        {"seed": 12, "wide": (2, 5, 3), "narrow": (1, 5, 1)},
        {"seed": 13, "wide": (4, 3), "narrow": ()},
        {"seed": 14, "wide": (4, 3), "narrow": (4, 3)},
        {"seed": 15, "wide": (3, 2, 3, 2), "narrow": (3, 1)},
        {"seed": 16, "wide": (1, 2), "narrow": (2,)},
        {"seed": 17, "wide": (3, 1), "narrow": (1, 1)},
    ],
    forbids=("torch",),
    hints=(
        "Two things happened on the way forward: new axes in front, and axes of size 1 repeated. Undo both with a sum.",
        "The number of new axes is gradient.ndim - len(shape). The others line up from the right.",
        "Sum over the first gradient.ndim - len(shape) axes, and over every axis whose size in `shape` is 1; then reshape(shape).",
    ),
)
def check_unbroadcast(unbroadcast, seed, wide, narrow):
    """The gradient is summed back to the shape before broadcasting; a shape that could not have been broadcast is refused."""
    gradient = np.random.default_rng(seed).normal(size=wide)
    before = gradient.copy()
    try:
        got = unbroadcast(gradient, narrow)
    except (ValueError, IndexError) as error:
        raise Mistake(
            "UNB-04",
            f"a gradient of shape {wide} can't be brought to {narrow}",
            f"{type(error).__name__}: {error}",
            "axes line up from the right; the new ones are in front",
        ) from None
    if not np.array_equal(gradient, before):
        raise Mistake("UNB-06", "the gradient that was passed in was changed", hint="return a new array")
    small = torch.zeros(narrow, dtype=torch.float64, requires_grad=True)
    (small.expand(wide) * torch.from_numpy(gradient)).sum().backward()
    expected = small.grad.numpy()
    hint = "axes that were put in front are summed away; axes of size 1 are summed and kept"
    if np.shape(got) != narrow:
        code = "UNB-01" if np.ndim(got) != len(narrow) else "UNB-02"
        raise Mistake(
            code, "the result does not have the shape it must have", f"gradient {wide}, wanted {narrow}, got {np.shape(got)}", hint
        )
    uses = max(gradient.size // max(expected.size, 1), 1)
    if uses > 1 and np.allclose(got, expected / uses):
        raise Mistake("UNB-03", "the gradient is averaged, not summed", f"every value is {uses} times too small", "uses add up")
    if gradient.ndim > len(narrow) and wide[: len(narrow)] == narrow:
        other_end = gradient.sum(axis=tuple(range(len(narrow), gradient.ndim)))
        if np.allclose(got, other_end) and not np.allclose(other_end, expected):
            raise Mistake(
                "UNB-04", "the axes are summed at the wrong end", f"gradient {wide}, wanted {narrow}", "broadcasting puts new axes in front"
            )
    close(got, expected, "UNB-09", "values differ from PyTorch's", hint, rtol=1e-9, atol=1e-12)
    for wrong in [(7, *wide), (*wide[:-1], wide[-1] + 1), (1, *wide), (gradient.size,), wide[::-1]]:
        if fits(wrong, wide):
            continue
        must_raise(
            ValueError,
            lambda shape=wrong: unbroadcast(gradient, shape),
            "UNB-05",
            f"shape {wrong} does not broadcast to {wide}, and nothing is raised",
            "compare with np.broadcast_shapes(gradient.shape, shape)",
        )


def fits(shape, wide):
    try:
        return np.broadcast_shapes(shape, wide) == wide
    except ValueError:
        return False


# ---------------------------------------------------------------- Array


def gradients(Array, call, *arrays, seed=0):
    """Values and gradients of `call`, once with Array and once with PyTorch, for a random gradient of the result."""
    ours = [Array(x) for x in arrays]
    theirs = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]
    out, expected = call(*ours), call(*theirs)
    weight = np.random.default_rng(seed).normal(size=tuple(expected.shape))
    (expected * torch.from_numpy(weight)).sum().backward()
    pulled = []
    if np.shape(out.data) == tuple(expected.shape):
        for parent, pull in zip(out.parents, out.pulls):
            pulled.append((parent, pull(weight)))
    totals = []
    for mine in ours:
        parts = [gradient for parent, gradient in pulled if parent is mine]
        totals.append(np.array(sum(parts[1:], parts[0])) if parts else None)
    return out, expected, totals, [t.grad.numpy() for t in theirs]


def compare_operation(Array, name, call, *arrays, shape_code, value_code, hint):
    try:
        out, expected, got, wanted = gradients(Array, call, *arrays)
    except AttributeError as error:
        raise Mistake(
            "ARR-08", f"{name}: a plain array or number can't stand beside an Array", str(error), "other = Array.lift(other)"
        ) from None
    except (ValueError, IndexError) as error:
        shapes = ", ".join(str(np.shape(x)) for x in arrays)
        raise Mistake(shape_code, f"{name} stops on shapes {shapes}", f"{type(error).__name__}: {error}", hint) from None
    if not isinstance(getattr(out, "data", None), (np.ndarray, np.floating)) or not hasattr(out, "pulls"):
        raise Mistake("ARR-01", f"{name} does not return an Array", f"got {type(out).__name__}", "return Array(result, parents, pulls)")
    close(out.data, expected, "ARR-01", f"{name} gives a wrong result", rtol=1e-9, atol=1e-12)
    if len(out.parents) != len(out.pulls):
        raise Mistake("ARR-01", f"{name} must keep one pull for each parent", f"{len(out.parents)} parents, {len(out.pulls)} pulls")
    for position, (mine, theirs) in enumerate(zip(got, wanted)):
        which = f"{name}: the gradient of operand {position + 1}"
        if mine is None:
            raise Mistake("ARR-01", f"{which} goes nowhere", "the operand is not among the parents", "parents are the Arrays that went in")
        if np.shape(mine) != theirs.shape:
            raise Mistake(shape_code, f"{which} does not have the operand's shape", f"got {np.shape(mine)}, operand {theirs.shape}", hint)
        close(mine, theirs, value_code, f"{which} differs from PyTorch's", hint, rtol=1e-9, atol=1e-12)


@check(
    A + "Array",
    visible=[{"seed": 0, "rows": 4, "inner": 3, "columns": 5}],
    hidden=[
        {"seed": 11, "rows": 2, "inner": 5, "columns": 2},
        {"seed": 12, "rows": 3, "inner": 3, "columns": 3},
        {"seed": 13, "rows": 1, "inner": 2, "columns": 1},
    ],
    forbids=("torch",),
    hints=(
        "A pull takes a gradient with the result's shape and returns one with the parent's shape. `__add__` shows the form.",
        "For y = a @ b: the gradient of a is gradient @ b^T, that of b is a^T @ gradient, each brought back to its shape by unbroadcast. "
        "For sum: every number that was added gets the gradient of its sum.",
        "sum: np.expand_dims(gradient, axis) where the axis is gone, then np.broadcast_to(…, self.shape). "
        "[index]: zeros of self.shape, then np.add.at(zeros, index, gradient), which adds when a row is named twice.",
    ),
)
def check_array(Array, seed, rows, inner, columns):
    """Products, matrix products, sums and indexing give PyTorch's results and gradients, with broadcasting."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.normal(size=shape)  # noqa: E731

    hint = "unbroadcast(gradient * other.data, self.shape), and the mirror image"
    for shapes in [
        ((rows, inner), (rows, inner)),
        ((rows, inner), (inner,)),
        ((inner,), (rows, inner)),
        ((rows, 1), (1, inner)),
        ((rows, inner), ()),
    ]:
        compare_operation(Array, "*", lambda a, b: a * b, *(draw(*s) for s in shapes), shape_code="ARR-02", value_code="ARR-10", hint=hint)
    constant = draw(inner)
    compare_operation(Array, "Array * 2.5", lambda a: a * 2.5, draw(rows), shape_code="ARR-02", value_code="ARR-10", hint=hint)
    compare_operation(Array, "2.5 * Array", lambda a: 2.5 * a, draw(rows), shape_code="ARR-02", value_code="ARR-10", hint=hint)
    compare_operation(
        Array, "ndarray * Array", lambda a: beside(a, constant) * a, draw(rows, inner), shape_code="ARR-02", value_code="ARR-10", hint=hint
    )

    hint = "gradient @ other^T for the left one, self^T @ gradient for the right one; .mT swaps the last two axes"
    compare_operation(
        Array, "@", lambda a, b: a @ b, draw(rows, inner), draw(inner, columns), shape_code="ARR-03", value_code="ARR-03", hint=hint
    )
    hint = "the axes before the last two broadcast: use .mT, not .T, and unbroadcast"
    for left, right in [
        ((6, rows, inner), (6, inner, columns)),
        ((6, rows, inner), (inner, columns)),
        ((rows, inner), (2, 6, inner, columns)),
        ((2, 1, rows, inner), (6, inner, columns)),
    ]:
        compare_operation(
            Array,
            "@ of stacked matrices",
            lambda a, b: a @ b,
            draw(*left),
            draw(*right),
            shape_code="ARR-04",
            value_code="ARR-04",
            hint=hint,
        )
    other = draw(inner, columns)
    compare_operation(
        Array, "Array @ ndarray", lambda a: a @ beside(a, other), draw(rows, inner), shape_code="ARR-03", value_code="ARR-03", hint=hint
    )
    for left, right in [((inner,), (inner, columns)), ((rows, inner), (inner,)), ((inner,), (inner,))]:
        must_raise(
            ValueError,
            lambda l=left, r=right: Array(draw(*l)) @ Array(draw(*r)),
            "ARR-07",
            f"@ with shapes {left} and {right} must raise ValueError",
            "both sides need two axes or more",
        )

    hint = "put the summed axes back (np.expand_dims, unless keepdims), then np.broadcast_to(…, self.shape)"
    for axis in [None, 0, 1, -1, (0, 1), (0, -1)]:
        for keepdims in [False, True]:
            compare_operation(
                Array,
                f"sum(axis={axis}, keepdims={keepdims})",
                lambda a, axis=axis, keepdims=keepdims: total(a, axis, keepdims),
                draw(rows, inner, columns),
                shape_code="ARR-05",
                value_code="ARR-05",
                hint=hint,
            )
    compare_operation(Array, "sum()", lambda a: a.sum(), draw(rows, inner), shape_code="ARR-05", value_code="ARR-05", hint=hint)
    compare_operation(Array, "sum(0)", lambda a: a.sum(0), draw(rows, inner), shape_code="ARR-05", value_code="ARR-05", hint=hint)

    hint = "a row that is taken twice gets both gradients: np.add.at"
    repeated = rng.integers(rows, size=7)
    pairs = (np.arange(rows), rng.integers(inner, size=rows))
    for name, index in {"[row numbers]": repeated, "[rows, columns]": pairs, "[slice]": (slice(None), slice(0, 1)), "[number]": 0}.items():
        compare_operation(
            Array, name, lambda a, index=index: a[index], draw(rows, inner), shape_code="ARR-06", value_code="ARR-06", hint=hint
        )

    network(Array, rng, rows, inner, columns)


def beside(a, constant):
    """A plain array of the kind that may stand beside `a`."""
    return torch.from_numpy(constant) if isinstance(a, Tensor) else constant


def total(a, axis, keepdims):
    if isinstance(a, Tensor):
        return a.sum(dim=axis, keepdim=keepdims) if axis is not None else a.sum(dim=tuple(range(a.ndim)), keepdim=keepdims)
    return a.sum(axis=axis, keepdims=keepdims)


def network(Array, rng, rows, inner, columns):
    """Embedding, two layers, log-softmax, picking: gradients through everything at once."""
    ids, wanted = rng.integers(4, size=rows), rng.integers(columns, size=rows)
    arrays = [rng.normal(size=s) for s in [(4, inner), (inner, 6), (6,), (6, columns)]]

    def loss(table, first, bias, second):
        hidden = (table[ids] @ first + bias).tanh()
        logits = hidden @ second
        norm = logits.exp().sum(-1, True) if isinstance(logits, Tensor) else logits.exp().sum(-1, keepdims=True)
        return -(logits - norm.log())[np.arange(rows), wanted].sum() * (1 / rows)

    ours = [Array(x) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    loss(*ours).backward()
    loss(*theirs).backward()
    for name, mine, right in zip(["embedding", "first weight", "bias", "second weight"], ours, theirs):
        close(
            mine.grad, right.grad, "ARR-09", f"in a small network, the gradient of the {name} differs from PyTorch's", rtol=1e-8, atol=1e-11
        )


# ---------------------------------------------------------------- log_softmax


@check(
    L + "log_softmax",
    visible=[{"seed": 0, "shape": (3, 5)}, {"seed": 1, "shape": (2, 3, 4), "scale": 1e4}],
    hidden=[
        {"seed": 11, "shape": (2, 3, 4), "dim": 1},
        {"seed": 12, "shape": (3, 3), "dim": 0, "dtype": torch.float64},
        {"seed": 13, "shape": (6,)},
        {"seed": 14, "shape": (4, 1)},
        {"seed": 15, "shape": (5, 7), "scale": 1e4, "dim": 0},
    ],
    forbids=("log_softmax", "softmax", "logsumexp", "LogSoftmax", "cross_entropy", "nll_loss", "logaddexp", "logcumsumexp"),
    hints=(
        "exp overflows float32 above 88.7. What may you subtract from all logits of a row without changing the result?",
        "Subtract the row's maximum. Then take the logarithm of the sum, never the logarithm of a probability.",
        "shifted = logits - logits.amax(dim, keepdim=True); shifted - shifted.exp().sum(dim, keepdim=True).log()",
    ),
)
def check_log_softmax(log_softmax, seed, shape, dim=-1, scale=1.0, dtype=torch.float32):
    """Values and gradients equal torch.log_softmax, for logits up to ±1e4 and rows that lie far apart."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=g, dtype=dtype) * scale
    kept = logits.clone()
    got = log_softmax(logits, dim=dim)
    if not torch.equal(logits, kept):
        raise Mistake("LSM-08", "the logits that were passed in were changed", hint="no in-place operation on the argument")
    expected = torch.log_softmax(logits, dim)
    if got is None or got.shape != expected.shape:
        close(got, expected, "LSM-04", "the result must have the shape of the logits", "keepdim=True")
    if got.dtype != dtype:
        raise Mistake("LSM-07", "the result must have the dtype of the logits", f"got {got.dtype}, logits {dtype}")

    for name, value in {"1e4": 1e4, "-1e4": -1e4}.items():
        row = torch.tensor([value, value + 1, value - 2], dtype=dtype)
        large = log_softmax(row)
        if not torch.isfinite(large).all():
            raise Mistake(
                "LSM-01",
                f"logits near {name} do not survive",
                f"log_softmax({row.tolist()}) = {large.tolist()}",
                "subtract the row's maximum before exp",
            )
    spread = log_softmax(torch.tensor([0.0, 1000.0], dtype=dtype))
    if not torch.isfinite(spread).all():
        raise Mistake(
            "LSM-02",
            "a small probability becomes log(0)",
            f"log_softmax([0, 1000]) = {spread.tolist()}, expected [-1000, 0]",
            "take the logarithm of the sum, not of the probabilities",
        )
    apart = log_softmax(torch.tensor([[1e4, 1e4], [-1e4, -1e4]], dtype=dtype))
    hint = "each row has its own maximum: amax(dim, keepdim=True)"
    close(apart, torch.full((2, 2), -math.log(2)), "LSM-03", "a row is disturbed by the other rows", hint, atol=2e-3)  # float32 at 1e4

    masked = torch.tensor([[0.5, -math.inf, 1.0], [-math.inf, -math.inf, 2.0]], dtype=dtype)
    close(
        log_softmax(masked),
        torch.log_softmax(masked, -1),
        "LSM-06",
        "logits of minus infinity (forbidden tokens) go wrong",
        "their exp is 0",
    )

    if got.ndim > 1 and shape[dim] > 1:
        sums, mass = got.exp().sum(dim), torch.ones(()).to(dtype)
        if not torch.allclose(sums, mass.expand_as(sums), atol=1e-4):
            raise Mistake(
                "LSM-04",
                "the probabilities do not add up to 1 along `dim`",
                f"dim={dim}, shape {shape}, sums {sums.flatten()[:3].tolist()}",
                "use dim in the maximum and in the sum",
            )
    hint = "logits - log(sum(exp(logits))) along dim"
    step = torch.finfo(dtype).eps * max(scale, 1.0)  # the distance of two neighbouring numbers of this size
    close(got, expected, "LSM-09", "values differ from torch.log_softmax", hint, rtol=8 * torch.finfo(dtype).eps, atol=8 * step)

    weight = torch.randn(shape, generator=g, dtype=dtype)
    mine, theirs = (logits.clone().requires_grad_() for _ in range(2))
    out = log_softmax(mine, dim=dim)
    if not out.requires_grad:
        raise Mistake(
            "LSM-05",
            "no gradient flows to the logits",
            "the result does not require grad",
            "no detach() on the result, no .item(), no numpy",
        )
    (out * weight).sum().backward()
    (torch.log_softmax(theirs, dim) * weight).sum().backward()
    close(
        mine.grad,
        theirs.grad,
        "LSM-05",
        "the gradient differs from torch.log_softmax's",
        "let it flow through the sum",
        rtol=1e-5,
        atol=1e-5,
    )


# ---------------------------------------------------------------- cross_entropy


@check(
    L + "cross_entropy",
    visible=[{"seed": 0, "batch": (4, 6), "vocab": 7, "ignored": 5}],
    hidden=[
        {"seed": 11, "batch": (9,), "vocab": 5, "ignored": 4},
        {"seed": 12, "batch": (2, 3, 4), "vocab": 3, "ignored": 7, "ignore_index": 0},
        {"seed": 13, "batch": (5,), "vocab": 11, "ignored": 0, "scale": 1e4},
        {"seed": 14, "batch": (), "vocab": 4, "ignored": 0},
        {"seed": 15, "batch": (3, 2), "vocab": 2, "ignored": 2, "ignore_index": -1},
    ],
    forbids=("cross_entropy", "nll_loss", "CrossEntropyLoss", "NLLLoss"),
    hints=(
        "Take one sentence, pad it to twice its length, and compute the loss of both by hand. Should they differ?",
        "Which positions are in the sum, and which number is the sum divided by? Print both.",
        "Pick the positions that count first: counted = targets != ignore_index. Then only logits[counted] and targets[counted] are ever touched.",
    ),
)
def check_cross_entropy(cross_entropy, seed, batch, vocab, ignored, ignore_index=-100, scale=1.0):
    """Loss and gradient equal F.cross_entropy; padding changes nothing; bad targets are refused by name."""
    F = torch.nn.functional
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn((*batch, vocab), generator=g) * scale
    targets = torch.randint(1 if ignore_index == 0 else 0, vocab, batch, generator=g)
    places = torch.randperm(targets.numel(), generator=g)[:ignored]
    targets.view(-1)[places] = ignore_index
    options = {} if ignore_index == -100 else {"ignore_index": ignore_index}
    call = lambda x, t: cross_entropy(x, t, **options)  # noqa: E731

    kept = logits.clone(), targets.clone()
    mine, theirs = (logits.clone().requires_grad_() for _ in range(2))
    got = call(mine, targets)
    if not (torch.equal(logits, kept[0]) and torch.equal(targets, kept[1])):
        raise Mistake("XENT-10", "the logits or targets that were passed in were changed", hint="work on new tensors")
    expected = F.cross_entropy(theirs.reshape(-1, vocab), targets.reshape(-1), ignore_index=ignore_index)
    count, counted = targets.numel(), targets.numel() - ignored
    if not isinstance(got, Tensor) or got.shape != ():
        raise Mistake(
            "XENT-03", "the loss must be one number, the mean", f"got {tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__}"
        )
    value, right = got.item(), expected.item()
    same = lambda a, b: math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-7)  # noqa: E731
    if same(value, -right):
        raise Mistake("XENT-08", "the loss has the wrong sign", f"got {value:.4f}", "a loss is -log p: never negative")
    if ignored and same(value, right * counted / count):
        raise Mistake(
            "XENT-01",
            "padding makes the loss smaller",
            f"{ignored} of {count} positions are ignored: got {value:.4f}, expected {right:.4f}",
            "by what is the sum divided?",
        )
    as_token_0 = F.cross_entropy(logits.reshape(-1, vocab), targets.masked_fill(targets == ignore_index, 0).reshape(-1)).item()
    if ignored and ignore_index != 0 and same(value, as_token_0) and not same(value, right):
        raise Mistake(
            "XENT-02",
            "padding is counted as if its target were token 0",
            f"got {value:.4f}, expected {right:.4f}",
            "positions whose target is ignore_index stay out of the mean",
        )
    if counted > 1 and same(value, right * counted):
        raise Mistake("XENT-03", "the loss is a sum, not a mean", f"got {value:.4f}, expected {right:.4f} over {counted} positions")
    close(
        got,
        expected,
        "XENT-09",
        "the loss differs from F.cross_entropy",
        "the mean of -log_softmax(logits)[target] over the positions that count",
        rtol=1e-5,
        atol=1e-6,
    )
    if not got.requires_grad:
        raise Mistake("XENT-09", "no gradient flows to the logits", hint="no .item(), no detach()")
    got.backward()
    expected.backward()
    close(mine.grad, theirs.grad, "XENT-09", "the gradient differs from F.cross_entropy's", rtol=1e-5, atol=1e-6)

    padding_changes_nothing(call, F, logits, targets, ignore_index, right)
    must_refuse(call, batch, vocab, ignore_index)


def padding_changes_nothing(call, F, logits, targets, ignore_index, right):
    """Whatever stands in an ignored position: NaN, infinity, or nothing but ignored positions."""
    vocab = logits.shape[-1]
    rows, wanted = logits.reshape(-1, vocab), targets.reshape(-1)
    for filler in [1e4, math.inf, math.nan]:
        padded = torch.cat([rows, torch.full((3, vocab), filler)]).requires_grad_()
        loss = call(padded, torch.cat([wanted, torch.full((3,), ignore_index)]))
        hint = "take the ignored rows out before log_softmax; 0 * NaN is NaN"
        close(
            loss,
            torch.tensor(right),
            "XENT-05" if not math.isfinite(filler) else "XENT-02",
            f"an ignored position full of {filler:g} changes the loss",
            hint,
            rtol=1e-5,
            atol=1e-6,
        )
        loss.backward()
        if not torch.equal(padded.grad[-3:], torch.zeros(3, vocab)):
            raise Mistake("XENT-05", f"an ignored position full of {filler:g} gets a gradient", f"{padded.grad[-1][:3].tolist()}", hint)
    empty = rows.clone().requires_grad_()
    nothing = call(empty, torch.full_like(wanted, ignore_index))
    if not torch.isfinite(nothing):
        raise Mistake(
            "XENT-04", "the loss of a batch without a single target is not a number", f"got {nothing.item()}", "0 / 0: divide by at least 1"
        )
    close(nothing, torch.zeros(()), "XENT-04", "the loss of a batch without a single target must be 0")
    nothing.backward()
    close(empty.grad, torch.zeros_like(empty), "XENT-04", "the gradient of a batch without a single target must be zeros")


def must_refuse(call, batch, vocab, ignore_index):
    logits = torch.zeros((*batch, vocab))
    good = torch.ones(batch, dtype=torch.long)
    for shape in [(*batch, 1), (2, *batch)]:
        must_raise(
            ValueError,
            lambda s=shape: call(logits, torch.ones(s, dtype=torch.long)),
            "XENT-06",
            f"targets of shape {shape} with logits of shape {tuple(logits.shape)} must raise ValueError",
            "compare with logits.shape[:-1]",
        )
    if good.numel() > 1:
        flat = good.reshape(-1)
        must_raise(ValueError, lambda: call(logits, flat[:-1].clone()), "XENT-06", "a target too few must raise ValueError")
    for outside in [vocab, -7]:
        bad = good.clone()
        bad.view(-1)[-1] = outside
        error = must_raise(
            ValueError,
            lambda t=bad: call(logits, t),
            "XENT-07",
            f"target {outside} with a vocabulary of {vocab} must raise ValueError",
            "check the targets that count: 0 <= target < vocab",
        )
        if str(outside) not in str(error):
            raise Mistake("XENT-07", "the error must name the target that is wrong", f"target {outside}, message: {error}")
    for inside in [0, vocab - 1]:
        edge = good.clone()
        edge.view(-1)[-1] = inside
        if inside != ignore_index:
            try:
                call(logits, edge)
            except ValueError as error:
                raise Mistake(
                    "XENT-07", f"target {inside} is allowed with a vocabulary of {vocab}", f"it raised {error}", "0 <= target < vocab"
                ) from None


# ---------------------------------------------------------------- sgd_step

SIZES = [(3,), (2, 4)]


def trajectory(step_of, torch_optimizer, seed, shape, rates, size=1.0, **options):
    """Parameters after each of the steps, ours and PyTorch's, on a fixed stream of gradients; stops where `step_of` changes grad."""
    g = torch.Generator().manual_seed(seed)
    start = torch.randn(shape, generator=g, dtype=torch.float64)
    mine, theirs = start.clone(), start.clone().requires_grad_()
    optimizer = torch_optimizer([theirs], lr=rates[0], **options)
    ours, expected = [], []
    for number, lr in enumerate(rates, start=1):
        grad = size * (torch.randn(shape, generator=g, dtype=torch.float64) + 0.5 * mine.sign())
        untouched = grad.clone()
        result = step_of(mine, grad, number, lr)
        if not torch.equal(grad, untouched):
            return "changed grad", None
        if torch.equal(mine, start):
            return "not in place", result
        theirs.grad = untouched
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        ours.append(mine.clone())
        expected.append(theirs.detach().clone())
    return torch.stack(ours), torch.stack(expected)


def refuse_wrong_kind(ours, prefix, inplace_hint):
    if isinstance(ours, str) and ours == "changed grad":
        raise Mistake(
            f"{prefix}-01",
            "`grad` was changed",
            "after one step",
            "others still need it (clipping, accumulation, logging): no in-place operation on grad",
        )
    if isinstance(ours, str):
        raise Mistake(f"{prefix}-02", "`param` was not changed in place", "after one step it holds the old numbers", inplace_hint)


@check(
    O + "sgd_step",
    visible=[{"seed": 0, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}],
    hidden=[
        {"seed": 11, "lr": 0.05, "momentum": 0.5, "weight_decay": 0.3},
        {"seed": 12, "lr": 0.2},
        {"seed": 13, "lr": 0.02, "momentum": 0.95},
        {"seed": 14, "lr": 0.02, "weight_decay": 0.5},
    ],
    forbids=("SGD", "optim"),
    hints=(
        "Three lines, in the order of the docstring, with in-place operations: mul_, add_, sub_.",
        "`param -= …` on the tensor itself is in place; `param = param - …` only makes a new name.",
        "momentum_buffer.mul_(momentum).add_(grad + weight_decay * param); param.sub_(lr * momentum_buffer)",
    ),
)
def check_sgd(sgd_step, seed, lr, **options):
    """Equal to torch.optim.SGD over 50 steps, with momentum, decay and a changing learning rate; `grad` stays as it was."""
    momentum, decay = options.get("momentum", 0.0), options.get("weight_decay", 0.0)
    rates = [lr] * 25 + [lr / 4] * 25
    for shape in SIZES:
        buffer = torch.zeros(shape, dtype=torch.float64)
        ours, expected = trajectory(
            lambda p, g, n, lr, b=buffer: sgd_step(p, g, b, lr=lr, **options), torch.optim.SGD, seed, shape, rates, **options
        )
        refuse_wrong_kind(ours, "SGD", "param.sub_(…) or param -= …; `param = param - …` makes a new tensor")
        if momentum and not buffer.any():
            raise Mistake(
                "SGD-08",
                "`momentum_buffer` was not changed in place",
                "after 50 steps it still holds zeros: what earlier steps did is lost",
                "momentum_buffer.mul_(momentum).add_(d); `momentum_buffer = …` makes a new tensor that nobody keeps",
            )
        for code, what, hint, variant in [
            ("SGD-06", "the step goes uphill", "subtract lr * buffer", {"sign": -1.0}),
            ("SGD-03", "the momentum is an average", "buffer = momentum * buffer + d, without (1 - momentum)", {"average": True}),
            (
                "SGD-04",
                "the learning rate is inside the buffer",
                "the buffer collects gradients; lr multiplies it when param moves",
                {"rate_inside": True},
            ),
            (
                "SGD-05",
                "the decay acts on param, not through the gradient",
                "d = grad + weight_decay * param goes into the buffer",
                {"decoupled": True},
            ),
            ("SGD-07", "the momentum is not used", "momentum * buffer carries the earlier steps", {"forget": True}),
        ]:
            wrong = wrong_sgd(seed, shape, rates, momentum, decay, **variant)
            if torch.allclose(ours, wrong, rtol=1e-9, atol=1e-12) and not torch.allclose(wrong, expected, rtol=1e-9, atol=1e-12):
                raise Mistake(code, what, f"after 50 steps {gap(ours, expected)} away from torch.optim.SGD", hint)
        close(
            ours,
            expected,
            "SGD-09",
            "param differs from torch.optim.SGD within 50 steps",
            "the three lines of the docstring",
            rtol=1e-9,
            atol=1e-9,
        )
        if result := sgd_step(torch.ones(2), torch.ones(2), torch.zeros(2), lr=0.1):
            raise Mistake("SGD-02", "it must return nothing", f"got {type(result).__name__}", "change param in place")


def gap(ours, expected):
    return f"{(ours[-1] - expected[-1]).abs().max().item():.3g}"


def wrong_sgd(seed, shape, rates, momentum, decay, sign=1.0, average=False, rate_inside=False, decoupled=False, forget=False):
    """SGD with one named mistake, on the same gradients."""
    g = torch.Generator().manual_seed(seed)
    param = torch.randn(shape, generator=g, dtype=torch.float64)
    buffer, path = torch.zeros_like(param), []
    for lr in rates:
        grad = torch.randn(shape, generator=g, dtype=torch.float64) + 0.5 * param.sign()
        if decoupled:
            param = param * (1 - lr * decay)
        else:
            grad = grad + decay * param
        buffer = (0.0 if forget else momentum) * buffer + (1 - momentum if average else 1.0) * (lr if rate_inside else 1.0) * grad
        param = param - sign * (1.0 if rate_inside else lr) * buffer
        path.append(param)
    return torch.stack(path)


# ---------------------------------------------------------------- adamw_step


@check(
    O + "adamw_step",
    visible=[{"seed": 0, "lr": 0.05, "betas": (0.9, 0.99), "weight_decay": 0.1}],
    hidden=[
        {"seed": 11, "lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.5, "eps": 1e-3},
        {"seed": 12, "lr": 0.03},
        {"seed": 13, "lr": 0.03, "size": 1e-8},
        {"seed": 14, "lr": 0.01, "betas": (0.5, 0.999), "weight_decay": 0.0, "eps": 1e-2},
    ],
    forbids=("AdamW", "Adam", "optim", "adamw"),
    hints=(
        "Six lines, in the order of the docstring. The decay touches param only, never the gradient.",
        "Change exp_avg and exp_avg_sq in place (mul_, add_), but make m and v new tensors: the averages must stay uncorrected.",
        "param.mul_(1 - lr * weight_decay); exp_avg.mul_(b1).add_(grad, alpha=1 - b1); exp_avg_sq.mul_(b2).addcmul_(grad, grad, value=1 - b2); …",
    ),
)
def check_adamw(adamw_step, seed, lr, size=1.0, **options):
    """Equal to torch.optim.AdamW over 50 steps, tiny gradients and a changing learning rate among them; `grad` stays as it was."""
    for bad in [0, -1]:
        param, averages = torch.ones(2), [torch.zeros(2), torch.zeros(2)]
        must_raise(
            ValueError,
            lambda n=bad: adamw_step(param, torch.ones(2), *averages, n, lr=0.1),
            "ADAMW-08",
            f"step {bad} must raise ValueError",
            "step counts from 1; at 0 the correction divides by zero",
        )
        if not torch.equal(param, torch.ones(2)) or averages[0].any() or averages[1].any():
            raise Mistake("ADAMW-08", "a refused step has changed param or an average", hint="check `step` first")

    rates = [lr] * 25 + [lr / 4] * 25
    for shape in SIZES:
        averages = [torch.zeros(shape, dtype=torch.float64) for _ in range(2)]
        step_of = lambda p, g, n, lr, a=averages: adamw_step(p, g, *a, n, lr=lr, **options)  # noqa: E731
        ours, expected = trajectory(step_of, torch.optim.AdamW, seed, shape, rates, size=size, **options)
        refuse_wrong_kind(ours, "ADAMW", "param.mul_(…), param.sub_(…); `param = param - …` makes a new tensor")
        for code, what, hint, variant in WRONG_ADAM:
            wrong = wrong_adamw(seed, shape, rates, size=size, **options, **variant)
            if torch.allclose(ours, wrong, rtol=1e-9, atol=1e-12) and not torch.allclose(wrong, expected, rtol=1e-9, atol=1e-12):
                raise Mistake(code, what, f"after 50 steps {gap(ours, expected)} away from torch.optim.AdamW", hint)
        close(
            ours,
            expected,
            "ADAMW-09",
            "param differs from torch.optim.AdamW within 50 steps",
            "the six lines of the docstring",
            rtol=1e-9,
            atol=1e-9,
        )
    if (result := adamw_step(torch.ones(2), torch.ones(2), torch.zeros(2), torch.zeros(2), 1, lr=0.1)) is not None:
        raise Mistake("ADAMW-02", "it must return nothing", f"got {type(result).__name__}", "change param in place")


WRONG_ADAM = [
    (
        "ADAMW-03",
        "the decay goes through the gradient: this is Adam with L2",
        "param.mul_(1 - lr * weight_decay), and grad stays free of it",
        {"l2": True},
    ),
    ("ADAMW-04", "the averages are not corrected for starting at zero", "divide by 1 - beta ** step", {"uncorrected": True}),
    ("ADAMW-05", "the correction is one step off", "step counts from 1: beta ** step", {"shift": 1}),
    ("ADAMW-06", "eps is inside the square root", "sqrt(v) + eps", {"eps_inside": True}),
    ("ADAMW-07", "the decay is not multiplied by lr", "param * (1 - lr * weight_decay)", {"decay_without_lr": True}),
    ("ADAMW-10", "beta1 and beta2 are exchanged", "betas = (beta1, beta2): the first is for exp_avg", {"exchanged": True}),
    (
        "ADAMW-11",
        "the corrected averages are kept and corrected again",
        "m and v are new tensors; exp_avg and exp_avg_sq stay uncorrected",
        {"kept": True},
    ),
]


def wrong_adamw(
    seed,
    shape,
    rates,
    size=1.0,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.01,
    l2=False,
    uncorrected=False,
    shift=0,
    eps_inside=False,
    decay_without_lr=False,
    exchanged=False,
    kept=False,
):
    """AdamW with one named mistake, on the same gradients."""
    g = torch.Generator().manual_seed(seed)
    beta1, beta2 = reversed(betas) if exchanged else betas
    param = torch.randn(shape, generator=g, dtype=torch.float64)
    average, square, path = torch.zeros_like(param), torch.zeros_like(param), []
    for number, lr in enumerate(rates, start=1 + shift):
        grad = size * (torch.randn(shape, generator=g, dtype=torch.float64) + 0.5 * param.sign())
        if l2:
            grad = grad + weight_decay * param
        else:
            param = param * (1 - (1.0 if decay_without_lr else lr) * weight_decay)
        average, square = beta1 * average + (1 - beta1) * grad, beta2 * square + (1 - beta2) * grad**2
        m, v = (average, square) if uncorrected else (average / (1 - beta1**number), square / (1 - beta2**number))
        if kept:
            average, square = m, v
        param = param - lr * m / ((v + eps).sqrt() if eps_inside else v.sqrt() + eps)
        path.append(param)
    return torch.stack(path)
