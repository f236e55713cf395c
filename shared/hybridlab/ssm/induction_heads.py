"""The induction-heads test of the Mamba paper: once, somewhere, a sign and a token behind it; at the end the sign again. What came?

Trained at 256 tokens, tested at powers of two up to 2^20 (2312.00752, section 4.1.2 and table 11). Two deviations from the paper, so
that it is learned in a minute instead of in 204,800 steps: a curriculum of lengths from 16 to 256, and texts that ask more than once. A
third where `step="relu"`: steps that can be exactly 0, and a price on fading (`decay_penalty`). Softplus is the paper's.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.ssm.decay_penalty import watch_decay
from hybridlab.ssm.mamba_config import MambaConfig, StepKind
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.transformer.config import PositionKind, TransformerConfig
from hybridlab.transformer.model import MiniTransformer

VOCAB = 16
SIGN = VOCAB - 1  # tokens 0 … 14 are ordinary
TRAINED = 256  # the longest text of the training
IGNORED = -100  # cross_entropy's mark for a place without a question
PENALTY = 0.003

# 2312.00752, table 11: accuracy in per cent at 2^6 … 2^20. Printed there as a check mark: 100. None: out of memory.
PAPER = {
    "MHA-Abs, 137K": (100, 99.6, 100, 58.6, 26.6, 18.8, 9.8, 10.9, 7.8, None, None, None, None, None, None),
    "MHA-RoPE, 137K": (100, 100, 100, 83.6, 31.3, 18.4, 8.6, 9.0, 5.5, None, None, None, None, None, None),
    "MHA-xPos, 137K": (100, 100, 100, 99.6, 67.6, 25.4, 7.0, 9.0, 7.8, None, None, None, None, None, None),
    "H3, 153K": (100, 100, 100, 80.9, 39.5, 23.8, 14.8, 8.2, 5.9, 6.6, 8.2, 4.7, 8.2, 6.3, 7.4),
    "Hyena, 69M": (97.7, 100, 100, 100, 44.1, 12.5, 6.6, 5.1, 7.0, 5.9, 6.6, 6.6, 5.9, 6.3, 9.8),
    "Mamba, 74K": (100,) * 15,
}
PAPER_LENGTHS = tuple(2**k for k in range(6, 21))


@dataclass(frozen=True)
class Score:
    """How many of how many texts of one length were answered rightly, and in how much CPU time."""

    length: int
    correct: int
    asked: int
    cpu_seconds: float

    @property
    def accuracy(self) -> float:
        return self.correct / self.asked


def induction_batch(
    batch: int, length: int, *, extra: int = 0, generator: torch.Generator
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """Texts, and what has to follow each token: the answer behind a sign that asks, IGNORED elsewhere.

    The first sign and its answer stand anywhere; the text ends with a sign. `extra` more signs in between ask as well, and have the answer
    behind them. Every text has an answer of its own: it can't be learned by heart.

    Raises:
        ValueError: the signs do not fit into the length.

    Source: 2312.00752, section 4.1.2, after Dao, Fu et al., 2212.14052, table 1 (there without extra questions).
    """
    if length < 3 + 2 * extra:
        raise ValueError(f"a text of {length} tokens can't hold {extra} extra questions: at least {3 + 2 * extra}")
    tokens = torch.randint(SIGN, (batch, length), generator=generator)
    answers = torch.randint(SIGN, (batch, 1), generator=generator).expand(-1, 1 + extra)
    # pairs (sign, answer) never overlap: draw places in a text without the answers, and move each by those before it
    room = length - 1 - (1 + extra)
    places = torch.rand(batch, room, generator=generator).topk(1 + extra).indices.sort().values + torch.arange(1 + extra)
    tokens.scatter_(1, places, SIGN).scatter_(1, places + 1, answers)
    tokens[:, -1] = SIGN
    wanted = torch.full_like(tokens, IGNORED).scatter_(1, places[:, 1:], answers[:, 1:])
    wanted[:, -1] = answers[:, 0]
    return tokens, wanted


def induction_mamba(step: StepKind, *, seed: int) -> Mamba:
    """A Mamba-2 of two layers for this test."""
    torch.manual_seed(seed)
    return Mamba(MambaConfig(VOCAB, d_model=32, n_layers=2, d_head=16, d_state=16, step=step))


def induction_transformer(positions: PositionKind, *, seed: int, max_time: int = 2**14) -> MiniTransformer:
    """A Transformer of two layers and 64 channels, with rotary or learned positions."""
    torch.manual_seed(seed)
    return MiniTransformer(TransformerConfig(VOCAB, d_model=64, n_layers=2, n_heads=4, d_ff=128, max_time=max_time, positions=positions))


def train_induction(
    model: Mamba | MiniTransformer, steps: int, *, seed: int, lr: float = 5e-3, batch: int = 8
) -> Iterator[tuple[int, float]]:
    """Train in place; yields (length, share of right last answers) of each step, so that a caller can plot, or stop.

    The length begins at 16 and doubles, up to 256, whenever nine of ten are right. Shorter texts come in larger batches.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    length, right = 16, 0.0
    for step in range(steps):
        extra = min(step % 4, length // 16)  # 0 as often as 3: in the test the sign was there once
        tokens, wanted = induction_batch(max(batch, batch * 128 // length), length, extra=extra, generator=generator)
        loss, logits = _loss(model, tokens, wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        share = (logits[:, -1].argmax(-1) == wanted[:, -1]).float().mean().item()
        yield length, share
        right = 0.8 * right + 0.2 * share
        if right > 0.9 and length < TRAINED:
            length, right = 2 * length, 0.0


def _loss(model: Mamba | MiniTransformer, tokens: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(model, MiniTransformer):
        logits = model(tokens)
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED), logits
    with watch_decay(model) as watch:
        logits, _ = model(tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
        price = PENALTY * watch.mean() if model.config.step == "relu" else 0.0
    return loss + price, logits


def stream(
    batch: int, length: int, *, seed: int, piece: int
) -> tuple[Int[Tensor, " batch"], Iterator[Int[Tensor, "batch piece"]]]:
    """The answers of texts as of `induction_batch` without extra questions, and the texts, piece after piece: none is ever held whole."""
    generator = torch.Generator().manual_seed(seed)
    answers = torch.randint(SIGN, (batch,), generator=generator)
    places = torch.randint(length - 2, (batch,), generator=generator)
    rows = torch.arange(batch)

    def pieces() -> Iterator[Tensor]:
        for start in range(0, length, piece):
            tokens = torch.randint(SIGN, (batch, min(piece, length - start)), generator=generator)
            for shift, values in ((0, torch.full_like(answers, SIGN)), (1, answers)):
                here = places + shift - start
                inside = (here >= 0) & (here < tokens.shape[1])
                tokens[rows[inside], here[inside]] = values[inside]
            if start + piece >= length:
                tokens[:, -1] = SIGN
            yield tokens

    return answers, pieces()


@torch.inference_mode()
def score_stream(model: Mamba, length: int, *, asked: int, seed: int, piece: int = 256) -> Score:
    """Read `asked` texts of `length` tokens side by side, in pieces with a carried state: memory does not grow with the length."""
    began, state = time.process_time(), None
    answers, pieces = stream(asked, length, seed=seed, piece=piece)
    for tokens in pieces:
        read, state = model.read(tokens, state)
    correct = (model.lm_head(read[:, -1]).argmax(-1) == answers).sum().item()
    return Score(length, correct, asked, time.process_time() - began)


@torch.inference_mode()
def score_whole(model: MiniTransformer, length: int, *, asked: int, seed: int) -> Score:
    """The same for a Transformer, which has to hold each text whole: one after the other."""
    began, correct = time.process_time(), 0
    answers, pieces = stream(asked, length, seed=seed, piece=length)
    for tokens, answer in zip(next(pieces), answers, strict=True):
        correct += int(model(tokens[None])[0, -1].argmax() == answer)
    return Score(length, correct, asked, time.process_time() - began)


def texts_for(length: int, *, tokens: int = 2**19, least: int = 2, most: int = 64) -> int:
    """How many texts of a length are asked: as many as make `tokens` tokens together, within bounds."""
    return min(max(tokens // length, least), most)


def extrapolation(model: Mamba, longest: int, *, seed: int, tokens: int = 2**19) -> Iterator[Score]:
    """Scores at 2^6, 2^7, … `longest`. The longer the texts, the fewer of them (`texts_for`): a score says how many."""
    length = PAPER_LENGTHS[0]
    while length <= longest:
        yield score_stream(model, length, asked=texts_for(length, tokens=tokens), seed=seed + length)
        length *= 2
