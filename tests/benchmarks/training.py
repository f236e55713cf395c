"""Tokens a second in training: nanoGPT's recipe out of PyTorch's own parts, the same out of ours, and our own recipe."""

import torch
from hybridlab.data.shakespeare import load_shakespeare
from hybridlab.transformer.batching import random_batch
from hybridlab.transformer.recipe import Recipe, mini_gpt, nanogpt
from hybridlab.transformer.training import train_step
from torch import nn
from torch.nn import functional as F

from tests.benchmarks.nanogpt_torch import TorchGPT
from tests.benchmarks.record import ratio, turn_about, write

STEPS = 5  # in each sample


def ours(recipe: Recipe, tokens: torch.Tensor):
    model, optimizer = recipe.build()
    plan, generator = recipe.training, torch.Generator().manual_seed(0)

    def some_steps() -> None:
        for _ in range(STEPS):
            batch = random_batch(tokens, plan.batch_size, plan.time, generator)
            train_step(model, [batch], optimizer, max_grad_norm=plan.max_grad_norm)

    return some_steps


def pytorchs(recipe: Recipe, tokens: torch.Tensor):
    shape, plan, generator = recipe.model, recipe.training, torch.Generator().manual_seed(0)
    model = TorchGPT(shape.vocab_size, shape.d_model, shape.n_layers, shape.n_heads, shape.max_time)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)

    def some_steps() -> None:
        for _ in range(STEPS):
            x, y = random_batch(tokens, plan.batch_size, plan.time, generator)
            optimizer.zero_grad()
            F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
            nn.utils.clip_grad_norm_(model.parameters(), plan.max_grad_norm)
            optimizer.step()

    return some_steps


def main() -> None:
    text = load_shakespeare()
    old, new = nanogpt(len(text.vocabulary)), mini_gpt(len(text.vocabulary))
    base = "nanoGPT's recipe, PyTorch's own parts"
    calls = {
        base: pytorchs(old, text.train),
        "nanoGPT's recipe, our parts": ours(old, text.train),
        "`mini_gpt`'s recipe, our parts": ours(new, text.train),
    }
    taken = turn_about(calls, repeat=9)
    plans = dict(zip(calls, (old.training, old.training, new.training), strict=True))
    per_sample = {name: STEPS * plan.batch_size * plan.time for name, plan in plans.items()}
    speed = {name: [1e3 * per_sample[name] / ms for ms in values] for name, values in taken.items()}
    ratios = {name: per_sample[name] / per_sample[base] / ratio(taken, name, base) for name in calls if name != base}
    note = "A ratio is the speed over that of PyTorch's own parts: 1.00 is as fast, 0.50 half as fast."
    write("training", unit="tokens per second of CPU time", samples=speed, ratios=ratios, note=note)
