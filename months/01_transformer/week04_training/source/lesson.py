# %% [markdown] id="title"
# # Week 4 lesson · Training, and writing
#
# **The question of the week: a Transformer with random weights writes noise. What must happen around it until it writes, and how do you
# see early that something goes wrong?**
#
# **Afterwards you can**
# - predict the loss of the first step, the work of a step and the memory of a run, and check all three;
# - train with warm-up, cosine, clipping and accumulation, and say what each of them is for;
# - stop a run at any step and go on bit for bit;
# - sample with temperature, top-k and top-p, and write faster with a KV cache;
# - judge a claim such as "this optimizer needs half the steps".
#
# **Time:** about 90 minutes of reading and trying (Monday, Thursday, Sunday). The notebook itself runs in less than a minute.
# **You need:** weeks 1 to 3: cross-entropy and AdamW, attention, the `MiniTransformer`.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import math
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch

from coursekit.notebook import review, seed_everything
from hybridlab.data.shakespeare import load_shakespeare
from hybridlab.runtime import set_threads
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.training import TrainConfig, train, train_step

answer = review("week04")
seed_everything(4)
set_threads(1)  # models as small as ours run faster on one core than on two
longer = {"cpu": 1, "gpu": 5}[profile]  # a fast machine may train longer
corpus = load_shakespeare()
vocabulary, VOCAB = corpus.vocabulary, len(corpus.vocabulary)
print(f"eight plays: {len(corpus.train):,} characters to train on, {len(corpus.validation):,} to validate, {VOCAB} different ones")

# %% [markdown] id="monday"
# ## Monday · One step, by hand
#
# Let the vocabulary have three tokens, and let the model know nothing: all logits are 0. The right next token is number 2.
#
# - Each token has the probability 1/3. The loss is −ln(1/3) = ln 3.
# - The gradient of the loss with respect to the logits is *probabilities minus the one-hot target* (week 1): (1/3, 1/3, −2/3).
# - One step of plain gradient descent with learning rate 1 moves the logits to (−1/3, −1/3, 2/3). The right token is now likelier.
#
# The same in code:

# %% id="by-hand"
logits, target = torch.zeros(3, requires_grad=True), 2
loss = -logits.log_softmax(0)[target]
loss.backward()
with torch.no_grad():
    moved = logits - 1.0 * logits.grad
print(f"loss before     {loss.item():.4f} nats   (ln 3 = {math.log(3):.4f})")
print(f"gradient        {[round(g, 4) for g in logits.grad.tolist()]}")
print(f"probability of the target: {1 / 3:.4f} -> {moved.softmax(0)[target].item():.4f}")
print(f"loss after      {-moved.log_softmax(0)[target].item():.4f} nats")

# %% [markdown] id="symbols"
# **In symbols.** A step over a batch with N counted tokens is
#
# $$g=\frac1N\sum_{i=1}^{N}\nabla_\theta\bigl[-\log p_\theta(x_{i+1}\mid x_{\le i})\bigr],\qquad
# \theta\leftarrow\theta-\eta_t\cdot\mathrm{update}\bigl(\min(1,\tfrac{c}{\lVert g\rVert})\,g\bigr)$$
#
# | symbol | code | chosen by |
# | --- | --- | --- |
# | N | the tokens of all micro-batches of a step | memory and patience |
# | c | `max_grad_norm`, the limit of the clipping | 1.0, nearly everywhere |
# | η_t | `warmup_cosine(step, …)` | the peak by a scan |
# | update | AdamW (week 1), or Muon (Thursday) | this week's paper |
#
# **The first check of any training.** A model that knows nothing gives every token about the same probability. So the loss of step 0 must
# be close to ln(vocabulary). If it is far above, the initialisation is wrong. If it is far below, the targets leak into the inputs.

# %% id="first-loss"
def new_model(seed: int = 0) -> MiniTransformer:
    """Two layers of width 64, Llama's shape: small enough to train in seconds."""
    torch.manual_seed(seed)
    return MiniTransformer(TransformerConfig.llama(VOCAB, d_model=64, n_layers=2, n_heads=4, max_time=64))


def adamw(model, lr: float = 3e-3):
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1)


window = corpus.validation[:65][None]
first = torch.nn.functional.cross_entropy(new_model()(window[:, :-1])[0], window[0, 1:])
print(f"predicted ln({VOCAB}) = {math.log(VOCAB):.3f} nats per character, measured {first.item():.3f}")

# %% [markdown] id="real-size"
# ## At real size: training on Shakespeare
#
# `train` is the library's loop. It draws random batches, sets the learning rate, makes the update, and evaluates on *the same*
# validation batches every time. You write its parts in the lab. You may press the stop button while it runs: it finishes the
# step and returns what it has.

# %% id="train"
model = new_model()
settings = TrainConfig(steps=300 * longer, batch_size=8, warmup=30, eval_every=50 * longer, eval_batches=8)
result = train(model, corpus.train, corpus.validation, adamw(model), settings)
print(f"{result.step} steps in {result.seconds:.1f} s, validation {result.validation[-1][1]:.3f} nats per character")

# %% [markdown] id="yardsticks"
# A loss alone says little. Two yardsticks tell what the model has learned. The first guesses from the frequency of the characters
# alone (unigrams). The second knows the frequency of each character after each other (bigrams). Both are tables of counts, without
# any network.

# %% id="yardstick-losses"
pairs = torch.zeros(VOCAB, VOCAB) + 0.1
pairs.index_put_((corpus.train[:-1], corpus.train[1:]), torch.ones(len(corpus.train) - 1), accumulate=True)
unigrams, bigrams = pairs.sum(0) / pairs.sum(), pairs / pairs.sum(1, keepdim=True)
before, after = corpus.validation[:-1], corpus.validation[1:]
unigram_loss, bigram_loss = -unigrams[after].log().mean().item(), -bigrams[before, after].log().mean().item()
print(f"unigrams {unigram_loss:.3f}, bigrams {bigram_loss:.3f} nats per character")

# %% id="curve"
from hybridlab.transformer.schedule import warmup_cosine

layout = {"sharex": True, "height_ratios": (3, 1, 1.2), "layout": "constrained"}
figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(8, 6.5), **layout)
top.plot(range(1, result.step + 1), result.losses, alpha=0.5, label="training batch")
top.plot(*zip(*result.validation), marker="o", color="black", label="validation")
for value, name in ((math.log(VOCAB), "all alike"), (unigram_loss, "unigrams"), (bigram_loss, "bigrams")):
    top.axhline(value, linestyle=":", color="gray")
    top.text(result.step, value + 0.03, name, ha="right", color="gray")
top.set_ylim(top=4.7)
top.set(ylabel="loss, nats per character", title="from noise to more than bigrams")
top.legend(loc="upper center")
rates = [warmup_cosine(s, warmup=30, total=result.step, peak=3e-3, floor=3e-4) for s in range(1, result.step + 1)]
middle.plot(range(1, result.step + 1), rates)
middle.set(ylabel="learning rate")
bottom.plot(range(1, result.step + 1), result.grad_norms)
bottom.axhline(1.0, linestyle=":", color="gray")
bottom.set(ylabel="gradient norm", xlabel="step")
plt.show()

# %% [markdown] id="read-curve"
# Read the figure from top to bottom.
#
# - The loss begins at ln(vocabulary). Near the unigram line it slows down: first the model learns *which characters are frequent*.
# - Below the bigram line it must use more than one character of the past. Only attention can give it that.
# - Training and validation lie together: after so few steps the model has seen almost no character twice.
# - Lowest part: what is above the dotted line is clipped.

# %% [markdown] id="resume-text"
# ## Stop, and go on
#
# Long runs get interrupted. A checkpoint must hold everything the next step depends on: the weights, **the optimizer's moments**, the
# number of the step, and **the random states** (of the batches, and of dropout). Let us see what happens if one of them is left out.
#
# One run of 80 steps, without a break. At step 50 a checkpoint is written. Three other runs go on from there.

# %% id="resume-run"
from hybridlab.transformer.batching import random_batch
from hybridlab.transformer.checkpoint import load_checkpoint, save_checkpoint


def some_steps(model, optimizer, generator, n: int) -> list[float]:
    batches = lambda: [random_batch(corpus.train, 12, 64, generator)]
    return [train_step(model, batches(), optimizer, max_grad_norm=1.0)[0] for _ in range(n)]


folder = TemporaryDirectory()
path = Path(folder.name) / "step50.pt"
run = {"model": new_model(1), "generator": torch.Generator().manual_seed(1)}
run["optimizer"] = adamw(run["model"])
until_50 = some_steps(**run, n=50)
save_checkpoint(path, **run, step=50)
unbroken = some_steps(**run, n=30)

# %% id="resume-three"
def go_on(*, optimizer: bool, batches: bool) -> list[float]:
    """Thirty more steps from the checkpoint; what is False is begun anew."""
    new = {"model": new_model(7), "generator": torch.Generator().manual_seed(7)}
    new["optimizer"] = adamw(new["model"])
    load_checkpoint(path, **new)
    if not optimizer:
        new["optimizer"] = adamw(new["model"])
    if not batches:
        new["generator"].manual_seed(1)
    return some_steps(**new, n=30)


whole = go_on(optimizer=True, batches=True)
without_moments = go_on(optimizer=False, batches=True)
batches_again = go_on(optimizer=True, batches=False)
for name, losses in (("everything", whole), ("without the moments", without_moments), ("without the random state", batches_again)):
    gap = max(abs(a - b) for a, b in zip(losses, unbroken))
    print(f"{name:>25}: largest gap to the unbroken run {gap:.3g} nats")

# %% id="resume-figure"
figure, axes = plt.subplots(figsize=(8, 3))
axes.plot(range(20, 51), until_50[19:], color="black")
axes.plot(range(51, 81), unbroken, color="black", linewidth=4, alpha=0.3, label="never interrupted")
axes.plot(range(51, 81), whole, color="tab:green", label="everything restored: the same line")
axes.plot(range(51, 81), without_moments, color="tab:red", label="moments forgotten")
axes.plot(range(51, 81), batches_again, color="tab:orange", linestyle="--", label="random state forgotten: other batches")
axes.axvline(50.5, color="gray", linestyle=":")
axes.set(xlabel="step", ylabel="loss, nats per character", title="going on after step 50")
axes.legend(fontsize=8)
plt.show()

# %% [markdown] id="resume-read"
# With everything restored the gap is zero: not small, zero. This is the only test that means something. "Looks about the same" would
# hide a forgotten part. With the random state forgotten, the run sees batches a second time that it has seen already.
#
# The file is written under another name and then renamed. So a crash in the middle of writing leaves the old checkpoint whole.

# %% [markdown] id="cost-text"
# ## What it costs
#
# **Work.** Each weight of a matrix takes 2 operations per token forward (multiply, add), and 4 backward. Attention adds 4 · time · d_model per
# token and layer forward, and twice that backward. **Predicted first, then counted:**

# %% id="cost-flops"
from torch.utils.flop_counter import FlopCounterMode

shape = model.config
matrix_weights = sum(p.numel() for p in model.parameters() if p.ndim == 2)
attention = shape.n_layers * 4 * 64 * shape.d_model
predicted = 12 * 64 * (6 * matrix_weights + 3 * attention)
batch = [random_batch(corpus.train, 12, 64, torch.Generator().manual_seed(0))]
optimizer = adamw(model)
with FlopCounterMode(display=False) as counter:
    train_step(model, batch, optimizer, max_grad_norm=1.0)
print(f"{matrix_weights:,} weights, 768 tokens a step")
print(f"predicted {predicted / 1e6:.1f} million operations per step, counted {counter.get_total_flops() / 1e6:.1f} million")

# %% id="cost-speed"
def seconds(call, repeat: int = 5) -> float:
    """The processor time of a call: the best of some, since other programs only ever make it slower."""
    times = []
    for _ in range(repeat):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


square = torch.randn(1024, 1024)
peak = 2 * 1024**3 / seconds(lambda: square @ square)
step = seconds(lambda: train_step(model, batch, optimizer, max_grad_norm=1.0))
print(f"this machine multiplies large matrices at {peak / 1e9:.0f} billion operations per second")
print(f"one step takes {step * 1e3:.1f} ms: {predicted / step / 1e9:.0f} billion per second, {predicted / step / peak:.0%} of that")

# %% [markdown] id="cost-memory-text"
# The rest of the time goes to many small operations (norms, softmax, AdamW) that compute little and move much. Large models on large
# machines reach 40 to 60 percent; ours is too small for that.
#
# **Memory.** Per weight: 4 bytes of weight, 4 of gradient, 8 of AdamW's two moments. Then the activations that wait for the backward pass.
# They grow with the batch, and accumulation cuts them down:

# %% id="cost-memory"
def waiting_bytes(batch_size: int) -> int:
    """Bytes that the forward pass keeps for the backward pass, without the weights."""
    weights, kept = {p.data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    inputs, targets = random_batch(corpus.train, batch_size, 64, torch.Generator().manual_seed(0))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = torch.nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    return sum(kept.values())


moments = sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.ndim)
n_weights = sum(p.numel() for p in model.parameters())
print(f"moments: predicted {8 * n_weights / 2**20:.2f} MiB, measured {moments / 2**20:.2f} MiB")
for batch_size in (12, 6, 3):
    print(f"activations of a batch of {batch_size:>2}: {waiting_bytes(batch_size) / 2**20:5.2f} MiB")

# %% [markdown] id="cache-text"
# **Writing.** To write token number t, the plain way runs the model over all t tokens again. But keys and values of the old tokens do not
# change: the mask lets nobody look ahead. A **KV cache** keeps them. Then only the new token runs through the model.
#
# The price is memory: 2 (keys, values) · layers · KV heads · d_head numbers for each token.

# %% id="cache-cost"
from hybridlab.transformer.cache import make_caches

torch.manual_seed(0)
long = MiniTransformer(TransformerConfig.llama(VOCAB, d_model=128, n_layers=4, n_heads=4, max_time=1100)).eval()
lengths, plain, cached = [64, 128, 256, 512, 1024], [], []
with torch.no_grad():
    for length in lengths:
        tokens = torch.randint(VOCAB, (1, length))
        plain.append(seconds(lambda: long(tokens), repeat=3))
        caches = make_caches(long.config, 1)
        long(tokens, caches=caches)
        cached.append(seconds(lambda: long(tokens[:, :1], caches=caches), repeat=9))
config = long.config
per_token = 2 * config.n_layers * config.n_kv_heads * config.d_head * 4
used = sum(2 * cache.keys.numel() * 4 for cache in caches) / config.max_time
print(f"cache: predicted {per_token} bytes per token, measured {used:.0f}; at 1,024 tokens {per_token * 1024 / 2**20:.1f} MiB")

# %% id="cache-figure"
figure, axes = plt.subplots(figsize=(6.5, 3))
axes.plot(lengths, [1e3 * s for s in plain], marker="o", label="everything again")
axes.plot(lengths, [1e3 * s for s in cached], marker="o", label="with the cache")
axes.set(xscale="log", yscale="log", xlabel="tokens so far", ylabel="ms for one new token", title="what the next token costs")
axes.set_xticks(lengths, lengths)
axes.legend()
plt.show()
print(f"at {lengths[-1]} tokens the cache is {plain[-1] / cached[-1]:.0f} times as fast")

# %% [markdown] id="sampling-text"
# ## From probabilities to text
#
# The model gives a probability for each next character. Three knobs say how boldly we draw. **Temperature** divides the logits: below 1 the
# likely ones become likelier. **top-k** keeps the k most probable. **top-p** keeps the fewest that together reach p. Move the sliders.

# %% id="sampling-figure"
from coursekit.sliders import slide
from ipywidgets import FloatSlider

from hybridlab.transformer.sampling import filter_logits


@torch.no_grad()
def show(temperature: float, top_p: float) -> plt.Figure:
    logits = model(vocabulary.encode("The king of th")[None])[0, -1]
    order = logits.argsort(descending=True)[:24]
    everything = (logits / temperature).softmax(0)[order]
    left = filter_logits(logits, temperature=temperature, top_p=top_p).softmax(0)[order]
    figure, axes = plt.subplots(figsize=(8, 2.6))
    axes.bar(range(24), left, color="tab:blue", label="after top-p")
    axes.bar(range(24), everything, color="none", edgecolor="black", label="before")
    axes.set_xticks(range(24), [repr(vocabulary.characters[i])[1:-1] for i in order])
    axes.set(ylabel="probability", title=f"after 'The king of th': {int((left > 0).sum())} characters may be drawn")
    axes.legend()
    return figure


temperature, top_p = FloatSlider(1.0, min=0.1, max=3, continuous_update=False), FloatSlider(0.8, min=0.05, max=1.0, step=0.05, continuous_update=False)
slide(show, temperature=temperature, top_p=top_p)

# %% id="sampling-texts"
from hybridlab.transformer.generation import generate

prompt = vocabulary.encode("KING. ")[None]
for knobs in ({"temperature": 0.2}, {"temperature": 1.0}, {"temperature": 2.0}, {"temperature": 1.0, "top_p": 0.8}):
    text = generate(model, prompt, 110, generator=torch.Generator().manual_seed(0), **knobs)
    print(knobs, "\n   ", repr(vocabulary.decode(text[0])), "\n")

# %% [markdown] id="sampling-read"
# Too cold, and it goes in circles. Too hot, and the tail of unlikely characters takes over. top-p cuts off the tail and leaves the rest as it
# is. (After so few steps nobody should expect Shakespeare. The project trains longer.)

# %% [markdown] id="breaks-text"
# ## How it breaks
#
# The learning rate is the knob that breaks a run most often. We take plain gradient descent with a rate that is too large, once without
# clipping and once with it. The scale of the losses is logarithmic.

# %% id="breaks"
def descend(max_grad_norm: float, lr: float = 3.0, steps: int = 40) -> list[float]:
    careless, generator, losses = new_model(), torch.Generator().manual_seed(0), []
    optimizer = torch.optim.SGD(careless.parameters(), lr=lr)
    try:
        for _ in range(steps):
            batches = [random_batch(corpus.train, 12, 64, generator)]
            losses.append(train_step(careless, batches, optimizer, max_grad_norm=max_grad_norm)[0])
    except FloatingPointError:
        pass  # the curve ends where a number is no longer a number
    return losses


figure, axes = plt.subplots(figsize=(7, 2.8))
axes.plot(descend(max_grad_norm=1e9), color="tab:red", marker=".", label="without clipping")
axes.plot(descend(max_grad_norm=1.0), color="tab:green", label="clipped at 1")
axes.axhline(math.log(VOCAB), linestyle=":", color="gray")
axes.set(yscale="log", xlabel="step", ylabel="loss, nats", title="gradient descent with learning rate 3")
axes.legend()
plt.show()

# %% [markdown] id="breaks-read"
# Without clipping, each step jumps farther than the one before. With clipping the run is not good (the rate is still too large), but it stays
# alive.
#
# Sooner or later numbers this large become infinite or NaN. One step with a gradient of NaN would make *every* weight NaN. So `train_step` looks
# at the gradient norm first, and raises before it steps. The loop adds the number of the step and a way out. Here somebody has typed 3e+3 for
# 3e-3:

# %% id="breaks-sentence"
careless = new_model()
settings = TrainConfig(steps=100, warmup=0, eval_every=100, eval_batches=1)
try:
    train(careless, corpus.train, corpus.validation, adamw(careless, lr=3e+3), settings, progress=False)
except FloatingPointError as error:
    print(error)
print("weights still finite:", all(p.isfinite().all().item() for p in careless.parameters()))

# %% [markdown] id="thursday"
# ## Thursday · The paper: does Muon need half the work?
#
# **Muon is Scalable for LLM Training** (Liu and others, arXiv 2502.16982). AdamW looks at each number of a weight matrix alone. Muon looks at the
# matrix as a whole: it averages the gradients, and then makes the average *orthogonal*, so that the step has the same size in every direction
# of the space. Small but useful directions are no longer drowned by a few large ones.
#
# **The claim:** Muon reaches the loss of AdamW with about half of the training work. First, what the orthogonal step does:

# %% id="muon-idea"
from hybridlab.transformer.muon import Muon, muon_groups, orthogonalize

probe = new_model()
train_step(probe, batch, torch.optim.SGD(probe.parameters(), lr=0.0), max_grad_norm=1e9)
gradient = probe.layers[0].mlp.up_proj.weight.grad
raw, muon = torch.linalg.svdvals(gradient), torch.linalg.svdvals(orthogonalize(gradient))
figure, axes = plt.subplots(figsize=(6.5, 2.6))
axes.plot(raw / raw[0], label="gradient")
axes.plot(muon / muon[0], label="Muon's step")
axes.set(xlabel="direction (singular value, sorted)", ylabel="size, part of the largest", title="one weight matrix, one batch")
axes.legend()
plt.show()
print(f"smallest to largest: gradient {raw[-1] / raw[0]:.4f}, Muon's step {muon[-1] / muon[0]:.2f}")

# %% [markdown] id="paper-how"
# **Our version, in small.** The same model, the same text, the same batches, two seeds each. AdamW gets 60 and 160 steps, Muon 30 and 60.
# Each run has its own warm-up and cosine to the end of *its* steps: a curve cut off in the middle of its schedule would be unfair.
#
# Each optimizer has its best rates out of a scan (AdamW 1e-3 … 1.6e-2, Muon 0.01 … 0.08). This matters more than anything else here: with a
# badly chosen rate for one side, any optimizer wins. To repeat the scan, change `RATES` and run the cells again.

# %% id="paper-runs"
RATES = {"AdamW": 2e-3, "Muon": 0.04}
BUDGETS = {"AdamW": (60 * longer, 160 * longer), "Muon": (30 * longer, 60 * longer)}
SEEDS = (0, 1)


def final_loss(name: str, steps: int, seed: int) -> float:
    contestant = new_model(seed)
    optimizer = adamw(contestant, RATES[name])
    if name == "Muon":  # matrices inside the layers; embeddings and gains stay with AdamW
        optimizer = Muon(muon_groups(contestant, lr=RATES[name], adamw_lr=8e-3))
    settings = TrainConfig(steps=steps, batch_size=8, warmup=steps // 10, eval_every=steps, eval_batches=10, seed=seed)
    return train(contestant, corpus.train, corpus.validation, optimizer, settings, progress=False).validation[-1][1]


ours = {name: [[final_loss(name, steps, seed) for seed in SEEDS] for steps in BUDGETS[name]] for name in BUDGETS}
for name, table in ours.items():
    for steps, losses in zip(BUDGETS[name], table):
        print(f"{name:>5}, {steps:>3} steps: " + "  ".join(f"{loss:.3f}" for loss in losses) + " nats per character")

# %% [markdown] id="paper-compare"
# How many steps does Muon need for AdamW's loss after its longer run? We read it off the line through Muon's two points (steps on a logarithmic scale),
# for each seed. Beside ours stand the paper's own curves, drawn from the two formulas of its table 3: loss against work, at the best size of
# model for each amount of work. Its five models took 0.2 to 4 PFLOP/s-days each.

# %% id="paper-ratio"
def work_for(loss: float, budgets, losses) -> float:
    """Where the straight line through two points (logarithm of the work, loss) reaches `loss`."""
    slope = (losses[1] - losses[0]) / math.log(budgets[1] / budgets[0])
    return budgets[0] * math.exp((loss - losses[0]) / slope)


def paper(name: str, work: torch.Tensor) -> torch.Tensor:
    """Loss against training work in PFLOP/s-days: the fits of the paper's scaling-law experiment (table 3)."""
    return 2.608 * work**-0.054 if name == "AdamW" else 2.506 * work**-0.052


muon_steps = [work_for(ours["AdamW"][1][i], BUDGETS["Muon"], [row[i] for row in ours["Muon"]]) for i in range(len(SEEDS))]
ours_ratio = [steps / BUDGETS["AdamW"][1] for steps in muon_steps]
work = torch.tensor([0.5, 1.0, 2.0, 4.0])
paper_ratio = (paper("AdamW", work) / 2.506) ** (-1 / 0.052) / work
print("paper, work of Muon / work of AdamW at the same loss:", [f"{r:.2f}" for r in paper_ratio.tolist()], "at", work.tolist(), "PFLOP/s-days")
print("the paper reads 0.52 off its figure: two digits of an exponent do not give more")
print("ours, steps of Muon / steps of AdamW at the same loss:", [f"{r:.2f}" for r in ours_ratio])

# %% id="paper-figure"
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
works = torch.logspace(-1, 1, 50)
for name, color in (("AdamW", "tab:blue"), ("Muon", "tab:orange")):
    left.plot(works, paper(name, works), color=color, label=name)
    means = [sum(row) / len(row) for row in ours[name]]
    right.plot(BUDGETS[name], means, color=color, label=name)
    for steps, losses in zip(BUDGETS[name], ours[name]):
        right.plot([steps] * len(losses), losses, "o", color=color, alpha=0.5)
level, there = sum(ours["AdamW"][1]) / len(SEEDS), sum(muon_steps) / len(SEEDS)
left.annotate("", (4 * paper_ratio[3], paper("AdamW", work)[3]), (4, paper("AdamW", work)[3]), arrowprops={"arrowstyle": "->"})
right.annotate("", (there, level), (BUDGETS["AdamW"][1], level), arrowprops={"arrowstyle": "->"})
left.set(xscale="log", xlabel="work, PFLOP/s-days", ylabel="loss, nats per token", title="the paper's fits")
right.set(xscale="log", xlabel="steps", ylabel="validation loss, nats per character", title="ours")
ticks = sorted({*BUDGETS["AdamW"], *BUDGETS["Muon"]})
right.set_xticks(ticks, ticks)
right.minorticks_off()
left.legend(), right.legend()
plt.show()

# %% [markdown] id="paper-verdict"
# **What we may say.** In our small setting Muon needs clearly less than half of the steps, in every seed. The direction of the claim is
# reproduced, and the arrows point the same way.
#
# **What we may not say.** Not "Muon is three or four times as good". Our runs are very short, and there AdamW still rests on the unigram plateau while
# Muon has left it: the gap is largest at the beginning. A step of Muon also does more work (the next cell). And our Muon goes without the weight
# decay that the paper needs for its long runs. The paper's models are thousands of times larger, so its number is the one to remember.

# %% id="paper-step-cost"
def step_time(optimizer_of) -> float:
    timed = new_model()
    optimizer = optimizer_of(timed)
    return seconds(lambda: train_step(timed, batch, optimizer, max_grad_norm=1.0), repeat=9)


adamw_step, muon_step = step_time(adamw), step_time(lambda m: Muon(muon_groups(m, lr=0.04, adamw_lr=8e-3)))
print(f"a step of AdamW {adamw_step * 1e3:.1f} ms, of Muon {muon_step * 1e3:.1f} ms: {muon_step / adamw_step:.2f} times")
mean_ratio = sum(ours_ratio) / len(ours_ratio)
print(f"so Muon needs {mean_ratio:.2f} of AdamW's steps, and {mean_ratio * muon_step / adamw_step:.2f} of its time")

# %% [markdown] id="where"
# ## Where this sits
#
# | here | in our system | in systems in use |
# | --- | --- | --- |
# | `random_batch`, `warmup_cosine`, clipping at 1 | the project; every model we train until month 6 | nanoGPT, GPT-3, Llama: the same three, larger numbers |
# | accumulation by counted tokens | fine-tuning in month 2, with padded dialogues | transformers' `Trainer`, after its fix of October 2024 |
# | exact checkpoints | long runs of months 3 and 4 | PyTorch's distributed checkpoints, one piece per GPU |
# | KV cache | the engine of the assistant | vLLM keeps it in pages; Llama's grouped heads and Jamba's few attention layers make it small |
# | temperature, top-k, top-p | every answer that the assistant writes | the same three fields in each chat API |
# | Muon | the project's recipe | Moonlight and Kimi K2 (with a guard for the attention logits) |

# %% [markdown] id="sunday"
# ## Sunday · Review
#
# Put your answer in the place of `...` and run the cell. Calculate on paper first.
#
# **1.** A model with random weights and Llama 3's vocabulary of 128,256 tokens: which loss do you expect at step 0, in nats per token?

# %% id="q1"
answer("q1", ...)

# %% [markdown] id="q2-text"
# **2.** Llama 3 8B: 32 layers, 32 query heads, 8 KV heads, d_head 128, 2 bytes per number. How large is the KV cache of 8,192 tokens, in GiB
# (2³⁰ bytes)?

# %% id="q2"
answer("q2", ...)

# %% [markdown] id="q3-text"
# **3.** The gradients of a model are [3] and [4], and `max_norm` is 2. What becomes of the 3?

# %% id="q3"
answer("q3", ...)

# %% [markdown] id="q4-text"
# **4.** A run goes on from a checkpoint. The loss jumps up a little and comes back within some dozens of steps. What was most likely not
# restored: `"weights"`, `"optimizer"` or `"validation batches"`?

# %% id="q4"
answer("q4", ...)

# %% [markdown] id="q5-text"
# **5.** Two micro-batches: 100 counted tokens with a mean loss of 4, and 300 with a mean loss of 2. Which loss does the step report?

# %% id="q5"
answer("q5", ...)

# %% [markdown] id="q6-text"
# **6.** The probabilities are 0.4, 0.3, 0.2, 0.1. How many tokens stay with `top_p=0.6`?

# %% id="q6"
answer("q6", ...)

# %% [markdown] id="q7-text"
# **7.** `warmup_cosine` with warmup 100, total 1,100, peak 1e-3, floor 0. What is the rate at step 600?

# %% id="q7"
answer("q7", ...)

# %% [markdown] id="q8-text"
# **8.** Four prompts of 12 tokens have gone through a model with caches. Which shape has the tensor of tokens in the *next* call?

# %% id="q8"
answer("q8", ...)

# %% [markdown] id="reading"
# ## What to read, what comes next
#
# - **Muon: an optimizer for hidden layers** (K. Jordan, 2024, kellerjordan.github.io/posts/muon): where the idea comes from, and why it works.
# - **nanoGPT's `train.py`** (github.com/karpathy/nanoGPT): the loop of this week for many GPUs. You will recognise each part.
# - **Fixing gradient accumulation** (huggingface.co/blog/gradient_accumulation): how a forgotten weight stayed unseen for years.
#
# **Next:** the lab. You write batches, schedule, clipping, the update and the filter, and on Friday you mend a cache.
