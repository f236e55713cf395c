"""SGD and AdamW: torch.optim's numbers over 50 steps, as rules and as optimizers, and the study of L2 against decay."""

import itertools

import pytest
import torch
from hybridlab.transformer import optim
from hybridlab.transformer.decay_study import BETAS, EPS, adam_decay_step, error_grid, shrinkage

PAIRS = {
    "sgd": (optim.SGD, torch.optim.SGD, {"lr": 0.05}),
    "sgd with momentum": (optim.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "sgd with momentum and decay": (optim.SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    "adamw": (optim.AdamW, torch.optim.AdamW, {"lr": 0.01}),
    "adamw as llama's": (optim.AdamW, torch.optim.AdamW, {"lr": 0.01, "betas": (0.9, 0.95), "weight_decay": 0.1}),
    "adamw with a large eps": (optim.AdamW, torch.optim.AdamW, {"lr": 0.01, "eps": 1e-2}),
}


def train(optimizer_class, options, steps=50, dtype=torch.float64):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).to(dtype)
    optimizer = optimizer_class(model.parameters(), **options)
    for step in range(steps):
        if step == 25:
            optimizer.param_groups[0]["lr"] /= 3
        inputs = torch.randn(16, 4, dtype=dtype)
        optimizer.zero_grad()
        (model(inputs) - inputs[:, :2] ** 2).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]), optimizer


@pytest.mark.parametrize("name", PAIRS)
def test_50_steps_end_where_torch_optim_ends(name):
    mine, theirs, options = PAIRS[name]
    torch.testing.assert_close(train(mine, options)[0], train(theirs, options)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PAIRS)
def test_50_steps_in_float32_stay_within_a_millionth(name):
    mine, theirs, options = PAIRS[name]
    got, expected = (train(o, options, dtype=torch.float32)[0] for o in (mine, theirs))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_a_step_leaves_the_gradient_alone_and_returns_nothing(rule):
    param, grad, first, second = torch.ones(3), torch.full((3,), 2.0), torch.zeros(3), torch.zeros(3)
    if rule == "sgd":
        result = optim.sgd_step(param, grad, first, lr=0.1, momentum=0.9, weight_decay=0.1)
    else:
        result = optim.adamw_step(param, grad, first, second, 1, lr=0.1, weight_decay=0.1)
    assert result is None
    assert torch.equal(grad, torch.full((3,), 2.0))
    assert (param < 1).all()


def test_adamw_refuses_step_0_and_changes_nothing():
    param, averages = torch.ones(2), (torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match="step counts from 1, got 0"):
        optim.adamw_step(param, torch.ones(2), *averages, 0, lr=0.1)
    assert torch.equal(param, torch.ones(2))
    assert not averages[0].any()


def test_parameters_without_a_gradient_stay():
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    for optimizer in [optim.SGD([used, unused], lr=0.1), optim.AdamW([used, unused], lr=0.1)]:
        used.grad = torch.ones(2)
        optimizer.step()
        assert torch.equal(unused, torch.ones(2))


@pytest.mark.parametrize("optimizer_class", [optim.SGD, optim.AdamW])
def test_a_run_continued_from_its_state_dict_equals_one_that_was_not_interrupted(optimizer_class):
    def run(interrupted):
        torch.manual_seed(3)
        param = torch.nn.Parameter(torch.randn(4))
        optimizer = optimizer_class([param], lr=0.1, weight_decay=0.1)
        for step in range(6):
            if interrupted and step == 3:
                state = optimizer.state_dict()
                optimizer = optimizer_class([param], lr=99.0)
                optimizer.load_state_dict(state)
            param.grad = torch.sin(param.detach() * (step + 1))
            optimizer.step()
        return param.detach()

    assert torch.equal(run(interrupted=True), run(interrupted=False))


@pytest.mark.parametrize(
    ("optimizer_class", "options", "named"),
    [
        (optim.SGD, {"lr": -0.1}, "lr must not be negative, got -0.1"),
        (optim.AdamW, {"weight_decay": -1.0}, "weight_decay must not be negative, got -1.0"),
        (optim.AdamW, {"betas": (0.9, 1.0)}, r"betas lie in 0 <= beta < 1, got \(0.9, 1.0\)"),
    ],
)
def test_settings_that_make_no_sense_are_named(optimizer_class, options, named):
    with pytest.raises(ValueError, match=named):
        optimizer_class([torch.nn.Parameter(torch.ones(1))], **options)


@pytest.mark.parametrize(("kind", "optimizer_class"), [("l2", torch.optim.Adam), ("decoupled", torch.optim.AdamW)])
def test_the_study_steps_each_run_as_torch_optim_would(kind, optimizer_class):
    settings = list(itertools.product([0.1, 0.01], [0.0, 0.3]))
    g = torch.Generator().manual_seed(4)
    start = torch.randn(3, 2, generator=g, dtype=torch.float64)
    ours = start.expand(len(settings), -1, -1).clone()
    averages = torch.zeros_like(ours), torch.zeros_like(ours)
    lr, decay = (torch.tensor(column, dtype=torch.float64).reshape(-1, 1, 1) for column in zip(*settings, strict=True))
    theirs = [start.clone().requires_grad_() for _ in settings]
    optimizers = [optimizer_class([p], lr=lr, betas=BETAS, eps=EPS, weight_decay=d) for p, (lr, d) in zip(theirs, settings, strict=True)]
    for step in range(1, 31):
        grad = torch.randn(3, 2, generator=g, dtype=torch.float64)
        adam_decay_step(ours, grad.expand_as(ours), *averages, step, kind=kind, lr=lr, weight_decay=decay)
        for param, optimizer in zip(theirs, optimizers, strict=True):
            param.grad = grad
            optimizer.step()
    torch.testing.assert_close(ours, torch.stack([p.detach() for p in theirs]), rtol=0, atol=1e-12)


def test_l2_shrinks_weights_with_large_gradients_less_and_decoupled_decay_all_alike():
    sizes = torch.tensor([0.1, 1.0, 10.0])
    l2, decoupled = (shrinkage(kind, sizes, lr=1e-3, weight_decay=0.5, steps=2000) for kind in ("l2", "decoupled"))
    assert l2[0] < 0.1 < l2[1] < 0.5 < 0.85 < l2[2]
    torch.testing.assert_close(decoupled, torch.full((3,), (1 - 5e-4) ** 2000), rtol=0.03, atol=0)


@pytest.mark.slow(seconds=5)
def test_decay_pays_under_adam_only_where_it_is_decoupled_or_gradients_are_alike():
    def gain(kind, spread):
        decays = [0.0, 0.03] if kind == "l2" else [0.0, 1.0]
        none, some = error_grid(kind, [0.01], decays, spread=spread)[0].tolist()
        return none - some

    assert gain("decoupled", spread=1.5) > 0.05
    assert gain("l2", spread=1.5) < 0.03
    assert gain("l2", spread=0.0) > 0.05
