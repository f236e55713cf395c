"""Train the expert of the record, by the plan of month 2's project, and measure it on held-out cases.

python scripts/make_chatbot.py              both (about four minutes on two cores, then as long again); an interrupted run goes on
python scripts/make_chatbot.py --measure    measure the expert that is there
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from pathlib import Path

from hybridlab.data.cache import cache_dir
from hybridlab.llm.chatbot import FIRST_BLOCK, GROUPS, chatbot_card, chatbot_lora, chatbot_plan, held_out_answer, training_rows
from hybridlab.llm.chatbot_data import make_groups
from hybridlab.llm.chatbot_scores import score, table
from hybridlab.llm.embedded import EmbeddedModel
from hybridlab.runtime import seed_everything, set_threads
from tqdm.auto import tqdm

REPO = Path(__file__).resolve().parents[1]
EXPERT = REPO / "months" / "02_llm" / "project" / "expert"
RECORD = REPO / "months" / "02_llm" / "project" / "recorded.json"
MEASURED, SEED = 24, 1  # groups of the test part, and what they are drawn with


def train() -> dict[str, float]:
    """Tune, and write the expert with its card. Returns what it took; the processor time is that of the last stretch."""
    from hybridlab.llm.expert import save_expert
    from hybridlab.llm.finetune import finetune
    from hybridlab.llm.lora import inject_lora
    from hybridlab.llm.shared_prefix import prefix_mask
    from hybridlab.llm.smollm2 import load_model, load_tokenizer

    threads = set_threads()
    tokenizer, model, plan, lora = load_tokenizer(), load_model(), chatbot_plan(), chatbot_lora()
    rows = training_rows(make_groups(GROUPS, part="train"), tokenizer)
    seed_everything(0)
    inject_lora(model, lora)
    unfinished = cache_dir() / "chatbot" / "run.pt"
    began = time.process_time()
    run = finetune(model, rows, plan, mask=prefix_mask, checkpoint=unfinished)
    spent = {"seconds": round(run.seconds), "processor_seconds": round(time.process_time() - began), "threads": threads}
    if run.interrupted:
        raise SystemExit("stopped: run this again to go on")
    unfinished.unlink()
    how = f"LoRA rank {lora.rank} on the blocks from {FIRST_BLOCK} on, lr {plan.lr:g}"
    made = f"scripts/make_chatbot.py: {run.step} groups of generated questions (seed 0), {how}"
    expert = save_expert(model, EXPERT, chatbot_card(made))
    print(f"{expert.path.relative_to(REPO)}: {expert.path.stat().st_size / 1e6:.1f} MB, {spent}")
    return spent


def measure(groups: int) -> dict[str, object]:
    """Ask the same held-out cases before and after."""
    cases = [case for group in make_groups(groups, part="test", seed=SEED) for case in group]
    model = EmbeddedModel([EXPERT / "sources.gguf"], threads=set_threads())
    scores = {}
    for name, adapter in (("before", None), ("after", 0)):
        with tqdm(total=len(cases), desc=name) as bar:
            scores[name] = score(cases, lambda case, a=adapter: held_out_answer(model, case, a), lambda done: bar.update())
    print(table(scores))
    return {"test_groups": groups, "seed": SEED, "scores": {name: asdict(value) for name, value in scores.items()}, "table": table(scores)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="do not train")
    parser.add_argument("--groups", type=int, default=MEASURED, help="held-out groups of six cases")
    chosen = parser.parse_args()
    trained = json.loads(RECORD.read_text("utf-8"))["training"] if chosen.measure else train()
    content = {
        "command": "python scripts/make_chatbot.py",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "training": trained,
        **measure(chosen.groups),
    }
    RECORD.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
