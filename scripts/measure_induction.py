"""Ask the models of the induction-heads test many texts of each length: the record beside the weights, the table in docs/long_context.md.

python scripts/measure_induction.py                # what is missing, on one thread: twenty minutes
python scripts/measure_induction.py --minutes 5    # stop behind the first round after that; the next call goes on from there

Every round has texts of its own. Scores of other weights than those that are there begin anew.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

from hybridlab.runtime import set_threads
from hybridlab.ssm.induction_heads import PAPER, PAPER_LENGTHS, Score, score_stream, score_whole, texts_for
from hybridlab.ssm.long_context_models import trained
from hybridlab.ssm.long_context_record import record, recorded
from hybridlab.transformer.model import MiniTransformer
from rich.console import Console
from scipy.stats import binomtest

PAGE = Path(__file__).parents[1] / "docs" / "long_context.md"
BEGIN, END = "<!-- induction: written by scripts/measure_induction.py -->\n", "<!-- /induction -->\n"
ROUND, TOKENS = 64, 2**21  # a round has so many texts at most, and tokens
HEADS = ("Transformer, absolute", "Transformer, rotary", "Mamba-2, softplus", "Mamba-2, relu and price")
# in the same order: how many texts up to which length; the paper's figures are steps of 1/256
PLAN: dict[str, tuple[tuple[int, int], ...]] = {
    "induction sinusoidal": ((256, 2**10), (64, 2**11)),
    "induction rotary": ((256, 2**10), (64, 2**11)),
    "induction softplus": ((256, 2**12), (64, 2**14)),
    "induction relu": ((256, 2**16), (128, 2**17), (88, 2**18), (4, 2**20)),
}
console = Console(highlight=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    options = parser.parse_args()
    set_threads(1)
    until = time.monotonic() + 60 * options.minutes
    for name, score in ((model, score) for model in PLAN for score in rounds(model)):
        console.print(f"{name}: {score.correct} of {score.asked} at {score.length:,} tokens, {score.cpu_seconds:.0f} CPU-s")
        if time.monotonic() > until:
            break
    write(PAGE)


def rounds(name: str) -> Iterator[Score]:
    """Ask what is missing, round after round; each is put on record at once, and added to those before it."""
    model, scores = trained(name), {one.length: one for one in recorded(name)}
    ask = score_whole if isinstance(model, MiniTransformer) else score_stream
    for length in PAPER_LENGTHS:
        goal = next((texts for texts, longest in PLAN[name] if length <= longest), 0)
        while (have := scores.get(length, Score(length, 0, 0, 0.0))).asked < goal:
            texts = min(texts_for(length, tokens=TOKENS, least=1, most=ROUND), goal - have.asked)
            new = ask(model, length, asked=texts, seed=1000 * length + have.asked)
            scores[length] = Score(length, have.correct + new.correct, have.asked + new.asked, have.cpu_seconds + new.cpu_seconds)
            record(name, list(scores.values()))
            yield scores[length]


def table() -> str:
    """Lengths downwards, models across: right of asked, and the paper's accuracies beside them."""
    ours = {name: {one.length: one for one in recorded(name)} for name in PLAN}
    paper = ("MHA-Abs, 137K", "MHA-RoPE, 137K", "Mamba, 74K")
    heads = ["tokens", *HEADS, *(f"paper: {name}" for name in paper)]
    lines = ["| " + " | ".join(heads) + " |", "| ---: " * len(heads) + "|"]
    for place, length in enumerate(PAPER_LENGTHS):
        scores = [ours[name].get(length) for name in PLAN]
        cells = [f"2^{length.bit_length() - 1}", *(in_words(one) if one else "" for one in scores)]
        cells += ["" if (value := PAPER[name][place]) is None else f"{value:g} %" for name in paper]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def in_words(score: Score) -> str:
    """Right of asked, and between which rates that lies with 95 % confidence, after Wilson."""
    low, high = binomtest(score.correct, score.asked).proportion_ci(method="wilson")
    return f"{score.correct} / {score.asked} ({100 * low:.1f} – {100 * high:.1f} %)"


def write(page: Path) -> None:
    """Put the table between its marks."""
    before, rest = page.read_text("utf-8").split(BEGIN)
    page.write_text(before + BEGIN + table() + END + rest.split(END)[1], "utf-8")


if __name__ == "__main__":
    main()
