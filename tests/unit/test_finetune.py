"""The answers' loss against transformers', and the loop: what it learns, refuses, and stops at."""

import pytest
import torch
from hybridlab.llm.finetune import FinetuneConfig, answer_loss, finetune, rows_loss
from hybridlab.llm.instruction import IGNORE, Example
from hybridlab.llm.lora import LoRAConfig, inject_lora, lora_layers
from hybridlab.llm.packing import PackedRows, pack_examples
from torch import nn

VOCAB = 40


def tiny():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, hidden_size=16, **shape)).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # a frozen head of size 0.02 could say nothing, whatever the adapters learn
    return model


def data(lengths: tuple[int, ...] = (6, 8, 5, 7, 12), max_time: int = 16) -> PackedRows:
    generator = torch.Generator().manual_seed(0)
    made = []
    for n in lengths:
        tokens = torch.randint(VOCAB, (n,), generator=generator)
        made.append(Example(tokens, torch.cat([torch.full((n // 2,), IGNORE), tokens[n // 2 :]])))
    return pack_examples(made, max_time)


def adapted(model, **changes):
    inject_lora(model, LoRAConfig(**{"rank": 4, **changes}))
    return model


def test_the_loss_is_that_of_transformers_and_the_head_sees_only_what_counts():
    model = tiny()
    tokens = torch.randint(VOCAB, (3, 9), generator=torch.Generator().manual_seed(1))
    labels = tokens.clone()
    labels[:, :4] = IGNORE
    labels[1] = IGNORE
    labels[:, 0] = tokens[:, 0]  # predicted by nothing: not counted
    calls = []

    def head(hidden):
        calls.append(hidden.shape)
        return model.lm_head(hidden)

    hidden = model.model(tokens).last_hidden_state
    torch.testing.assert_close(answer_loss(hidden, head, labels), model(tokens, labels=labels).loss)
    assert calls == [(10, 16)]


def test_a_mask_that_masks_all_is_refused():
    with pytest.raises(ValueError, match="every label is masked"):
        answer_loss(torch.zeros(1, 4, 8), nn.Linear(8, VOCAB), torch.tensor([[3, IGNORE, IGNORE, IGNORE]]))


def test_the_adapters_learn_the_answers_and_nothing_else_moves():
    model, rows = adapted(tiny()), data()
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    before = rows_loss(model, rows).item()
    result = finetune(model, rows, FinetuneConfig(steps=40, lr=2e-2, rows_per_step=2), progress=False)
    assert rows_loss(model, rows) < 0.6 * before
    assert len(result.losses) == len(result.grad_norms) == 40
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if not p.requires_grad)
    assert not model.training  # as it came


def test_rows_of_a_step_count_by_their_labels():
    rows = data((16, 3, 3), max_time=16)  # 8 labels that count in one row, 4 in the other
    together = finetune(adapted(tiny()), rows, FinetuneConfig(steps=1, rows_per_step=2), progress=False).losses[0]
    assert together == pytest.approx(rows_loss(tiny(), rows).item(), rel=1e-5)


def test_the_same_seed_gives_the_same_run():
    runs = []
    for _ in range(2):
        model = tiny()
        torch.manual_seed(3)
        runs.append(finetune(adapted(model), data(), FinetuneConfig(steps=5, lr=1e-2, seed=1), progress=False).losses)
    assert runs[0] == runs[1]


def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights():
    model = adapted(tiny())
    layer = next(iter(lora_layers(model).values()))
    with torch.no_grad():
        layer.base.weight[0, 0] = float("nan")
    before = [p.clone() for p in model.parameters() if p.requires_grad]
    with pytest.raises(FloatingPointError, match=r"stopped at step 1 of 3: loss nan.*weights of step 0.*smaller learning rate than 0.001"):
        finetune(model, data(), FinetuneConfig(steps=3), progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, (p for p in model.parameters() if p.requires_grad), strict=True))
    assert not model.training


def test_a_gradient_that_is_no_number_stops_too():
    model = adapted(tiny())
    layer = next(iter(lora_layers(model).values()))
    layer.lora_B.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(FloatingPointError, match=r"gradient norm (nan|inf)"):
        finetune(model, data(), FinetuneConfig(steps=3), progress=False)


def test_an_empty_set_a_masked_row_and_a_frozen_model_are_refused():
    model, rows = adapted(tiny()), data()
    with pytest.raises(ValueError, match="training set is empty"):
        finetune(model, PackedRows(*(part[:0] for part in rows)), FinetuneConfig(steps=5))
    rows.labels[1] = IGNORE
    with pytest.raises(ValueError, match="row 1 of the training set has no answer to learn"):
        finetune(model, rows, FinetuneConfig(steps=5))
    with pytest.raises(ValueError, match="no parameter of the model is trainable"):
        finetune(tiny().requires_grad_(False), data(), FinetuneConfig(steps=5))


@pytest.mark.parametrize("change", [{"steps": 0}, {"rows_per_step": 0}, {"lr": 0.0}, {"warmup": 1.5}, {"max_grad_norm": 0.0}])
def test_a_nonsense_config_is_refused(change: dict):
    with pytest.raises(ValueError, match=next(iter(change))):
        FinetuneConfig(**{"steps": 5, **change})
