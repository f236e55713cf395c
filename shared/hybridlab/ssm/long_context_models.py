"""Models of week 12 that are trained beforehand, so that a notebook need not train all of them; and the command that trains them:

    python -m hybridlab.ssm.long_context_models                      all of them, 20 CPU minutes
    python -m hybridlab.ssm.long_context_models "needle softplus"    one

It writes `long_context.safetensors` beside this file. What the models can do is measured in the notebooks; no result is stored.
"""

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from hybridlab.runtime import set_threads
from hybridlab.ssm.induction_heads import induction_mamba, induction_transformer, train_induction
from hybridlab.ssm.needle import needle_model
from hybridlab.ssm.reader_training import train_reader, training_pool

PACKAGED = Path(__file__).with_name("long_context.safetensors")
SEED = 0
TIED = ("lm_head.weight",)  # the same numbers as the embedding's
# name: the untrained model, and its training
MODELS: dict[str, tuple[Callable[..., nn.Module], Callable[[nn.Module], Iterator]]] = {
    "induction relu": (partial(induction_mamba, "relu"), partial(train_induction, steps=400, seed=SEED)),
    "induction softplus": (partial(induction_mamba, "softplus"), partial(train_induction, steps=400, seed=SEED)),
    "induction rotary": (partial(induction_transformer, "rotary"), partial(train_induction, steps=300, seed=SEED, lr=2e-3)),
    "induction sinusoidal": (partial(induction_transformer, "sinusoidal"), partial(train_induction, steps=6000, seed=SEED, lr=2e-3)),
    # as the long reader's model (`LongReader.load().model`), which has relu steps and their price
    "needle softplus": (partial(needle_model, "softplus"), lambda model: train_reader(model, training_pool(seed=SEED), 400, seed=SEED)),
}


def trained(name: str) -> nn.Module:
    """A model of `MODELS` with its trained weights.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in MODELS:
        raise ValueError(f"there is no model {name!r}: choose one of {', '.join(MODELS)}")
    model = MODELS[name][0](seed=SEED)
    weights = {key.removeprefix(f"{name}/"): part for key, part in load_file(PACKAGED).items() if key.startswith(f"{name}/")}
    tied = {key: model.state_dict()[key] for key in TIED}
    model.load_state_dict(weights | tied)
    return model.eval()


def main(names: list[str]) -> None:
    """Train the named models, or all, put them in the place of those in the file, and say how it went."""
    set_threads(1)  # the same sums in the same order, on any machine
    for name in names or list(MODELS):
        build, train = MODELS[name]
        model, began = build(seed=SEED), time.process_time()
        shares = [step[-1] for step in train(model)]
        print(f"{name}: right in the last 20 steps {sum(shares[-20:]) / 20:.3f}; {time.process_time() - began:.0f} CPU-s", flush=True)
        kept = load_file(PACKAGED) if PACKAGED.exists() else {}
        others = {key: part for key, part in kept.items() if key.partition("/")[0] in MODELS and not key.startswith(f"{name}/")}
        save_file(others | {f"{name}/{key}": part.contiguous() for key, part in model.state_dict().items() if key not in TIED}, PACKAGED)


if __name__ == "__main__":
    main(sys.argv[1:])
