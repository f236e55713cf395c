"""What training costs, in floating-point operations, before it is run.

One multiplication and one addition for each weight and token: two operations. Backward does each matrix product twice
more, once for the gradient of its input and once for that of its weights. What is not a matrix product (norms,
activations, softmax, the optimizer) is left out: it takes time, but few operations.
"""

from hybridlab.exercise import exercise
from hybridlab.transformer.config import TransformerConfig


@exercise
def training_flops(config: TransformerConfig, batch_size: int, time: int) -> int:
    """Floating-point operations in the matrix products of one update, forward and backward.

    Forward, for each of the batch_size · time tokens:

    - every weight matrix that the token goes through costs 2 · rows · columns: in each layer the four of attention
      (k_proj and v_proj have n_kv_heads · d_head outputs, not d_model) and those of the MLP (`mlp="gelu"` has two, `mlp="swiglu"` three),
      and once lm_head. The embedding is looked up, which is no product. Biases are left out;
    - in each layer, each query is multiplied with the keys of all `time` positions, and the weights with all values: two
      products of 2 · time · d_model. (The mask throws half of it away, but our attention computes it first.)

    Backward costs twice as much as forward. The result is a whole number.

    Source: Kaplan et al., 2001.08361, table 1 (there per token, with the last term at half its size).
    """
    d = config.d_model
    attention = 2 * d * d + 2 * d * config.n_kv_heads * config.d_head
    mlp = (3 if config.mlp == "swiglu" else 2) * d * config.d_ff
    weights = config.n_layers * (attention + mlp) + d * config.vocab_size
    looks = config.n_layers * 2 * time * d
    return 3 * 2 * (weights + looks) * batch_size * time
