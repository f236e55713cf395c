"""The course's engine, transformers and llama.cpp on the same model and prompts: one stream, and eight at once."""

from hybridlab.llm.engines import LlamaCpp, Own, Transformers, measure, question_prompts
from hybridlab.llm.llama import from_transformers
from hybridlab.llm.smollm2 import load_model, model_folder
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.runtime import set_threads

from tests.benchmarks.record import ratio, write

NEW_TOKENS, REPEAT = 24, 3
NOTE = (
    "SmolLM2-135M, eight questions of about 37 tokens each, {n} new tokens each, by the wall clock, prompts included. llama.cpp runs the "
    "GGUF file in 4 bits (Q4_1), the others the same weights dequantised to float32. A ratio is the speed over transformers'."
)


def main() -> None:
    threads, network = set_threads(), load_model()
    prompts = question_prompts(BytePairTokenizer.from_json(model_folder() / "tokenizer.json"))
    engines = {"ours": Own(from_transformers(network, max_time=512)), "transformers": Transformers(network), "llama.cpp": LlamaCpp(threads)}
    samples: dict[str, list[float]] = {}
    for round_ in range(REPEAT):
        for name in list(engines) if round_ % 2 == 0 else list(reversed(engines)):
            speed, _ = measure(engines[name], prompts, NEW_TOKENS)
            samples.setdefault(f"one stream: {name}", []).append(speed.one)
            samples.setdefault(f"eight at once: {name}", []).append(speed.many)
    samples = {f"{what}: {name}": samples[f"{what}: {name}"] for what in ("one stream", "eight at once") for name in engines}
    ratios = {row: ratio(samples, row, row.split(":")[0] + ": transformers") for row in samples if not row.endswith("transformers")}
    write("engines", unit="tokens per second", samples=samples, ratios=ratios, note=NOTE.format(n=NEW_TOKENS))
