"""How the long reader's model is trained: pairs planted in texts of several kinds, so that it learns to let any text pass but them.

A model that is trained in one kind of text leaks in another: its steps open a little where nothing was planted, and over 100,000 tokens
the state fills up. Three things against that:
- filler of three kinds that have little in common: English plays, Python's sources, and noise of all bytes and values alike;
- in all of them values without a key, and keys without a value: neither may be kept;
- a price on steps that are open, *or nearly*: what lies within a margin of opening pays as well (`nearly_open`).

DEVIATIONS from the Mamba papers: relu steps, this price, a mimetic start (2410.11135).
"""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.data.shakespeare import fetch
from hybridlab.ssm.decay_penalty import MARGIN, DecayWatch, watch_decay
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.needle import ask, haystack
from hybridlab.ssm.planted import ABSENT, FIRST_KEY, FIRST_VALUE, encode

PRICE = 0.05
STRAY = 0.05  # share of the filler's tokens that are values without a key
LONE = 0.004  # share that are keys without a value
PAIRS, LONGEST = 16, 1024  # the most pairs and tokens of a training text
QUESTIONS = 512  # the most questions of a step: each takes a copy of its text's state
NO_PACKAGES = {"site-packages", "test", "tests", "idlelib", "lib2to3"}


def plays() -> tuple[Int[Tensor, " train"], Int[Tensor, " unseen"]]:
    """Eight of Shakespeare's plays: the last three to train on, the first five never seen in training."""
    texts = [encode(text + "\n\n\n") for text in fetch().read_text("utf-8").split("\f")]
    return torch.cat(texts[5:]), torch.cat(texts[:5])


def python_text(size: int, *, packages: bool = True) -> str:
    """The first `size` characters of the sources of Python's standard library, as they are on this machine, in the order of their names.

    The packages (asyncio, collections, …), or the modules that belong to none. Raises ValueError where there are not so many.
    """
    library = Path(sysconfig.get_path("stdlib"))
    pattern = "[a-z]*/*.py" if packages else "[a-z]*.py"
    parts, left = [], size
    for path in sorted(library.glob(pattern)):
        if left > 0 and path.parent.name not in NO_PACKAGES:
            parts.append(path.read_text("utf-8", errors="replace")[:left])
            left -= len(parts[-1])
    if left > 0:
        raise ValueError(f"{library} has only {size - left:,} of {size:,} characters")
    return "".join(parts)


def noise(size: int, *, seed: int) -> Int[Tensor, " size"]:
    """Bytes and values, all alike often."""
    drawn = torch.randint(256 + ABSENT - FIRST_VALUE, (size,), generator=torch.Generator().manual_seed(seed))
    return torch.where(drawn < 256, drawn, drawn - 256 + FIRST_VALUE)


def training_pool(*, seed: int) -> Int[Tensor, " pool"]:
    """The three kinds of filler of the training, about as much of each."""
    kinds = [plays()[0], encode(python_text(500_000, packages=False)), noise(500_000, seed=seed)]
    return filler(kinds, seed=seed)


def filler(kinds: list[Int[Tensor, " tokens"]], *, seed: int) -> Int[Tensor, " pool"]:
    """Kinds of text one behind the other, with values and keys strewn in: no value stands behind a key."""
    pool = torch.cat(kinds).clone()
    generator = torch.Generator().manual_seed(seed)
    lot = torch.rand(len(pool), generator=generator)
    values = torch.randint(FIRST_VALUE, ABSENT, pool.shape, generator=generator)
    keys = torch.randint(FIRST_KEY, FIRST_VALUE, pool.shape, generator=generator)
    pool = torch.where(lot < STRAY, values, torch.where(lot > 1 - LONE, keys, pool))
    behind_a_key = F.pad((pool >= FIRST_KEY) & (pool < FIRST_VALUE), (1, 0))[:-1]
    return torch.where(behind_a_key & (pool >= FIRST_KEY), ord(" "), pool)


def nearly_open(watch: DecayWatch) -> list[Float[Tensor, ""]]:
    """Of a forward pass, layer by layer: the mean of relu(z + MARGIN) · (1 + |A|).

    z is what relu makes the step of: at -MARGIN and below it costs nothing, and the step is 0, also where z is a little higher elsewhere.
    """
    return [(F.relu(z + MARGIN) * (1 + torch.exp(mixer.A_log))).mean() for mixer, z in watch.z.items()]


def train_reader(
    model: Mamba, pool: Int[Tensor, " pool"], steps: int, *, seed: int, lr: float = 5e-3, tokens: int = 4096
) -> Iterator[tuple[int, int, float]]:
    """Train in place; yields (length, pairs, share of right answers) of each step. A step reads `tokens` tokens at most, but four texts.

    Texts begin with 32 tokens and 2 pairs. Whenever nine of ten answers are right, the pairs double, up to PAIRS, and then the length,
    up to LONGEST. Softplus, the papers' step, is trained without the price, for comparison: it can't close.
    """
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    length, pairs, right = 32, 2, 0.0
    for _ in range(steps):
        texts = max(4, min(tokens // length, QUESTIONS // (2 * pairs)))
        hay = haystack(texts, length, pairs, pool, generator=generator)
        with watch_decay(model) as watch:
            _, state = model.read(hay.tokens)
            price = PRICE * torch.stack(nearly_open(watch)).sum() if model.config.step == "relu" else 0.0
        logits = ask(model, state, hay.questions)
        loss = F.cross_entropy(logits.flatten(0, 1), hay.answers.flatten() - FIRST_VALUE)
        optimizer.zero_grad()
        (loss + price).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        share = (logits.argmax(-1) + FIRST_VALUE == hay.answers).float().mean().item()
        yield length, pairs, share
        right = 0.8 * right + 0.2 * share
        if right > 0.9 and (pairs < PAIRS or length < LONGEST):
            pairs, length, right = (2 * pairs, length, 0.0) if pairs < PAIRS else (pairs, 2 * length, 0.0)
