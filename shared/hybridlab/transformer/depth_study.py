"""What depth does to the residual stream on the way up, and to the gradients on the way down.

The two measurements of Xiong et al., On Layer Normalization in the Transformer Architecture (2002.04745), on any
MiniTransformer: the size of the stream after each block (their lemma 2) and the gradient norm of one matrix in each
layer (their theorem 1 and figure 3).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybridlab.transformer.losses import cross_entropy
from hybridlab.transformer.model import MiniTransformer


def xavier_(model: nn.Module) -> nn.Module:
    """Draw every matrix as the paper does: normal, variance 2 / (inputs + outputs); biases 0. In place; returns it.

    Embeddings get variance 1, so that the stream begins with size 1, as the paper assumes.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "embed" in name:
            nn.init.normal_(parameter)
        elif parameter.ndim == 2:
            nn.init.xavier_normal_(parameter)
    return model


@torch.no_grad()
def stream_sizes(model: MiniTransformer, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, " layers_and_one"]:
    """The root mean square of the residual stream: at the embedding, then after each block."""
    x = model.embed_positions(model.embed_tokens(tokens), 0)
    sizes = [x.square().mean().sqrt()]
    for layer in model.layers:
        x = layer(x)
        sizes.append(x.square().mean().sqrt())
    return torch.stack(sizes)


def gradient_norms(
    model: MiniTransformer,
    tokens: Int[Tensor, "batch time"],
    targets: Int[Tensor, "batch time"],
    matrix: str = "mlp.down_proj",
) -> Float[Tensor, " layers"]:
    """The Frobenius norm of the loss's gradient with respect to `matrix`'s weight, for each layer from the bottom.

    The parameters' own `.grad` is left alone.

    Raises:
        AttributeError: a layer has no submodule of that name.
    """
    weights = [layer.get_submodule(matrix).weight for layer in model.layers]
    loss = cross_entropy(model(tokens), targets)
    return torch.stack([gradient.norm() for gradient in torch.autograd.grad(loss, weights)])
