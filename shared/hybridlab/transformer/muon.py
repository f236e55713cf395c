"""Muon: momentum whose direction is made orthogonal, for the weight matrices inside a model.

Notable:
- one optimizer for the whole model: groups made by `muon_groups` say which parameters Muon moves and which AdamW does
  (embeddings, the output head, gains and biases are no maps from one hidden space to another);
- matrices of one shape are orthogonalized together, as one batch;
- everything stays in the parameter's own dtype. The original iterates in bfloat16, which many CPUs compute slowly.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); Liu et al., 2502.16982, for
the same at scale. torch.optim.Muon is the oracle of the tests.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from hybridlab.exercise import exercise
from hybridlab.transformer.optim import adamw_step

DEFAULTS: dict[str, dict[str, Any]] = {
    "muon": {"lr": 0.02, "momentum": 0.95, "ns_steps": 5, "weight_decay": 0.0},
    "adamw": {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.0},
}
QUINTIC = (3.4445, -4.7750, 2.0315)  # steepest at zero, so small singular values grow fastest


@exercise
def orthogonalize(matrices: Float[Tensor, "*n rows columns"], steps: int = 5) -> Float[Tensor, "*n rows columns"]:
    """The nearest orthogonal matrix, roughly: every singular value is driven towards 1, the singular vectors stay.

    Newton–Schulz in `steps` rounds, with (a, b, c) = QUINTIC:

        X = G / (‖G‖ + 1e-7)                     ‖G‖: the square root of the sum of all squares of one matrix
        X = a X + (b A + c A A) X,   A = X Xᵀ    in each round

    Each round sends every singular value s to a s + b s³ + c s⁵. Five rounds bring what is not tiny to 0.7 … 1.2, with
    matrix products alone. Leading axes hold several matrices, and each is treated on its own. A matrix with more rows
    than columns is transposed first and back again at the end: the result is the same, and A, rows by rows, is the
    smaller square of the two. A zero matrix stays zero. The input is not changed; shape and dtype are kept.

    Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024).
    """
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


def muon_groups(model: nn.Module, *, lr: float = 0.02, adamw_lr: float = 3e-3, **options: Any) -> list[dict[str, Any]]:
    """Parameter groups for `Muon`: 2-D weights inside the model's `layers` to Muon, all others to AdamW.

    `options` go to both groups, for instance `weight_decay`.
    """
    hidden = [p for name, p in model.named_parameters() if name.startswith("layers.") and p.ndim == 2]
    taken = {id(p) for p in hidden}
    others = [p for p in model.parameters() if id(p) not in taken]
    if not hidden:
        raise ValueError("the model has no 2-D weights under `layers`; give Muon groups of your own")
    return [
        {"params": hidden, "method": "muon", "lr": lr, **options},
        {"params": others, "method": "adamw", "lr": adamw_lr, **options},
    ]


class Muon(Optimizer):
    """Muon for the groups whose `method` is "muon", AdamW for those whose `method` is "adamw".

    One Muon step: average the gradients (`momentum`, with Nesterov's look ahead), make the average orthogonal, and
    move by `lr` times it. A matrix of shape (rows, columns) moves by sqrt(max(1, rows / columns)) more, so that the
    same `lr` changes the outputs of every layer by about the same amount.

        group key      muon    adamw
        lr             0.02    3e-3      where a group gives none
        momentum       0.95    -
        ns_steps       5       -         rounds of `orthogonalize`
        betas, eps     -       (0.9, 0.95), 1e-8
        weight_decay   0       0         decoupled, as in AdamW: times lr

    Raises:
        ValueError: a `method` is unknown, a setting is out of its range, or a parameter in a Muon group is no matrix.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        for group in groups:
            if group.get("method") not in DEFAULTS:
                raise ValueError(f"method must be one of {sorted(DEFAULTS)}, got {group.get('method')!r}")
            for name, value in DEFAULTS[group["method"]].items():
                group.setdefault(name, value)
        super().__init__(groups, {})
        for group in self.param_groups:
            _check(group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Update every parameter that has a gradient; `closure`, if given, computes the loss again first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._muon if group["method"] == "muon" else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        same_shape = defaultdict(list)
        for param in group["params"]:
            if param.grad is not None:
                same_shape[param.shape, param.dtype, param.device].append(param)
        for (shape, _, _), params in same_shape.items():
            grads = torch.stack([param.grad for param in params])  # (n, rows, columns)
            buffers = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in params]
            for buffer, grad in zip(buffers, grads, strict=True):
                buffer.lerp_(grad, 1 - group["momentum"])
            ahead = grads.lerp_(torch.stack(buffers), group["momentum"])
            stretch = max(1.0, shape[0] / shape[1]) ** 0.5
            for param, update in zip(params, orthogonalize(ahead, group["ns_steps"]), strict=True):
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.sub_(update, alpha=group["lr"] * stretch)

    def _adamw(self, group: dict[str, Any]) -> None:
        settings = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
        for param in group["params"]:
            if param.grad is None:
                continue
            state = self.state[param]
            if not state:
                state |= {"step": 0, "exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}
            state["step"] += 1
            adamw_step(param, param.grad, state["exp_avg"], state["exp_avg_sq"], state["step"], **settings)


def _check(group: dict[str, Any]) -> None:
    for name in ("lr", "weight_decay"):
        if group[name] < 0:
            raise ValueError(f"{name} must not be negative, got {group[name]}")
    if group["method"] != "muon":
        return
    if not 0 <= group["momentum"] < 1:
        raise ValueError(f"momentum lies in 0 <= momentum < 1, got {group['momentum']}")
    if group["ns_steps"] < 1:
        raise ValueError(f"ns_steps must be at least 1, got {group['ns_steps']}")
    flat = [tuple(param.shape) for param in group["params"] if param.ndim != 2]
    if flat:
        raise ValueError(f"Muon moves matrices; give the parameter of shape {flat[0]} to a group with method 'adamw'")
