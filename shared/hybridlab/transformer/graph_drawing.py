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
    for node, (x, y) in places.items():
        for position, (parent, slope) in enumerate(zip(node.parents, node.slopes, strict=True)):
            start = places[parent]
            bend = 0.25 - 0.5 * position if node.parents.count(parent) > 1 else 0.0  # a * a has two edges from a
            ax.annotate(
                "",
                (x - 0.34, y),
                (start[0] + 0.34, start[1]),
                arrowprops={"arrowstyle": "-|>", "color": "0.45", "connectionstyle": f"arc3,rad={bend}"},
            )
            ax.text((start[0] + x) / 2, (start[1] + y) / 2 - bend, f"{slope:.3g}", ha="center", va="center", fontsize=9,
                    color="tab:blue", bbox={"fc": "white", "ec": "none", "pad": 1})
        ax.text(x, y, f"{node.name or 'number'}\n{node.data:.4g}\ngrad {node.grad:.4g}", ha="center", va="center", fontsize=9,
                bbox={"boxstyle": "round", "fc": "#fff4d6" if node.parents else "#e3f1e3", "ec": "0.4"})
    across, up = zip(*places.values(), strict=True)
    ax.set(xlim=(min(across) - 0.6, max(across) + 0.6), ylim=(min(up) - 0.6, max(up) + 0.6))
    ax.axis("off")


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
