"""The shape of an RWKV-4 or RWKV-7: one frozen dataclass, validated in one place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RwkvConfig:
    """Every size of an RWKV.

    `d_ff=None` means 4 · d_model. The rest is RWKV-7's alone: `d_head`, and the ranks of its four small MLPs, which make decay (`rank_w`),
    in-context learning rate (`rank_a`), value residual (`rank_v`) and gate (`rank_g`) out of a token.

    Raises:
        ValueError: a size is not positive, or d_model is no multiple of d_head.
    """

    vocab_size: int
    d_model: int = 128
    n_layers: int = 2
    d_ff: int | None = None
    norm_eps: float = 1e-5
    d_head: int = 32
    rank_w: int = 32
    rank_a: int = 32
    rank_v: int = 32
    rank_g: int = 32

    def __post_init__(self) -> None:
        if self.d_ff is None:
            object.__setattr__(self, "d_ff", 4 * self.d_model)
        for name in ("vocab_size", "d_model", "n_layers", "d_ff", "d_head", "rank_w", "rank_a", "rank_v", "rank_g"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        if self.norm_eps <= 0:
            raise ValueError(f"norm_eps={self.norm_eps} must be greater than 0")

    @property
    def n_heads(self) -> int:
        """Heads of an RWKV-7.

        Raises:
            ValueError: d_model is no multiple of d_head.
        """
        if self.d_model % self.d_head:
            raise ValueError(f"d_model={self.d_model} must be a multiple of d_head={self.d_head}")
        return self.d_model // self.d_head
