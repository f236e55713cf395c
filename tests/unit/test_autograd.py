"""The autograd engine: its gradients are PyTorch's, for numbers and for arrays, and its graphs may be deep."""

import math

import matplotlib
import numpy as np
import pytest
import torch
from hybridlab.transformer.autograd import Array, Value, topological_order, unbroadcast

matplotlib.use("Agg")

# float64 throughout: what differs is only the order of additions
TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


def tensors(*values):
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


EXPRESSIONS = {
    "polynomial": lambda a, b: a**3 - 2 * a * b + b / a - 1,
    "number on the left": lambda a, b: 3 - a + 2 / b + 4 * a + 1 + b,
    "nested": lambda a, b: ((a * b).tanh() + (a / b).exp()).log() * -a,
    "reused": lambda a, b: (a * b + a) * (a * b) ** 2 + a * b,
}


@pytest.mark.parametrize("name", EXPRESSIONS)
@pytest.mark.parametrize("point", [(0.7, 1.3), (1.5, 0.2)])
def test_value_has_the_results_and_gradients_of_pytorch(name, point):
    ours, theirs = [Value(x) for x in point], tensors(*point)
    mine, right = EXPRESSIONS[name](*ours), EXPRESSIONS[name](*theirs)
    mine.backward()
    right.backward()
    assert mine.data == pytest.approx(right.item(), rel=1e-12)
    assert [v.grad for v in ours] == pytest.approx([t.grad.item() for t in theirs], rel=1e-10)


def test_a_second_backward_adds_the_same_gradients_once_more():
    a = Value(0.5)
    out = (a * a).tanh() * a
    out.backward()
    once = a.grad
    out.backward()
    assert a.grad == pytest.approx(2 * once)


@pytest.mark.slow(seconds=2)
def test_a_graph_deeper_than_the_recursion_limit():
    x = Value(1e-4)
    total = x
    for _ in range(20_000):
        total = total + x
    total.backward()
    assert x.grad == 20_001


def test_time_grows_with_the_nodes_and_not_with_the_paths():
    node = x = Value(1.0)
    for _ in range(200):  # 2^200 paths
        node = node + node
    node.backward()
    assert x.grad == 2.0**200


def test_topological_order_lists_each_node_once_after_its_parents():
    a, b = Value(1.0), Value(2.0)
    out = (a * b + a) * (a + b)
    order = topological_order(out)
    assert len(order) == len(set(order)) == 6
    assert order[-1] is out
    assert all(order.index(parent) < order.index(node) for node in order for parent in node.parents)


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ((4, 3), (3,)), ((3, 3), (3,)), ((2, 4, 3), (4, 1)), ((2, 5, 3), (1, 5, 1)),
        ((4, 3), ()), ((4, 3), (4, 3)), ((1, 2), (2,)), ((0, 3), (3,)),
    ],
)
def test_unbroadcast_is_the_gradient_of_expand(wide, narrow):
    gradient = np.random.default_rng(0).normal(size=wide)
    small = torch.zeros(narrow, dtype=torch.float64, requires_grad=True)
    (small.expand(wide) * torch.from_numpy(gradient)).sum().backward()
    got = unbroadcast(gradient, narrow)
    assert got.shape == narrow
    np.testing.assert_allclose(got, small.grad.numpy(), **TOLERANCE)


@pytest.mark.parametrize("shape", [(2,), (3, 4), (12,), (1, 4, 3), (5, 4, 3)])
def test_unbroadcast_refuses_a_shape_that_does_not_broadcast(shape):
    with pytest.raises(ValueError, match="broadcast"):
        unbroadcast(np.zeros((4, 3)), shape)


ARRAY_CASES = {
    "add": (lambda a, b: a + b, (4, 3), (3,)),
    "subtract": (lambda a, b: a - b, (4, 1), (1, 3)),
    "multiply": (lambda a, b: a * b, (2, 1, 3), (4, 1)),
    "divide": (lambda a, b: a / (b**2 + 1.0), (4, 3), ()),
    "matmul": (lambda a, b: a @ b, (4, 3), (3, 5)),
    "matmul of stacks": (lambda a, b: a @ b, (2, 1, 4, 3), (6, 3, 5)),
    "functions": (lambda a, b: (a.tanh() + b.exp() + 1.0).log(), (4, 3), (4, 3)),
    "sum": (lambda a, b: a.sum(0) * b, (4, 3), (3,)),
    "rows taken twice": (lambda a, b: a[np.array([0, 2, 0])] * b, (4, 3), (3, 3)),
}


@pytest.mark.parametrize("name", ARRAY_CASES)
def test_array_has_the_results_and_gradients_of_pytorch(name):
    call, *shapes = ARRAY_CASES[name]
    rng = np.random.default_rng(1)
    starts = [np.abs(rng.normal(size=shape)) + 0.1 for shape in shapes]
    ours, theirs = [Array(x) for x in starts], tensors(*starts)
    mine, right = call(*ours), call(*theirs)
    np.testing.assert_allclose(mine.data, right.detach().numpy(), **TOLERANCE)
    weight = rng.normal(size=mine.shape)
    (mine * weight).sum().backward()
    (right * torch.from_numpy(weight)).sum().backward()
    for a, t in zip(ours, theirs, strict=True):
        assert a.grad.shape == a.shape
        np.testing.assert_allclose(a.grad, t.grad.numpy(), **TOLERANCE)


def test_backward_of_an_array_starts_at_one_number():
    with pytest.raises(ValueError, match="sum it first"):
        Array(np.zeros((2, 3))).backward()


def test_matmul_refuses_vectors():
    with pytest.raises(ValueError, match="two axes"):
        Array(np.zeros(3)) @ Array(np.zeros((3, 2)))


def test_plain_numpy_arrays_may_stand_on_the_left():
    a = Array([1.0, 2.0])
    out = (np.array([3.0, 4.0]) * a + np.array([1.0, 1.0]) - a).sum()
    out.backward()
    assert isinstance(out, Array)
    np.testing.assert_allclose(a.grad, [2.0, 3.0])


def test_the_drawing_shows_every_node_and_every_slope():
    import matplotlib.pyplot as plt
    from hybridlab.transformer.graph_drawing import draw_graph

    a = Value(3.0, name="a")
    out = a * a + a
    out.backward()
    fig, ax = plt.subplots()
    draw_graph(out, ax)
    texts = sorted(text.get_text() for text in ax.texts if text.get_text())
    assert texts == sorted(["a\n3\ngrad 7", "*\n9\ngrad 1", "+\n12\ngrad 1", "3", "3", "1", "1"])
    plt.close(fig)


def test_the_drawing_gives_each_node_a_place_of_its_own():
    from hybridlab.transformer.graph_drawing import layout

    a, b = Value(1.0), Value(2.0)
    out = ((a * b).tanh() + a) * (b + 1.0) + math.pi
    places = layout(out)
    assert len(set(places.values())) == len(topological_order(out))
    assert all(places[parent][0] < places[node][0] for node in places for parent in node.parents)
