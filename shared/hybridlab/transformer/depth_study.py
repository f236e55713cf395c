"""What depth does to the residual stream on the way up, and to the gradients on the way down.

The two measurements of Xiong et al., On Layer Normalization in the Transformer Architecture (2002.04745), on any
MiniTransformer: the size of the stream after each block (their lemma 2) and the gradient norm of one matrix in each
layer (their theorem 1 and figure 3). And their experiment in small: a short training with and without warm-up.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.losses import cross_entropy
from hybridlab.transformer.model import MiniTransformer


def xavier_(model: nn.Module) -> nn.Module:
    """Draw every matrix as the paper does: normal, variance 2 / (inputs + outputs); biases 0. In place; returns it.

    Token embeddings get variance 1, so that the stream begins with size 1, as the paper assumes; learned positions begin
    small, with standard deviation 0.02.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif name == "embed_tokens.weight":
            nn.init.normal_(parameter)
        elif name == "embed_positions.weight":
            nn.init.normal_(parameter, std=0.02)
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


def short_run(
    config: TransformerConfig,
    text: Int[Tensor, " n"],
    *,
    lr: float,
    warmup: int = 0,
    steps: int = 70,
    batch: int = 8,
    time: int = 32,
    seed: int = 0,
) -> Float[Tensor, " steps"]:
    """The losses (nats per token) of a short training of a new model, drawn as in the paper, with the paper's Adam.

    The learning rate rises in a straight line over the first `warmup` steps and then stays at `lr`; with `warmup=0`
    it is `lr` from the first step. `seed` draws the weights and the batches: two configs see the same batches.
    """
    torch.manual_seed(seed)
    model = xavier_(MiniTransformer(config))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.98))
    order = torch.Generator().manual_seed(seed)
    losses = torch.zeros(steps)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / max(1, warmup))
        starts = torch.randint(len(text) - time, (batch, 1), generator=order)
        window = text[starts + torch.arange(time + 1)]
        loss = cross_entropy(model(window[:, :-1]), window[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[step] = loss.detach()
    return losses
