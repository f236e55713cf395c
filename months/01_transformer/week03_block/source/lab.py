# %% [markdown] id="title"
# # Week 3 lab · The block, written by you
#
# **What you will have built.** A whole Transformer: its norms, its gated MLP, its block, its first weights, and the model that holds them.
# In the library these are `hybridlab.transformer.norms`, `.mlp`, `.block` and `.model`. Next week you train this model. In month 2 the weights of
# SmolLM2, a real Llama, are loaded into it.
#
# | day | exercise | minutes | points |
# | --- | --- | --- | --- |
# | Tue | 1 `RMSNorm` | 20 | 3 |
# | Tue | 2 `SwiGLU` | 15 | 2 |
# | Wed | 3 `Block` | 30 | 4 |
# | Wed | 4 `init_weights` | 25 | 3 |
# | Wed | 5 `MiniTransformer` | 45 | 5 |
# | Fri | 6 `LayerNorm`: find the bug | 40 | 4 |

# %% [markdown] id="how"
# **Time:** about three hours. Run from top to bottom, the solved notebook takes less than a minute. **Needs:** this week's lesson, and week 2's
# attention. If you have not promoted yours, the library's own is used.
#
# **How it works.** Read what is asked, write into the cell, run it, and run the check cell below it. A check that fails names the mistake it
# saw. `course hint week03 swiglu` gives a hint: there are three for each exercise, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.transformer.config import TransformerConfig

# %% id="setup"
import argparse
from pathlib import Path

import matplotlib.pyplot as plt
from coursekit.notebook import compare, seed_everything
from hybridlab.transformer.block import build_attention, build_mlp, build_norm   # given: they read the config
from hybridlab.transformer.model import PositionTable                            # given: learned or sinusoidal positions

seed_everything(3)
torch.set_printoptions(precision=4, sci_mode=False, linewidth=110)

# %% [markdown] id="rmsnorm-why"
# ## Tuesday · 1. `RMSNorm`: one size for every token
#
# **Why.** Every layer adds to the residual stream, so its numbers grow. A norm gives each token's vector the same size before a layer
# reads it. Llama, Qwen, Mistral and Jamba all use this one.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `RMSNorm(d, eps=1e-5)` | a module with one parameter: `weight`, shape `(d,)`, which begins at 1 |
# | `forward(x)` | `x / sqrt(mean(x²) + eps) · weight`, for `x` of any shape that ends in `d` |
# | the mean | runs over the **last axis** alone: a token's result depends on that token only |
# | `eps` | stands inside the root; a token of zeros gives zeros, not NaN |
# | float16, bfloat16 | compute the mean in float32; the result has `x`'s dtype, also when `weight` is float32 |
# | float32, float64 | stay as they are |
# | gradients | flow through the mean too: no `detach` |
# | not allowed | PyTorch's own norms |
#
# **Worked example**, by hand: the token (3, 4).

# %% id="rmsnorm-example"
token = [3.0, 4.0]
mean_square = sum(v * v for v in token) / len(token)
print("mean square     ", mean_square)
print("root mean square", round(math.sqrt(mean_square), 4))
print("normalised      ", [round(v / math.sqrt(mean_square), 4) for v in token])

# %% id="rmsnorm" exercise="hybridlab.transformer.norms.RMSNorm" points=3 minutes=20 difficulty=2

# %% [markdown] id="rmsnorm-next"
# If the check fails: print `RMSNorm(2)(torch.tensor([[3.0, 4.0], [30.0, 40.0]]))`. Both rows must be the one of the worked example. Rows that differ
# point at the axis. Rows that are too small by √2 point at a sum where a mean belongs.

# %% [markdown] id="swiglu-why"
# ## Tuesday · 2. `SwiGLU`: an MLP with a gate
#
# **Why.** Attention moves information between tokens. The MLP is where each token is worked on, alone; about two thirds of a Llama's weights are here.
# One branch proposes numbers (*up*), the other says how much of each may pass (*gate*).
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `SwiGLU(d_model, d_ff, bias=False)` | three `nn.Linear`: `gate_proj` and `up_proj` from d_model to d_ff, `down_proj` from d_ff to d_model |
# | names | exactly these: Llama's weights are loaded by name |
# | `bias` | all three have one, or none has |
# | `forward(x)` | `down_proj(silu(gate_proj(x)) · up_proj(x))`, with `silu(z) = z · sigmoid(z)`; `F.silu` is allowed |
# | shapes | `x` is `(…, d_model)`, and so is the result |
#
# **Worked example**: one hidden unit, whose gate says 2 and whose proposal is 3.

# %% id="swiglu-example"
gate, up = 2.0, 3.0
silu = gate / (1 + math.exp(-gate))
print("sigmoid(2) =", round(silu / gate, 4), "  silu(2) =", round(silu, 4), "  passes on", round(silu * up, 4))
print("with the gate at -2:", round(-2 / (1 + math.exp(2)) * up, 4), "  at -8:", round(-8 / (1 + math.exp(8)) * up, 4))

# %% id="swiglu" exercise="hybridlab.transformer.mlp.SwiGLU" points=2 minutes=15 difficulty=1

# %% [markdown] id="swiglu-next"
# If the check fails on the names or shapes: compare `[(n, p.shape) for n, p in SwiGLU(8, 12).named_parameters()]` with the contract. `nn.Linear`
# adds a bias unless it is told not to.

# %% [markdown] id="block-why"
# ## Wednesday · 3. `Block`: two additions into the stream
#
# **Why.** Everything in the model meets here. It is four lines, and each of them has been written wrongly in real projects. The models still
# train then, only worse. Nothing crashes, so only care helps.
#
# **What is asked.** The constructor is given. You write `forward`.
#
# | | |
# | --- | --- |
# | `norm_placement="pre"` | `h = x + attention(norm1(x))`, then `y = h + mlp(norm2(h))` |
# | `norm_placement="post"` | `h = norm1(x + attention(x))`, then `y = norm2(h + mlp(h))` |
# | names | norm1 is `input_layernorm`, norm2 is `post_attention_layernorm`, attention is `self_attn` |
# | dropout | `self.dropout` acts on the output of attention, and on the output of the MLP, before each is added |
# | `padding`, `cache` | are handed to the attention as they are: `self.self_attn(…, padding=padding, cache=cache)` |
# | `x` | is not changed in place |
# | shapes | `(batch, time, d_model)` in and out |
#
# **Worked example**: attention is "times 2", the MLP is "plus 1", both norms divide by the size. The stream is one positive number, so a norm
# makes 1 of it.

# %% id="block-example"
norm, attention, mlp = (lambda v: v / abs(v)), (lambda v: 2 * v), (lambda v: v + 1)
x = 10.0
h = x + attention(norm(x))
print("pre-norm :  h =", h, "  y =", h + mlp(norm(h)))
h = norm(x + attention(x))
print("post-norm:  h =", h, "  y =", norm(h + mlp(h)))

# %% id="block" exercise="hybridlab.transformer.block.Block" points=4 minutes=30 difficulty=3

# %% [markdown] id="block-next"
# If the check fails: draw the stream as a line and the two branches beside it. In pre-norm, nothing but `+` may stand on the line. In post-norm,
# the norms stand on the line.
#
# Your block at work: with the mask of week 2, changing the last token changes only the last result.

# %% id="block-use"
block = Block(TransformerConfig.llama(65, d_model=32, n_heads=4)).eval()
x = torch.randn(1, 6, 32)
changed = x.clone()
changed[0, -1] += 1.0
print("largest change, per position:", (block(changed) - block(x)).abs().amax(-1)[0].detach())

# %% [markdown] id="init-why"
# ## Wednesday · 4. `init_weights`: how a model begins
#
# **Why.** Before the first step, the model should say "every token is equally likely", and the stream should not grow with depth. Both are decided by the
# size of the random numbers that it begins with.
#
# **What is asked**
#
# | parameter | first value |
# | --- | --- |
# | a matrix (two dimensions): linear layers, embeddings, learned positions | normal, mean 0, standard deviation 0.02 |
# | a matrix whose name ends in `o_proj.weight` or `down_proj.weight` | normal, mean 0, standard deviation 0.02 / √(2 · n_layers) |
# | a bias (its name ends in `bias`) | 0 |
# | a norm's gain (a vector that is no bias) | is not touched |
#
# | | |
# | --- | --- |
# | `init_weights(model, config)` | works in place and returns nothing; use `model.named_parameters()` |
# | tied weights | stay tied: fill the parameters, do not replace them |
# | randomness | from PyTorch's global generator: no seed is set inside |
#
# **Worked example**: why 1 / √(2 · n_layers). Sum 24 random numbers (12 layers, two writes each) many times, and look at the size of the sum.

# %% id="init-example"
writes = torch.randn(24, 100_000)
print("size of the sum of 24 writes of size 1        :", round(writes.sum(0).std().item(), 3), "  √24 =", round(math.sqrt(24), 3))
print("size of the sum of 24 writes of size 1 / √24  :", round((writes / math.sqrt(24)).sum(0).std().item(), 3))

# %% id="init-weights" exercise="hybridlab.transformer.model.init_weights" points=3 minutes=25 difficulty=2

# %% [markdown] id="init-next"
# If the check fails: print `name`, `parameter.ndim` and `parameter.std()` for each parameter of a small model, after your function has run. One row
# will not be what the table says.

# %% [markdown] id="model-why"
# ## Wednesday · 5. `MiniTransformer`: the whole model
#
# **Why.** This is the model of the month's project, and the shape into which SmolLM2's weights go.
#
# **What is asked.** The constructor builds these, under these names:
#
# | submodule | what it is |
# | --- | --- |
# | `embed_tokens` | `nn.Embedding`, vocab_size × d_model |
# | `embed_positions` | `PositionTable(config)` (given): `embed_positions(x, start)` adds the positions from `start` on; with rotary positions it adds nothing |
# | `dropout` | `nn.Dropout(config.dropout)`, applied once the positions are added |
# | `layers` | `nn.ModuleList` with `n_layers` **different** `Block(config)` |
# | `norm` | pre-norm: `build_norm(config)`. Post-norm: `nn.Identity()`, since that stream is normalised already |
# | `lm_head` | `nn.Linear` from d_model to vocab_size without bias. With `config.tie_embeddings` its weight **is** that of `embed_tokens` |
#
# It keeps `config` as an attribute, and it ends with `init_weights(self, config)`.
#
# | `forward(tokens, *, padding=None, caches=None)` | |
# | --- | --- |
# | result | logits `(batch, time, vocab_size)`; no softmax |
# | `padding` | goes to every block as it is |
# | `caches` | None, or a list with one cache for each layer. `len(caches[0])` tokens are in it already: that is the position of the first of `tokens` |
# | `ValueError` | if `caches` does not hold exactly one for each layer |
#
# **Worked example**: the number of weights, which a wrong model gets wrong.

# %% id="model-example"
shape = TransformerConfig.llama(65, d_model=32, n_layers=3, n_heads=4, n_kv_heads=2, d_ff=88)
attention = 32 * (32 + 16 + 16 + 32)                          # q, k, v, o: two key/value heads of 8
layer = attention + 3 * 32 * 88 + 2 * 32                      # SwiGLU's three matrices, two gains
print("one block:", layer, "weights;  the model:", 65 * 32 + 3 * layer + 32, "(embedding counted once, final norm)")

# %% id="mini-transformer" exercise="hybridlab.transformer.model.MiniTransformer" points=5 minutes=45 difficulty=4

# %% [markdown] id="model-next"
# If the check fails: count. `sum(p.numel() for p in MiniTransformer(shape).parameters())` must be the number above. Too few weights: blocks that are one
# block. Too many: a head that is not tied.
#
# **Your model, before any training.** It should know nothing: its loss is that of a guess among all characters of the text, ln vocab_size.

# %% id="model-use"
text = Path(argparse.__file__).read_text("utf-8")             # Python's own argparse: a text that is on every machine
letters = sorted(set(text))
ids = torch.tensor([letters.index(c) for c in text])
model = MiniTransformer(TransformerConfig.llama(len(letters), d_model=64, n_layers=3, n_heads=4, max_time=64))
inputs, targets = ids[:512].view(8, 64), ids[1:513].view(8, 64)
loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
print(f"{sum(p.numel() for p in model.parameters()):,} weights; loss {loss.item():.3f} nats, ln {len(letters)} = {math.log(len(letters)):.3f}")

# %% [markdown] id="friday-why"
# ## Friday · 6. `LayerNorm`: find the bug
#
# **The symptom.** A colleague trains a GPT with the `LayerNorm` of the next cell. Its validation loss is low, lower than it ever was. But text that is generated
# token by token is bad. Below the cell are two measurements. The first is the loss of the same model on the same text, measured in two ways that must agree: on whole
# sequences, and token by token. The second is a picture: row i says which tokens move the answer at position i. In a causal model, nothing above the diagonal may
# have a colour. The attention mask has been checked twice. It is right.

# %% [markdown] id="friday-contract"
# **What is asked.** The code runs, and its shapes are right. Find the bug, and mend it. The contract:
#
# | | |
# | --- | --- |
# | `LayerNorm(d, eps=1e-5, bias=True)` | `weight` `(d,)` begins at 1, `bias` `(d,)` begins at 0; with `bias=False` the attribute `bias` is None |
# | `forward(x)` | `(x − mean) / sqrt(var + eps) · weight + bias`, for `x` of any shape that ends in `d` |
# | mean, variance | are those of **one token**; the variance divides by d |
# | float16, bfloat16 | compute in float32; the result has `x`'s dtype. Other dtypes stay as they are |
# | not allowed | PyTorch's own norms |
#
# **Worked example**: the token (3, 4) has mean 3.5 and variance 0.25, so it becomes (−1, 1).

# %% id="layernorm" exercise="hybridlab.transformer.norms.LayerNorm" points=4 minutes=40 difficulty=3

# %% id="layernorm-loss"
seed_everything(5)
gpt = MiniTransformer(TransformerConfig.gpt2(len(letters), d_model=32, n_layers=2, n_heads=2, max_time=16))
for layer in gpt.layers:                                      # every norm of this model comes from the cell above
    layer.input_layernorm, layer.post_attention_layernorm = LayerNorm(32), LayerNorm(32)
gpt.norm = LayerNorm(32)

def windows(n):
    return torch.stack([ids[i : i + 17] for i in torch.randint(len(ids) - 17, (n,))])

optimizer = torch.optim.AdamW(gpt.parameters(), lr=5e-3)
for step in range(200):
    batch = windows(32)
    loss = F.cross_entropy(gpt(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad(); loss.backward(); optimizer.step()
batch = windows(256)
with torch.no_grad():
    whole = F.cross_entropy(gpt(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
    single = sum(F.cross_entropy(gpt(batch[:, :i])[:, -1], batch[:, i]) for i in range(1, 17)) / 16
print(f"loss on whole sequences {whole:.2f} nats, token by token {single:.2f} nats   (must be equal)")

# %% id="layernorm-symptom"
from hybridlab.transformer.influence import influence

moved = influence(gpt.eval(), ids[None, 400:412]).detach()
picture = plt.imshow(moved.clamp(min=1e-6).log10(), cmap="magma", vmin=-6, vmax=0)
plt.colorbar(picture, label="log10 of the gradient's size")
plt.xlabel("token that is changed"); plt.ylabel("position whose answer moves")
plt.title("who moves whom, with the LayerNorm above")
plt.show()
future = moved.triu(1)
print(f"largest influence of a later token: {future.max():.2g}   (must be 0)")

# %% [markdown] id="friday-next"
# If you are stuck: give the cell above two tokens, `x = torch.tensor([[[3.0, 4.0], [1.0, 5.0]]])`. Change the second token, and look at the first. Then print the shape of
# each value on the way. How many means does a batch of 1 × 2 tokens need?
#
# Then look once more at the figure. And think of what a test would have to look like that had caught this bug on the first day.

# %% [markdown] id="challenge"
# ## Challenge (optional) · a smaller `SwiGLU`
#
# In training, memory is filled not by the weights but by what each layer keeps from its forward pass for its backward pass. The plain SwiGLU keeps its
# input and **four** tensors of width d_ff for each token: gate, silu(gate), up, and their product. You can do with fewer: some of them can be computed again in `backward`.
#
# Change `LeanSwiGLU` so that it keeps **less than half** of the bytes, with the same results and gradients, at not less than 0.6 times the speed.
# It can be brought to less than a tenth. Ways: `torch.autograd.Function` with a `backward` of your own, or `torch.utils.checkpoint`.

# %% id="challenge-code"
class LeanSwiGLU(SwiGLU):
    def forward(self, x: Float[Tensor, "... d_model"]) -> Float[Tensor, "... d_model"]:
        return super().forward(x)                             # change this

# %% id="challenge-ratio"
import hybridlab.transformer.mlp as library
from hybridlab.transformer.saved_memory import saved_bytes

plain, lean = library.SwiGLU(128, 344), LeanSwiGLU(128, 344)
lean.load_state_dict(plain.state_dict())
x = torch.randn(12, 64, 128, requires_grad=True)
(expected,), (got,) = (torch.autograd.grad(m(x).square().sum(), x) for m in (plain, lean))
assert torch.allclose(got, expected, rtol=1e-3, atol=1e-4), "LeanSwiGLU has other gradients than SwiGLU"
before, after = saved_bytes(plain, x), saved_bytes(lean, x)
print(f"kept for backward: reference {before / 2**20:.2f} MiB, yours {after / 2**20:.2f} MiB: {before / after:.2f} times smaller")
speed = compare(lambda: lean(x).sum().backward(), lambda: plain(x).sum().backward(), repeat=21)

# %% [markdown] id="promote"
# ## Grade, promote, and see it run
#
# ```
# course grade week03        points, and the named mistakes
# course promote week03      your code into the library
# course library             which part of the library is yours now
# ```
#
# After that, `hybridlab.transformer.model.MiniTransformer` is your model, made of your blocks, with your norms. Here it is at work already: sixty steps on
# the text of `argparse`. Next week you write the loop that does this properly.

# %% id="train-it"
seed_everything(3)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
losses = []
for step in range(60 if profile == "cpu" else 600):
    at = torch.randint(len(ids) - 65, (8,))
    batch = torch.stack([ids[i : i + 65] for i in at])
    loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    losses.append(loss.item())
plt.plot(losses, label="your model")
plt.axhline(math.log(len(letters)), color="grey", linestyle=":", label=f"ln {len(letters)}: a guess")
plt.xlabel("step"); plt.ylabel("loss (nats per character)"); plt.legend(); plt.title("your MiniTransformer learns")
plt.show()
print(f"loss {losses[0]:.2f} at the start, {sum(losses[-10:]) / 10:.2f} over the last ten steps")

# %% [markdown] id="next"
# ## What comes next
#
# Week 4 trains this model as it is done at scale: batches, warm-up and cosine, clipping, checkpoints, a KV cache for generation. Your `caches` argument is what
# makes that cache possible.
