"""Draw the graph that a `Value` was computed from: numbers in the boxes, slopes on the arrows.

Data flows from left to right, gradients from right to left: a node's gradient is the sum, over the arrows
that leave it, of the arrow's slope times the gradient at the arrow's head.
"""

from typing import Any

from matplotlib.axes import Axes

from hybridlab.transformer.autograd import topological_order


def draw_graph(root: Any, ax: Axes) -> None:
    """Draw `root` (a `Value`) and all that it was computed from: name, data and grad of each, slope of each edge."""
    places = layout(root)
    across, up = zip(*places.values(), strict=True)
    ax.set(xlim=(min(across) - 0.5, max(across) + 0.5), ylim=(min(up) - 0.7, max(up) + 0.7))
    ax.axis("off")
    boxes = {}
    for node, (x, y) in places.items():
        text = f"{node.name or 'number'}\n{node.data:.4g}\ngrad {node.grad:.4g}"
        style = {"boxstyle": "round", "fc": "#fff4d6" if node.parents else "#e3f1e3", "ec": "0.4"}
        boxes[node] = ax.text(x, y, text, ha="center", va="center", fontsize=9, bbox=style).get_bbox_patch()
    ax.figure.canvas.draw()  # so that boxes and axes have their final size
    for node in places:
        for position, (parent, slope) in enumerate(zip(node.parents, node.slopes, strict=True)):
            far = places[node][0] - places[parent][0] > 2.0  # would run through the boxes between
            twin = node.parents.count(parent) > 1  # a * a has two edges from a
            bend = 0.3 - 0.6 * position if twin else -0.35 if far else 0.0
            draw_edge(ax, places[parent], places[node], boxes[parent], boxes[node], bend, f"{slope:.3g}")


def draw_edge(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], start_box: Any, end_box: Any, bend: float, label: str
) -> None:
    """An arrow from box to box, bent to one side, with its label on the middle of the curve."""
    style = {"arrowstyle": "-|>", "color": "0.45", "connectionstyle": f"arc3,rad={bend}", "patchA": start_box, "patchB": end_box}
    ax.annotate("", end, start, arrowprops=style)
    (x0, y0), (x1, y1) = ax.transData.transform([start, end])
    middle = (x0 + x1 + bend * (y1 - y0)) / 2, (y0 + y1 - bend * (x1 - x0)) / 2
    x, y = ax.transData.inverted().transform(middle)
    ax.text(x, y, label, ha="center", va="center", fontsize=9, color="tab:blue", bbox={"fc": "white", "ec": "none", "pad": 1})


def layout(root: Any) -> dict[Any, tuple[float, float]]:
    """A place (x, y) for each node: one column per longest distance to `root`, each node near those that use it."""
    nodes = topological_order(root)[::-1]
    distance = dict.fromkeys(nodes, 0)
    users: dict[Any, list[Any]] = {node: [] for node in nodes}
    for node in nodes:
        for parent in node.parents:
            distance[parent] = max(distance[parent], distance[node] + 1)
            users[parent].append(node)
    places: dict[Any, tuple[float, float]] = {}
    for column in range(max(distance.values()) + 1):
        inside = [node for node in nodes if distance[node] == column]
        inside.sort(key=lambda node: sum(places[user][1] for user in users[node]) / max(len(users[node]), 1))
        for row, node in enumerate(inside):
            places[node] = (-1.5 * column, row - (len(inside) - 1) / 2)
    return places
