"""SGD with momentum and AdamW, as update rules and as optimizers.

    paper (1711.05101, algorithm 2)     here
    theta, g                            param, grad
    m, v                                exp_avg, exp_avg_sq
    t                                   step (counts from 1)
    alpha, eta_t                        lr (their product)
    lambda                              lr * weight_decay (PyTorch's convention, which we keep)

Footgun: in the paper the decay per step is eta_t * lambda. In PyTorch, and here, it is lr * weight_decay: whoever
halves lr halves the decay as well.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.exercise import exercise


@exercise
def sgd_step(
    param: Float[Tensor, "..."],
    grad: Float[Tensor, "..."],
    momentum_buffer: Float[Tensor, "..."],
    *,
    lr: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    """One step of gradient descent with momentum, in place, equal to `torch.optim.SGD`.

        d      = grad + weight_decay * param
        buffer = momentum * buffer + d
        param  = param - lr * buffer

    Changes `param` and `momentum_buffer` (zeros before the first step), never `grad`. Returns nothing. The
    optimizer calls this under `torch.no_grad()`, so there is no graph to think of.
    """
    momentum_buffer.mul_(momentum).add_(grad).add_(param, alpha=weight_decay)
    param.sub_(momentum_buffer, alpha=lr)


@exercise
def adamw_step(
    param: Float[Tensor, "..."],
    grad: Float[Tensor, "..."],
    exp_avg: Float[Tensor, "..."],
    exp_avg_sq: Float[Tensor, "..."],
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> None:
    """One step of AdamW, in place, equal to `torch.optim.AdamW` (1711.05101, algorithm 2).

        param      = param - lr * weight_decay * param                 the decay, apart from the gradient
        exp_avg    = beta1 * exp_avg    + (1 - beta1) * grad
        exp_avg_sq = beta2 * exp_avg_sq + (1 - beta2) * grad ** 2
        m          = exp_avg    / (1 - beta1 ** step)                  both averages start at zero, and
        v          = exp_avg_sq / (1 - beta2 ** step)                  are too small at first: corrected
        param      = param - lr * m / (sqrt(v) + eps)

    `step` counts from 1; both averages are zeros before it. Changes `param`, `exp_avg` and `exp_avg_sq`, never
    `grad`. Returns nothing. The optimizer calls this under `torch.no_grad()`.

    Raises `ValueError` if `step` is less than 1, before it changes anything.
    """
    if step < 1:
        raise ValueError(f"step counts from 1, got {step}")
    beta1, beta2 = betas
    param.mul_(1 - lr * weight_decay)
    exp_avg.mul_(beta1).add_(grad, alpha=1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    m = exp_avg / (1 - beta1**step)
    v = exp_avg_sq / (1 - beta2**step)
    param.sub_(m / (v.sqrt() + eps), alpha=lr)


class SGD(torch.optim.Optimizer):
    """`sgd_step` as an optimizer: keeps one momentum buffer per parameter."""

    def __init__(
        self, params: Iterable, lr: float = 1e-2, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> None:
        _must_not_be_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(param)
                sgd_step(
                    param,
                    param.grad,
                    state["momentum_buffer"],
                    lr=group["lr"],
                    momentum=group["momentum"],
                    weight_decay=group["weight_decay"],
                )


class AdamW(torch.optim.Optimizer):
    """`adamw_step` as an optimizer: keeps two averages and a step count per parameter (1711.05101)."""

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        _must_not_be_negative(lr=lr, eps=eps, weight_decay=weight_decay)
        for beta in betas:
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"betas lie in 0 <= beta < 1, got {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["step"] = 0
                    state["exp_avg"] = torch.zeros_like(param)
                    state["exp_avg_sq"] = torch.zeros_like(param)
                state["step"] += 1
                adamw_step(
                    param,
                    param.grad,
                    state["exp_avg"],
                    state["exp_avg_sq"],
                    state["step"],
                    lr=group["lr"],
                    betas=group["betas"],
                    eps=group["eps"],
                    weight_decay=group["weight_decay"],
                )


def _must_not_be_negative(**settings: float) -> None:
    for name, value in settings.items():
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
