# %% [markdown] id="title"
# # Week 7 lesson · Quantisation
#
# **The question of the week: a weight takes 32 bits. How few can it take before the model no longer knows what it knew?**
#
# **Afterwards you can**
# - turn weights into whole numbers and scales, and say how large the error can be;
# - count bits a weight honestly, scales included, and predict a model's size;
# - say where NF4's sixteen levels lie and why, and get bitsandbytes' codes;
# - say why activations are harder to round than weights, and what LLM.int8() does about it;
# - explain how GPTQ makes errors cancel;
# - choose between torchao, dynamic int8 and four bits for a machine.
#
# **Time:** Monday 90 minutes, Thursday 60, Sunday 30. The notebook runs in less than a minute. **You need:** month 1, and weeks 5 and 6.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import copy
import logging
import math
import time
import warnings

import matplotlib.pyplot as plt
import torch
from coursekit.notebook import review, seed_everything
from hybridlab.data.parallel import load_parallel
from hybridlab.llm.gptq import gptq_quantize
from hybridlab.llm.hessian import layer_hessian
from hybridlab.llm.nf4 import dequantize_nf4, nf4_levels, quantize_nf4
from hybridlab.llm.perplexity import bits_per_weight, block_linears, changed_weights, perplexity, rounded
from hybridlab.llm.quantize import absmax_quantize, dequantize, outlier_matmul
from hybridlab.llm.quantized_linear import QuantizedLinear
from hybridlab.llm.smollm2 import load_model, load_tokenizer
from hybridlab.runtime import set_threads
from torch import nn

answer = review("week07")
seed_everything(7)
set_threads()
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)  # the libraries' own announcements
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)

# %% [markdown] id="monday"
# # Monday · the idea
#
# ## Four weights, by hand
#
# The weights 0.65, -1.4, 0.25 and 0.05 are to become whole numbers of four bits, from -7 to 7. The largest, 1.4, becomes 7, so a step is 1.4 / 7 = 0.2. Divide each weight by the step and round. To come back,
# multiply by the step. What is lost is at most half a step, 0.1, whatever the weight was.

# %% id="by-hand"
weights = [0.65, -1.4, 0.25, 0.05]
step = max(abs(w) for w in weights) / 7
for w in weights:
    print(f"{w:5.2f} / {step:.1f} = {w / step:5.2f} -> code {round(w / step):2d} -> {round(w / step) * step:5.2f}   lost {abs(w - round(w / step) * step):.2f}")

# %% [markdown] id="symbols"
# **In symbols.** For a group of weights $w_1 \dots w_g$ and codes of $b$ bits, with $Q = 2^{b-1} - 1$:
#
# $$ s = \frac{\max_i |w_i|}{Q} \qquad q_i = \mathrm{round}(w_i / s) \qquad \hat w_i = s\, q_i \qquad |w_i - \hat w_i| \le \frac{s}{2} $$
#
# | the group is | called | scales |
# | --- | --- | --- |
# | the whole matrix | per tensor | 1 |
# | a row | per channel | one a row |
# | some neighbours in a row | per group | one for each group |
#
# **In code**, with the library's function:

# %% id="small-code"
codes, scales = absmax_quantize(torch.tensor([weights]), bits=4, group_size=4)
print("codes", codes.tolist(), " scale", scales.tolist(), " back", dequantize(codes, scales, 4))

# %% [markdown] id="bell-text"
# ## NF4: levels where the weights are
#
# Fifteen evenly spaced levels suit weights that are evenly spread. Real ones lie in a bell: many near zero. NF4 (QLoRA, week 6) puts its sixteen levels at *quantiles* of the normal distribution, so
# that each is used about equally often. Eight above zero, seven below, and zero itself, which must be exact: padding and pruned weights are zeros.
#
# **The test:** on normal weights, NF4 must beat evenly spaced levels, and our codes must be those of bitsandbytes, one for one.

# %% id="bell-code"
import bitsandbytes.functional as bnb

bell = torch.randn(512, 512)
nf4_codes, largest = quantize_nf4(bell)
packed, state = bnb.quantize_4bit(bell, blocksize=64, quant_type="nf4")
theirs = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], dim=-1).flatten()
print(f"codes that differ from bitsandbytes': {int((nf4_codes != theirs).sum())} of {bell.numel():,}")
int4 = absmax_quantize(bell, 4, 64)
for name, back in (("int4", dequantize(*int4, 64)), ("NF4", dequantize_nf4(nf4_codes, largest, (512, 512)))):
    print(f"{name:5s} error {((back - bell).norm() / bell.norm()).item():.2%} of the weights, in groups of 64")

# %% id="bell-figure"
figure, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained", sharey=True)
shares = ((int4[0].flatten().int() + 7).bincount(minlength=15), nf4_codes.int().bincount(minlength=16))
for axis, share, levels, name in zip(axes, shares, (torch.arange(-7, 8) / 7, nf4_levels()), ("int4: evenly spaced", "NF4: quantiles")):
    axis.bar(levels, share / share.sum(), width=0.05)
    axis.axhline(1 / len(levels), color="black", linestyle="--", label="each equally often")
    axis.set(xlabel="level", title=name)
axes[0].set_ylabel("share of the weights")
legend = axes[0].legend()

# %% [markdown] id="real-text"
# Flatter, and not flat: the largest of 64 weights usually lies farther out than the outermost quantile, so the outer levels are rarer.
#
# ## At real size: SmolLM2 in 8, 4, 3 and 2 bits
#
# Now each linear layer of the 30 blocks is rounded, and we ask the model how well it still predicts a text. **Perplexity** is exp of the mean loss: a model that hesitates between 30 equally good words has 30.
#
# One thing to know first. Our copy of SmolLM2 comes from a file in four bits (week 5, Q4_1), so its makers have rounded it once, with a scale *and* a minimum for each 32 weights. The "float32" below
# is that model; rounding it to four bits means rounding a second time, to other levels.

# %% id="real-load"
tokenizer, model = load_tokenizer(), load_model()
sentences = load_parallel()[0].english
ids = tokenizer(" ".join(sentences), return_tensors="pt").input_ids
tokens, calibration = ids[:, :96], ids[:, 200:456]
n_weights = sum(linear.weight.numel() for _, linear in block_linears(model))
original = perplexity(model, tokens)
print(f"{n_weights:,} weights in {sum(1 for _ in block_linears(model))} linear layers; perplexity in float32 {original:.1f}, over {tokens.shape[1]} tokens")

# %% id="real-measure"
def nf4_and_back(weight):
    return dequantize_nf4(*quantize_nf4(weight), tuple(weight.shape))


def bits_of(bits, size=None):
    """Bits a weight over all layers; no size: a scale a row."""
    return sum(l.weight.numel() * bits_per_weight(l.in_features, bits, size or l.in_features) for _, l in block_linears(model)) / n_weights


settings = {"int8, a scale a row": (8, None)} | {f"int{bits}, groups of 64": (bits, 64) for bits in (4, 3, 2)}
measured = {"float32": (32.0, original)}
for name, (bits, size) in settings.items():
    with changed_weights(model, lambda w: rounded(w, bits, size or w.shape[1])):
        measured[name] = (bits_of(bits, size), perplexity(model, tokens))
with changed_weights(model, nf4_and_back):
    measured["NF4, groups of 64"] = (bits_of(4, 64), perplexity(model, tokens))
for name, (bits, value) in measured.items():
    print(f"{name:22s} {bits:6.2f} bits a weight  {bits * n_weights / 8 / 2**20:6.1f} MiB   perplexity {value:,.1f}")

# %% id="real-figure"
figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
for name, (bits, value) in measured.items():
    axis.scatter(bits * n_weights / 8 / 2**20, value)
    axis.annotate(name, (bits * n_weights / 8 / 2**20, value), xytext=(5, -14 if "NF4" in name else 6), textcoords="offset points", fontsize=8)
axis.axhline(original, color="black", linestyle="--", linewidth=1)
axis.set(xscale="log", yscale="log", xlabel="MiB of the linear layers, scales included", ylabel="perplexity (lower is better)", title="SmolLM2-135M: what rounding costs")
axis.margins(0.15)

# %% [markdown] id="real-reading"
# Eight bits are free (a difference of some tenths is noise in a text as short as this). At four the curve begins to bend, and NF4's better levels buy back a good part. At three it climbs, and with two bits (three levels: -1, 0, 1) the model is gone. Models of many
# billions of weights bend later: they have more to spare.
#
# ## What it costs
#
# **Predicted.** b bits a weight, and 32 bits for each scale: b + 32 / g. Time: the same multiplications as before, *plus* making the floats. So weight-only codes save memory, and on a processor without a special kernel no time.
# **Measured:** one layer of SmolLM2's MLP, one token.

# %% id="cost"
import torchao.quantization

linear, x = model.model.layers[3].mlp.up_proj, torch.randn(1, 576)
alone = nn.Sequential(copy.deepcopy(linear))
dynamic = torch.ao.quantization.quantize_dynamic(copy.deepcopy(alone), {nn.Linear}, dtype=torch.qint8)
weight_only = copy.deepcopy(alone)
torchao.quantization.quantize_(weight_only, torchao.quantization.Int8WeightOnlyConfig())
layers = {"float32": alone, "ours, 8 bits": QuantizedLinear(linear, 8, 576), "ours, 4 bits": QuantizedLinear(linear, 4, 64), "torchao int8": weight_only, "torch dynamic int8": dynamic}
for name, layer in layers.items():
    samples = []
    with torch.no_grad():
        for _ in range(15):
            begin = time.process_time()
            out = layer(x)
            samples.append(time.process_time() - begin)
        error = ((out - linear(x)).norm() / linear(x).norm()).item()
    size = f"{layer.n_bytes:9,} bytes" if isinstance(layer, QuantizedLinear) else " " * 15
    print(f"{name:20s} {size}  {1e3 * sorted(samples)[7]:6.2f} ms   error of the output {error:.2%}")
for bits, group in ((8, 576), (4, 64)):
    print(f"predicted for {bits} bits: {int(linear.weight.numel() * bits_per_weight(576, bits, group) / 8):,} bytes")

# %% [markdown] id="cost-reading"
# *Dynamic* int8 rounds x as well, so that integers are multiplied with integers: that is why it is fast. Its error is larger for that, and because PyTorch gives the whole matrix one scale. torchao's *weight-only* keeps x as it is, as ours does.
# Is torchao's code the same as ours?

# %% id="cost-torchao"
theirs = weight_only[0].weight
ours = absmax_quantize(linear.weight.detach(), 8, 576)
print("scale, ours / theirs:", f"{(ours[1].flatten() / theirs.scale.flatten()).mean().item():.5f}", " 127.5 / 127 =", f"{127.5 / 127:.5f}")
print("largest difference of a code:", (ours[0].int() - theirs.qdata.int()).abs().max().item())

# %% [markdown] id="breaks-text"
# torchao spreads 255 steps from -128 to 127 and divides by 127.5. Two honest conventions; never mix codes of one with scales of the other.
#
# ## How it breaks
#
# **One large weight.** The scale is set by the largest. A single weight of 50 among thousands of size 1 makes a step of 50 / 7: everything else becomes 0. A group confines the damage.

# %% id="breaks-outlier"
row = torch.randn(1, 4096)
row[0, 100] = 50.0
for size in (4096, 512, 64):
    codes, scales = absmax_quantize(row, 4, size)
    print(f"groups of {size:4d}: {(codes == 0).float().mean():6.1%} of the codes are 0, error {((dequantize(codes, scales, size) - row).norm() / row.norm()).item():.1%}")

# %% [markdown] id="breaks-more"
# **NaN.** The largest of a group with a NaN is NaN, and then the whole group is lost: as int8, NaN becomes any number, and no one notices. So it is refused.
#
# **Numbers of one sign.** What comes out of a ReLU is never negative. Symmetric codes then waste half of themselves. Formats with a *zero-point* or a minimum (Q4_1) don't: week 5's blocks hold d · q + m.

# %% id="breaks-more-code"
spoilt = torch.randn(4, 64)
spoilt[1, 2] = float("nan")
try:
    absmax_quantize(spoilt, 8, 64)
except ValueError as error:
    print("refused:", error)
positive = torch.rand(1, 4096)
codes, scales = absmax_quantize(positive, 4, 4096)
symmetric = (dequantize(codes, scales, 4096) - positive).norm() / positive.norm()
low, high = positive.min(), positive.max()
with_minimum = ((positive - low) / (high - low) * 15).round() / 15 * (high - low) + low
print(f"{codes.unique().numel()} of 15 codes are used; error {symmetric:.1%} symmetric, {(with_minimum - positive).norm() / positive.norm():.1%} with a minimum")

# %% [markdown] id="paper-text"
# # Thursday · the paper
#
# ## *LLM.int8()* (Dettmers et al., 2022, [arXiv 2208.07339](https://arxiv.org/abs/2208.07339))
#
# Here x is rounded as well. **Its claim** (table 1): absmax int8 for everything hurts. A scale for each token and each row (*vector-wise*) helps, and is not enough. If the few features with an \|x\| of 6 or more
# stay in full precision and all others go in int8, nothing is lost. We first look for such features in SmolLM2: what goes into the layers of each block?

# %% id="paper-look"
peaks = {"q_proj": [], "down_proj": []}
hooks = [
    module.register_forward_pre_hook(lambda module, given, kind=name.rpartition(".")[2]: peaks[kind].append(given[0][0].abs().amax(0)))
    for name, module in block_linears(model)
    if name.endswith(("q_proj", "down_proj"))
]
with torch.no_grad():
    model(tokens)
for hook in hooks:
    hook.remove()
figure, axes = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
for axis, (kind, features) in zip(axes, peaks.items()):
    axis.semilogy([f.max() for f in features], "o-", color="tab:red", label="largest feature")
    axis.semilogy([f.median() for f in features], "s-", color="tab:blue", label="median feature")
    axis.axhline(6, color="black", linestyle="--", label="threshold: 6")
    axis.set(xlabel="block", title=f"what goes into {kind}")
axes[0].set_ylabel("largest |x| over the text")
axes[0].legend(fontsize=8)
for kind, features in peaks.items():
    print(f"{kind}: {sum(int((f >= 6).sum()) for f in features)} of {sum(len(f) for f in features):,} features reach 6; the largest is {max(f.max().item() for f in features):.0f}")

# %% [markdown] id="paper-claim"
# A few features stand far above all others. **Now the claim.** Integers of this size are exact in float32 to 7 digits, so we multiply the codes as floats: the same numbers, faster here than int32.

# %% id="paper-measure"
def integers(x, weight):
    """Per tensor: one scale for all of x, and one for the weight."""
    a, s = absmax_quantize(x.reshape(1, -1), 8, x.numel())
    b, t = absmax_quantize(weight.reshape(1, -1), 8, weight.numel())
    return a.view(x.shape).float() @ b.view(weight.shape).float().T * (s * t)


def decomposed(x, weight, threshold):
    """The library's outlier_matmul, with the integers as floats."""
    outlier = (x.abs() >= threshold).any(0)
    a, s = absmax_quantize(x.masked_fill(outlier, 0), 8, x.shape[1])
    b, t = absmax_quantize(weight.masked_fill(outlier, 0), 8, x.shape[1])
    return a.float() @ b.float().T * s * t.T + x[:, outlier] @ weight[:, outlier].T


probe, matrix = torch.randn(4, 576) * torch.rand(576).mul(4).exp() / 10, model.model.layers[3].mlp.up_proj.weight.detach()
print(f"the library's and this one differ by {(outlier_matmul(probe, matrix) - decomposed(probe, matrix, 6.0)).abs().max():.1e}")
methods = {"absmax": integers, "vector-wise": lambda x, w: decomposed(x, w, math.inf), "LLM.int8()": lambda x, w: decomposed(x, w, 6.0)}
results = {"float32": original}
for name, method in methods.items():
    hooks = [module.register_forward_hook(lambda module, given, out, method=method: method(given[0][0], module.weight)[None]) for _, module in block_linears(model)]
    results[name] = perplexity(model, tokens)
    for hook in hooks:
        hook.remove()

# %% id="paper-table"
paper = {"float32": (25.65, 14.43, 12.45), "absmax": (87.76, 15.11, 19.08), "vector-wise": (35.84, 14.98, 16.48), "LLM.int8()": (25.83, 14.44, 12.45)}
sizes = ("125M", "2.7B", "13B")
print("perplexity   " + "".join(f"{'paper, ' + size:>13s}" for size in sizes) + "   ours, SmolLM2-135M")
for name, values in paper.items():
    print(f"{name:13s}" + "".join(f"{value:13.2f}" for value in values) + f"{results[name]:14.2f}")
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
columns = {f"paper, {size}": values for size, values in zip(sizes, zip(*paper.values()))} | {"ours, 135M": list(results.values())}
for i, (label, values) in enumerate(columns.items()):
    axis.bar([method + 0.2 * (i - 1.5) for method in range(4)], [v / values[0] for v in values], width=0.19, label=label)
axis.set(ylabel="perplexity / that of float32", title="table 1 of LLM.int8(), and ours")
axis.set_xticks(range(4), list(paper))
legend = axis.legend()

# %% [markdown] id="paper-reading"
# **Beside the claim.** Another model and another text, so the levels differ. The order is the paper's: absmax is worst, vector-wise better, and with the decomposition nearly everything comes back. The paper's other half, that the damage of plain int8
# comes back with size (2.7B and 13B above: 1.05 and 1.53 times float32's perplexity with absmax), can't be seen on one small model.
#
# ## And the weights? GPTQ on one layer
#
# Rounding each weight to the nearest is not the best for the *output*. GPTQ (Frantar et al., 2022, [arXiv 2210.17323](https://arxiv.org/abs/2210.17323)) rounds column by column and lets the columns that are still free make up for each error. It needs to
# know which features go together: XᵀX, over a text. We judge on *other* text.

# %% id="gptq"
layer = model.model.layers[15].self_attn.q_proj
seen = []
hook = layer.register_forward_pre_hook(lambda module, given: seen.append(given[0][0]))
with torch.no_grad():
    model.model(calibration), model.model(tokens)  # no logits: the inputs of one layer are enough
hook.remove()
known, new = seen
hessian, weight = layer_hessian(known), layer.weight.detach()
for bits in (4, 3, 2):
    nearest, smart = absmax_quantize(weight, bits, 64), gptq_quantize(weight, hessian, bits, 64)
    errors = [((dequantize(*pair, 64) - weight) @ new.T).norm() / (weight @ new.T).norm() for pair in (nearest, smart)]
    print(f"{bits} bits, groups of 64: output error on new text {errors[0]:.1%} rounded to the nearest, {errors[1]:.1%} with GPTQ")

# %% [markdown] id="where"
# ## Where this sits
#
# | | |
# | --- | --- |
# | in our system | week 8's engine runs 4-bit files; the assistant's model and its adapters on a laptop do, too |
# | llama.cpp | blocks of 32 with a scale (and a minimum): week 5's Q8_0 and Q4_1 are this week's groups |
# | bitsandbytes | LLM.int8() and NF4: QLoRA trains on top of frozen NF4 |
# | vLLM | reads GPTQ and AWQ models, with kernels that dequantise within the product |
# | torchao | int8 weight-only and dynamic, in PyTorch itself |
#
# What would a model of 8 billion weights take?

# %% id="where-size"
for name, bits in (("bfloat16", 16), ("int8, a scale a row of 4,096", bits_per_weight(4096, 8, 4096)), ("NF4, groups of 64", bits_per_weight(4096, 4, 64))):
    print(f"{name:30s} {bits:6.3f} bits a weight: {8e9 * bits / 8 / 2**30:5.1f} GiB")

# %% [markdown] id="sunday"
# # Sunday · review
#
# Put your answer in the place of `...` and run the cell. A number, a choice such as `"b"`, or a shape such as `(2, 3)`. You can try as often as you like.

# %% [markdown] id="q1-text"
# **1.** A group's largest absolute value is 2.54, and codes have 8 bits. What is the scale?

# %% id="q1"
answer("q1", ...)

# %% [markdown] id="q2-text"
# **2.** How many bits does a weight take with 4-bit codes and a float32 scale for every 32 weights?

# %% id="q2"
answer("q2", ...)

# %% [markdown] id="q3-text"
# **3.** A weight of shape (100, 130) is quantised in groups of 64. What is the shape of the scales?

# %% id="q3"
answer("q3", ...)

# %% [markdown] id="q4-text"
# **4.** A scale is 0.2. How far can a weight of the group be from what comes back, at most?

# %% id="q4"
answer("q4", ...)

# %% [markdown] id="q5-text"
# **5.** Why are NF4's levels close together near zero? (a) zeros must be exact; (b) that is where most weights are; (c) small weights matter more

# %% id="q5"
answer("q5", ...)

# %% [markdown] id="q6-text"
# **6.** A byte holds the codes 3 (first, low half) and -1 (second, high half). What is the byte, as a number from 0 to 255?

# %% id="q6"
answer("q6", ...)

# %% [markdown] id="q7-text"
# **7.** GPTQ with a hessian that is the identity gives (a) the codes of rounding to the nearest; (b) zeros; (c) the best codes for any input

# %% id="q7"
answer("q7", ...)

# %% [markdown] id="reading"
# ## Read on
#
# 1. [LLM.int8()](https://arxiv.org/abs/2208.07339), section 4: how the outlier features emerge as models grow.
# 2. [GPTQ](https://arxiv.org/abs/2210.17323), section 3: three steps from a method that takes years to one that takes hours.
# 3. [QLoRA](https://arxiv.org/abs/2305.14314), section 3: NF4, and scales that are quantised themselves.
#
# **Next:** this week's lab, where you write all of it. Then week 8: the small model answers many at once.
