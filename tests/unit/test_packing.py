"""Packed rows: the losses and gradients of one by one, first-fit, and no look at the neighbour."""

import pytest
import torch
from hybridlab.llm.finetune import rows_loss
from hybridlab.llm.instruction import IGNORE, Example
from hybridlab.llm.packing import pack_examples, packed_mask

VOCAB = 40


def examples(lengths: list[int], seed: int = 0) -> list[Example]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for n in lengths:
        tokens = torch.randint(VOCAB, (n,), generator=generator)
        labels = tokens.clone()
        labels[: n // 3] = IGNORE  # a short example's first token is "learned", and must not be once it has a neighbour
        made.append(Example(tokens, labels))
    return made


def tiny(attention: str = "sdpa"):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=16, attn_implementation=attention, **shape)).eval()


def one_by_one(model, made: list[Example]) -> torch.Tensor:
    """transformers' own loss of each example, alone in its row, weighted by its labels that count."""
    counts = [int((e.labels[1:] != IGNORE).sum()) for e in made]
    losses = [model(e.tokens[None], labels=e.labels[None]).loss * n for e, n in zip(made, counts, strict=True) if n]
    return sum(losses) / sum(counts)


@pytest.mark.parametrize("lengths", [[5, 9, 3, 7, 12, 4], [16, 2, 2, 2], [1, 4, 1, 1, 6]])
def test_packed_losses_and_gradients_are_those_of_one_by_one(lengths: list[int]):
    made, model = examples(lengths), tiny()
    packed = rows_loss(model, pack_examples(made, 16))
    gradients = torch.autograd.grad(packed, list(model.parameters()))
    alone = one_by_one(model, made)
    torch.testing.assert_close(packed, alone, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients, torch.autograd.grad(alone, list(model.parameters())), rtol=1e-4, atol=1e-5)


def test_without_the_mask_or_the_positions_the_losses_would_differ():
    made, model = examples([5, 9, 3, 7]), tiny()
    rows = pack_examples(made, 32)
    right = rows_loss(model, rows)
    leaking = rows._replace(segments=torch.zeros_like(rows.segments))
    running_on = rows._replace(positions=torch.arange(rows.tokens.shape[1])[None])
    assert (rows_loss(model, leaking) - right).abs() > 1e-4
    # rotary attention sees differences of positions alone: within an example these are the same
    torch.testing.assert_close(rows_loss(model, running_on), right, rtol=1e-4, atol=1e-4)


def test_first_fit_in_the_order_of_the_examples():
    rows = pack_examples(examples([6, 5, 4, 5, 3]), 10, pad_token=39)
    assert rows.segments.tolist() == [[0] * 6 + [1] * 4, [0] * 5 + [1] * 5, [0] * 3 + [-1] * 7]
    assert rows.positions.tolist()[0] == [*range(6), *range(4)]
    assert rows.tokens[2, 3:].eq(39).all()
    assert rows.labels[2, 3:].eq(IGNORE).all()
    assert all(part.dtype == torch.int64 for part in rows)


def test_rows_are_as_long_as_the_fullest_and_hold_every_token_once():
    made = examples([3, 2, 4, 1, 3], seed=3)
    rows = pack_examples(made, 100)
    assert rows.tokens.shape == (1, 13)
    assert torch.equal(rows.tokens[0], torch.cat([e.tokens for e in made]))


def test_nothing_asks_for_the_first_token_of_an_example():
    rows = pack_examples(examples([2, 1, 2, 5]), 16)
    assert rows.labels[rows.positions == 0].eq(IGNORE).all()


def test_the_mask_keeps_examples_apart_and_leaves_no_row_empty():
    mask = packed_mask(torch.tensor([[0, 0, 1, 1, -1, -1]]))
    assert mask.shape == (1, 1, 6, 6)
    expected = torch.block_diag(*[torch.ones(2, 2).tril()] * 3).bool()
    assert torch.equal(mask[0, 0], expected)
    assert mask.any(-1).all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="training set is empty"):
        pack_examples([], 16)
    with pytest.raises(ValueError, match="example 1 has 17 tokens, and a row holds 16"):
        pack_examples(examples([3, 17]), 16)
