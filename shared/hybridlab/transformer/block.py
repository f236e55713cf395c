"""One Transformer block: attention, then an MLP, each added to the residual stream.

The submodules bear the names of transformers' LlamaDecoderLayer, so that Llama's weights load as they are.
"""

from functools import partial

from jaxtyping import Bool, Float
from torch import Tensor, nn

from hybridlab.exercise import exercise
from hybridlab.transformer.attention import MultiHeadAttention
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.mlp import GeluMLP, SwiGLU
from hybridlab.transformer.norms import LayerNorm, RMSNorm


def build_norm(config: TransformerConfig) -> nn.Module:
    """A norm of the kind and width that `config` names."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.d_model, eps=config.norm_eps)
    return LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)


def build_attention(config: TransformerConfig) -> nn.Module:
    """The attention of `config`: grouped heads, rotary positions and query/key norms where it asks for them."""
    return MultiHeadAttention(
        config.d_model,
        config.n_heads,
        config.n_kv_heads,
        bias=config.bias,
        rope_theta=config.rope_theta if config.positions == "rotary" else None,
        qk_norm=partial(RMSNorm, eps=config.norm_eps) if config.qk_norm else None,
    )


def build_mlp(config: TransformerConfig) -> nn.Module:
    """The feed-forward layer of `config`."""
    kind = SwiGLU if config.mlp == "swiglu" else GeluMLP
    return kind(config.d_model, config.d_ff, bias=config.bias)


@exercise
class Block(nn.Module):
    """Attention and MLP, each with its norm and its residual connection.

        pre-norm     h = x + attention(norm1(x))        y = h + mlp(norm2(h))
        post-norm    h = norm1(x + attention(x))        y = norm2(h + mlp(h))

    norm1 is `input_layernorm`, norm2 is `post_attention_layernorm`, attention is `self_attn`. `config.norm_placement`
    ("pre" or "post") chooses the line. Dropout acts on the output of attention and on the output of the MLP,
    before they are added. x itself is not changed in place. `padding` and `cache` go to the attention as they are:
    `self.self_attn(..., padding=padding, cache=cache)`.

    Source: Xiong et al., 2002.04745, figure 1; transformers' LlamaDecoderLayer (pre-norm).
    """

    def __init__(self, config: TransformerConfig) -> None:  # given
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        *,
        padding: Bool[Tensor, "batch keys"] | None = None,
        cache=None,
    ) -> Float[Tensor, "batch time d_model"]:
        if self.config.norm_placement == "pre":
            attended = self.self_attn(self.input_layernorm(x), padding=padding, cache=cache)
            x = x + self.dropout(attended)
            return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        attended = self.self_attn(x, padding=padding, cache=cache)
        x = self.input_layernorm(x + self.dropout(attended))
        return self.post_attention_layernorm(x + self.dropout(self.mlp(x)))
