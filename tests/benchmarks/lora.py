"""A step of fine-tuning SmolLM2: our LoRA against PEFT's, and both ends of the scale: all weights, and four bits under LoRA."""

import torch
from hybridlab.llm.finetune import rows_loss
from hybridlab.llm.instruction import IGNORE, Example
from hybridlab.llm.lora import ALL_LINEAR, LoRAConfig, inject_lora
from hybridlab.llm.packing import PackedRows, pack_examples
from hybridlab.llm.smollm2 import model_folder
from torch import nn

from tests.benchmarks.record import ratio, turn_about, write

BLOCKS, RANK, TIME, LEARNED = 10, 16, 128, 48  # a third of SmolLM2's 30 blocks, in a third of the time


def row() -> PackedRows:
    """Two examples of 64 tokens in one row, 24 of each learned."""
    generator = torch.Generator().manual_seed(0)
    examples = []
    for _ in range(2):
        tokens = torch.randint(1000, 40_000, (TIME // 2,), generator=generator)
        given = (TIME - LEARNED) // 2
        examples.append(Example(tokens, torch.cat([torch.full((given,), IGNORE), tokens[given:]])))
    return pack_examples(examples, TIME)


def base(**settings) -> nn.Module:
    """SmolLM2's first blocks, with its embedding and head."""
    from transformers import AutoModelForCausalLM

    shape = {"num_hidden_layers": BLOCKS, "dtype": torch.float32, "local_files_only": True}
    return AutoModelForCausalLM.from_pretrained(model_folder(), **shape, **settings)


def ours(model: nn.Module) -> nn.Module:
    inject_lora(model, LoRAConfig(rank=RANK, alpha=2.0 * RANK))
    return model


def pefts() -> nn.Module:
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(base(), LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=list(ALL_LINEAR)))
    return adapted.get_base_model()


def four_bits() -> nn.Module:
    from transformers import BitsAndBytesConfig

    return base(quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True))


def main() -> None:
    rows = row()
    models = {"LoRA, ours": ours(base()), "LoRA, peft": pefts(), "QLoRA (NF4), ours": ours(four_bits()), "all weights": base()}
    optimizers = {name: torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5) for name, model in models.items()}

    def step(name: str) -> None:
        optimizers[name].zero_grad(set_to_none=False)
        rows_loss(models[name].train(), rows).backward()
        optimizers[name].step()

    taken = turn_about({name: lambda n=name: step(n) for name in models}, repeat=7)
    kept = []
    for name, model in models.items():
        moments = [t for state in optimizers[name].state.values() for t in state.values() if t.ndim]
        weights = list(model.parameters())
        tensors = [*weights, *(p.grad for p in weights if p.grad is not None), *moments]
        kept.append(f"{name} {sum(t.nbytes for t in tensors) / 2**20:,.0f} MiB")
    note = (
        f"The first {BLOCKS} of SmolLM2-135M's 30 blocks in float32, rank {RANK} on all seven layers of each, one packed row of {TIME} "
        f"tokens of which {LEARNED} are learned: forward, backward and AdamW. A ratio is the time over peft's. "
        f"Weights, gradients and moments: {'; '.join(kept)}."
    )
    ratios = {name: ratio(taken, name, "LoRA, peft") for name in models if name != "LoRA, peft"}
    write("lora", unit="ms of CPU time per step", samples=taken, ratios=ratios, note=note)
