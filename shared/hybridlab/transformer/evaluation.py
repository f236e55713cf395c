"""The one number that a language model is judged by: its mean loss over a whole text that it was not trained on.

`training.evaluate` looks at a few fixed batches, which is enough to watch a run. This is the measurement at its end:
every token of the text is predicted once, so there is nothing random in it and nothing to choose.
"""

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hybridlab.exercise import exercise
from hybridlab.transformer.losses import cross_entropy


@exercise
def text_loss(model: nn.Module, tokens: Int[Tensor, "n_tokens"], *, time: int, batch_size: int = 64) -> float:
    """The mean loss of `model` over a whole text, in nats per token.

    The text is cut into windows one after the other: window i holds the inputs `tokens[i * time : (i + 1) * time]`, and
    its targets are the tokens one place later. So every token but the first is a target exactly once. The last window is
    as short as what is left. `batch_size` windows of full length go through the model at once: it changes the speed and
    the memory, never the result.

    The mean is over tokens: a batch with fewer windows, or the short last window, weighs as much as the tokens in it.
    Dropout is off, no gradients are recorded, and the model is left in the mode (train or eval) in which it came.

    Returns: a Python float.
    Raises: ValueError if there are fewer than two tokens, so that nothing is to be predicted.
    """
    n_targets = len(tokens) - 1
    if n_targets < 1:
        raise ValueError(f"a loss needs at least two tokens, one to see and one to predict; got {len(tokens)}")
    full = n_targets // time * time  # targets in windows of full length
    pairs = torch.stack((tokens[:-1], tokens[1:]))  # (input and target, n_targets)
    batches = [*pairs[:, :full].view(2, -1, time).split(batch_size, dim=1), pairs[:, None, full:]]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        total = sum(cross_entropy(model(x), y).item() * y.numel() for x, y in batches if y.numel())
    model.train(was_training)
    return total / n_targets
