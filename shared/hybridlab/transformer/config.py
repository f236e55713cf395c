"""The shape of a MiniTransformer: one frozen dataclass, validated in one place.

Two families stand ready: `TransformerConfig.gpt2` (LayerNorm, learned positions, GELU, biases) and
`TransformerConfig.llama` (RMSNorm, rotary positions, SwiGLU, grouped key/value heads, no biases).
"""

from dataclasses import dataclass
from typing import Literal, Self, get_args

NormKind = Literal["layernorm", "rmsnorm"]
NormPlacement = Literal["pre", "post"]
MLPKind = Literal["gelu", "swiglu"]
PositionKind = Literal["sinusoidal", "learned", "rotary"]


@dataclass(frozen=True)
class TransformerConfig:
    """Every size and choice of a decoder-only Transformer.

    `n_kv_heads=None` means as many as `n_heads`. `d_ff=None` means 4 * d_model for GELU and
    8/3 * d_model, rounded up to a multiple of 8, for SwiGLU: its three matrices then hold as many
    weights as GELU's two (Shazeer, 2002.05202, section 3). Both are plain numbers once the config
    is built, so `dataclasses.replace(config, d_model=...)` keeps the old `d_ff`.

    Raises:
        ValueError: a size is not positive, a choice is unknown, or sizes do not divide.
    """

    vocab_size: int
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int | None = None
    d_ff: int | None = None
    max_time: int = 256
    norm: NormKind = "layernorm"
    norm_placement: NormPlacement = "pre"
    mlp: MLPKind = "gelu"
    positions: PositionKind = "learned"
    rope_theta: float = 10_000.0
    qk_norm: bool = False
    bias: bool = False
    tie_embeddings: bool = True
    norm_eps: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.n_kv_heads is None:
            object.__setattr__(self, "n_kv_heads", self.n_heads)
        if self.d_ff is None:
            object.__setattr__(self, "d_ff", _default_d_ff(self.d_model, self.mlp))
        for name in ("vocab_size", "d_model", "n_layers", "n_heads", "n_kv_heads", "d_ff", "max_time"):
            _require_positive_int(name, getattr(self, name))
        for name, kind in _CHOICES.items():
            _require_choice(name, getattr(self, name), get_args(kind))
        if self.d_model % self.n_heads:
            raise ValueError(
                f"d_model={self.d_model} must be a multiple of n_heads={self.n_heads}: "
                "each head gets an equal share of the width"
            )
        if self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"n_heads={self.n_heads} must be a multiple of n_kv_heads={self.n_kv_heads}: "
                "each key/value head serves an equal group of query heads"
            )
        if self.positions == "rotary" and self.d_head % 2:
            raise ValueError(
                f"rotary positions turn pairs, so d_head must be even, not {self.d_head}: "
                "change d_model or n_heads"
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        if not 0.0 <= self.dropout < 1.0:
            raise ValueError(f"dropout={self.dropout} must lie in [0, 1)")
        if self.norm_eps <= 0 or self.rope_theta <= 0:
            raise ValueError(
                f"norm_eps={self.norm_eps} and rope_theta={self.rope_theta} must be greater than 0"
            )

    @property
    def d_head(self) -> int:
        """The width of one attention head."""
        return self.d_model // self.n_heads

    @classmethod
    def gpt2(cls, vocab_size: int, **changes) -> Self:
        """GPT-2's shape in small: LayerNorm, learned positions, GELU, biases, tied embeddings."""
        return cls(**{"vocab_size": vocab_size, "bias": True, **changes})

    @classmethod
    def llama(cls, vocab_size: int, **changes) -> Self:
        """Llama's shape in small: RMSNorm, rotary positions, SwiGLU, no biases, grouped KV heads.

        Two query heads share a key/value head, unless `n_kv_heads` says otherwise or `n_heads` is odd.
        """
        n_heads = changes.get("n_heads", cls.n_heads)
        shape = {
            "n_kv_heads": n_heads // 2 if n_heads % 2 == 0 else n_heads,
            "norm": "rmsnorm",
            "mlp": "swiglu",
            "positions": "rotary",
        }
        return cls(**{"vocab_size": vocab_size, **shape, **changes})


_CHOICES = {
    "norm": NormKind,
    "norm_placement": NormPlacement,
    "mlp": MLPKind,
    "positions": PositionKind,
}


def _default_d_ff(d_model: int, mlp: str) -> int:
    if mlp == "swiglu":
        return -(-d_model // 3) * 8  # 8/3 * d_model, up to a multiple of 8
    return 4 * d_model


def _require_positive_int(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown: choose one of {', '.join(choices)}")
