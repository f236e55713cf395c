"""One update and the loop around it: clipping, accumulation, exact resume, interruption, divergence."""

import math
import os
import signal
import threading

import hybridlab.transformer.training as training
import pytest
import torch
from hybridlab.transformer.checkpoint import CheckpointError
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.losses import cross_entropy
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.training import TrainConfig, clip_grad_norm, evaluate, fixed_batches, train, train_step
from torch import nn

VOCAB = 11
TEXT = torch.randint(VOCAB, (2000,), generator=torch.Generator().manual_seed(0))


def tiny(seed: int = 0, dropout: float = 0.0) -> MiniTransformer:
    torch.manual_seed(seed)
    return MiniTransformer(TransformerConfig.llama(VOCAB, d_model=16, n_layers=2, n_heads=2, max_time=16, dropout=dropout))


def with_gradients(scale: float, seed: int = 0) -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = scale * torch.randn(p.shape, generator=generator)
    model[0].bias.grad = None
    return model


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("scale", [1e-4, 0.1, 1.0, 1e4])
def test_clipping_equals_that_of_torch(scale: float):
    ours, theirs = with_gradients(scale), with_gradients(scale)
    norm = clip_grad_norm(ours.parameters(), 1.0)
    expected = nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
    torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(gradients(ours), gradients(theirs), rtol=1e-5, atol=0)  # torch adds 1e-6 to the norm


def test_gradients_below_the_limit_are_left_bit_for_bit():
    model = with_gradients(0.1)
    before = gradients(model)
    clip_grad_norm(model.parameters(), 100.0)
    assert all(torch.equal(a, b) for a, b in zip(before, gradients(model), strict=True))


def test_without_gradients_the_norm_is_zero_and_a_limit_of_zero_is_refused():
    assert clip_grad_norm(nn.Linear(2, 2).parameters(), 1.0) == 0
    with pytest.raises(ValueError, match="max_norm must be above 0, got 0"):
        clip_grad_norm(nn.Linear(2, 2).parameters(), 0)


def one_update(sizes: list[int], ignored: bool = False):
    model = tiny()
    inputs, targets = fixed_batches(TEXT, 1, 8, 6)[0]
    if ignored:
        targets = targets.clone()
        targets[0, 1:] = -100
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    batches = list(zip(inputs.split(sizes), targets.split(sizes), strict=True))
    result = train_step(model, batches, optimizer, max_grad_norm=0.3)
    return result, list(model.parameters())


@pytest.mark.parametrize("sizes", [[4, 4], [1] * 8, [5, 2, 1]])
@pytest.mark.parametrize("ignored", [False, True])
def test_accumulated_micro_batches_equal_one_big_batch(sizes: list[int], ignored: bool):
    parts, weights_of_parts = one_update(sizes, ignored)
    whole, weights_of_whole = one_update([8], ignored)
    assert parts == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(weights_of_parts, weights_of_whole)


def test_earlier_gradients_do_not_count():
    model, batches = tiny(), fixed_batches(TEXT, 1, 4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    first = train_step(model, batches, optimizer, max_grad_norm=1.0)
    assert train_step(model, batches, optimizer, max_grad_norm=1.0) == pytest.approx(first, rel=1e-6)


def test_a_step_of_nan_is_not_made():
    model, batches = tiny(), fixed_batches(TEXT, 1, 4, 6)
    model.norm.weight.data[0] = math.nan
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(FloatingPointError, match="gradient norm is nan"):
        train_step(model, batches, torch.optim.SGD(model.parameters(), lr=0.1), max_grad_norm=1.0)
    torch.testing.assert_close(before, list(model.parameters()), equal_nan=True, rtol=0, atol=0)


SMALL = TrainConfig(steps=12, batch_size=4, time=8, micro_batches=2, warmup=3, eval_every=4, eval_batches=2)


def run(config: TrainConfig = SMALL, *, dropout: float = 0.2, model_seed: int = 0, lr: float = 1e-2, **settings):
    model = tiny(model_seed, dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    result = train(model, TEXT, TEXT[:500], optimizer, config, progress=False, **settings)
    return model, optimizer, result


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_the_loop_learns_a_text_with_a_pattern():
    text = torch.arange(1000) % VOCAB
    model = tiny()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    config = TrainConfig(steps=80, batch_size=8, time=8, warmup=5, eval_every=40, eval_batches=2)
    result = train(model, text, text, optimizer, config, progress=False)
    assert result.losses[0] == pytest.approx(math.log(VOCAB), abs=0.1)
    assert result.validation[-1] == (80, pytest.approx(0, abs=0.1))
    assert len(result.losses) == len(result.grad_norms) == result.step == 80


def test_the_loop_trains_with_dropout_and_micro_batches_and_leaves_the_interrupt_handler_alone(monkeypatch):
    seen = []
    step = training.train_step

    def recording(model, batches, optimizer, **settings):
        seen.append((model.training, [inputs.shape for inputs, _ in batches]))
        return step(model, batches, optimizer, **settings)

    monkeypatch.setattr(training, "train_step", recording)
    model = tiny(dropout=0.2).eval()
    train(model, TEXT, TEXT, torch.optim.SGD(model.parameters(), lr=0.1), SMALL, progress=False)
    assert seen == [(True, [(4, 8), (4, 8)])] * SMALL.steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow(seconds=2)
def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    assert same(run()[0], run()[0])
    assert run()[2].losses != run(TrainConfig(**(vars(SMALL) | {"seed": 1})))[2].losses


def test_learning_rates_follow_the_schedule_in_every_group(monkeypatch):
    seen = []
    step = training.train_step

    def recording(model, batches, optimizer, **settings):
        seen.append([group["lr"] for group in optimizer.param_groups])
        return step(model, batches, optimizer, **settings)

    monkeypatch.setattr(training, "train_step", recording)
    model = tiny()
    weights = list(model.parameters())
    optimizer = torch.optim.SGD([{"params": weights[:1], "lr": 1.0}, {"params": weights[1:], "lr": 0.01}])
    train(model, TEXT, TEXT, optimizer, SMALL, progress=False)
    assert [low for _, low in seen] == pytest.approx([0.01 * high for high, _ in seen])
    assert [high for high, _ in seen[:4]] == pytest.approx([1 / 3, 2 / 3, 1.0, 0.1 + 0.45 * (1 + math.cos(math.pi / 9))])
    assert seen[-1][0] == pytest.approx(0.1)


def interrupt_after(monkeypatch, n: int) -> None:
    """Send ourselves Ctrl-C in the middle of update n + 1."""
    calls, step = [], training.train_step

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == n + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*args, **kwargs)

    monkeypatch.setattr(training, "train_step", interrupted)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, monkeypatch, at: int):
    model, optimizer, whole = run()
    with monkeypatch.context() as patch:
        interrupt_after(patch, at)
        _, _, part = run(checkpoint=tmp_path / "c.pt")
    assert part.interrupted
    assert part.step == at + 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    torch.manual_seed(4321)  # a new process has another random state
    resumed, resumed_optimizer, result = run(checkpoint=tmp_path / "c.pt", model_seed=8)
    assert same(model, resumed)
    assert not result.interrupted
    assert (result.losses, result.grad_norms, result.validation) == (whole.losses, whole.grad_norms, whole.validation)
    ours, theirs = optimizer.state_dict()["state"], resumed_optimizer.state_dict()["state"]
    assert all(torch.equal(ours[i][key], theirs[i][key]) for i in ours for key in ours[i])


def test_a_finished_run_is_not_trained_again(tmp_path):
    model, _, result = run(checkpoint=tmp_path / "c.pt")
    again, _, found = run(checkpoint=tmp_path / "c.pt", model_seed=8)
    assert same(model, again)
    assert found.losses == result.losses


def test_a_second_interrupt_is_raised_at_once(monkeypatch):
    def stubborn(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(training, "train_step", stubborn)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_loop_runs_in_a_thread_too():
    results = []
    thread = threading.Thread(target=lambda: results.append(run()[2]))
    thread.start()
    thread.join()
    assert results[0].step == SMALL.steps


def test_a_checkpoint_of_other_settings_is_refused_before_anything_changes(tmp_path):
    run(checkpoint=tmp_path / "c.pt")
    model = tiny(5)
    before = [p.clone() for p in model.parameters()]
    other = TrainConfig(**(vars(SMALL) | {"batch_size": 3}))
    with pytest.raises(CheckpointError, match=r"another run \(batch_size: 4 there, 3 here\)"):
        train(model, TEXT, TEXT, torch.optim.AdamW(model.parameters()), other, checkpoint=tmp_path / "c.pt", progress=False)
    torch.testing.assert_close(before, list(model.parameters()), rtol=0, atol=0)


def test_a_run_that_diverges_stops_with_the_step_and_a_way_out():
    with pytest.raises(FloatingPointError, match=r"stopped at step \d+ of 12: .*learning rate .*smaller learning rate"):
        run(lr=1e30)


def test_evaluation_is_the_mean_loss_without_dropout_and_restores_the_mode():
    model = tiny(dropout=0.5)
    batches = fixed_batches(TEXT, 3, 4, 8)
    model.train()
    got = evaluate(model, batches)
    assert model.training
    assert got == evaluate(model, batches)
    model.eval()
    with torch.no_grad():
        inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert got == pytest.approx(cross_entropy(model(inputs), targets).item(), rel=1e-5)


def test_validation_batches_are_the_same_in_every_run():
    first, second = fixed_batches(TEXT, 2, 4, 8), fixed_batches(TEXT, 2, 4, 8)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "bad", [{"steps": 0}, {"batch_size": 0}, {"warmup": 13}, {"warmup": -1}, {"floor": 1.5}, {"max_grad_norm": 0}]
)
def test_settings_that_make_no_run_are_refused(bad: dict):
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        TrainConfig(**({"steps": 12, "warmup": 3} | bad))
