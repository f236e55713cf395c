# %% [markdown] id="title"
# # Week 12 lab · Long context, written by you
#
# **What you will have built:** what it takes to train on short texts and to read hundreds of thousands of tokens: the Mamba paper's test, a measure and a price for forgetting, a reader in constant memory, a layer that looks things up before it has
# learned anything, and questions to a state. In the library these are `hybridlab.ssm.induction_text`, `.decay_penalty`, `.streaming`, `.mimetic` and `.needle`. At the end, needles are found in 200,000 tokens of real text with your code.
#
# | day | exercise | minutes | points |
# | --- | --- | --- | --- |
# | Tue | 1 `induction_batch` | 35 | 3 |
# | Tue | 2 `fading` | 20 | 2 |
# | Tue | 3 `survival` | 20 | 2 |
# | Wed | 4 `read_stream` | 25 | 3 |
# | Wed | 5 `mimetic_init` | 45 | 4 |
# | Fri | 6 `ask`: find the bug | 30 | 3 |
#
# **Time:** about 3 hours. Run from top to bottom, the solved notebook takes less than a minute. **Needs:** this week's lesson, and week 10's Mamba-2.
#
# A check that fails names the mistake it saw. `course hint week12 survival` gives a hint: there are three for each exercise, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.ssm.induction_text import IGNORED, SIGN
from hybridlab.ssm.mamba2_block import Mamba2Mixer
from hybridlab.ssm.mamba_config import MambaConfig, StepKind
from hybridlab.ssm.mamba_model import Mamba, ModelState
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.planted import FIRST_VALUE
from hybridlab.ssm.stateful import StatefulModel

# %% id="setup"
import time

import matplotlib.pyplot as plt
from coursekit.notebook import seed_everything
from hybridlab.runtime import set_threads
from hybridlab.ssm.long_context_models import trained
from torch import no_grad

seed_everything(12)
set_threads()
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)

# %% [markdown] id="texts-why"
# ## Tuesday · 1. `induction_batch`: the Mamba paper's test
#
# **Why.** A text of noise. Once, anywhere, a *sign*, and a token behind it. At the end the sign again: what came? It is the smallest task that needs a memory chosen by content, and it can be made at any length.
# If the texts leak (an answer that never changes, a place that is never used), a model learns the leak, and all that is measured afterwards means nothing.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | result | `(tokens, wanted)`, both `(batch, length)`, whole numbers |
# | ordinary tokens | any below `SIGN`, equally likely |
# | the answer | one for each text, any token below `SIGN` |
# | the first sign | anywhere, with its answer behind it; the text's last token is a sign, which asks |
# | `extra` | so many more signs in between, each with the same answer behind it; they ask, too. Pairs (sign, answer) never overlap, and no way of placing them is left out |
# | `wanted` | the answer at each sign that asks (all but the first), `IGNORED` elsewhere: what has to follow that token |
# | chance | from `generator` alone |
# | `ValueError` | a length below 3 + 2 · extra |
#
# **Worked example.** Ten tokens with one extra question; the answer is 7:

# %% id="texts-example"
example = [3, SIGN, 7, 0, 12, 7, SIGN, 7, 4, SIGN]
print("tokens:", " ".join("?" if token == SIGN else str(token) for token in example))
print("wanted:", " ".join("7" if place in (6, 9) else "·" for place in range(10)), "   (· is IGNORED)")

# %% id="induction-batch" exercise="hybridlab.ssm.induction_text.induction_batch" points=3 minutes=35 difficulty=3

# %% [markdown] id="texts-next"
# If the check fails: make 20 texts of 8 tokens, and print them. Where the first sign stands, in 20,000 texts of 12 tokens, and how many answers there are:

# %% id="texts-use"
tokens, wanted = induction_batch(20_000, 12, generator=torch.Generator().manual_seed(0))
first = (tokens == SIGN).int().argmax(1)
figure, axis = plt.subplots(figsize=(7, 2.2), layout="constrained")
axis.bar(range(12), torch.bincount(first, minlength=12), color="tab:orange")
axis.set(xlabel="place of the first sign", ylabel="texts", title="anywhere its answer still fits: 0 to 9", xticks=range(12))
print("answers that occur:", torch.unique(wanted[:, -1]).tolist())

# %% [markdown] id="fading-why"
# ## Tuesday · 2. `fading`: what each token costs the state
#
# **Why.** At each token, exp(dt · A) of a head's state is left. So dt · |A| is *by how much it fades*: 0 keeps all. Softplus is never 0; relu is, wherever its input is negative. A small price on this number, added to the loss, teaches
# a model to leave its state alone where nothing is to be said. Both, relu and price, are deviations from the papers.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `z` | `(..., heads)`, what the step is made of; `A_log` `(heads)`, A = -exp(A_log) |
# | result | dt · \|A\|, of z's shape, at least 0; dt = softplus(z) for the kind `"softplus"`, max(z, 0) for `"relu"` |
# | dtype | float32 at least: **both** are widened before anything is computed; float64 stays |
# | any z | 300 gives 300 · \|A\|, not infinity |
# | gradients | flow to both |
# | `ValueError` | another kind |
#
# **Worked example.** Two heads with A = -1 and A = -4:

# %% id="fading-example"
for z in (-2.0, 0.0, 3.0):
    soft = torch.log(1 + torch.exp(torch.tensor(z))).item()
    print(f"z {z:4.1f}: softplus {soft:.4f} -> fading {soft:.4f}, {4 * soft:.4f};   relu {max(z, 0)} -> fading {max(z, 0)}, {4 * max(z, 0)}")

# %% id="fading" exercise="hybridlab.ssm.decay_penalty.fading" points=2 minutes=20 difficulty=1

# %% [markdown] id="fading-next"
# If the check fails: compute the table above with your function. What is left of a state behind so many tokens, if every token has the same z and A = -1:

# %% id="fading-use"
tokens = torch.logspace(0, 5, 60)
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
for kind, z, style in (("softplus", -4.0, "-"), ("softplus", -8.0, "--"), ("relu", -4.0, "-")):
    left = torch.exp(-fading(torch.tensor([z]), torch.zeros(1), kind) * tokens)
    axis.plot(tokens, left, style, label=f"{kind}, z = {z:.0f}")
axis.set(xscale="log", xlabel="tokens", ylabel="share left", title="softplus only moves the end; relu has none", ylim=(-0.05, 1.08))
axis.legend(fontsize=8)
print(f"softplus at z = -8 has halved behind {0.6931 / fading(torch.tensor([-8.0]), torch.zeros(1), 'softplus').item():,.0f} tokens")

# %% [markdown] id="left-why"
# ## Tuesday · 3. `survival`: who is still in the state at the end?
#
# **Why.** A model forgets, and you want to know *which* tokens, and where. What token t wrote is multiplied with exp(-fading) of every token behind it. One picture of that says more than a loss curve.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `fading` | `(..., time, heads)`, each at least 0 |
# | result | same shape: exp(-s), s the sum of the fading of all tokens *behind* this one |
# | the last token | keeps 1: a token's own fading does not touch what it writes itself |
# | digits | sums run from the end; a difference of two sums from the beginning has lost all small numbers behind a 1e6 |
# | | the input stays as it is; gradients flow |
#
# **Worked example.** Fading .1, .2, .3:

# %% id="left-example"
print(f"token 0: behind it .2 + .3, left {torch.exp(torch.tensor(-0.5)):.4f};  token 1: behind it .3, left {torch.exp(torch.tensor(-0.3)):.4f};  token 2: 1.0000")

# %% id="survival" exercise="hybridlab.ssm.decay_penalty.survival" points=2 minutes=20 difficulty=2

# %% [markdown] id="left-next"
# If the check fails: which tokens stand behind token 0 of three? Two models that were trained alike at 256 tokens, reading 2,000. Of each, the layer that holds most of the answer at the end:

# %% id="left-use"
from hybridlab.ssm.decay_penalty import watch_decay

text, _ = induction_batch(1, 2000, generator=torch.Generator().manual_seed(4))
answer_at = int((text[0] == SIGN).int().argmax()) + 1
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
for kind in ("softplus", "relu"):
    model = trained(f"induction {kind}")
    with no_grad(), watch_decay(model) as watch:
        model(text)
        parts = [part[0, :, 0] for part in watch.fading.values()]
        part = max(parts, key=lambda part: (part * survival(part[:, None])[:, 0])[answer_at - 1 : answer_at + 3].max())  # what is written, times what is left
        left = survival(part[:, None])[:, 0]
        held = (part * left)[answer_at : answer_at + 3]  # the answer and the tokens behind it: a convolution may hand it on
        written = answer_at + int(held.argmax()) if held.max() > 1e-3 else answer_at
    axis.plot(left, label=kind)
    print(f"{kind:8s}: the answer stands at token {answer_at}; of what token {written} wrote, {left[written]:.3f} is left at token 1,999")
axis.set(xlabel="token", ylabel="share left at the end", title="a text eight times as long as in training", ylim=(-0.05, 1.08))
axis.legend(fontsize=8)

# %% [markdown] id="stream-why"
# ## Wednesday · 4. `read_stream`: any length, constant memory
#
# **Why.** A text of a million tokens does not fit, and need not. Read a piece, keep the state, forget the piece. What spoils it in practice is what is kept *by accident*: a list of all pieces, outputs, the graph for a backward pass, or a slice
# that holds its whole tensor.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `model.read(tokens, state)` | reads `(batch, piece)` tokens; takes None before the first piece; gives (`(batch, piece, d_model)`, new state) |
# | `pieces` | anything that can be iterated over, a generator too; lengths may differ; **a piece without tokens is passed over** |
# | when | each piece is asked for only when the one before it is read |
# | result | `(last, state)`: the vector of the text's last token, `(batch, d_model)`, a tensor of its own; and the state behind it |
# | kept | nothing else: no vectors of earlier pieces, nothing for backward |
# | `ValueError` | no token at all |
#
# **Worked example.** A model whose state is a sum:

# %% id="stream-example"
class Sums:
    def read(self, tokens, state):
        sums = (0 if state is None else state) + tokens.cumsum(1)
        return sums[..., None], sums[:, -1:]


one, state = Sums().read(torch.tensor([[1, 2, 3]]), None)
two, state = Sums().read(torch.tensor([[10, 20]]), state)
print("pieces (1 2 3), (), (10 20): last", two[:, -1].tolist(), "state", state.tolist())

# %% id="read-stream" exercise="hybridlab.ssm.streaming.read_stream" points=3 minutes=25 difficulty=2

# %% [markdown] id="stream-next"
# If the check fails: read the example's pieces. What a state weighs, and what all the text's vectors would:

# %% id="stream-use"
from hybridlab.ssm.mixer_state import state_bytes

model, length = trained("induction relu"), 65_536
began = time.process_time()
last, state = read_stream(model, (torch.randint(SIGN, (1, 4096)) for _ in range(length // 4096)))
seconds = time.process_time() - began
print(f"{length:,} tokens in {seconds:.1f} s, {length / seconds:,.0f} tokens a second; carried {state_bytes(state):,} bytes, the vectors would take {length * last.shape[1] * 4:,}")

# %% [markdown] id="mimetic-why"
# ## Wednesday · 5. `mimetic_init`: a layer that can look up before it has learned
#
# **Why.** Mamba-2's scan is linear attention with decays: C asks, B is the key, x the value. A new layer has random B and C that have nothing to do with each other, and hundreds of steps pass before it finds that asking should
# resemble writing. Trockman et al. (2410.11135) *begin* there. This exercise goes a little further: the layer also writes each value under the key that stands before it.
#
# **What is asked**, in place. `mixer.config` has `d_inner`, `n_groups`, `d_state` and `d_conv`; below, `inner` is d_inner and `states` is n_groups · d_state
#
# | | |
# | --- | --- |
# | rows of `in_proj.weight` | gate (inner), x (inner), B (states), C (states), steps (n_heads) |
# | 1 | the rows of C become those of B; all others stay |
# | 2 | `conv1d.weight` is `(channels, 1, d_conv)`, channels x, B, C; the last tap reads the present token. All taps 0 but one, which is 1: **for B the one before the last**, for x and C the last; bias 0 |
# | 3 | `A_log` 0 (A = -1), `D` 0 |
# | 4 | `out_proj.weight` is the transpose of x's rows |
# | parameters | stay the same objects and keep learning |
# | `ValueError` | `d_conv` below 2, and then nothing is changed |
#
# **Worked example.** The pair (k, v), then k once more, in numbers:

# %% id="mimetic-example"
k, v = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 5.0])
B, x, C = k, v, k  # at v's place B comes from the token before, k; at the second k, C is k
h = torch.outer(x, B)
print("written at v: h = x Bᵀ =", h.tolist(), "; read at the second k: h C =", (h @ C).tolist(), "= v")

# %% id="mimetic-init" exercise="hybridlab.ssm.mimetic.mimetic_init" points=4 minutes=45 difficulty=3

# %% [markdown] id="mimetic-next"
# If the check fails: print the sum of each tap over x's, B's and C's channels. Sixteen random vectors as eight pairs, then one key again; how much what an *untrained* layer says resembles each of the eight values:

# %% id="mimetic-use"
torch.manual_seed(0)
mixer = Mamba2Mixer(MambaConfig(1, d_model=128, d_head=128, d_state=64))
texts = torch.randn(60, 16, 128)
found = {}
for name in ("as it comes", "mimetic"):
    if name == "mimetic":
        mimetic_init(mixer)
    with no_grad():
        said, _ = mixer(torch.cat([texts, texts[:, 6:7]], 1))
    found[name] = torch.nn.functional.cosine_similarity(said[:, -1:], texts[:, 1::2], dim=-1)
figure, axis = plt.subplots(figsize=(7, 2.4), layout="constrained")
for shift, (name, alike) in zip((-0.2, 0.2), found.items()):
    axis.bar(torch.arange(8) + shift, alike.mean(0), 0.4, label=name)
    print(f"{name:12s}: value 3, the right one, is the most alike in {(alike.argmax(1) == 3).sum()} of 60 texts")
axis.set(xlabel="value of pair …; asked for pair 3", ylabel="cosine, mean of 60 texts", title="what an untrained layer says", xticks=range(8))
axis.legend(fontsize=8)

# %% [markdown] id="friday-why"
# ## Friday · 6. `ask`: working-looking code with a bug
#
# A state has read a text. Now it is asked: for each key, what stood behind it? Each question goes to a **copy** of the state, so that no question sees another. A colleague wrote it, tried it on a text, and all answers were right.
# **Symptom:** with several texts side by side, most answers are wrong, and the model trains no more. Run the cell and the figure, **find the bug and mend it.**
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `state` | one `MixerState(past, memory)` for each layer; both have the batch first |
# | `questions` | `(batch, asked)`: text i is asked questions[i] |
# | result | `(batch, asked, values + 1)`: the logits of the tokens from `FIRST_VALUE` on |
# | how | each question as if it were the only one; `state` stays as it is |
# | gradients | flow through the state and the model |
#
# **Worked example.** Two texts, three questions each. The questions in one row, and what could be done to the states a and b:

# %% id="friday-example"
states = torch.tensor([10, 20])
print("questions:        ", torch.tensor([[11, 12, 13], [21, 22, 23]]).reshape(-1).tolist())
print("repeat(3):        ", states.repeat(3).tolist())
print("repeat_interleave:", states.repeat_interleave(3).tolist())

# %% id="ask" exercise="hybridlab.ssm.needle.ask" points=3 minutes=30 difficulty=2

# %% id="friday-figure"
from hybridlab.ssm.long_reader import LongReader
from hybridlab.ssm.needle import handbook, haystack

reader, book = LongReader.load().model, handbook()
right = []
for side_by_side in (1, 2, 4, 8, 16):
    hay = haystack(side_by_side, 256, 8, book, generator=torch.Generator().manual_seed(side_by_side))
    with no_grad():
        _, state = reader.read(hay.tokens)
        right.append((ask(reader, state, hay.questions).argmax(-1) + FIRST_VALUE == hay.answers).float().mean().item())
figure, axis = plt.subplots(figsize=(6, 2.2), layout="constrained")
axis.plot(range(5), right, "o-", clip_on=False)
axis.set(xlabel="texts read side by side", ylabel="right answers", ylim=(0, 1.05), title="one trained model, 256 tokens, 8 needles")
axis.set_xticks(range(5), (1, 2, 4, 8, 16))
print("right answers:", ", ".join(f"{share:.2f}" for share in right))

# %% [markdown] id="friday-next"
# Once mended, the line is flat. If it is not: in the worked example, whose state gets question 21? With one text both orders are the same, so the first try showed nothing. Test with a batch in which every row is different.

# %% [markdown] id="challenge"
# ## Challenge (optional, no points): the state in fewer bytes
#
# A state per user, for a million users: each byte counts. Write `pack` and `unpack`, so that the answers stay the same and the packed state is smaller. **A quarter of the bytes is good.**
#
# A hint: which of the two parts of the state is large? How many bits does a number need if each row has a scale of its own (week 7)?

# %% id="challenge-code"
def pack(state):
    """A list of tensors that `unpack` can make the state from."""
    return [part for layer in state for part in layer]  # replace this line


def unpack(packed):
    """The state, as float32 again."""
    return [MixerState(past, memory) for past, memory in zip(packed[::2], packed[1::2])]

# %% id="challenge-ratio"
hay = haystack(32, 256, 8, book, generator=torch.Generator().manual_seed(1))
with no_grad():
    _, state = reader.read(hay.tokens)
    packed = pack(state)
    answers = [ask(reader, held, hay.questions).argmax(-1) for held in (state, unpack(packed))]
size = sum(part.nbytes for part in packed)
print(f"the same answers: {(answers[0] == answers[1]).float().mean():.1%}; yours takes {size // 32:,} bytes a text, the state {state_bytes(state) // 32:,}: ratio {size / state_bytes(state):.2f}")

# %% [markdown] id="bigger"
# ## Grade, promote, see it run
#
# | | |
# | --- | --- |
# | `course grade week12` | points for each exercise, with hidden cases too |
# | `course promote week12` | what has passed becomes the library: the list below then says `learner` |
# | `course progress` | where you stand |
#
# Inside the bigger model: the long reader's Mamba-2, trained at 1,024 tokens and fewer, reads 200,000 tokens of Python's handbook that it has never seen, with eight needles somewhere in it, through your `read_stream`, and answers through your `ask`.

# %% id="bigger-model"
from hybridlab.exercise import REGISTRY

hay = haystack(1, 200_000, 8, book, generator=torch.Generator().manual_seed(7))
began = time.process_time()
_, state = read_stream(reader, hay.tokens.split(4096, 1))
with no_grad():
    correct = ask(reader, state, hay.questions).argmax(-1)[0] + FIRST_VALUE == hay.answers[0]
print(f"200,000 tokens in {time.process_time() - began:.0f} s: {int(correct[:8].sum())} of 8 needles found, {int(correct[8:].sum())} of 8 absent keys known as absent; a state of {state_bytes(state):,} bytes")
for symbol, entry in REGISTRY.items():
    if symbol.startswith(("hybridlab.ssm.induction", "hybridlab.ssm.decay", "hybridlab.ssm.streaming", "hybridlab.ssm.mimetic", "hybridlab.ssm.needle")):
        print(f"{symbol.removeprefix('hybridlab.ssm.'):32s} {entry.origin}")

# %% [markdown] id="finish"
# ## What to read, what comes next
#
# - [Mimetic initialization](https://arxiv.org/abs/2410.11135), sections 3 and 4: what your exercise 5 does to larger models.
# - [Zoology](https://arxiv.org/abs/2312.04927): how much a state of a given size can recall.
# - [Mamba](https://arxiv.org/abs/2312.00752), appendix E.1 and table 11: the test of exercise 1.
#
# **Next:** the month's project, the long reader: a file of any length, a state that is saved and resumed.
