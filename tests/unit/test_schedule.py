"""The learning-rate curve, held against transformers' own."""

import pytest
import torch
from hybridlab.transformer.schedule import warmup_cosine


@pytest.mark.parametrize(("warmup", "total", "floor"), [(0, 50, 0.0), (10, 50, 0.1), (49, 50, 0.0), (7, 31, 0.5)])
def test_the_curve_is_that_of_transformers(warmup: int, total: int, floor: float):
    from transformers.optimization import get_cosine_with_min_lr_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=3e-4)
    theirs = get_cosine_with_min_lr_schedule_with_warmup(optimizer, warmup, total, min_lr_rate=floor)
    for step in range(total + 1):
        ours = warmup_cosine(step, warmup=warmup, total=total, peak=3e-4, floor=floor * 3e-4)
        assert ours == pytest.approx(theirs.get_last_lr()[0], rel=1e-9, abs=1e-15)
        optimizer.step()
        theirs.step()


def test_after_the_end_it_stays_on_the_floor():
    assert [warmup_cosine(s, warmup=2, total=10, peak=1.0, floor=0.1) for s in (10, 11, 1000)] == pytest.approx([0.1] * 3)


def test_a_run_of_warmup_alone_reaches_the_peak():
    rates = [warmup_cosine(s, warmup=4, total=4, peak=1.0) for s in range(6)]
    assert rates == pytest.approx([0, 0.25, 0.5, 0.75, 1.0, 0.0])


@pytest.mark.parametrize(
    "bad",
    [
        {"step": -1},
        {"warmup": -1},
        {"warmup": 11},
        {"floor": -0.1},
        {"floor": 2.0},
    ],
)
def test_settings_that_make_no_curve_are_refused_with_their_values(bad: dict):
    settings = {"step": 3, "warmup": 2, "total": 10, "peak": 1.0, "floor": 0.1} | bad
    with pytest.raises(ValueError, match=f"{next(iter(bad))}={next(iter(bad.values()))}"):
        warmup_cosine(settings.pop("step"), **settings)
