# %% [markdown] id="title"
# # Week 4 lab · A loop that trains, and a model that writes
#
# **What you will have built:** the six pieces around a model. Four of them train it: batches, the learning rate, clipping, one
# update. Two let it write: the filter of the next token, and the KV cache. The library's `train` and `generate` stand on exactly
# these six, and this month's project trains its mini-GPT with them.
#
# **Time:** about 4 hours: Tuesday 80 minutes, Wednesday 85, Friday 45, the challenge as you like.
# **You need:** weeks 1 to 3, and this week's lesson.
#
# | day | exercises |
# | --- | --- |
# | Tuesday | 1 · batches · 2 · learning rate · 3 · clipping |
# | Wednesday | 4 · one update · 5 · the filter of the next token |
# | Friday | 6 · a broken KV cache |
#
# Under each exercise is a check cell. It names what is wrong. If you are stuck: `course hint week04 random-batch` in a terminal
# gives three hints, one after the other, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.optim import Optimizer

from hybridlab.transformer.losses import cross_entropy

# %% id="tools"
import matplotlib.pyplot as plt

from coursekit.notebook import compare, seed_everything
from hybridlab.data.shakespeare import load_shakespeare
from hybridlab.runtime import set_threads
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer

seed_everything(4)
set_threads(1 if profile == "cpu" else None)  # small models run faster on one core than on two
corpus = load_shakespeare()
vocabulary = corpus.vocabulary
print(f"{len(corpus.train):,} characters to train on, {len(vocabulary)} different ones")

# %% [markdown] id="tuesday"
# ## Tuesday · What a step needs
#
# ### Exercise 1 · Batches
#
# **Why.** A language model is trained on one long row of tokens. Each step cuts a few windows out of it, at random places. The
# target at each position is simply the token that comes next, so a window of 64 tokens teaches 64 predictions at once.
#
# **The contract** is the docstring in the cell below. Three things are easy to get wrong: the last window that fits, the shift of
# the targets, and where the randomness comes from. If a batch does not come from the given generator, no run can be repeated.
#
# **A worked example.** Ten tokens, windows of four. How many places are there for a window *and* its targets?

# %% id="worked-batch"
text = torch.arange(10)
for s in range(6):
    print(f"start {s}: inputs {text[s : s + 4].tolist()}  targets {text[s + 1 : s + 5].tolist()}")
print(f"start 6: inputs {text[6:10].tolist()}  targets {text[7:11].tolist()}  <- one target is missing: 6 does not fit")

# %% id="random-batch" exercise="hybridlab.transformer.batching.random_batch" points=2 minutes=25 difficulty=2

# %% [markdown] id="after-batch"
# If the check does not pass: print `starts`, `starts.shape` and `places.shape` for a tiny text. The next cell shows a batch of
# yours as text.

# %% id="see-batch"
inputs, targets = random_batch(corpus.train, 3, 40, torch.Generator().manual_seed(0))
for row, shifted in zip(inputs, targets):
    print(repr(vocabulary.decode(row)))
    print(repr(vocabulary.decode(shifted)), end="\n\n")

# %% [markdown] id="schedule-why"
# ### Exercise 2 · The learning rate
#
# **Why.** At the start the optimizer's averages are empty and the weights are random: large steps do harm. So the rate rises in a
# straight line (warm-up). Towards the end, large steps jump over the valley that was found. So the rate falls along half a cosine.
#
# **A worked example**, with `warmup=2, total=6, peak=1, floor=0.2`. Compare your values with this row.

# %% id="worked-schedule"
t = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
down = 0.2 + (1 - 0.2) * (1 + torch.cos(math.pi * t)) / 2
print("step  0     1     2     3     4     5     6     7")
print("rate ", "  ".join(f"{rate:.2f}" for rate in [0.0, 0.5, *down.tolist(), 0.2]))

# %% id="warmup-cosine" exercise="hybridlab.transformer.schedule.warmup_cosine" points=2 minutes=25 difficulty=2

# %% [markdown] id="after-schedule"
# If the check does not pass: write down `t` for the first step, the last warm-up step and the last step. Then look at your curve.

# %% id="see-schedule"
curve = [warmup_cosine(step, warmup=20, total=150, peak=8e-3, floor=8e-4) for step in range(181)]
figure, axes = plt.subplots(figsize=(6, 2.6))
axes.plot(curve)
axes.axvspan(0, 20, alpha=0.15)
axes.axvline(150, linestyle=":", color="gray")
axes.set(xlabel="step", ylabel="learning rate", title="warm-up (shaded), cosine, floor")
plt.show()

# %% [markdown] id="clip-why"
# ### Exercise 3 · Clipping
#
# **Why.** One strange batch can give a gradient a hundred times as long as usual, and one such step can destroy hours of
# training. Clipping shortens a long gradient and keeps its direction. All parameters together are *one* vector: one norm, one
# factor.
#
# **A worked example.** Two parameters with the gradients [3] and [4]. The common norm is 5. With `max_norm=1` both are divided
# by 5. (Clipped one by one they would become [1] and [1]: another direction.)

# %% id="worked-clip"
a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
a.grad, b.grad = torch.tensor([3.0]), torch.tensor([4.0])
norm = nn.utils.clip_grad_norm_([a, b], max_norm=1.0)
print(f"norm before {norm:.1f}, gradients after [{a.grad.item():.1f}] and [{b.grad.item():.1f}]")

# %% id="clip-grad-norm" exercise="hybridlab.transformer.training.clip_grad_norm" points=2 minutes=30 difficulty=2

# %% [markdown] id="after-clip"
# If the check does not pass: `model.parameters()` is a generator. Ask yourself how often you walk through it.

# %% [markdown] id="wednesday"
# ## Wednesday · One update, and one token
#
# ### Exercise 4 · One update
#
# **Why.** A large batch gives a steadier gradient, but its activations need memory. Accumulation takes the batch in pieces
# (micro-batches): forward and backward for each, gradients add up, then *one* step. Done right, the result equals one big batch.
#
# Done wrong, it trains all the same, only a little worse. In October 2024 it came out that widely used training libraries divided
# by the number of micro-batches even where these held different numbers of tokens. That is why this contract speaks of *counted
# tokens*.
#
# **A worked example.** Micro-batch A has 1 counted token with loss 4. Micro-batch B has 3, each with loss 2.

# %% id="worked-accumulation"
loss_a, tokens_a, loss_b, tokens_b = 4.0, 1, 2.0, 3
tokens_all = tokens_a + tokens_b
print(f"one big batch:          {(4 + 2 + 2 + 2) / tokens_all:.2f} nats per token")
print(f"weighted by tokens:     {loss_a * tokens_a / tokens_all + loss_b * tokens_b / tokens_all:.2f}")
print(f"mean of the two means:  {(loss_a + loss_b) / 2:.2f}  <- the single token of A counts three times too much")

# %% id="train-step" exercise="hybridlab.transformer.training.train_step" points=4 minutes=45 difficulty=4

# %% [markdown] id="after-step"
# If the check does not pass: begin with one micro-batch. Then two of equal size. Then two of different size.
#
# Now your four pieces are a training loop. It is short, because each piece does its own work.

# %% id="my-loop"
def train_small(steps: int = 150, micro_batches: int = 2, seed: int = 0):
    torch.manual_seed(seed)
    config = TransformerConfig.llama(len(vocabulary), d_model=64, n_layers=2, n_heads=4, max_time=64)
    model = MiniTransformer(config)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    generator = torch.Generator().manual_seed(seed)
    history = []
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, warmup=20, total=steps, peak=8e-3, floor=8e-4)
        batches = [random_batch(corpus.train, 6, 64, generator) for _ in range(micro_batches)]
        history.append(train_step(model, batches, optimizer, max_grad_norm=1.0))
    return model.eval(), torch.tensor(history)


# %% id="run-my-loop"
model, history = train_small()
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
left.plot(history[:, 0])
left.axhline(math.log(len(vocabulary)), linestyle=":", color="gray", label="all characters equally likely")
left.set(xlabel="step", ylabel="loss, nats per character", title="your loop learns")
left.set_ylim(top=4.7)
left.legend()
right.plot(history[:, 1])
right.axhline(1.0, linestyle=":", color="gray", label="limit")
right.set(xlabel="step", ylabel="gradient norm", title="before clipping")
right.legend()
plt.show()
print(f"loss {history[0, 0]:.2f} → {history[-10:, 0].mean():.2f} nats per character in {len(history)} steps")

# %% [markdown] id="filter-why"
# ### Exercise 5 · The filter of the next token
#
# **Why.** The model gives every token a probability, also the thousands of absurd ones. Each is unlikely, but together they are
# not: drawn often enough, one of them comes and spoils the text. So the tail is cut off before drawing. *top-k* keeps a fixed number
# of tokens. *top-p* keeps as many as are needed for a probability of p: few when the model is sure, many when it is not.
#
# **A worked example** for top-p with p = 0.6.

# %% id="worked-filter"
probabilities = torch.tensor([0.10, 0.50, 0.15, 0.25])
ordered, order = probabilities.sort(descending=True)
before = ordered.cumsum(0) - ordered
for token, probability, sum_before in zip(order.tolist(), ordered.tolist(), before.tolist()):
    print(f"token {token}: probability {probability:.2f}, before it {sum_before:.2f} -> {'stays' if sum_before < 0.6 else 'goes'}")

# %% id="filter-logits" exercise="hybridlab.transformer.sampling.filter_logits" points=4 minutes=40 difficulty=3

# %% [markdown] id="after-filter"
# If the check does not pass: switch the three steps on one by one. Then let the model from above write. Compare the three lines.

# %% id="write-uncached"
@torch.no_grad()
def write(prompt: str, n_new: int, seed: int = 0, **settings) -> str:
    tokens, generator = vocabulary.encode(prompt)[None], torch.Generator().manual_seed(seed)
    for _ in range(n_new):
        logits = model(tokens[:, -64:])[:, -1]
        probabilities = filter_logits(logits, **settings).softmax(dim=-1)
        tokens = torch.cat([tokens, torch.multinomial(probabilities, 1, generator=generator)], dim=1)
    return vocabulary.decode(tokens[0])


for settings in ({"temperature": 0.3}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.8}):
    print(settings, "\n", repr(write("ROMEO. ", 150, **settings)), "\n")

# %% [markdown] id="friday"
# ## Friday · Find the bug
#
# ### Exercise 6 · A KV cache that forgets
#
# **Why.** `write` above computes the keys and values of *all* tokens again for every new one. A KV cache keeps them. Then a new
# token costs one row of attention, and the text comes out the same, token for token.
#
# **The symptom.** The class below runs. It raises nothing. The first token after the prompt is right. But from the second one on,
# the text is another one than without the cache. A known text that is read through the cache gets other logits, too.
#
# **How to work.** Run the cell, then the two cells after its check: they draw the symptom. Look for the smallest case that still
# shows it, and only then for the line. Change as little as you can.
#
# The contract is the docstring. The attention of week 2 asks the cache two things: `append`, and `len` for the position of the next
# token.

# %% id="kv-cache" exercise="hybridlab.transformer.cache.KVCache" points=3 minutes=45 difficulty=3

# %% [markdown] id="symptom-text"
# **The symptom, drawn.** One text is read twice: whole, and through caches (first a prompt of 12 tokens at once, then one by one).
# At each place you see how far the logits lie apart. It should be zero everywhere, but for rounding.

# %% id="symptom"
@torch.no_grad()
def gap_by_place(n_prompt: int, n_all: int = 40) -> Tensor:
    """The largest difference of the logits at each place, with caches against without."""
    tokens = corpus.validation[:n_all][None]
    shape = model.config
    caches = [KVCache(1, shape.n_kv_heads, shape.max_time, shape.d_head) for _ in range(shape.n_layers)]
    pieces = [tokens[:, :n_prompt], *tokens[:, n_prompt:].split(1, dim=1)]
    cached = torch.cat([model(piece, caches=caches) for piece in pieces], dim=1)
    return (cached - model(tokens)).abs().amax(dim=(0, 2))


gap = gap_by_place(12)
figure, axes = plt.subplots(figsize=(7, 2.6))
axes.plot(gap, marker=".")
axes.axvspan(0, 11, alpha=0.15, label="prompt")
axes.set(xlabel="place in the text", ylabel="gap of the logits", title="with cache against without")
axes.set_ylim(-0.05 * max(1, gap.max()), 1.1 * max(1, gap.max()))
axes.legend()
plt.show()

# %% [markdown] id="smallest-case"
# Which prompts show it, and which do not? The answer says where to look.

# %% id="prompts"
for n_prompt in (1, 2, 4, 8):
    wrong = (gap_by_place(n_prompt) > 1e-3).nonzero().flatten()
    print(f"prompt of {n_prompt} tokens: " + (f"wrong from place {wrong[0].item()} on" if len(wrong) else "no difference"))

# %% [markdown] id="challenge-text"
# ## Challenge (optional) · top-p without sorting 128,256 tokens
#
# `filter_logits` sorts the whole vocabulary. Llama 3 has 128,256 tokens, and the nucleus usually needs a few hundred of them. Write
# `fast_top_p`: the same tokens stay, in less time. Idea to begin with: `topk` of a thousand tokens is much cheaper than a sort. But
# when is a thousand not enough, and how do you notice? (You need the probabilities of the *whole* vocabulary for that: `logsumexp`.)
#
# The cell after it first holds the results against each other, on sharp logits and on flat ones. Then it compares the times and prints
# the ratio. More than 10 times is possible.

# %% id="challenge"
def fast_top_p(logits: Float[Tensor, "batch vocab"], top_p: float) -> Float[Tensor, "batch vocab"]:
    """The same result as filter_logits(logits, top_p=top_p)."""
    return filter_logits(logits, top_p=top_p)  # replace this line


# %% id="challenge-ratio"
big = 4 * torch.randn(4, 128_256, generator=torch.Generator().manual_seed(0))
flat = 1e-3 * torch.randn(2, 128_256, generator=torch.Generator().manual_seed(1))  # a nucleus of almost all tokens
for logits in (big, flat):
    assert torch.equal(fast_top_p(logits, 0.9).isfinite(), filter_logits(logits, top_p=0.9).isfinite()), "not the same tokens"
ratio = compare(lambda: fast_top_p(big, 0.9), lambda: filter_logits(big, top_p=0.9))

# %% [markdown] id="grade"
# ## Grade, promote, see it run
#
# In a terminal:
#
# ```
# course grade week04
# course promote week04
# ```
#
# `grade` runs all checks, with hidden cases, and shows your points. `promote` puts your code into the library. From then on the
# library's `train` and `generate` run on it. The next cell says which parts are yours, and uses them inside the bigger machine:
# the loop with evaluation, and generation with caches.

# %% id="see-it-run"
from hybridlab.exercise import REGISTRY
from hybridlab.transformer.generation import generate
from hybridlab.transformer.training import TrainConfig, train

for room in ("batching", "schedule", "training", "sampling", "cache"):
    for symbol, entry in REGISTRY.items():
        if symbol.startswith(f"hybridlab.transformer.{room}."):
            print(f"{entry.origin:>10}  {symbol}")

# %% id="library-run"
torch.manual_seed(1)
library_model = MiniTransformer(TransformerConfig.llama(len(vocabulary), d_model=64, n_layers=2, n_heads=4, max_time=64))
optimizer = torch.optim.AdamW(library_model.parameters(), lr=8e-3, betas=(0.9, 0.95), weight_decay=0.1)
settings = TrainConfig(steps=150, warmup=20, eval_every=50, eval_batches=5)
result = train(library_model, corpus.train, corpus.validation, optimizer, settings)
prompt = vocabulary.encode("ROMEO. ")[None]
text = generate(library_model, prompt, 200, top_p=0.9, generator=torch.Generator().manual_seed(0))
print(f"validation {result.validation[-1][1]:.2f} nats per character after {result.seconds:.1f} s\n")
print(vocabulary.decode(text[0]))

# %% [markdown] id="next"
# ## What to read, what comes next
#
# - **nanoGPT's `train.py`**: about 300 lines, and now you know each of them.
# - **Bug fixes in gradient accumulation** (Unsloth's blog, October 2024): the story behind exercise 4.
# - **The Curious Case of Neural Text Degeneration** (arXiv 1904.09751): where top-p comes from, with many samples to read.
#
# **Next:** the project of this month. Your loop trains a mini-GPT on eight of Shakespeare's plays, in four minutes.
