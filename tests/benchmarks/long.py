"""Long texts: RWKV's scans by length; whole models against attention by length; the memory that up to a million tokens take."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from hybridlab.data.shakespeare import fetch
from hybridlab.runtime import set_threads
from hybridlab.ssm.delta_rule import chunked_delta_rule, delta_rule
from hybridlab.ssm.long_reader import LongReader
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.rwkv4 import Rwkv4
from hybridlab.ssm.rwkv4_weights import from_transformers
from hybridlab.ssm.rwkv7 import SLOWEST, Rwkv7
from hybridlab.ssm.rwkv7_weights import save_pth
from hybridlab.ssm.rwkv_config import RwkvConfig
from hybridlab.ssm.stateful import StatefulModel
from hybridlab.ssm.streaming import read_stream
from hybridlab.ssm.wkv4 import chunked_wkv4, wkv4
from torch import Tensor
from torch.nn import functional as F

from tests.benchmarks.nanogpt_torch import TorchGPT
from tests.benchmarks.record import Spent, alone, write
from tests.benchmarks.scans import SLOW_BACKWARD, Table, both_ways, forward

D, HEADS = 256, 4  # channels of the scans, and heads of RWKV-7's
VOCAB, D_MODEL = 1_000, 128
PIECE = 1_024  # tokens that are read at once, with a carried state
TEXTS = (2_048, 16_384, 65_536)
LENGTHS = (10_000, 100_000, 1_000_000)
READER = "the long reader"
NOTE = (
    "One text. The scans: {d} channels, RWKV-7's in {heads} heads. A ratio is the speed over that of the row without one, at the same"
    " length, kind and direction. Left out: the loops' backward beyond 16,384 tokens, transformers' beyond {slow} (quadratic). Whole "
    "models: d_model {d_model}, up to the last norm (beside the package rwkv: to the logits); one layer of attention and MLP counts "
    "as two of Mamba's, as in 2312.00752. Parameters without embeddings: {sizes}. Attention is PyTorch's "
    "`scaled_dot_product_attention`, causal, the text whole; the others read pieces of {piece:,} tokens. It stops at {longest:,} "
    "tokens because each doubling takes it four times as long: these took {seconds:.0f} s of CPU time, a million would take "
    "{hours:.1f} hours. *Memory* is measured in a process of its own for each length: its peak, and what that is beyond the loaded "
    "model; a ratio is to {shortest:,} tokens. "
    "What grows there is what malloc keeps in its heap and nobody uses; what is in use stays the same "
    "(tests/unit/test_long_reader_memory.py)."
)


# ---------------------------------------------------------------- the scans


def weighted_means(length: int) -> list[Tensor]:
    """k, v, decay, bonus of WKV-4."""
    torch.manual_seed(0)
    return [torch.randn(1, length, D), torch.randn(1, length, D), torch.exp(torch.linspace(-5, 3, D)), torch.randn(D)]


def corrections(length: int) -> list[Tensor]:
    """r, log w, k, v, a, b of the delta rule, as RWKV-7 makes them."""
    torch.manual_seed(0)
    r, rate, k, v, removal, learning = torch.randn(6, 1, length, HEADS, D // HEADS)
    removal = F.normalize(removal, dim=-1)
    return [r, -SLOWEST * torch.sigmoid(rate), k, v, -removal, removal * torch.sigmoid(learning)]


def transformers_means(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> tuple[Tensor, Any]:
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

    return rwkv_linear_attention_cpu(decay.log(), bonus, k, v, return_state=True)


def in_pieces(scan: Callable, timed: int) -> Callable[..., tuple[Tensor, Tensor]]:
    """A scan of PIECE tokens after PIECE tokens, as a model reads; the first `timed` of its inputs have a time."""

    def run(*given: Tensor) -> tuple[Tensor, Tensor]:
        state, ys = None, []
        for parts in zip(*(part.split(PIECE, 1) for part in given[:timed]), strict=True):
            y, state = scan(*parts, *given[timed:], state)
            ys.append(y)
        return torch.cat(ys, 1), state

    return run


def scans(table: Table) -> None:
    kinds = {
        "RWKV-4's scan": (weighted_means, {"the loop": wkv4, "in chunks, ours": in_pieces(chunked_wkv4, 2)}, transformers_means),
        "RWKV-7's scan": (corrections, {"the loop": delta_rule, "in chunks, ours": in_pieces(chunked_delta_rule, 6)}, None),
    }
    for name, (make, ours, slow) in kinds.items():
        for length, repeat in ((2_048, 3), (16_384, 1), (131_072, 1)):
            given, known = make(length), {"transformers": slow} if slow and length < 131_072 else {}
            calls = {k: forward(f, given) for k, f in (ours | known).items()}
            table.measure(f"{name}, forward", length, calls, "the loop", repeat, warm_up=length == 2_048)
            both = ours if length < 131_072 else {"in chunks, ours": ours["in chunks, ours"]}
            calls = {k: both_ways(f, given) for k, f in both.items()}
            table.measure(f"{name}, forward and backward", length, calls, "the loop", repeat, warm_up=length == 2_048)
        if slow:
            few = make(SLOW_BACKWARD)
            calls = {k: both_ways(f, few) for k, f in (ours | {"transformers": slow}).items()}
            table.measure(f"{name}, forward and backward", SLOW_BACKWARD, calls, "the loop", 3)


# ---------------------------------------------------------------- whole models


def build(name: str) -> StatefulModel | TorchGPT:
    """A model with new weights."""
    torch.manual_seed(0)
    if name == "attention":
        return TorchGPT(VOCAB, D_MODEL, n_layers=2, n_heads=4, max_time=max(TEXTS)).eval()
    if name in ("Mamba", "Mamba-2"):
        more = {"version": 1, "d_state": 16} if name == "Mamba" else {"version": 2, "d_state": 64}
        return Mamba(MambaConfig(VOCAB, D_MODEL, n_layers=4, **more)).eval()
    return {"RWKV-4": Rwkv4, "RWKV-7": Rwkv7}[name](RwkvConfig(VOCAB, D_MODEL, n_layers=2, d_head=64)).eval()


STATEFUL = ("Mamba", "Mamba-2", "RWKV-4", "RWKV-7")


def size(model: torch.nn.Module) -> int:
    """Parameters without those that belong to a token or a position."""
    return sum(p.numel() for p in model.parameters() if not {VOCAB, max(TEXTS)} & set(p.shape))


def against_others(table: Table) -> None:
    """RWKV-4 and RWKV-7 against transformers and the package rwkv, on the same weights."""
    from transformers import RwkvConfig as TheirConfig
    from transformers import RwkvModel

    torch.manual_seed(0)
    theirs = RwkvModel(TheirConfig(vocab_size=VOCAB, hidden_size=D_MODEL, num_hidden_layers=2)).eval()
    ours = from_transformers(theirs)
    os.environ |= {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "1", "RWKV_CUDA_ON": "0"}  # read once, when it is imported
    from rwkv.model import RWKV_x070

    seventh = build("RWKV-7")
    with tempfile.TemporaryDirectory() as folder:
        save_pth(seventh, Path(folder) / "model.pth")
        package = RWKV_x070(str(Path(folder) / "model"), "cpu fp32")
    for length in TEXTS[:2]:
        tokens, first = torch.randint(VOCAB, (1, length)), length == TEXTS[0]
        calls = {"transformers": lambda tokens=tokens: theirs(tokens, use_cache=True), "ours": lambda tokens=tokens: ours.read(tokens)}
        calls = {name: torch.no_grad()(call) for name, call in calls.items()}
        table.measure("an RWKV-4, reading", length, calls, "transformers", 3 if first else 1, warm_up=first)
        ids = tokens[0].tolist()
        calls = {
            "the package rwkv": lambda ids=ids: package.forward(ids, None, full_output=True),
            "ours": torch.no_grad()(lambda tokens=tokens: seventh(tokens)),
        }
        table.measure("an RWKV-7, reading to its logits", length, calls, "the package rwkv", 3 if first else 1, warm_up=first)


def against_attention(table: Table) -> float:
    """CPU seconds that attention took for the longest text."""
    models = {name: build(name) for name in ("attention", *STATEFUL)}
    for length in TEXTS:
        tokens, first = torch.randint(VOCAB, (1, length)), length == TEXTS[0]
        pieces = tokens.split(PIECE, 1)
        calls = {name: lambda model=models[name], pieces=pieces: read_stream(model, pieces) for name in STATEFUL}
        calls["attention"] = torch.inference_mode()(lambda tokens=tokens: models["attention"].read(tokens))
        taken = table.measure("reading", length, calls, "attention", 3 if first else 1, warm_up=first)
    return taken["attention"][0] / 1e3


# ---------------------------------------------------------------- memory


def pieces_of(length: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    for start in range(0, length, PIECE):
        yield torch.randint(VOCAB, (1, min(PIECE, length - start)), generator=generator)


def reading(name: str, length: int, path: str) -> dict[str, float]:
    """Read so many tokens in this process, made up ones or, the long reader, a file's."""
    set_threads(1)
    model = LongReader.load() if name == READER else build(name)
    spent = Spent()
    if isinstance(model, LongReader):
        model.read(path)
        length = model.tokens
    else:
        read_stream(model, pieces_of(length))
    return spent.told() | {"tokens": length}


def memory(table: Table) -> None:
    plays = fetch().read_bytes()
    for name in (READER, "RWKV-4", "RWKV-7"):
        told = {}
        for length in LENGTHS:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "text"
                path.write_bytes((plays * (length // len(plays) + 1))[:length])
                told[length] = alone(reading, name, length, str(path))
            for what, row in (("peak", "the whole process"), ("memory", "beyond the loaded model")):
                row = f"memory, {name}, {length:,} tokens: {row}, MiB"
                table.samples[row] = [told[length][what]]
                if length != LENGTHS[0]:
                    table.ratios[row] = told[length][what] / told[LENGTHS[0]][what]
        table.samples[f"a million tokens read by {name}"] = [told[LENGTHS[-1]]["tokens"] / told[LENGTHS[-1]]["cpu"]]


def main() -> None:
    logging.disable(logging.WARNING)  # transformers says that its kernel is missing
    table = Table()
    scans(table)
    against_others(table)
    seconds = against_attention(table)
    memory(table)
    sizes = ", ".join(f"{name} {size(build(name)):,}" for name in ("attention", *STATEFUL))
    hours = seconds * (LENGTHS[-1] / TEXTS[-1]) ** 2 / 3600
    note = NOTE.format(
        d=D, heads=HEADS, slow=SLOW_BACKWARD, d_model=D_MODEL, sizes=sizes, piece=PIECE, longest=TEXTS[-1], seconds=seconds, hours=hours,
        shortest=LENGTHS[0],
    )  # fmt: skip
    write("long", unit="tokens per second of CPU time, or the row's unit", samples=table.samples, ratios=table.ratios, note=note)
