"""How a model of stacked layers reads: each layer goes on with its own state, and gives the one for the next piece of the text."""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from hybridlab.ssm.checked import layer_states


class StatefulModel(nn.Module):
    """Embedding, layers, norm, head. A text may be read whole, in pieces, or token by token: hand the state on.

    A layer maps (x, its state or None) to (x, its new state). `stack()` names the parts, which bear the names of the weights they load.
    """

    def stack(self) -> tuple[nn.Module, Sequence[nn.Module], nn.Module, nn.Module]:
        """(embedding, layers, last norm, head)."""
        raise NotImplementedError

    def read(
        self, tokens: Int[Tensor, "batch time"], state: list[Any] | None = None
    ) -> tuple[Float[Tensor, "batch time d_model"], list[Any]]:
        """The stream behind the last norm, before the head, and the state behind the last token.

        Raises ValueError where there are no tokens, or the state is another model's.
        """
        embedding, layers, norm, _ = self.stack()
        before, after = layer_states(tokens, state, len(layers)), []
        x = embedding(tokens)
        for layer, layer_state in zip(layers, before, strict=True):
            x, now = layer(x, layer_state)
            after.append(now)
        return norm(x), after

    def forward(
        self, tokens: Int[Tensor, "batch time"], state: list[Any] | None = None
    ) -> tuple[Float[Tensor, "batch time vocab_size"], list[Any]]:
        """Logits for every token, and the state behind the last one."""
        x, state = self.read(tokens, state)
        return self.stack()[-1](x), state
