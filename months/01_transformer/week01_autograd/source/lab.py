# %% [markdown] id="title"
# # Week 1 lab: build your own autograd, losses and optimizers
#
# **At the end you will have built** a small engine that computes the gradient of anything made of `+`, `*`, `@`, `tanh`, sums and
# indexing; a loss that survives logits of ±10,000; and the two update rules, SGD and AdamW, that train almost every model today.
#
# **Where it is used.** `cross_entropy` and `AdamW` train every model of this course, the mini-GPT of week 4 first. `log_softmax` scores
# tokens in all six months. The engine itself is for understanding: PyTorch's does the same, in C++.
#
# **Time:** about 4 hours: Tuesday (Value, broadcasting, Array), Wednesday (log-softmax, SGD, AdamW), Friday (one bug).
#
# **You need:** the lesson of this week.

# %% [markdown] id="how-to"
# ## How to work here
#
# For each exercise: read the contract, run the worked example, write your code in the cell, run the cell, then run the check under it. A
# check that fails says which mistake it saw. You can try as often as you like.
#
# Stuck? In a terminal: `course hint week01 value` (three levels, free).

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.transformer.autograd import ArrayBase, Operators, topological_order

# %% id="tools"
import matplotlib.pyplot as plt
from coursekit.notebook import compare, seed_everything

SEED = seed_everything(0)

# %% [markdown] id="value-why"
# ## Tuesday 1 · `Value`: one number that remembers
#
# **Why.** The whole engine is one idea: each result keeps its parents, and one number per parent: the *slope*, d(result)/d(parent). A pass
# backward multiplies slopes along the way and adds over all ways.
#
# **Contract**
# * `+`, `*`, `** number`, `tanh`: return a new `Value(result, parents, slopes)`. `parents` and `slopes` are tuples of the same length;
#   slopes are plain numbers, not `Value`s.
# * A plain number on the right is wrapped first: `other = Value.lift(other)`. (Numbers on the left, minus and division come from
#   `Operators`; nothing to write.)
# * `a.backward()` *adds* d(a)/d(node) to `node.grad` for every node, `a` itself included (there it is 1).
# * A node used several times gets the sum over its uses. A second `backward()` adds the same gradients once more.
# * A graph may be thousands of nodes deep, and a node may have millions of paths to the output: visit each node once.
#
# `topological_order(root)` is given: it lists every node after all of its parents, `root` last.

# %% id="value-example"
a, b = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (2.0, -0.5))
out = (a * b + b).tanh() + a**2
out.backward()
print(f"What PyTorch says: out = {out.item():.4f}, d(out)/da = {a.grad.item():.4f}, d(out)/db = {b.grad.item():.4f}")

# %% id="value" exercise="hybridlab.transformer.autograd.Value" points=4 minutes=45 difficulty=3

# %% id="value-try"
a, b = Value(2.0), Value(-0.5)
out = (a * b + b).tanh() + a**2
out.backward()
print(f"What you say:      out = {out.data:.4f}, d(out)/da = {a.grad:.4f}, d(out)/db = {b.grad:.4f}")

# %% [markdown] id="unbroadcast-why"
# ## Tuesday 2 · `unbroadcast`: the way back from broadcasting
#
# **Why.** `x + bias` with shapes (4, 3) and (3,) uses each number of the bias four times. A number that is used four times gets the sum
# of four gradients. So where the way forward *repeats*, the way back *sums*.
#
# **Contract**
# * `gradient`: a numpy array. `shape`: the shape that the array had before it was stretched.
# * Returns a new array of exactly that shape. `gradient` is not changed.
# * Axes line up from the right. New axes in front: summed away. Axes of size 1: summed, and kept as size 1.
# * `ValueError` if an array of that shape does not broadcast to `gradient.shape`.

# %% id="unbroadcast-example"
gradient = np.arange(12.0).reshape(4, 3)
print("the gradient, shape (4, 3):\n", gradient)
print("brought back to (3,):", gradient.sum(0))
print("brought back to (4, 1):", gradient.sum(1, keepdims=True).tolist())
print("brought back to ():", gradient.sum())

# %% id="unbroadcast" exercise="hybridlab.transformer.autograd.unbroadcast" points=2 minutes=20 difficulty=2

# %% [markdown] id="array-why"
# ## Tuesday 3 · `Array`: the same engine for arrays
#
# **Why.** One graph node per number is slow. One node per *array* is how PyTorch works. A slope was a number; now each parent has a
# *pull*: a function from the result's gradient to the parent's gradient.
#
# **Contract**
# * `*`: element by element, with broadcasting. `other` may be an `Array`, a numpy array, or a number (`Array.lift`).
# * `@`: over the last two axes; the axes before them broadcast. `ValueError` if one side has fewer than two axes.
# * `sum(axis=None, keepdims=False)`: one axis, a tuple of axes, or all.
# * `a[index]`: whatever numpy takes. A row that is taken twice gets both gradients.
# * A pull returns an array with its parent's shape. The parents are the `Array`s that went in.
#
# `__add__` and `exp` are given: read them first. `backward` comes with `ArrayBase`: it is yours from `Value`, with `pull(gradient)` in the
# place of `slope * gradient`.

# %% id="array-example"
x, w = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), torch.tensor([[1.0], [-1.0]])
x.requires_grad_(), w.requires_grad_()
(x @ w)[[0, 0, 2]].sum().backward()
print("What PyTorch says: row 0 was taken twice, row 1 never.")
print("x.grad:", x.grad.tolist(), "\nw.grad:", w.grad.tolist())

# %% id="array" exercise="hybridlab.transformer.autograd.Array" points=4 minutes=45 difficulty=4

# %% id="array-try"
x, w = Array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), Array([[1.0], [-1.0]])
(x @ w)[[0, 0, 2]].sum().backward()
print("What you say:")
print("x.grad:", x.grad.tolist(), "\nw.grad:", w.grad.tolist())

# %% [markdown] id="log-softmax-why"
# ## Wednesday 1 · `log_softmax`: no number too large
#
# From here on we use PyTorch's tensors and its autograd: you know now what it does.
#
# **Why.** `exp(89)` is infinite in float32. Untrained and broken models produce such logits, and the loss becomes `nan`, which then
# spreads into every weight.
#
# **Contract**
# * Any shape; `dim` names the axis whose probabilities add up to 1. Same shape and dtype out.
# * Finite for all finite logits: try ±10,000, rows far apart, and differences of 1,000 within a row.
# * A logit of `-inf` gives `-inf`, as long as another one in its row is finite.
# * The gradient equals PyTorch's. The argument is not changed.
# * Not allowed: PyTorch's own `log_softmax`, `softmax`, `logsumexp`, `cross_entropy`.

# %% id="log-softmax-example"
for row in [[1.0, 2.0, 3.0], [10_000.0, 10_001.0, 9_998.0], [0.0, 1_000.0]]:
    print(row, "→", [round(v, 4) for v in torch.log_softmax(torch.tensor(row), -1).tolist()])

# %% id="log-softmax" exercise="hybridlab.transformer.losses.log_softmax" points=2 minutes=20 difficulty=2

# %% [markdown] id="sgd-why"
# ## Wednesday 2 · `sgd_step`: downhill with momentum
#
# **Why.** It is the simplest update that works, and the yardstick for all others. Momentum averages out what changes its sign from step to
# step, and speeds up what does not.
#
# **Contract**
# * The three lines of the docstring, in that order, *in place*: `param` and `momentum_buffer` change, `grad` does not.
# * Returns nothing. No autograd here: plain tensors.
# * Equal to `torch.optim.SGD` over 50 steps (the task: to 1e-6; the check works in float64 and asks for 1e-9).

# %% id="sgd-example"
param = torch.tensor([1.0, -1.0], requires_grad=True)
optimizer = torch.optim.SGD([param], lr=0.1, momentum=0.9, weight_decay=0.5)
for step in range(1, 4):
    param.grad = torch.tensor([1.0, 1.0])
    optimizer.step()
    print(f"step {step}: param = {[round(v, 4) for v in param.tolist()]}")

# %% id="sgd" exercise="hybridlab.transformer.optim.sgd_step" points=1 minutes=15 difficulty=1

# %% id="sgd-try"
param, buffer = torch.tensor([1.0, -1.0]), torch.zeros(2)
for step in range(1, 4):
    sgd_step(param, torch.tensor([1.0, 1.0]), buffer, lr=0.1, momentum=0.9, weight_decay=0.5)
    print(f"step {step}: param = {[round(v, 4) for v in param.tolist()]}")

# %% [markdown] id="adamw-why"
# ## Wednesday 3 · `adamw_step`: the rule that trains language models
#
# **Why.** Adam divides each gradient by its own typical size, so every weight moves at about the same speed. AdamW takes the decay out of
# that division: Thursday's paper.
#
# **Contract**
# * The six lines of the docstring, in place: `param`, `exp_avg`, `exp_avg_sq` change, `grad` does not. Returns nothing.
# * `step` is 1 at the first call. `ValueError` if it is less than 1, before anything changes.
# * The corrected averages `m` and `v` are new tensors: `exp_avg` and `exp_avg_sq` stay uncorrected.
# * Equal to `torch.optim.AdamW` over 50 steps, also where gradients are as small as `eps`.

# %% id="adamw-example"
param = torch.tensor([1.0, 1.0], requires_grad=True)
optimizer = torch.optim.AdamW([param], lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)
for step in range(1, 4):
    param.grad = torch.tensor([100.0, 0.001])
    optimizer.step()
    print(f"step {step}: param = {[round(v, 4) for v in param.tolist()]}")
print("The two gradients differ by a factor of 100,000, the two steps do not.")

# %% id="adamw" exercise="hybridlab.transformer.optim.adamw_step" points=2 minutes=30 difficulty=2

# %% id="adamw-try"
param, averages = torch.tensor([1.0, 1.0]), (torch.zeros(2), torch.zeros(2))
for step in range(1, 4):
    adamw_step(param, torch.tensor([100.0, 0.001]), *averages, step, lr=0.1, betas=(0.9, 0.99), weight_decay=0.5)
    print(f"step {step}: param = {[round(v, 4) for v in param.tolist()]}")

# %% [markdown] id="friday"
# ## Friday · the loss that gets better by itself
#
# A colleague trains on sentences of different length. Short ones are filled up with padding, whose target is -100. They report:
#
# > *We moved from padding to 8 tokens to padding to 64, and our first loss is now eight times lower! But the model learns more slowly.*
#
# The cell below holds their `cross_entropy`. It runs, and it raises no error. **Run it, jump over its check, and look at the symptom
# below first.** Then find the bug, mend it, run the symptom again, then the check.
#
# **Contract.** The mean of −log p(target), in nats, over the positions whose target is not `ignore_index`. An ignored position changes
# nothing, whatever its logits hold (`nan` too). If all positions are ignored: 0, with a gradient of zeros. Any number of leading axes.
# `ValueError` if `targets.shape != logits.shape[:-1]`, or if a target that counts is outside 0 … vocab − 1 (the message names it).

# %% id="friday-tools"
def padded_sentences(length, sentences=32, real=8, vocab=6):
    """Sentences of `real` tokens, each token the one before plus 1 (mod vocab), filled up to `length` with padding."""
    start = torch.arange(sentences).unsqueeze(1)
    tokens = (start + torch.arange(real + 1)) % vocab
    inputs, targets = torch.zeros(sentences, length, dtype=torch.long), torch.full((sentences, length), -100)
    inputs[:, :real], targets[:, :real] = tokens[:, :-1], tokens[:, 1:]
    return inputs, targets


def train_on(length, loss_function, steps=40, lr=2.0, vocab=6):
    """Train next-token logits, one row for each token; return the reported losses and how sure the model is on real tokens."""
    inputs, targets = padded_sentences(length)
    table, reported, sure = torch.zeros(vocab, vocab, requires_grad=True), [], []
    for _ in range(steps):
        loss = loss_function(table[inputs], targets)
        (gradient,) = torch.autograd.grad(loss, table)
        table.data -= lr * gradient
        reported.append(loss.item())
        right = table.detach().softmax(-1)[inputs, targets.clamp(min=0)]
        sure.append(right[targets >= 0].mean().item())
    return reported, sure

# %% id="cross-entropy" exercise="hybridlab.transformer.losses.cross_entropy" points=3 minutes=30 difficulty=2

# %% id="friday-symptom"
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
for length, width in [(8, 7), (16, 5), (32, 3), (64, 1.2)]:
    reported, sure = train_on(length, cross_entropy)
    left.plot(reported, lw=width, label=f"padded to {length}")
    right.plot(sure, lw=width, label=f"padded to {length}")
    print(f"padded to {length:2d} tokens: reported loss {reported[0]:.3f} nats at first, {reported[-1]:.3f} at the end; "
          f"probability of the right token {sure[-1]:.3f}")
left.set(xlabel="step", ylabel="nats", title="the loss that is reported")
right.set(xlabel="step", ylabel="probability", title="how sure the model is of the right token")
left.legend()
plt.show()

# %% [markdown] id="challenge"
# ## Challenge (not graded) · AdamW for a whole model at once
#
# A model has many small parameters: norms, biases, one vector here and there. One update each means hundreds of tiny operations, and
# Python's time for each is longer than the arithmetic. **Make `fast_update` at least 3 times as fast as the loop**, with the same numbers.
#
# One way: keep *one long vector* for all parameters, one for each average, and cut it into pieces only at the end. Replace the body of
# `fast_update`; the cell after it compares the numbers and prints the ratio.

# %% id="challenge-code"
SETTINGS = {"lr": 1e-3, "betas": (0.9, 0.99), "weight_decay": 0.1}


def loop_update(params, **settings):
    """The reference: one adamw_step a parameter. Returns a function that does one update of all, in place."""
    averages = [(torch.zeros_like(p), torch.zeros_like(p)) for p in params]

    def update(grads, step):
        for param, grad, (exp_avg, exp_avg_sq) in zip(params, grads, averages):
            adamw_step(param, grad, exp_avg, exp_avg_sq, step, **settings)

    return update


def fast_update(params, **settings):
    """Yours: the same, but faster."""
    return loop_update(params, **settings)

# %% id="challenge-ratio"
start, grads = [torch.randn(256) for _ in range(200)], [torch.randn(256) for _ in range(200)]
mine, loop = [p.clone() for p in start], [p.clone() for p in start]
update_mine, update_loop = fast_update(mine, **SETTINGS), loop_update(loop, **SETTINGS)
for step in range(1, 4):
    update_mine(grads, step), update_loop(grads, step)
worst = max((a - b).abs().max().item() for a, b in zip(mine, loop))
print(f"200 parameters of 256 numbers; after 3 steps the two differ by at most {worst:.1e}")
ratio = compare(lambda: update_mine(grads, 4), lambda: update_loop(grads, 4))

# %% [markdown] id="promote"
# ## Grade it, promote it, see it run
#
# In a terminal (JupyterLab: File → New → Terminal):
#
# ```
# course grade week01       points, and the name of each mistake
# course promote week01     what passed becomes part of the library
# course library            which part of the library is yours
# ```
#
# The last cells train a small transformer (you will build it in weeks 2 to 4) with the library's `AdamW` and `cross_entropy`. After
# promoting and restarting the kernel, both run on your code.

# %% id="promoted-run"
from hybridlab.exercise import REGISTRY
from hybridlab.transformer import losses, optim
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer

for symbol in ["hybridlab.transformer.losses.cross_entropy", "hybridlab.transformer.optim.adamw_step"]:
    print(f"{symbol.rpartition('.')[2]:14s} is the {REGISTRY[symbol].origin}'s")

torch.manual_seed(0)
model = MiniTransformer(TransformerConfig(vocab_size=6, d_model=32, n_layers=2, n_heads=2, max_time=64))
optimizer = optim.AdamW(model.parameters(), lr=3e-3)
inputs, targets = padded_sentences(length=16)
curve = []
for _ in range(60):
    loss = losses.cross_entropy(model(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    curve.append(loss.item())

# %% id="promoted-curve"
plt.figure(figsize=(6, 3), layout="constrained")
plt.plot(curve)
plt.axhline(math.log(6), color="0.6", ls="--")
plt.text(1, math.log(6) + 0.03, f"guessing: log 6 = {math.log(6):.2f} nats", color="0.4", va="bottom")
plt.xlabel("step")
plt.ylabel("loss, nats per token")
plt.title("a two-layer transformer learns to count")
plt.show()
print(f"loss: {curve[0]:.2f} → {curve[-1]:.4f} nats per token")

# %% [markdown] id="next"
# ## What to read, and what comes next
#
# * Back to the lesson: Thursday's paper (AdamW) and Sunday's review.
# * `shared/hybridlab/transformer/optim.py`: how `AdamW`, the class, calls your `adamw_step`.
# * Next week: **attention**, where a token looks at the others, and the softmax that you just made safe decides how much.
