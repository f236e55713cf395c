"""The texts of the induction-heads test: once, somewhere, a sign and a token behind it; at the end the sign again. What came?

No other exercise stands here and none is imported, so that promoted code, which brings its notebook's import cell along, may import
it whichever module comes first.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

from hybridlab.exercise import exercise

VOCAB = 16
SIGN = VOCAB - 1  # tokens 0 … 14 are ordinary
IGNORED = -100  # cross_entropy's mark for a place without a question


@exercise
def induction_batch(
    batch: int, length: int, *, extra: int = 0, generator: torch.Generator
) -> tuple[Int[Tensor, "batch time"], Int[Tensor, "batch time"]]:
    """Texts of `length` tokens, and what has to follow each token: the answer behind a sign that asks, IGNORED elsewhere.

    Each text has an answer of its own, any of the tokens below SIGN, so nothing can be learned by heart. The first sign stands anywhere,
    its answer behind it; the text ends with a sign, which asks. `extra` more signs in between ask as well and have the same answer behind
    them. All other tokens are any below SIGN. The pairs (sign, answer) never overlap, and no way of placing them is left out.

    All chance comes from `generator`.

    Raises:
        ValueError: the signs do not fit into the length, which is at least 3 + 2 · extra.

    Source: Gu & Dao, 2312.00752, section 4.1.2, after Dao, Fu et al., 2212.14052, table 1 (there without extra questions).
    """
    if length < 3 + 2 * extra:
        raise ValueError(f"a text of {length} tokens can't hold {extra} extra questions: at least {3 + 2 * extra}")
    tokens = torch.randint(SIGN, (batch, length), generator=generator)
    answers = torch.randint(SIGN, (batch, 1), generator=generator).expand(-1, 1 + extra)
    # pairs (sign, answer) never overlap: draw places in a text without the answers, and move each by those before it
    room = length - 1 - (1 + extra)
    places = torch.rand(batch, room, generator=generator).topk(1 + extra).indices.sort().values + torch.arange(1 + extra)
    tokens.scatter_(1, places, SIGN).scatter_(1, places + 1, answers)
    tokens[:, -1] = SIGN
    wanted = torch.full_like(tokens, IGNORED).scatter_(1, places[:, 1:], answers[:, 1:])
    wanted[:, -1] = answers[:, 0]
    return tokens, wanted


def stream(
    batch: int, length: int, *, seed: int, piece: int
) -> tuple[Int[Tensor, " batch"], Iterator[Int[Tensor, "batch piece"]]]:
    """The answers of texts as of `induction_batch` without extra questions, and the texts, piece after piece: none is ever held whole."""
    generator = torch.Generator().manual_seed(seed)
    answers = torch.randint(SIGN, (batch,), generator=generator)
    places = torch.randint(length - 2, (batch,), generator=generator)
    rows = torch.arange(batch)

    def pieces() -> Iterator[Tensor]:
        for start in range(0, length, piece):
            tokens = torch.randint(SIGN, (batch, min(piece, length - start)), generator=generator)
            for shift, values in ((0, torch.full_like(answers, SIGN)), (1, answers)):
                here = places + shift - start
                inside = (here >= 0) & (here < tokens.shape[1])
                tokens[rows[inside], here[inside]] = values[inside]
            if start + piece >= length:
                tokens[:, -1] = SIGN
            yield tokens

    return answers, pieces()
