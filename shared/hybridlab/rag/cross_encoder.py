"""Question and passage read together by all of E5's layers, with LoRA: does the passage answer, and where?

E5 was trained to read texts one at a time. Here it gets a question and a passage as one text, `<s> query: … </s></s> passage: … </s>`, as
XLM-R is given pairs, so that every token of one sees every token of the other in each of the twelve layers (a cross-encoder: Nogueira and
Cho, arXiv 1901.04085). What it learns is a correction of low rank to each linear layer (LoRA, arXiv 2106.09685), and two small heads: where
an answer begins and ends, or nowhere, which the first token stands for (BERT's way with SQuAD 2.0, arXiv 1810.04805, section 4.3); and,
from the first token, the likeliest place, and how much likelier it is than nowhere, log odds that the passage answers.

`CrossEncoder` learns, on any device; `PairReader` has the corrections in its weights and reads as fast as E5 embeds: 0.1 s of two cores
for a question and a passage of 250 tokens. So few passages are read like this, after others have been left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.llm.lora import LoRAConfig, inject_lora
from hybridlab.rag.e5_file import Dimensions, E5File
from hybridlab.rag.embed import E5, LONGEST, PASSAGE, QUESTION, Precision
from hybridlab.rag.reader import read_halves, save_halves

LINEAR = ("q", "k", "v", "ao", "fi", "fo")  # a layer's: queries, keys, values, what is attended, and the two of the MLP
LORA = LoRAConfig(rank=32, alpha=64.0, dropout=0.05, targets=LINEAR)
DROPOUT = 0.1
ASKED = 96  # tokens of a question that are read
NOWHERE = -1e4


class Layer(nn.Module):
    """One of BERT's layers: post-norm, exact GELU."""

    def __init__(self, of: Dimensions):
        super().__init__()
        self.heads = of.heads
        self.q, self.k, self.v, self.ao = (nn.Linear(of.hidden, of.hidden) for _ in range(4))
        self.fi, self.fo = nn.Linear(of.hidden, of.d_ff), nn.Linear(of.d_ff, of.hidden)
        self.aln, self.oln = nn.LayerNorm(of.hidden, of.eps), nn.LayerNorm(of.hidden, of.eps)
        self.drop = nn.Dropout(DROPOUT)

    def forward(self, x: Float[Tensor, "pairs n dim"], seen: Bool[Tensor, "pairs 1 1 n"]) -> Float[Tensor, "pairs n dim"]:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=DROPOUT if self.training else 0.0)
        x = self.aln(x + self.drop(self.ao(attended.transpose(1, 2).flatten(2))))
        return self.oln(x + self.drop(self.fo(F.gelu(self.fi(x)))))


class Heads(nn.Module):
    """What the states of a pair's tokens say."""

    def __init__(self, dim: int):
        super().__init__()
        self.ends = nn.Linear(dim, 2)
        self.judge, self.odds = nn.Linear(2 * dim + 2, dim), nn.Linear(dim, 1)
        self.drop = nn.Dropout(DROPOUT)

    def forward(
        self, x: Float[Tensor, "pairs n dim"], passage: Bool[Tensor, "pairs n"]
    ) -> tuple[Float[Tensor, " pairs"], Float[Tensor, "pairs n 2"]]:
        """Log odds that the passage answers; and of each token logits that an answer begins and ends there, of the first that none does."""
        x = x.float()
        ends = self.ends(self.drop(x))
        held = ends.masked_fill(~passage[..., None], NOWHERE)
        likeliest = held.mean(-1).softmax(-1)
        best = (likeliest[..., None] * x).sum(1)
        clear = held.logsumexp(1) - ends[:, 0]
        odds = self.odds(self.drop(F.gelu(self.judge(torch.cat([x[:, 0], best, clear / 8], dim=-1))))).squeeze(-1)
        own = passage.clone()
        own[:, 0] = True
        return odds, ends.masked_fill(~own[..., None], NOWHERE)


def as_one(encoder: E5, question: str, passage: str) -> tuple[list[int], int]:
    """The token ids of a question and a passage that are read together, and where the passage's own begin; they end before the last."""
    asked, said = (encoder.token_ids(text)[1:-1] for text in (f"{QUESTION}{question}", f"{PASSAGE}{passage}"))
    before = [encoder.file.bos, *asked[:ASKED], encoder.file.eos, encoder.file.eos]
    prefix = encoder.token_ids(PASSAGE.rstrip())[1:-1]
    return [*before, *said[: LONGEST - len(before) - 1], encoder.file.eos], len(before) + len(prefix)


class CrossEncoder(nn.Module):
    """For training: only the corrections and the heads learn. Words come in as E5's embeddings (`E5File.embed`)."""

    def __init__(self, file: E5File, config: LoRAConfig = LORA, seed: int = 0):
        super().__init__()
        weights = {name: torch.from_numpy(np.array(array)) for name, array in file.tensors.items()}
        dim = file.dimensions.hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(Layer(file.dimensions) for _ in range(file.dimensions.layers))
            for number, layer in enumerate(self.layers):
                layer.load_state_dict(
                    {
                        f"{name}.{kind}": weights[f"l{number}.{name}.{kind[0]}"]
                        for name in (*LINEAR, "aln", "oln")
                        for kind in ("weight", "bias")
                    }
                )
                inject_lora(layer, config)
            self.heads = Heads(dim)
        self.norm = nn.LayerNorm(dim, file.dimensions.eps).requires_grad_(False)
        self.norm.load_state_dict({"weight": weights["emb.ln.w"], "bias": weights["emb.ln.b"]})
        positions = weights["emb.pos"].view(-1, dim) + weights["emb.type"].view(-1, dim)[0]
        self.register_buffer("positions", positions, persistent=False)
        self.drop = nn.Dropout(DROPOUT)

    def forward(
        self, words: Float[Tensor, "pairs n dim"], there: Bool[Tensor, "pairs n"], passage: Bool[Tensor, "pairs n"]
    ) -> tuple[Float[Tensor, " pairs"], Float[Tensor, "pairs n 2"]]:
        """As `Heads`; `there` is False where a row is filled up, and `passage` True for the passage's own tokens."""
        x = self.drop(self.norm(words + self.positions[: words.shape[1]]))
        for layer in self.layers:
            x = layer(x, there[:, None, None])
        return self.heads(x, passage)

    def learned(self) -> dict[str, Float[Tensor, ...]]:
        """What is not E5's: the corrections and the heads."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def save(self, path: Path) -> None:
        """In float16: 6 MB."""
        save_halves(self.learned(), path)


@dataclass(frozen=True)
class Judged:
    """`odds`: log odds that a passage answers. `likely`: if it does, how likely the answer begins or ends at each of its tokens, of 1 in
    all; `spans`: of which characters each token is, from and to."""

    odds: float
    likely: Float32[np.ndarray, " tokens"]
    spans: Int[np.ndarray, "tokens 2"]

    def within(self, start: int, end: int) -> float:
        """How much of the answer is among these characters, 0 to 1."""
        return float(self.likely[(self.spans[:, 0] < end) & (self.spans[:, 1] > start)].sum())


class PairReader(E5):
    """E5 with a cross-encoder's corrections in its weights. Thread-safe, as E5 is."""

    def __init__(self, learned: Path, path: Path | None = None, precision: Precision | None = None):
        """`learned` is what `CrossEncoder.save` wrote. Raises FileNotFoundError, RuntimeError where it is another model's, and what E5
        raises."""
        self._learned = read_halves(learned)
        heads = {name.removeprefix("heads."): self._learned.pop(name) for name in list(self._learned) if name.startswith("heads.")}
        super().__init__(path, precision)
        self._exact = {}  # in 16 bits, for questions that are embedded: none is here
        self.heads = Heads(self.dim).eval().requires_grad_(False)
        self.heads.load_state_dict(heads)

    def _taken_out(self) -> dict[str, tuple[Tensor, Tensor]]:
        made = super()._taken_out()
        for name, (weight, bias) in made.items():
            layer, _, part = name.removeprefix("l").partition(".")
            parts = "qkv" if part == "qkv" else [part]  # these three are one matrix
            made[name] = weight + torch.cat([self._correction(f"layers.{layer}.{one}") for one in parts]), bias
        return made

    def _correction(self, layer: str) -> Float[Tensor, "d_out d_in"]:
        missing = [name for name in (f"{layer}.lora_A", f"{layer}.lora_B") if name not in self._learned]
        if missing:
            raise RuntimeError(f"the file has no {missing[0]}: it is not a cross-encoder's")
        return LORA.alpha / LORA.rank * self._learned.pop(f"{layer}.lora_B") @ self._learned.pop(f"{layer}.lora_A")

    @torch.inference_mode()
    def judge(self, question: str, passage: str) -> Judged:
        """Whether the passage answers the question, and where."""
        row, first = as_one(self, question, passage)
        own = torch.zeros(1, len(row), dtype=torch.bool)
        own[0, first:-1] = True
        with self._lock:
            states = self._through(self._embed([row]), [row], self._quick, range(self.file.dimensions.layers))
            odds, ends = self.heads(states[None], own)
        spans = np.array(self.token_spans(passage)[: len(row) - 1 - first], int).reshape(-1, 2)
        return Judged(odds.item(), ends[0, first:-1].softmax(0).mean(-1).numpy(), spans)
