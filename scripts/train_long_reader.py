"""Train the long reader's model anew, and write it beside the library with its card. Seeded; a few minutes of CPU time.

python scripts/train_long_reader.py              # train, write the weights, measure, write the card
python scripts/train_long_reader.py --measure    # measure the weights that are there, write the card
python scripts/train_long_reader.py --out FILE   # train into another file; no card
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import time
from pathlib import Path

import torch
from hybridlab.data.parallel import load_parallel
from hybridlab.ssm.decay_penalty import watch_decay
from hybridlab.ssm.long_reader import CARD, PACKAGED, LongReader, save_model
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.needle import Found, needle_model, score_needles
from hybridlab.ssm.planted import ABSENT, FIRST_KEY, FIRST_VALUE, KEYS, VALUES, VOCAB, encode
from hybridlab.ssm.reader_training import LONGEST, PAIRS, plays, python_text, train_reader, training_pool
from rich.console import Console

SEED, STEPS, STATE = 0, 400, 32
LENGTHS = (1_000, 10_000, 65_536, 200_000, 500_000)
TEXTS = (8, 4, 1, 1, 1)  # of each length
PLANTED = 8  # pairs in each of them
SILENT = 50_000
STORED = (1, 2, 4, 8, 16, 24, 32)
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="do not train")
    parser.add_argument("--out", type=Path, help="train into this file, and write no card")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.measure:
        train(options.out or PACKAGED)
    if not options.out:
        CARD.write_text(card(), "utf-8")


def train(path: Path) -> None:
    """Train, and write the weights."""
    pool, model = training_pool(seed=SEED), needle_model("relu", seed=SEED, d_state=STATE)
    began, shares = time.process_time(), []
    for step, (length, pairs, share) in enumerate(train_reader(model, pool, STEPS, seed=SEED), 1):
        shares.append(share)
        if step % 50 == 0:
            right = sum(shares[-50:]) / 50
            console.print(f"{step} of {STEPS}: {length} tokens, {pairs} pairs, {right:.1%} right, {time.process_time() - began:.0f} CPU-s")
    save_model(model, path)


def kinds() -> dict[str, torch.Tensor]:
    """Texts that training never saw; of the last two not even the kind."""
    generator = torch.Generator().manual_seed(SEED + 1)
    numbers = torch.randint(-99_999, 999_999, (12_500, 8), generator=generator).tolist()
    sentences = [sentence for part in load_parallel() for sentence in part.vietnamese]
    order = torch.randint(len(sentences), (10_000,), generator=generator).tolist()
    return {
        "English: five other plays": plays()[1],
        "Python: packages of the standard library": encode(python_text(700_000)),
        "**Vietnamese** (kind not in training)": encode("\n".join(sentences[i] for i in order)),
        "**tables of numbers** (kind not in training)": encode("\n".join(";".join(f"{x / 100:.2f}" for x in row) for row in numbers)),
    }


@torch.inference_mode()
def opened(model: Mamba, pool: torch.Tensor) -> int:
    """In a text without a pair: at how many tokens the last layer opened."""
    with watch_decay(model) as watch:
        model.read(pool[None, :SILENT])
    return int((watch.fading[model.layers[-1].mixer] > 0).any(-1).sum())


@torch.inference_mode()
def missed(model: Mamba) -> tuple[int, dict[str, int]]:
    """In how many of all pairs of key and value, each in a line of its own, the model takes the value in; and the values that it leaves
    out, with the number of keys behind which it does."""
    before, behind = encode("and went to the river.\n"), encode("\nIt was late.")
    taken, left = 0, dict.fromkeys(VALUES, 0)
    for key in range(FIRST_KEY, FIRST_VALUE):
        texts = [torch.cat([before, torch.tensor([key, value]), behind]) for value in range(FIRST_VALUE, ABSENT)]
        with watch_decay(model) as watch:
            model.read(torch.stack(texts))
        opened = (watch.fading[model.layers[-1].mixer][:, len(before) + 1] > 0).any(-1)
        taken += int(opened.sum())
        for value in (~opened).nonzero()[:, 0].tolist():
            left[VALUES[value]] += 1
    return taken, {value: keys for value, keys in left.items() if keys}


def row(name: str, found: list[Found]) -> str:
    return f"| {name} | " + " | ".join(f"{one.correct} / {one.planted}" for one in found) + " |"


def card() -> str:
    """What the model is, what it was trained on, and how well it does."""
    model = LongReader.load().model
    by_kind, silent = [], []
    for name, pool in kinds().items():
        cases = zip(LENGTHS, TEXTS, strict=True)
        scores = [score_needles(model, length, pool, texts=texts, pairs=PLANTED, seed=length) for length, texts in cases]
        invented, asked = sum(one.absent - one.absent_known for one in scores), sum(one.absent for one in scores)
        console.print(name, [f"{one.correct}/{one.planted}" for one in scores], f"{invented} of {asked} invented")
        by_kind.append(row(name, scores) + f" {invented} / {asked} |")
        silent.append((name, opened(model, pool)))
    english = plays()[1]
    stored = [score_needles(model, 1024, english, texts=32, pairs=number, seed=number) for number in STORED]
    parameters = sum(weight.numel() for weight in model.parameters())
    taken, left = missed(model)
    gaps = ", ".join(f"{value} (behind {keys} keys)" for value, keys in left.items()) or "none"
    opens = "; ".join(f"{name.replace('**', '')}: {number}" for name, number in silent)
    return f"""### The long reader's model

Written by `python scripts/train_long_reader.py` (seed {SEED}, {STEPS} steps; Python {platform.python_version()}, torch
{torch.__version__}, one thread). Don't edit this page.

A Mamba-2 of {len(model.layers)} layers and {parameters:,} parameters over {VOCAB} tokens (bytes, keys, values: `planted.py`), d_state
{model.config.d_state}, with relu steps, a deviation from both Mamba papers. It finds planted pairs, `amber -> 42`, and nothing else:
it is no language model.

* SHA-256 of the file: `{hashlib.sha256(PACKAGED.read_bytes()).hexdigest()}`
* Licence: Apache-2.0, as the course. It was trained from scratch.
* Trained on three plays by Shakespeare (Project Gutenberg, public domain), modules of Python's standard library (PSF licence) and random
  bytes: texts of at most {LONGEST:,} tokens with at most {PAIRS} planted pairs, and values without a key and keys without a value in them.

Found / planted, {PLANTED} pairs a text, in texts that training never saw. Last column: keys that were not planted, and got a value all the
same, of all lengths together.

| text | {" | ".join(f"{length:,} tokens" for length in LENGTHS)} | invented |
| --- | {" | ".join("---:" for _ in LENGTHS)} | ---: |
{chr(10).join(by_kind)}

Of all {len(KEYS) * len(VALUES):,} pairs of key and value it takes in {taken:,}. Values that it leaves out: {gaps}.

What the state holds, at 1,024 tokens of English (more than {PAIRS} pairs were never trained):

| pairs | {" | ".join(str(one.pairs) for one in stored)} |
| --- | {" | ".join("---:" for _ in stored)} |
| found | {" | ".join(f"{one.correct / one.planted:.1%}" for one in stored)} |

Where nothing was planted, the last layer opened all the same at so many of {SILENT:,} tokens: {opens}.
"""


if __name__ == "__main__":
    main()
