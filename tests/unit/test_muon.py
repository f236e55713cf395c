"""Promises of the Muon optimizer."""

import copy

import pytest
import torch
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.muon import Muon, muon_groups, orthogonalize
from torch import nn


def matrices(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(32, 32), (24, 64), (64, 24), (3, 16, 40)])
def test_orthogonalize_brings_every_singular_value_near_one_and_keeps_the_directions(shape):
    x = matrices(*shape)
    got = orthogonalize(x)
    values = torch.linalg.svdvals(got)
    assert values.min() > 0.6, values
    assert values.max() < 1.25, values
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    inner = u.mT @ got @ vh.mT  # diagonal where the singular vectors are kept
    off = inner - torch.diag_embed(torch.diagonal(inner, dim1=-2, dim2=-1))
    assert off.abs().max() < 1e-3
    assert torch.diagonal(inner, dim1=-2, dim2=-1).min() > 0


def test_orthogonalize_leaves_a_zero_matrix_zero_and_does_not_depend_on_scale():
    assert not orthogonalize(torch.zeros(4, 6)).any()
    x = matrices(8, 12)
    torch.testing.assert_close(orthogonalize(1e4 * x), orthogonalize(x), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(16, 40), (40, 16)])
def test_muon_walks_with_torchs_own_over_twenty_steps(shape):
    """torch.optim.Muon iterates in bfloat16 (three digits), ours in float32: each step may differ by 1 % of its length."""
    ours = nn.Parameter(matrices(*shape, seed=1))
    theirs = nn.Parameter(ours.detach().clone())
    start = ours.detach().clone()
    muon = Muon([{"params": [ours], "method": "muon", "lr": 0.02, "weight_decay": 0.1}])
    torchs = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True)
    for step in range(20):
        gradient = matrices(*shape, seed=step)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        torchs.step()
    assert (ours - theirs).norm() < 0.01 * (theirs - start).norm()


def test_the_adamw_groups_equal_torchs_adamw():
    ours = nn.Parameter(matrices(7, 5))
    theirs = nn.Parameter(ours.detach().clone())
    mine = Muon([{"params": [ours], "method": "adamw", "weight_decay": 0.1}])
    reference = torch.optim.AdamW([theirs], lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    for step in range(20):
        ours.grad = theirs.grad = matrices(7, 5, seed=step)
        mine.step()
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_equal_shapes_move_together_exactly_as_they_would_alone():
    first, second = nn.Parameter(matrices(6, 10)), nn.Parameter(matrices(6, 10, seed=1))
    alone = [nn.Parameter(p.detach().clone()) for p in (first, second)]
    together = Muon([{"params": [first, second], "method": "muon"}])
    apart = [Muon([{"params": [p], "method": "muon"}]) for p in alone]
    for step in range(3):
        for i, (p, q) in enumerate(zip((first, second), alone, strict=True)):
            p.grad = matrices(6, 10, seed=10 * step + i)
            q.grad = p.grad.clone()
        together.step()
        for optimizer in apart:
            optimizer.step()
    torch.testing.assert_close(first, alone[0], atol=1e-6, rtol=0)
    torch.testing.assert_close(second, alone[1], atol=1e-6, rtol=0)


def test_a_step_does_not_change_the_gradient_and_skips_a_parameter_without_one():
    moved, still = nn.Parameter(matrices(4, 4)), nn.Parameter(matrices(4, 4))
    before, gradient = still.detach().clone(), matrices(4, 4, seed=3)
    moved.grad = gradient.clone()
    Muon([{"params": [moved, still], "method": "muon"}]).step()
    assert torch.equal(moved.grad, gradient)
    assert torch.equal(still, before)


def test_muon_groups_give_every_parameter_of_a_model_to_exactly_one_method():
    model = MiniTransformer(TransformerConfig.llama(11, d_model=16, n_layers=2, qk_norm=True))
    muon, adamw = muon_groups(model, weight_decay=0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert sorted(names) == sorted(id(p) for p in muon["params"] + adamw["params"])
    assert all(p.ndim == 2 for p in muon["params"])
    assert "embed_tokens.weight" in {names[id(p)] for p in adamw["params"]}
    assert all(group["weight_decay"] == 0.1 for group in (muon, adamw))


def test_a_saved_state_goes_on_as_if_never_interrupted():
    model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(6, 6)])})
    optimizer = Muon(muon_groups(model))
    def steps(model, optimizer, seeds):
        for seed in seeds:
            for p in model.parameters():
                p.grad = matrices(*p.shape, seed=seed)
            optimizer.step()
    steps(model, optimizer, range(3))
    twin = copy.deepcopy(model)
    resumed = Muon(muon_groups(twin))
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(model, optimizer, range(3, 6))
    steps(twin, resumed, range(3, 6))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(
    ("group", "says"),
    [
        ({"method": "sgd"}, "method must be one of"),
        ({"method": "muon", "lr": -1.0}, "lr must not be negative, got -1.0"),
        ({"method": "adamw", "weight_decay": -0.1}, "weight_decay must not be negative"),
        ({"method": "muon", "momentum": 1.0}, "momentum lies in"),
        ({"method": "muon", "ns_steps": 0}, "ns_steps must be at least 1"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_value(group, says):
    with pytest.raises(ValueError, match=says):
        Muon([{"params": [nn.Parameter(torch.ones(2, 2))], **group}])


def test_a_vector_in_a_muon_group_is_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        Muon([{"params": [nn.Parameter(torch.ones(3))], "method": "muon"}])
    with pytest.raises(ValueError, match="no 2-D weights under `layers`"):
        muon_groups(nn.Linear(2, 2))
