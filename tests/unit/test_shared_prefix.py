"""Questions that share a beginning: laid out once, and yet the loss and the gradient of one by one."""

import pytest
import torch
from hybridlab.llm.finetune import FinetuneConfig, finetune, rows_loss
from hybridlab.llm.instruction import IGNORE, Example
from hybridlab.llm.lora import LoRAConfig, inject_lora
from hybridlab.llm.packing import pack_examples
from hybridlab.llm.shared_prefix import common_length, prefix_mask, prefix_rows


def tiny():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=40, hidden_size=16, **shape)).double().eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    inject_lora(model, LoRAConfig(rank=4, targets=("q_proj", "v_proj", "down_proj")))
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.3, generator=generator)
    return model


def group(common: int, rests: tuple[tuple[int, int], ...], seed: int = 0) -> list[Example]:
    """Examples with `common` first tokens in common; each rest is (given, answer) tokens."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(40, (common,), generator=generator)
    made = []
    for number, (given, answer) in enumerate(rests):
        rest = torch.randint(40, (given + answer,), generator=generator)
        rest[0] = number  # they differ from here on
        tokens = torch.cat([first, rest])
        labels = torch.where(torch.arange(len(tokens)) < common + given, IGNORE, tokens)
        made.append(Example(tokens, labels))
    return made


GROUPS = [group(9, ((3, 2), (1, 4), (5, 1))), group(4, ((2, 3),), seed=1), group(0, ((3, 3), (2, 2)), seed=2)]


def test_the_loss_and_its_gradient_are_those_of_one_by_one():
    for examples in GROUPS:
        model = tiny()
        rows_loss(model, prefix_rows([examples]), prefix_mask).backward()
        shared = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        counts = [int((e.labels != IGNORE).sum()) for e in examples]
        for example, count in zip(examples, counts, strict=True):
            (rows_loss(model, pack_examples([example], 64)) * count / sum(counts)).backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                torch.testing.assert_close(shared[name], p.grad, atol=1e-6, rtol=1e-5)


def test_what_is_common_stands_once():
    rows = prefix_rows([GROUPS[0]])
    assert int((rows.segments >= 0).sum()) == 9 + 5 + 5 + 6
    assert int((rows.labels != IGNORE).sum()) == 2 + 4 + 1


def test_an_example_alone_is_an_ordinary_row():
    (example,) = group(0, ((4, 3),))
    rows = prefix_rows([[example]])
    assert torch.equal(rows.tokens[0], example.tokens)
    assert torch.equal(rows.positions[0], torch.arange(7))
    assert torch.equal(prefix_mask(rows.segments)[0, 0], torch.ones(7, 7, dtype=torch.bool).tril())


def test_the_token_before_an_answer_is_never_shared():
    tokens = torch.tensor([5, 6, 7, 8])
    pair = [Example(tokens, torch.tensor([IGNORE, IGNORE, 7, 8])), Example(tokens.clone(), torch.tensor([IGNORE, IGNORE, IGNORE, 8]))]
    assert common_length(pair) == 1
    assert common_length([Example(tokens, tokens)]) == 0


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ([], "the training set is empty"),
        ([[]], "the training set is empty"),
        ([[Example(torch.arange(4), torch.full((4,), IGNORE))]], r"example 0 of the group has no answer to learn.*\(-100\)"),
    ],
)
def test_bad_groups_are_refused_in_a_sentence(groups, sentence):
    with pytest.raises(ValueError, match=sentence):
        prefix_rows(groups)


def test_a_run_over_shared_rows_learns_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    rows = prefix_rows(GROUPS)
    config = FinetuneConfig(steps=24, lr=3e-2)
    whole = finetune(tiny(), rows, config, mask=prefix_mask, progress=False)
    assert whole.losses[-1] < whole.losses[0] / 2

    from hybridlab.llm import finetune as module

    first, saved = tiny(), module.save_checkpoint

    def stop_after_the_first_save(path, **state):
        saved(path, **state)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_checkpoint", stop_after_the_first_save)
    with pytest.raises(KeyboardInterrupt):
        finetune(first, rows, config, mask=prefix_mask, checkpoint=tmp_path / "run.pt", progress=False)
    monkeypatch.setattr(module, "save_checkpoint", saved)
    second = tiny()
    resumed = finetune(second, rows, config, mask=prefix_mask, checkpoint=tmp_path / "run.pt", progress=False)
    assert resumed.losses == whole.losses


def test_an_interrupt_ends_the_run_after_its_step_and_keeps_it(tmp_path):
    import signal

    rows, config, model = prefix_rows(GROUPS), FinetuneConfig(steps=24, lr=3e-2), tiny()
    calls = []

    def interrupted(segments):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return prefix_mask(segments)

    half = finetune(model, rows, config, mask=interrupted, checkpoint=tmp_path / "run.pt", progress=False)
    assert (half.interrupted, half.step) == (True, 3)
    rest = finetune(tiny(), rows, config, mask=prefix_mask, checkpoint=tmp_path / "run.pt", progress=False)
    assert (rest.interrupted, rest.losses) == (False, finetune(tiny(), rows, config, mask=prefix_mask, progress=False).losses)


def test_a_checkpoint_of_another_run_is_refused_by_name(tmp_path):
    from hybridlab.transformer.checkpoint import CheckpointError

    rows = prefix_rows(GROUPS)
    finetune(tiny(), rows, FinetuneConfig(steps=2), mask=prefix_mask, checkpoint=tmp_path / "run.pt", progress=False)
    with pytest.raises(CheckpointError, match=r"run\.pt belongs to another run.*steps.*delete it"):
        finetune(tiny(), rows, FinetuneConfig(steps=3), mask=prefix_mask, checkpoint=tmp_path / "run.pt", progress=False)
