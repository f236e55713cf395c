"""What stands around the scans in a mixer, in C: the results of the mixers' own steps, the same bits wherever a text is cut."""

import pytest
import torch
from hybridlab.ssm import compiled_mixer, mamba_model
from hybridlab.ssm.compiled_mixer import MAMBA, MAMBA2, compiled_mamba, conv_silu, mixer_serves, skip_and_gate, softplus
from hybridlab.ssm.mamba2_block import Mamba2Mixer
from hybridlab.ssm.mamba_block import MambaMixer
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.stability import all_finite
from torch.nn import functional as F

SHAPES = [{"d_model": 8}, {"d_model": 12, "d_conv": 2}, {"d_model": 8, "d_conv": 1, "step": "relu"}]


def config(version, **changes):
    more = {"d_head": 4, "n_groups": 2, "d_state": 8} if version == 2 else {"d_state": 3}
    return MambaConfig(11, version=version, n_layers=2, **more, **changes)


def own_steps(mixer, u, state):
    """With gradients on, nothing runs in C."""
    with torch.enable_grad():
        out, (past, memory) = mixer(u, state)
    return out.detach(), (past.detach(), memory.detach())


@pytest.mark.parametrize("changes", SHAPES, ids=["plain", "odd", "relu"])
@pytest.mark.parametrize("time", [1, 2, 3, 70])
@torch.no_grad()
def test_a_mixer_in_c_gives_what_its_own_steps_give(changes, time):
    torch.manual_seed(time)
    for version, kind, symbols in ((1, MambaMixer, MAMBA), (2, Mamba2Mixer, MAMBA2)):
        mixer = kind(config(version, **changes))
        mixer.D.normal_()
        u, state = torch.randn(2, time, changes["d_model"]), None
        for _ in range(2):  # the second time with a state
            assert mixer_serves(mixer, u, symbols)
            got, now = compiled_mamba(mixer, u, state) if version == 1 else mixer(u, state)
            want, after = own_steps(mixer, u, state)
            torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-5)
            for ours, theirs in zip(now, after, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)
            state = now


@torch.no_grad()
def test_the_convolution_gives_the_same_bits_wherever_a_text_is_cut():
    conv, x = torch.nn.Conv1d(13, 13, 4, groups=13), torch.randn(2, 50, 26)[..., :13]  # rows that stand apart
    whole, end = conv_silu(x, conv, None)
    for cuts in ([1] * 50, [2, 30, 1, 17]):
        ys, past = [], None
        for piece in x.split(cuts, 1):
            y, past = conv_silu(piece, conv, past)
            ys.append(y)
        assert torch.equal(torch.cat(ys, 1), whole)
        assert torch.equal(past, end)
    assert end.untyped_storage().nbytes() == end.numel() * 4  # not a view that keeps the text


@torch.no_grad()
def test_numbers_of_any_size_and_what_is_no_number():
    z = torch.cat([torch.linspace(-120, 120, 4801), torch.tensor([0.0, -0.0, 1e-30, 1e4, -1e4])])
    torch.testing.assert_close(softplus(z), F.softplus(z.double()).float(), rtol=3e-7, atol=1e-37)
    ones, none = torch.ones(1, 1, len(z)), torch.zeros(len(z))
    torch.testing.assert_close(skip_and_gate(ones, ones, none, z[None, None])[0, 0], F.silu(z.double()).float(), rtol=3e-7, atol=1e-33)
    assert softplus(torch.tensor([float("nan")])).isnan().all()
    assert skip_and_gate(ones[..., :1], ones[..., :1], none[:1], torch.full((1, 1, 1), float("nan"))).isnan().all()


@torch.no_grad()
def test_a_past_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"past has shape \(1, 2, 4\), expected \(1, 3, 4\)"):
        conv_silu(torch.zeros(1, 5, 4), torch.nn.Conv1d(4, 4, 4, groups=4), torch.zeros(1, 2, 4))


@pytest.mark.parametrize("version", [1, 2])
def test_it_runs_where_a_model_reads_and_not_where_it_learns(version, monkeypatch):
    calls = []
    monkeypatch.setattr(compiled_mixer, "call", lambda *given, call=compiled_mixer.call: (calls.append(1), call(*given)))
    model, tokens = Mamba(config(version, d_model=8)), torch.tensor([[1, 2, 3]])
    model(tokens)
    assert not calls
    with torch.no_grad():
        model(tokens)
    assert calls


@torch.no_grad()
def test_a_learners_own_convolution_runs_itself(monkeypatch):
    from hybridlab.exercise import REGISTRY

    mixer, u = MambaMixer(config(1, d_model=8)), torch.zeros(1, 2, 8)
    for symbol in MAMBA:
        with monkeypatch.context() as patch:
            entry = REGISTRY[f"hybridlab.ssm.{symbol}"]
            patch.setitem(REGISTRY, f"hybridlab.ssm.{symbol}", entry.__class__(**{**vars(entry), "origin": "learner"}))
            assert not mixer_serves(mixer, u, MAMBA)
    assert mixer_serves(mixer, u, MAMBA)


@pytest.mark.parametrize("version", [1, 2])
def test_a_long_text_is_read_in_pieces_and_as_it_is_in_one(version, monkeypatch):
    model, tokens = Mamba(config(version, d_model=8)), torch.randint(11, (2, 50))
    whole, end = model.read(tokens)
    monkeypatch.setattr(mamba_model, "PIECE", 16)
    with torch.no_grad():
        pieces, after = model.read(tokens)
    torch.testing.assert_close(pieces, whole.detach(), rtol=1e-4, atol=2e-5)
    for got, want in zip(after, end, strict=True):
        torch.testing.assert_close(tuple(got), tuple(part.detach() for part in want), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("numbers", "finite"),
    [([1.0, -2.0], True), ([3e38, 3e38], True), ([1.0, torch.nan], False), ([torch.inf, -torch.inf], False), ([-torch.inf], False)],
    ids=["plain", "their sum overflows", "nan", "both infinities", "one"],
)
def test_what_is_finite_is_told_though_the_sum_is_not(numbers, finite):
    assert all_finite(torch.zeros(3), torch.tensor(numbers)) is finite
