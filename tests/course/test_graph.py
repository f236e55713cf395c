"""A loop that cuts a long tensor once for every token is told from one that cuts each token's own small one; what is kept is counted."""

from __future__ import annotations

import pytest
import torch
from coursekit.graph import FEW, kept_bytes, nodes_of, quadratic_slices

TIME = 40
LOOPS = {
    "x[:, t]": lambda x: [x[:, t] for t in range(TIME)],
    "x[:, t : t + 1]": lambda x: [x[:, t : t + 1] for t in range(TIME)],
    "x[:, [t]]": lambda x: [x[:, [t]] for t in range(TIME)],
    "x.index_select": lambda x: [x.index_select(1, torch.tensor([t])) for t in range(TIME)],
    "the places of chunks": lambda x: [x.unflatten(1, (2, 20))[:, :, t] for t in range(20)],
}
LINEAR = {
    "unbind": lambda x: x.unbind(1),
    "split": lambda x: x.split(1, 1),
    "a product's only column": lambda x: [(x_t[:, None] @ x_t[..., None])[..., 0] for x_t in x.unbind(1)],
    "a product's only row": lambda x: [(x_t[:, None] @ x_t[..., None])[:, 0, :] for x_t in x.unbind(1)],
    "numbers of one token": lambda x: [x_t[:, :2] for x_t in x.unbind(1)],
    "a few pieces of the whole": lambda x: [x[:, first : first + 10] for first in range(0, TIME, 10)],
}


def found(loop) -> list[str]:
    x = torch.randn(2, TIME, 3, requires_grad=True)
    return quadratic_slices(nodes_of(sum(part.square().sum() for part in loop(x))))


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_slices_along_the_text_are_seen(loop):
    assert len(found(loop)) == 1


@pytest.mark.parametrize("loop", LINEAR.values(), ids=LINEAR)
def test_slices_of_one_token_are_not(loop):
    assert found(loop) == []


def test_evidence_names_what_is_cut():
    assert found(LOOPS["x[:, t]"]) == [f"{TIME} from a tensor of shape (2, {TIME}, 3)"]


def test_as_many_slices_as_are_few_are_allowed():
    assert found(lambda x: [x[:, t] for t in range(FEW)]) == []
    assert found(lambda x: [x[:, t] for t in range(FEW + 1)]) != []


def test_what_is_kept_for_backward_counts_once_by_its_storage():
    A, x = torch.randn(8, 8, dtype=torch.float64, requires_grad=True), torch.randn(8, dtype=torch.float64, requires_grad=True)

    def vectors():
        y = x
        for _ in range(5):
            y = A @ y
        return y

    def powers():
        P = A
        for _ in range(4):
            P = P @ A
        return P @ x

    assert sorted(kept_bytes(vectors)) == [64] * 5 + [512]  # five vectors, and A once
    assert sorted(kept_bytes(powers)) == [64] + [512] * 5
