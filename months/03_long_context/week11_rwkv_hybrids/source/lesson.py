# %% [markdown] id="title"
# # Week 11 lesson · RWKV and hybrids
#
# **The question of the week: attention remembers everything and pays for it with every token; a state costs nothing more, and forgets. What can be kept in a state, what can be *corrected* in it, and where is a little attention still needed?**
#
# **Afterwards you can**
# - turn attention into a recurrence, and back into matmuls;
# - write RWKV-4's mean so that keys of any size give numbers;
# - say what RWKV-7's delta rule buys, and draw how much a state of d × d numbers recalls;
# - build a hybrid in Jamba's manner, and count its bytes at any length;
# - say which task a state of fixed size *can't* do, and show it.
#
# **Time:** about 100 minutes (Monday, Thursday, Sunday). The notebook runs in about a minute. **You need:** month 1's attention, and week 10's states and chunks.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import logging
import time
import warnings

import matplotlib.pyplot as plt
import torch
from coursekit.notebook import review, seed_everything
from hybridlab.runtime import set_threads
from hybridlab.ssm.copying_study import MARK, SYMBOLS, copying_results, copying_texts
from hybridlab.ssm.delta_rule import delta_rule
from hybridlab.ssm.hybrid import Hybrid, HybridConfig
from hybridlab.ssm.linear_attention import chunked_linear_attention, linear_attention, quadratic_linear_attention
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.rwkv4_weights import from_transformers
from hybridlab.ssm.rwkv7 import Rwkv7
from hybridlab.ssm.rwkv_config import RwkvConfig
from hybridlab.ssm.window_attention import WindowAttention, window_attention
from hybridlab.ssm.wkv4 import wkv4
from torch.nn import functional as F

answer = review("week11")
seed_everything(11)
set_threads()
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)  # the libraries' own announcements


def seconds_of(call):
    """Processor time of a call, the best of two."""
    taken = []
    for _ in range(2):
        begin = time.process_time()
        call()
        taken.append(time.process_time() - begin)
    return min(taken)

# %% [markdown] id="monday"
# # Monday · the idea
#
# ## Three tokens, by hand
#
# Attention's answer is a mean of values, weighted by how well each key fits the query. Softmax makes the weights exp(q · k), so all keys must be there when the query comes. Leave softmax out, and let the weight be q · k itself, of numbers that are not negative. Three keys of two numbers, and their
# values 10, 20, 30; the query is (1, 1). We sum up *before* the query is known:

# %% id="by-hand"
memory, weight = torch.zeros(2), torch.zeros(2)
for key, value in (((1.0, 0.0), 10.0), ((0.0, 2.0), 20.0), ((1.0, 1.0), 30.0)):
    key = torch.tensor(key)
    memory, weight = memory + value * key, weight + key
    print(f"key {key.tolist()}, value {value:.0f}: memory {memory.tolist()}, weight {weight.tolist()}")
q = torch.tensor([1.0, 1.0])
print(f"then the query comes: {q @ memory:.0f} / {q @ weight:.0f} = {(q @ memory) / (q @ weight):.1f}; with all keys at hand: (1 · 10 + 2 · 20 + 2 · 30) / (1 + 2 + 2) = {110 / 5:.1f}")

# %% [markdown] id="symbols"
# **In symbols.** The sum over the past does not contain the query, so it can be carried:
#
# $$ y_t = \frac{\sum_{i \le t} \big(\varphi(q_t) \cdot \varphi(k_i)\big)\, v_i}{\sum_{i \le t} \varphi(q_t) \cdot \varphi(k_i)} = \frac{\varphi(q_t)\, M_t}{\varphi(q_t) \cdot w_t}, \qquad M_t = M_{t-1} + \varphi(k_t) v_t^\top, \quad w_t = w_{t-1} + \varphi(k_t) $$
#
# φ makes the numbers positive: elu(x) + 1. The state is a matrix and a vector for each head, at any length. In code, on the same tokens (φ(x) = x + 1 for x > 0, so we give it x = φ - 1, and a very negative one for 0):

# %% id="symbols-code"
def before_phi(rows):
    """What φ maps to these numbers."""
    x = torch.tensor(rows).reshape(1, 1, -1, 2)
    return torch.where(x >= 1, x - 1, x.clamp(min=1e-37).log())


keys, values = before_phi([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), torch.tensor([10.0, 20.0, 30.0]).reshape(1, 1, 3, 1)
y, state = linear_attention(before_phi([[1.0, 1.0]] * 3), keys, values)
print(f"y behind each token: {y.flatten().tolist()}; memory {state.memory.flatten().tolist()}, weight {state.weight.flatten().tolist()}")

# %% [markdown] id="forms-text"
# ## One layer, three forms
#
# The recurrence is slow, since each step is tiny. The form with all T² weights is fast for short texts. Between them stands the one that trains: quadratic within a chunk, recurrent between chunks.

# %% id="forms"
length = 2048
q, k, v = (torch.randn(1, 4, length, 32) for _ in range(3))
forms = {"recurrent": lambda: linear_attention(q, k, v)[0], "all T² weights": lambda: quadratic_linear_attention(q, k, v), "chunks of 64": lambda: chunked_linear_attention(q, k, v)[0]}
with torch.no_grad():
    exact = forms["recurrent"]()
    for name, call in forms.items():
        print(f"{name:15s} {length / seconds_of(call):9,.0f} tokens a second; largest difference {(call() - exact).abs().max():.0e}")

# %% [markdown] id="wkv-text"
# ## RWKV-4: a mean that fades
#
# RWKV drops the query as well. Each channel keeps a mean of its values; a token's weight is $e^{k}$, and fades by a factor $e^{-w}$ at each step. The token that is just being read has a bonus u:
#
# $$ \mathrm{wkv}_t = \frac{\sum_{i<t} e^{k_i - (t-1-i) w}\, v_i + e^{u + k_t}\, v_t}{\sum_{i<t} e^{k_i - (t-1-i) w} + e^{u + k_t}} $$
#
# Two numbers a channel would do, if exp did not overflow at 88. So a third one is kept: m, the largest exponent so far, by whose exp both sums are divided.

# %% id="wkv"
k = torch.tensor([0.0, 2.0, 1.0]).reshape(1, 3, 1)
v = torch.tensor([10.0, 20.0, 30.0]).reshape(1, 3, 1)
decay, bonus = torch.tensor([1.0]), torch.tensor([0.5])
for shift in (0.0, 50.0, 100.0):
    e = torch.exp(k.flatten() + shift)
    now, w = torch.exp(bonus + k.flatten() + shift), torch.exp(-decay)
    plain = (w * e[0] * 10 + e[1] * 20 + now[2] * 30) / (w * e[0] + e[1] + now[2])
    safe, state = wkv4(k + shift, v, decay, bonus)
    print(f"keys {shift:.0f} higher: plain exponentials {plain.item():.4f}, with the largest exponent taken out {safe[0, 2, 0]:.4f}; the state a, b, m = {[round(s, 2) for s in state.flatten().tolist()]}")

# %% [markdown] id="delta-text"
# ## RWKV-7: a memory that can be corrected
#
# Both so far only *add*. Tell them "the key lies under the mat", later "the key lies in the shed", and they answer with a blend. The **delta rule** looks first. S maps keys to values; what it holds under the key is taken out, then the new value is written:
#
# $$ S_t = S_{t-1} \big(\mathrm{diag}(e^{\log w_t}) + a_t b_t^\top \big) + v_t k_t^\top, \qquad y_t = S_t\, r_t $$
#
# With a = -k, b = k and |k| = 1 all is replaced; b = β k takes out a part β. RWKV-7 lets the token choose w, β, and what is removed. Compare how each layer weighs its past: a 1 is put in at token j, and we look where it comes out. Token 12 has the same key as token 4.

# %% id="matrices"
T, g = 20, torch.Generator().manual_seed(6)
keys = F.normalize(torch.randn(T, 16, generator=g), dim=-1)
keys[12] = keys[4]
ask = keys + 0.3 * F.normalize(torch.randn(T, 16, generator=g), dim=-1)
ask[5:] = keys[4]  # from token 5 on, all ask for the key of token 4
K, Q, ones = keys[None, None], ask[None, None], torch.eye(T)
still, kk, rr = torch.zeros(1, T, 1, 16), keys[None, :, None], ask[None, :, None]
seen = {
    "softmax": window_attention(12 * Q, K, ones[None, None])[0, 0],
    "linear attention": linear_attention(Q, K, ones[None, None])[0][0, 0],
    "RWKV-4: fades": torch.stack([wkv4(torch.zeros(1, T, 1), ones[None, :, j : j + 1], torch.tensor([0.15]), torch.tensor([0.5]))[0].flatten() for j in range(T)], 1),
    "delta rule": delta_rule(rr, still, kk, ones[None, :, None], -kk, kk)[0][0, :, 0],
}
figure, axes = plt.subplots(1, 4, figsize=(12, 2.9), layout="constrained")
for axis, (name, matrix) in zip(axes, seen.items()):
    picture = axis.imshow(matrix / matrix.abs().max(), cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set(title=name, xlabel="token that went in", xticks=(0, 4, 12, 19), yticks=(0, 4, 12, 19))
axes[0].set_ylabel("token that asks")
figure.colorbar(picture, ax=axes, label="weight / largest")
plt.show()
print(f"token 19 asks for the key of tokens 4 and 12. Weights of both: softmax {seen['softmax'][19, 4]:.2f}, {seen['softmax'][19, 12]:.2f}; delta rule {seen['delta rule'][19, 4].abs():.2f}, {seen['delta rule'][19, 12]:.2f}")

# %% [markdown] id="matrices-reading"
# Rows from 5 on all ask for token 4's key. Softmax finds token 4, and from token 12 on both. The delta rule lets go of token 4 the moment token 12 is written: the older value is *gone*, not outvoted. (0.04 and 0.80, not 0 and 1: tokens 13 to 19 wrote under other keys, and random keys in 16 dimensions overlap.) Linear attention hardly tells keys apart, and RWKV-4 looks at age alone.
#
# ## What overwriting buys: recall, by numbers
#
# n facts are stored in a state of 32 × 32 numbers, as pairs of random key and value; then each is asked for. Once each is told once; then each is told four times with a new value each time, and the newest one counts.

# %% id="recall"
def recall(n, told, rule, d=32, seeds=8):
    """Relative error of the newest values, read out of S; (seeds,) texts side by side."""
    g = torch.Generator().manual_seed(n)
    keys = F.normalize(torch.randn(seeds, n, d, generator=g), dim=-1)
    order = torch.stack([torch.cat([torch.randperm(n, generator=g) for _ in range(told)]) for _ in range(seeds)])
    k = keys.gather(1, order[..., None].expand(-1, -1, d))[:, :, None]
    v = torch.randn(seeds, n * told, 1, d, generator=g)
    a, b = {"adds": (k * 0, k * 0), "delta": (-k, k)}[rule]
    _, S = delta_rule(k, k * 0, k, v, a, b)
    newest = torch.empty(seeds, n, d).scatter_(1, order[:, -n:, None].expand(-1, -1, d), v[:, -n:, 0])
    return ((keys @ S[:, 0].mT - newest).square().mean() / newest.square().mean()).sqrt().item()


counts = (2, 4, 8, 16, 24, 32, 48, 64)
figure, axis = plt.subplots(figsize=(7, 2.9), layout="constrained")
for rule, color in (("adds", "tab:red"), ("delta", "tab:blue")):
    for told, style in ((1, "-"), (4, "--")):
        errors = [recall(n, told, rule) for n in counts]
        axis.plot(counts, errors, style, marker="o", markersize=4, color=color, label=f"{rule}, each fact told {'once' if told == 1 else f'{told} times, anew'}")
        print(f"{rule:5s}, told {told}: " + "  ".join(f"{n} facts: {e:.2f}" for n, e in zip(counts, errors)))
axis.axvline(32, color="grey", linestyle=":", label="d = 32")
axis.set(xlabel="facts", ylabel="error / size of values", title="what a state of 32 × 32 numbers recalls", ylim=(0, 3.4))
axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown] id="recall-reading"
# A memory that adds fails at changed facts from the first: it holds the sum of all that it was told. The delta rule reads the newest value nearly as well as if nothing had been told before. But no rule gets round the size. Random keys in 32 dimensions overlap, each write disturbs the others, and near 32 facts most is lost.
#
# ## Real models: RWKV
#
# An RWKV block is token shift, time mixing (wkv, or the delta rule) and channel mixing. Here is transformers' RWKV-4, with random weights, in our code. RWKV-7 equals the package `rwkv` in the same way; a test of the library holds that.

# %% id="models"
from transformers import RwkvConfig as TheirConfig
from transformers import RwkvForCausalLM

tokens = torch.randint(200, (1, 200))
theirs = RwkvForCausalLM(TheirConfig(vocab_size=200, hidden_size=64, num_hidden_layers=2, rescale_every=0)).eval()
rwkv4, rwkv7 = from_transformers(theirs), Rwkv7(RwkvConfig(200, d_model=64, d_head=16))
with torch.no_grad():
    print(f"RWKV-4: logits within {(rwkv4(tokens)[0] - theirs(tokens).logits).abs().max():.0e} of transformers'")
    for name, model in (("RWKV-4", rwkv4), ("RWKV-7", rwkv7)):
        state, pieces = None, []
        for piece in tokens.split([70, 1, 129], 1):
            logits, state = model(piece, state)
            pieces.append(logits)
        print(f"{name} in three pieces: within {(torch.cat(pieces, 1) - model(tokens)[0]).abs().max():.0e} of whole; a layer's state: {', '.join(f'{part} {tuple(t.shape)}' for part, t in state[0]._asdict().items())}")

# %% [markdown] id="hybrid-text"
# ## Hybrids: mostly state, a little attention
#
# Jamba's recipe, and since then that of most long-context models: every k-th layer attends, the others carry a state. Behind each mixer stands an MLP; every second MLP is a **slot**, which month 4 fills with a mixture of experts.

# %% id="hybrid"
config = HybridConfig(MambaConfig(200, d_model=64, n_layers=8, version=1, d_state=16), window=64, d_ff=96)
made = []
model = Hybrid(config, experts=lambda d_model: made.append(d_model) or torch.nn.Linear(d_model, d_model))
for i, layer in enumerate(model.layers):
    print(f"layer {i}: {type(layer.mixer).__name__:16s} + {'slot for experts' if config.has_experts(i) else type(layer.mlp).__name__}")
print(f"the slot was filled {len(made)} times")

# %% [markdown] id="positions-text"
# **And no positions.** Jamba has neither rotary angles nor a table of positions. Attention alone would then see a *set*: shuffle what stands before the last token, and its answer stays the same. The Mamba layers before it know the order. Shuffled, on one layer and on the hybrid:

# %% id="positions"
shuffled = torch.cat([torch.randperm(40), torch.tensor([40])])
x, text = torch.randn(1, 41, 64), torch.randint(200, (1, 41))
attention = WindowAttention(64, 4, 2)
with torch.no_grad():
    alone = (attention(x)[0][0, -1] - attention(x[:, shuffled])[0][0, -1]).abs().max()
    both = (model(text)[0][0, -1] - model(text[:, shuffled])[0][0, -1]).abs().max()
print(f"the last token's output changes by {alone:.0e} (attention alone), {both:.2f} (hybrid)")

# %% [markdown] id="cost-text"
# ## What it costs
#
# **Predicted**, in 2 bytes a number for keys and values, 4 for states. Attention keeps 2 · (kv heads · d_head) numbers a token and layer: Mistral-7B has 32 layers of 8 · 128, so 128 KiB a token. Jamba attends in 4 of 32 layers. RWKV-7 2.9B keeps 64 × 64 numbers for each of 40 heads in 32 layers, and nothing more.

# %% id="cost"
def rwkv7_bytes(layers, d, d_head=64):
    return 4 * layers * (d * d_head + 2 * d)


def jamba_bytes(tokens, window=None):
    mamba = 28 * 8192 * (16 + 3) * 4
    return 4 * 2 * 8 * 128 * 2 * min(tokens, window or tokens) + mamba


lengths = [2**n for n in range(8, 21)]
curves = {
    "attention in all 32 layers (Mistral 7B)": [32 * 2 * 8 * 128 * 2 * n for n in lengths],
    "in 4 of 32 (Jamba)": [jamba_bytes(n) for n in lengths],
    "in 4 of 32, window 4,096": [jamba_bytes(n, 4096) for n in lengths],
    "in none (RWKV-7 2.9B)": [rwkv7_bytes(32, 2560)] * len(lengths),
}
figure, axis = plt.subplots(figsize=(7.5, 3.1), layout="constrained")
for name, curve in curves.items():
    axis.plot(lengths, [b / 2**20 for b in curve], label=name)
    print(f"{name:40s} at 256K tokens: {curve[lengths.index(2**18)] / 2**30:8.3f} GiB")
axis.set(xscale="log", yscale="log", xlabel="tokens read", ylabel="MiB kept", title="what must be kept to read one token more")
axis.set_xticks([2**n for n in range(8, 21, 2)], ["256", "1K", "4K", "16K", "64K", "256K", "1M"])
axis.minorticks_off()
axis.legend(fontsize=7)
plt.show()

# %% [markdown] id="measured-text"
# Jamba's paper says 4 GB at 256K tokens, and 32 GB for Mistral (table 1): the count is right. **Measured**, on our small ones: what each model hands on, and the time per token against PyTorch's attention of the same width.

# %% id="measured"
def kept(model, length):
    with torch.no_grad():
        _, state = model.read(torch.randint(200, (1, length)))
    return sum(tensor.nbytes for layer in state for tensor in layer)


free = Hybrid(HybridConfig(MambaConfig(200, d_model=64, n_layers=8, version=1, d_state=16), d_ff=96))
for name, small in (("RWKV-4", rwkv4), ("RWKV-7", rwkv7), ("hybrid, window 64", model), ("hybrid, no window", free)):
    print(f"{name:18s} keeps " + ", ".join(f"{kept(small, n) / 1024:6.1f} KiB behind {n:4d} tokens" for n in (32, 128, 512)))
for n in (1024, 4096, 8192):
    q, k, v = (torch.randn(1, 4, n, 32) for _ in range(3))
    with torch.no_grad():
        full, linear = seconds_of(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)), seconds_of(lambda: chunked_linear_attention(q, k, v))
    print(f"{n:5,} tokens: attention {1e6 * full / n:5.1f} µs a token, linear attention in chunks {1e6 * linear / n:5.1f} µs")

# %% [markdown] id="breaks-text"
# ## How it breaks
#
# **1. exp of keys.** You have seen it: NaN at 100 in float32. **2. A removal that is too large.** The delta rule multiplies the state by $1 - \beta |k|^2$ along the key. If $\beta |k|^2$ is above 2, that is below -1: each token makes the state *larger*. (At |k| = 1.4 and β = 1 it is -0.96: just not yet.) RWKV-7 divides κ by its length for this reason. **3. Another model's state, decays above 1:** refused.

# %% id="breaks"
k = F.normalize(torch.randn(1, 60, 1, 8), dim=-1)
v, still = torch.randn(1, 60, 1, 8), torch.zeros(1, 60, 1, 8)
for length in (1.0, 1.4, 1.6):
    _, S = delta_rule(k, still, length * k, v, -length * k, length * k)
    print(f"|k| = {length}: 1 - |k|² = {1 - length**2:5.2f}: after 60 tokens S has numbers up to {S.abs().max():.1e}")
for what, call in {
    "a decay above 1": lambda: delta_rule(k, still + 0.1, k, v, -k, k),
    "a state that overflows": lambda: delta_rule(k.repeat(1, 40, 1, 1), still.repeat(1, 40, 1, 1), 3 * k.repeat(1, 40, 1, 1), v.repeat(1, 40, 1, 1), -3 * k.repeat(1, 40, 1, 1), 3 * k.repeat(1, 40, 1, 1)),
    "another model's state": lambda: rwkv7(tokens, rwkv4(tokens)[1]),
    "queries so low that all weights are 0": lambda: linear_attention(q * 0 - 1e4, q, q),
}.items():
    try:
        call()
        print(f"{what}: NOT refused")
    except ValueError as error:
        print(f"{what}: refused: {str(error)[:130]}")

# %% [markdown] id="paper-text"
# # Thursday · the paper
#
# ## *Repeat After Me: Transformers are Better than State Space Models at Copying* (Jelassi et al., 2024, [arXiv 2402.01032](https://arxiv.org/abs/2402.01032))
#
# **Its claim.** To say a string again, a model must have it. A state of B bits tells at most 2^B strings apart, so strings of more bits can't all be copied, whatever is learned. A Transformer of two layers can, for strings of any practical length: it looks up "what stood behind these last few symbols". And it *learns* to do so from far fewer texts.
#
# **In small.** Strings of 8 symbols, a mark, and the string again. Four models of two layers and a width of 64 see the same texts, of 4 to 14 symbols, and are then asked for longer ones.

# %% id="paper-data"
texts, string = copying_texts(2, 7, torch.Generator().manual_seed(1))
for row, wanted in zip(texts.tolist(), string.tolist()):
    print(" ".join("|" if token == MARK else str(token) for token in row), "  -> from the mark on, say", *wanted)

# %% id="paper-train"
results = copying_results()
lengths = list(results[0].by_length)
print("share of the symbols said rightly, by the length of the string; guessing gives 0.12")
print("last column: 14 symbols of only two kinds. Guessing between those two gives 0.50; who still guesses among all 8 says less")
print(f"{'':12s} {'weights':>8s} {'last loss':>10s} " + "".join(f"{n:>8d}" for n in lengths) + f"{'14, of two kinds':>18s}")
for r in results:
    print(f"{r.name:12s} {r.parameters:8,} {sum(r.losses[-10:]) / 10:5.2f} nats " + "".join(f"{r.by_length[n]:8.2f}" for n in lengths) + f"{r.repetitive[14]:18.2f}")

# %% id="paper-figure"
figure, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
colors = {"Transformer": "tab:red", "Mamba-2": "tab:green", "RWKV-7": "tab:purple", "hybrid": "tab:blue"}
for r in results:
    smooth = torch.tensor(r.losses).unfold(0, 10, 2).mean(1)  # of ten steps each
    axes[0].plot(10 + 2 * torch.arange(len(smooth)), smooth, color=colors[r.name], label=r.name)
    axes[1].plot(lengths, list(r.by_length.values()), "o-", color=colors[r.name], label=r.name)
axes[0].axhline(torch.tensor(float(SYMBOLS)).log(), color="grey", linestyle=":", label="guessing")
axes[0].set(xlabel="step (mean of the last ten)", ylabel="loss, nats a symbol", title="training: longer strings come later", ylim=(0, None))
axes[1].axhline(1 / SYMBOLS, color="grey", linestyle=":", label="guessing")
axes[1].axvspan(4, 14, color="tab:green", alpha=0.1, label="lengths of the training")
axes[1].set(xscale="log", xlabel="symbols in the string", ylabel="said rightly", title="say it again", ylim=(0, 1.05))
axes[1].set_xticks(lengths, lengths)
axes[1].minorticks_off()
axes[1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown] id="paper-reading"
# **Beside the claim.** What comes back: the model with attention *and* a state learns first, and goes on beyond the lengths of the training; RWKV-7, with a state alone, falls with the length. Of Mamba-2 nothing can be said: it has hardly begun to learn (its last losses are about 2 nats, and guessing is 2.08). What does not come back: our plain Transformer is not ahead after 130 steps. To look up "what stood behind
# this symbol", one layer must first move each symbol one place on; in the hybrid Mamba's short convolution hands it that for nothing. The paper trains for longer by orders of magnitude, and its Transformers get there. RWKV-7 began sooner than Mamba-2: its state can be written
# under a key. Which of the two copies better in the end, one seed and 130 steps don't show.
#
# How many bits are the limit? Count them:

# %% id="paper-bits"
for name, numbers in (("Mamba-2", 2 * 128 * 16), ("RWKV-7", 2 * 2 * 32 * 32)):
    print(f"{name}: {numbers:,} numbers of state; with one bit in each, strings of {numbers // 3:,} symbols of 3 bits are the end")
print("ours fail long before that: what limits them here is what they have learned, not yet what they could hold")

# %% [markdown] id="jamba-text"
# ## Jamba's question: how much attention is enough? ([2403.19887](https://arxiv.org/abs/2403.19887), tables 4 and 6; 1.3B weights, 250B tokens)
#
# Attention in one of four layers, or in one of eight: the loss is the same. So take eight. And with none at all? By its loss Mamba alone is about as good as attention alone. Yet something is gone: it answers "very good" where the examples say "Positive". It does not copy the *format* out of its context.

# %% id="jamba-figure"
ratio = {"C4": (-0.533, -0.533), "Books": (-0.649, -0.650), "Code": (-0.321, -0.321)}
for name, (three, seven) in ratio.items():
    print(f"log-probability a byte, {name:5s}: attention to Mamba 1:3 {three:.3f}, 1:7 {seven:.3f}")
tasks = {"IMDB": (84.1, 48.8, 90.9), "QuAC": (27.9, 20.2, 26.6), "NarrativeQA": (45.8, 27.7, 43.7)}
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
for i, (kind, color) in enumerate((("attention", "tab:red"), ("Mamba", "tab:green"), ("hybrid", "tab:blue"))):
    axis.bar([x + 0.27 * (i - 1) for x in range(3)], [scores[i] for scores in tasks.values()], width=0.25, color=color, label=kind)
axis.set_xticks(range(3), list(tasks))
axis.set(ylabel="score (paper's table 6)", title="the same size, the same tokens")
axis.legend(fontsize=8)
plt.show()

# %% [markdown] id="where"
# ## Where this sits
#
# | | |
# | --- | --- |
# | in our system | the long reader may be a hybrid; the assistant's brain attends, its memory is a state. The slot is month 4's |
# | RWKV-7 "Goose" | language models without any attention; their state is this week's S |
# | Jamba, Granite 4, Nemotron-H | Mamba with attention in one layer of eight, or fewer |
# | Qwen3-Next, Kimi Linear | delta rule in three layers of four, attention in the fourth |
# | Mistral 7B, Gemma 3 | attention in a window, alone or in most layers |
# | vLLM, llama.cpp | keep both a state and a KV cache for one sequence of such models |

# %% id="where-size"
per_token = 4 * 2 * 8 * 128 * 2
print(f"Jamba: {per_token // 1024} KiB a token of keys and values; RWKV-7 2.9B's whole state, {rwkv7_bytes(32, 2560) / 2**20:.0f} MiB, is as large as Jamba's cache of {rwkv7_bytes(32, 2560) // per_token:,} tokens")

# %% [markdown] id="sunday"
# # Sunday · review
#
# Put your answer in the place of `...` and run the cell. A number, a choice such as `"b"`, or a shape such as `(2, 3)`. You can try as often as you like.

# %% [markdown] id="q1-text"
# **1.** Linear attention. φ(q) · memory is 15, φ(q) · weight is 3 (one value channel). What is y?

# %% id="q1"
answer("q1", ...)

# %% [markdown] id="q2-text"
# **2.** RWKV-7, batch 2, 8 heads of 64, behind 1,000 tokens: the shape of a layer's S?

# %% id="q2"
answer("q2", ...)

# %% [markdown] id="q3-text"
# **3.** What is m for, in RWKV-4's state? (a) so that gradients do not vanish; (b) it is the rate of fading; (c) so that exp does not overflow

# %% id="q3"
answer("q3", ...)

# %% [markdown] id="q4-text"
# **4.** S holds 5 under the key k, |k| = 1. A token comes with key k, value 9, a = -k, b = k, log w = 0. What does S hold under k now?

# %% id="q4"
answer("q4", ...)

# %% [markdown] id="q5-text"
# **5.** A hybrid of 32 layers; layer i attends if i % 8 is 4. How many attend?

# %% id="q5"
answer("q5", ...)

# %% [markdown] id="q6-text"
# **6.** A window of 1,024 (the token itself included), behind 100,000 tokens. How many keys must be kept for what comes next?

# %% id="q6"
answer("q6", ...)

# %% [markdown] id="q7-text"
# **7.** Why can't a state of fixed size copy strings of every length? (a) it was trained for too short a time; (b) it has fewer values than there are strings; (c) a recurrence can't be trained to copy

# %% id="q7"
answer("q7", ...)

# %% [markdown] id="q8-text"
# **8.** Why can Jamba's attention do without positions? (a) Mamba layers stand before it; (b) attention sees the order anyway; (c) order does not matter at that depth

# %% id="q8"
answer("q8", ...)

# %% [markdown] id="reading"
# ## Read on
#
# 1. [RWKV-7 "Goose"](https://arxiv.org/abs/2503.14456), sections 3 and 4: from linear attention to the generalised delta rule.
# 2. [Jamba](https://arxiv.org/abs/2403.19887), section 6: ratio, positions, and why the combination works.
# 3. [Repeat After Me](https://arxiv.org/abs/2402.01032), section 2: the bound, in one page.
#
# **Next:** this week's lab, where you write all of it.
