"""Continuous batching over a paged cache against one request after the other: time, and memory of the cache."""

import torch
from hybridlab.llm.continuous_batching import ContinuousBatching
from hybridlab.llm.engines import question_prompts
from hybridlab.llm.kv_memory import kv_cache_bytes
from hybridlab.llm.llama import load_folder
from hybridlab.llm.request import Request
from hybridlab.llm.smollm2 import model_folder
from hybridlab.llm.tokenizer import BytePairTokenizer

from tests.benchmarks.record import ratio, turn_about, write

SIZES, BLOCK, CONTEXT = (1, 4, 8, 16), 16, 2048
SHORTEST, LONGEST = 4, 28  # new tokens of a request
ALONE = "one request after the other"


def main() -> None:
    model = load_folder(model_folder(), max_time=CONTEXT)
    prompts = 2 * question_prompts(BytePairTokenizer.from_json(model_folder() / "tokenizer.json"))
    lengths = torch.randint(SHORTEST, LONGEST, (len(prompts),), generator=torch.Generator().manual_seed(0)).tolist()
    requests = [Request(prompt, n) for prompt, n in zip(prompts, lengths, strict=True)]
    most, answers = {}, {}

    def serve(size: int) -> None:
        served = ContinuousBatching(model, n_blocks=len(prompts) * 5, block_size=BLOCK, max_batch=size).serve(requests)
        most[size], answers[size] = max(step.blocks_in_use for step in served.steps), served.answers

    names = {size: ALONE if size == 1 else f"up to {size} at once" for size in SIZES}
    taken = turn_about({name: lambda size=size: serve(size) for size, name in names.items()}, repeat=3)
    block = kv_cache_bytes(model.config, [BLOCK])
    kept = "; ".join(f"{names[size]} {most[size] * block / 2**20:.1f} MiB" for size in SIZES)
    same = sum(a == b for a, b in zip(answers[1], answers[max(SIZES)], strict=True))
    note = (
        f"SmolLM2-135M in float32, {len(prompts)} requests with prompts of about {len(prompts[0])} tokens and {SHORTEST} to "
        f"{LONGEST - 1} new ones, {sum(lengths)} in all; {same} of {len(prompts)} answers are the same tokens in both. A ratio is the time "
        f"one after the other over it: 4.00 is four times the throughput. Blocks in use at most: {kept}; the same {max(SIZES)} requests "
        f"with {CONTEXT:,} tokens reserved for each: {kv_cache_bytes(model.config, [CONTEXT] * max(SIZES)) / 2**20:,.0f} MiB."
    )
    ratios = {name: ratio(taken, ALONE, name) for name in taken if name != ALONE}
    write("batching", unit="ms of CPU time", samples=taken, ratios=ratios, note=note)
