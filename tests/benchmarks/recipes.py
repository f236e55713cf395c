"""Whole runs on the eight plays: nanoGPT's recipe for a CPU, the same with a third of its operations, and ours.

The project notebook draws its own run beside these curves. Losses are those of `text_loss`, on all of the unseen text.
"""

import dataclasses
import time

from hybridlab.data.shakespeare import load_shakespeare
from hybridlab.runtime import seed_everything
from hybridlab.transformer.evaluation import text_loss
from hybridlab.transformer.recipe import BUDGET_FLOPS, Recipe, mini_gpt, nanogpt
from hybridlab.transformer.training import train

from tests.benchmarks.record import say, write


def third(recipe: Recipe) -> Recipe:
    """The same recipe with as many updates as a third of the operations pays for; warm-up and decay shrink with it."""
    steps = BUDGET_FLOPS * recipe.training.steps // recipe.flops
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, steps=steps, warmup=steps // 20, eval_every=100))


def whole_run(recipe: Recipe) -> dict:
    text = load_shakespeare()
    seed_everything(0)
    model, optimizer = recipe.build()
    begin = time.process_time()
    run = train(model, text.train, text.validation, optimizer, recipe.training)
    seconds = time.process_time() - begin
    return {
        "loss": round(text_loss(model, text.validation, time=recipe.training.time), 4),
        "train_loss": round(text_loss(model, text.train[: len(text.validation)], time=recipe.training.time), 4),
        "cpu_seconds": round(seconds, 1),
        "steps": run.step,
        "flops": recipe.flops,
        "parameters": sum(p.numel() for p in model.parameters()),
        "curve": [[step, round(loss, 4)] for step, loss in run.validation],
    }


def main() -> None:
    vocab_size = len(load_shakespeare().vocabulary)
    recipes = {"mini_gpt": mini_gpt(vocab_size), "nanogpt_third": third(nanogpt(vocab_size)), "nanogpt": nanogpt(vocab_size)}
    runs = {}
    for name, recipe in recipes.items():
        runs[name] = whole_run(recipe)
        say(f"{name}: {runs[name]['loss']} nats per character, {runs[name]['cpu_seconds']} s of CPU time")
    write(
        "recipes",
        unit="nats per character on the unseen tenth",
        samples={name: [run["loss"]] for name, run in runs.items()},
        recipes=runs,
    )
