"""Month 1's MiniTransformer with SmolLM2's weights against transformers' Llama: the same weights, dtype and threads."""

import torch
from hybridlab.llm.llama import from_transformers, load_folder
from hybridlab.llm.smollm2 import load_model, model_folder
from hybridlab.transformer.cache import make_caches

from tests.benchmarks.record import Spent, alone, ratio, turn_about, write

PROMPTS = (64, 512)
NEW_TOKENS = 16
REPEAT = 11  # of three, a median moves by a tenth from run to run
REPEAT_DECODING = 25  # of eleven it still moved from .94 to 1.04
NOTE = (
    "SmolLM2-135M in float32. Prefill: one forward pass over a prompt, with a new cache. Decode: {n} tokens one by one behind "
    "a prompt of 64. "
    "A ratio is transformers' time over ours, so that of the speeds: 1.00 is as fast, 2.00 twice as fast. "
    "Memory: weights {weights:.0f} MiB in both; at its peak a prefill of 512 tokens takes "
    "{ours:.0f} MiB beyond them in ours, {theirs:.0f} in transformers'."
)


@torch.inference_mode()
def prefill_memory(side: str) -> dict[str, float]:
    """MiB of a side's weights, and what a prefill of the longest prompt takes beyond them."""
    model = load_folder(model_folder(), max_time=1024) if side == "ours" else load_model()
    prompt = torch.arange(max(PROMPTS))[None]
    for weight in model.parameters():
        weight.sum()  # a file that is mapped comes into memory only when it is read
    spent = Spent()
    model(prompt, caches=make_caches(model.config, 1)) if side == "ours" else model(prompt, use_cache=True)
    return {"weights": sum(p.nbytes for p in model.parameters()) / 2**20, **spent.told()}


@torch.inference_mode()
def main() -> None:
    theirs = load_model()
    ours = from_transformers(theirs, max_time=1024)
    generator = torch.Generator().manual_seed(0)
    samples, ratios = {}, {}

    def compare(label: str, calls: dict, repeat: int) -> None:
        taken = turn_about(calls, repeat)
        samples.update({f"{label}: {side}": values for side, values in taken.items()})
        ratios[f"{label}: ours"] = ratio(taken, "transformers", "ours")

    for length in PROMPTS:
        prompt = torch.randint(49_152, (1, length), generator=generator)
        calls = {
            "ours": lambda prompt=prompt: ours(prompt, caches=make_caches(ours.config, 1)),
            "transformers": lambda prompt=prompt: theirs(prompt, use_cache=True),
        }
        compare(f"prefill of {length} tokens", calls, repeat=REPEAT)

    prompt = torch.randint(49_152, (1, 64), generator=generator)

    def decode_ours() -> None:
        caches = make_caches(ours.config, 1)
        token = ours(prompt, caches=caches)[:, -1:].argmax(-1)
        for _ in range(NEW_TOKENS):
            token = ours(token, caches=caches)[:, -1:].argmax(-1)

    def decode_theirs() -> None:
        out = theirs(prompt, use_cache=True)
        for _ in range(NEW_TOKENS):
            out = theirs(out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)

    compare(f"a prompt of 64 and {NEW_TOKENS} tokens decoded", {"ours": decode_ours, "transformers": decode_theirs}, repeat=REPEAT_DECODING)
    ours_takes, theirs_takes = alone(prefill_memory, "ours"), alone(prefill_memory, "transformers")
    note = NOTE.format(n=NEW_TOKENS, weights=ours_takes["weights"], ours=ours_takes["memory"], theirs=theirs_takes["memory"])
    write("llama", unit="ms of CPU time", samples=samples, ratios=ratios, note=note)
