"""Checkpoints: complete, atomic, refused with a clear sentence when they can't be used, and never half loaded."""

import os

import pytest
import torch
from hybridlab.transformer.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from torch import nn


def setup(width: int = 4, seed: int = 0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.5), nn.Linear(width, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    return {"model": model, "optimizer": optimizer, "generator": torch.Generator().manual_seed(seed)}


def steps(model, optimizer, generator, n: int) -> None:
    for _ in range(n):
        optimizer.zero_grad()
        model(torch.randn(8, 4, generator=generator)).square().mean().backward()
        optimizer.step()


def weights(run) -> list[torch.Tensor]:
    return [p.detach().clone() for p in run["model"].parameters()]


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    run = setup()
    steps(**run, n=3)
    save_checkpoint(tmp_path / "c.pt", **run, step=3, extra={"note": [1, 2.5, "three"]})
    steps(**run, n=4)

    other = setup(seed=99)
    torch.manual_seed(12345)
    found = load_checkpoint(tmp_path / "c.pt", **other)
    assert found == (3, {"note": [1, 2.5, "three"]})
    steps(**other, n=4)
    assert all(torch.equal(a, b) for a, b in zip(weights(run), weights(other), strict=True))
    assert torch.equal(run["generator"].get_state(), other["generator"].get_state())


def test_weights_alone_leave_the_random_state_alone(tmp_path):
    run = setup()
    save_checkpoint(tmp_path / "c.pt", **run, step=1)
    other = setup(seed=5)
    before = torch.get_rng_state()
    load_checkpoint(tmp_path / "c.pt", model=other["model"])
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(weights(run), weights(other), strict=True))


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_named_and_changes_nothing(tmp_path, part: float):
    run, path = setup(), tmp_path / "c.pt"
    save_checkpoint(path, **run, step=1)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    steps(**run, n=1)
    before, optimizer_before = weights(run), repr(run["optimizer"].state_dict())
    with pytest.raises(CheckpointError, match=r"c\.pt \(\d+ bytes\) can't be read: it is cut off"):
        load_checkpoint(path, **run)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(run), strict=True))
    assert repr(run["optimizer"].state_dict()) == optimizer_before


def test_flipped_bytes_are_noticed(tmp_path):
    run, path = setup(64), tmp_path / "c.pt"
    save_checkpoint(path, **run, step=1)
    data = bytearray(path.read_bytes())
    place = data.find(run["model"][0].weight.detach().numpy().tobytes())
    assert place > 0
    data[place + 100] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="can't be read"):
        load_checkpoint(path, **run)


def test_other_files_and_other_models_are_refused(tmp_path):
    run, path = setup(), tmp_path / "c.pt"
    torch.save({"weights": 1}, path)
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        load_checkpoint(path, **run)
    path.write_text("hello")
    with pytest.raises(CheckpointError, match="can't be read"):
        load_checkpoint(path, **run)
    save_checkpoint(path, **setup(5), step=1)
    before = weights(run)
    with pytest.raises(CheckpointError, match=r"3 weights differ, first 0\.bias: \(5,\) in the file, \(4,\) in the model"):
        load_checkpoint(path, **run)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(run), strict=True))
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none.pt", **run)


def test_another_optimizer_is_refused_and_changes_nothing(tmp_path):
    run, path = setup(), tmp_path / "c.pt"
    save_checkpoint(path, **run, step=1)
    other = setup(seed=3)
    other["optimizer"] = torch.optim.SGD(list(other["model"].parameters())[:1], lr=0.1)
    before = weights(other)
    with pytest.raises(CheckpointError, match="another optimizer"):
        load_checkpoint(path, **other)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(other), strict=True))


def test_half_a_resume_is_refused(tmp_path):
    run, path = setup(), tmp_path / "c.pt"
    save_checkpoint(path, **run, step=1)
    with pytest.raises(ValueError, match="both optimizer and generator"):
        load_checkpoint(path, model=run["model"], optimizer=run["optimizer"])


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"format": "hybridlab checkpoint 1", "model": Bomb()}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="can't be read"):
        load_checkpoint(tmp_path / "c.pt", model=setup()["model"])
    assert not (tmp_path / "owned").exists()


def test_a_crash_while_writing_leaves_the_old_checkpoint_and_no_litter(tmp_path, monkeypatch):
    run, path = setup(), tmp_path / "c.pt"
    save_checkpoint(path, **run, step=1)

    def full_disk(state, file):
        file.write(b"half a checkpoint")
        raise OSError(28, "No space left on device")

    def no_power(*names):
        raise OSError(5, "Input/output error")

    for module, name, failure in ((torch, "save", full_disk), (os, "replace", no_power)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, failure)
            with pytest.raises(OSError, match=r"No space|Input/output"):
                save_checkpoint(path, **run, step=2)
    assert load_checkpoint(path, **run).step == 1
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
