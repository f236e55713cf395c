"""L2 against decoupled weight decay under Adam (1711.05101), small enough to run in a lesson.

A two-layer network learns noisy labels from few examples, so it overfits and decay can help. What differs from
run to run is the size of the input features: all equal, or spread over `10 ** spread`. Large features give
large gradients, and Adam divides each gradient by its own size.

    kind          gradient that Adam sees        on the weight itself
    l2            grad + weight_decay * param    -
    decoupled     grad                           param -= lr * weight_decay * param

All settings of the grid train at once: the parameters have one leading axis, `run`.
"""

import itertools
import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.transformer.losses import cross_entropy

Kind = Literal["l2", "decoupled"]
FEATURES, HIDDEN, CLASSES = 20, 48, 5
EXAMPLES, TEST_EXAMPLES, WRONG_LABELS = 400, 2000, 0.2
BATCH, BETAS, EPS = 32, (0.9, 0.999), 1e-8


def adam_decay_step(
    param: Float[Tensor, "run *shape"],
    grad: Float[Tensor, "run *shape"],
    exp_avg: Float[Tensor, "run *shape"],
    exp_avg_sq: Float[Tensor, "run *shape"],
    step: int,
    *,
    kind: Kind,
    lr: Float[Tensor, "run *ones"],
    weight_decay: Float[Tensor, "run *ones"],
) -> None:
    """One step of Adam with L2, or of AdamW, in place, with a learning rate and a decay of its own for each run.

    Equal, run by run, to `torch.optim.Adam` (l2) and `torch.optim.AdamW` (decoupled).
    """
    if kind == "l2":
        grad = grad + weight_decay * param
    else:
        param.mul_(1 - lr * weight_decay)
    exp_avg.lerp_(grad, 1 - BETAS[0])
    exp_avg_sq.lerp_(grad**2, 1 - BETAS[1])
    m = exp_avg / (1 - BETAS[0] ** step)
    v = exp_avg_sq / (1 - BETAS[1] ** step)
    param.sub_(lr * m / (v.sqrt() + EPS))


def error_grid(
    kind: Kind,
    learning_rates: list[float],
    weight_decays: list[float],
    *,
    spread: float,
    steps: int = 1000,
    seed: int = 0,
) -> Float[Tensor, "learning_rates weight_decays"]:
    """The test error (0 ... 1) for each pair of learning rate and weight decay, cosine schedule to zero.

    `spread`: decades between the smallest and the largest input feature (0: all of one size). Every run sees the
    same data, the same first weights and the same batches; `seed` draws all three.
    """
    g = torch.Generator().manual_seed(seed)
    inputs, labels, test_inputs, test_labels = noisy_task(spread, g)
    pairs = torch.tensor(list(itertools.product(learning_rates, weight_decays)))
    lr, weight_decay = (column.reshape(-1, 1, 1) for column in pairs.T)
    shapes = [(FEATURES, HIDDEN), (HIDDEN, CLASSES)]
    first = [torch.randn(shape, generator=g) / shape[0] ** 0.5 for shape in shapes]
    params = [weight.expand(len(pairs), -1, -1).clone().requires_grad_() for weight in first]
    averages = [(torch.zeros_like(param), torch.zeros_like(param)) for param in params]
    for step in range(1, steps + 1):
        rows = torch.randint(EXAMPLES, (BATCH,), generator=g)
        logits = torch.relu(inputs[rows] @ params[0]) @ params[1]
        loss = cross_entropy(logits, labels[rows].expand(len(pairs), -1)) * len(pairs)  # each run has its own mean
        cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
        for param, grad, (exp_avg, exp_avg_sq) in zip(params, torch.autograd.grad(loss, params), averages, strict=True):
            with torch.no_grad():
                adam_decay_step(param, grad, exp_avg, exp_avg_sq, step, kind=kind, lr=cosine * lr, weight_decay=weight_decay)
    with torch.no_grad():
        predicted = (torch.relu(test_inputs @ params[0]) @ params[1]).argmax(-1)
    return (predicted != test_labels).float().mean(-1).reshape(len(learning_rates), len(weight_decays))


def noisy_task(
    spread: float, g: torch.Generator
) -> tuple[Float[Tensor, "examples features"], Int[Tensor, " examples"], Float[Tensor, "tests features"], Int[Tensor, " tests"]]:
    """Training inputs and labels (a part of them wrong), test inputs and labels (all right)."""
    teacher = torch.randn(FEATURES, CLASSES, generator=g)
    sizes = torch.logspace(-spread / 2, spread / 2, FEATURES)
    inputs = torch.randn(EXAMPLES + TEST_EXAMPLES, FEATURES, generator=g)
    labels = (inputs @ teacher).argmax(-1)
    wrong = torch.rand(EXAMPLES, generator=g) < WRONG_LABELS
    labels[:EXAMPLES][wrong] = torch.randint(CLASSES, (int(wrong.sum()),), generator=g)
    inputs = inputs * sizes
    return inputs[:EXAMPLES], labels[:EXAMPLES], inputs[EXAMPLES:], labels[EXAMPLES:]


def shrinkage(kind: Kind, gradient_sizes: Float[Tensor, " weight"], *, lr: float = 1e-3, weight_decay: float = 0.1,
              steps: int = 2000, seed: int = 0) -> Float[Tensor, " weight"]:
    """How much of a weight of 1 is left when its gradients are pure noise of the given sizes: only the decay pulls.

    Each size is tried on 200 weights, and the mean over them is returned.
    """
    g = torch.Generator().manual_seed(seed)
    param = torch.ones(len(gradient_sizes), 200)
    exp_avg, exp_avg_sq = torch.zeros_like(param), torch.zeros_like(param)
    rate, decay = torch.tensor(lr), torch.tensor(weight_decay)
    for step in range(1, steps + 1):
        noise = torch.randn(param.shape, generator=g) * gradient_sizes.unsqueeze(-1)
        adam_decay_step(param, noise, exp_avg, exp_avg_sq, step, kind=kind, lr=rate, weight_decay=decay)
    return param.mean(-1)
