# %% [markdown] id="title"
# # Week 7 lab · A model in few bits, written by you
#
# **What you will have built:** everything that puts a model's weights into 8, 4 or 3 bits and takes them out again: groups and scales, two codes to a byte, NF4's levels, LLM.int8()'s
# outliers, and GPTQ. In the library it is `hybridlab.llm.quantize`, `.nf4` and `.gptq`. `QuantizedLinear` is made of it, and the assistant's models can be.
#
# | day | exercise | minutes | points |
# | --- | --- | --- | --- |
# | Tue | 1 `absmax_quantize` | 35 | 4 |
# | Tue | 2 `pack_int4` | 25 | 3 |
# | Wed | 3 `nf4_levels` | 20 | 2 |
# | Wed | 4 `outlier_matmul` | 40 | 4 |
# | Wed | 5 `gptq_quantize` | 45 | 5 |
# | Fri | 6 `dequantize`: find the bug | 30 | 3 |
#
# **Time:** about 3½ hours. Run from top to bottom, the solved notebook takes less than a minute. **Needs:** this week's lesson, and week 5 for the model.
#
# A check that fails names the mistake it saw. `course hint week07 absmax-quantize` gives a hint: there are three for each exercise, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int8, UInt8
from torch import Tensor

from hybridlab.llm.hessian import compensation
from hybridlab.llm.int_codes import largest_code, require_finite

# %% id="setup"
import matplotlib.pyplot as plt
from coursekit.notebook import compare, seed_everything
from hybridlab.llm.hessian import layer_hessian
from hybridlab.llm.int_codes import unpack_int4
from hybridlab.runtime import set_threads

seed_everything(7)
set_threads()
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)

# %% [markdown] id="absmax-why"
# ## Tuesday · 1. `absmax_quantize`: whole numbers and a scale
#
# **Why.** A weight in float32 takes 32 bits. A whole number from -127 to 127 takes 8, and one float for a *group* of them says how large a step is. The smaller the group,
# the closer its scale fits, and the more scales there are to store.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `weight` | `(rows, d_in)`, any floating dtype; everything is computed in float32; it stays unchanged |
# | `bits` | 2 to 8. The largest code is Q = `largest_code(bits)`, which is given: 127, …, 7, 3, 1 |
# | groups | `group_size` neighbours in a row; ceil(d_in / group_size) groups, the last may be shorter |
# | scale | largest absolute value of the group, divided by Q |
# | code | weight / scale, rounded to the nearest whole number (`torch.round`), never outside -Q … Q |
# | a group of zeros | codes 0, scale 0 |
# | result | `(codes, scales)`: int8 `(rows, d_in)`, float32 `(rows, groups)` |
# | `ValueError` | `bits` outside 2 … 8, `group_size` below 1, NaN or infinity; `require_finite("weight", weight)`, which is given, raises it |
#
# **Worked example.** One row, 4 bits, groups of three; the last group has one weight.

# %% id="absmax-example"
row = [0.65, -1.4, 0.25, 10.0]
for group in (row[:3], row[3:]):
    scale = max(abs(w) for w in group) / 7
    print(f"group {group}: scale {scale:.3f}, quotients {[round(w / scale, 2) for w in group]}, codes {[round(w / scale) for w in group]}")

# %% id="absmax-quantize" exercise="hybridlab.llm.quantize.absmax_quantize" points=4 minutes=35 difficulty=2

# %% [markdown] id="absmax-next"
# If the check fails on shapes: print the shape after each step. If it speaks of zeros: what is 0 / 0, and what becomes of it in int8?

# %% [markdown] id="pack-why"
# ## Tuesday · 2. `pack_int4`: two codes to a byte
#
# **Why.** No processor has a type of four bits. A code from -8 to 7 in int8 wastes half of each byte, and the model would be no smaller than with 8 bits.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `codes` | int8 `(rows, d_in)`, each from -8 to 7; it stays unchanged |
# | byte `j` of a row | code `2j` in its low four bits, code `2j + 1` in its high four |
# | a negative code | two's complement of four bits: c + 16, so -1 is 15 (1111) and -8 is 8 (1000) |
# | an odd number of codes | the last byte's high half is 0 |
# | result | uint8 `(rows, ceil(d_in / 2))`; `unpack_int4(packed, d_in)`, which is given, takes it apart |
# | `ValueError` | a code outside -8 … 7 |
#
# **Worked example:**

# %% id="pack-example"
for first, second in ((3, 5), (-1, 2), (-8, -3)):
    print(f"codes {first:2d}, {second:2d}: bits {second % 16:04b} {first % 16:04b}, byte {first % 16 + 16 * (second % 16)}")

# %% id="pack-int4" exercise="hybridlab.llm.quantize.pack_int4" points=3 minutes=25 difficulty=2

# %% [markdown] id="pack-next"
# If the check fails: pack `[[-1, 2]]` and look at the byte's bits with `f"{byte:08b}"`. What you have now stores a layer in a seventh of its bytes:

# %% id="pack-use"
layer = torch.randn(64, 576)
codes, scales = absmax_quantize(layer, 4, 64)
packed = pack_int4(codes)
print(f"float32 {layer.nbytes:,} bytes; packed {packed.nbytes:,} and scales {scales.nbytes:,}: {8 * (packed.nbytes + scales.nbytes) / layer.numel():.2f} bits a weight")
print("unpacked, the codes are the same:", torch.equal(unpack_int4(packed, 576), codes))

# %% [markdown] id="nf4-why"
# ## Wednesday · 3. `nf4_levels`: where the weights are
#
# **Why.** Weights are distributed like a bell: many small ones, few large ones. Sixteen evenly spaced levels waste most of themselves on the tails. NF4 puts its levels at *quantiles* of the
# normal distribution, so that each is used about equally often. QLoRA (week 6) trains on weights in this form.
#
# **What is asked.** Q is the quantile function, `torch.special.ndtri`, and p = (31/32 + 29/30) / 2.
#
# | | |
# | --- | --- |
# | eight positive levels | Q at eight probabilities: nine evenly spaced points from p down to 1/2, the last (1/2) dropped |
# | seven negative levels | -Q at seven probabilities: eight such points, the last dropped |
# | and | an exact 0 |
# | then | all divided by the largest, so that they end at -1 and 1 |
# | result | the sixteen in rising order; computed in float64, returned in float32 |
# | not allowed | bitsandbytes' own table |
#
# **Worked example**, with four levels on a side in place of eight:

# %% id="nf4-example"
outermost = (31 / 32 + 29 / 30) / 2
points = torch.linspace(outermost, 0.5, 5, dtype=torch.float64)
print("probabilities", points, " the last one dropped")
print("quantiles    ", torch.special.ndtri(points[:-1]), " falling")
print("divided      ", torch.special.ndtri(points[:-1]) / torch.special.ndtri(points[0]))

# %% id="nf4-levels" exercise="hybridlab.llm.nf4.nf4_levels" points=2 minutes=20 difficulty=2

# %% [markdown] id="nf4-next"
# If the check fails: count your levels, and look for the 0 among them. Here they are under the bell for which they were made:

# %% id="nf4-plot"
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
axis.hist(torch.randn(200_000).numpy() / torch.special.ndtri(torch.tensor(outermost)).item(), bins=300, range=(-1.4, 1.4), color="lightsteelblue", label="normal weights")
axis.vlines(nf4_levels(), 0, 1500, color="tab:red", label="your levels")
axis.set(xlabel="weight / outermost quantile (1.85 standard deviations)", ylabel="how many", ylim=(0, 2000), title="close together where the weights are")
axis.legend()
plt.show()

# %% [markdown] id="outlier-why"
# ## Wednesday · 4. `outlier_matmul`: LLM.int8()
#
# **Why.** If x is rounded as well, integers can be multiplied with integers, which hardware does fast. But a few features of x are far larger than all others. They set the scale, and
# everything else rounds to nothing. LLM.int8() multiplies those few features in full precision, and all others in 8 bits.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `x`, `weight` | `(tokens, d_in)` and `(d_out, d_in)`, any floating dtype; they stay unchanged |
# | an outlier | a feature (column of x) in which *any* token has \|x\| >= `threshold` (6.0 if not given) |
# | outliers | their columns of x times their columns of weight, in float32 |
# | all others | 8-bit codes; one scale for each token of x and one for each row of weight, found **without the outlier columns** |
# | integers | products added without overflow (int32), then multiplied by both scales |
# | result | the sum of both, `(tokens, d_out)`, dtype of `x` |
# | `ValueError` | different numbers of features; NaN or infinity in either, outlier or not |
#
# **Worked example.** One token, three features, the last one an outlier:

# %% id="outlier-example"
x, w = [1.0, -0.3, 20.0], [0.2, 0.4, 0.1]
scale_x, scale_w = 1.0 / 127, 0.4 / 127
codes_x, codes_w = [round(v / scale_x) for v in x[:2]], [round(v / scale_w) for v in w[:2]]
integers = sum(a * b for a, b in zip(codes_x, codes_w))
print(f"codes {codes_x} and {codes_w}: integers {integers}, times both scales {integers * scale_x * scale_w:.5f}; outlier {x[2] * w[2]:.1f}")
print(f"sum {integers * scale_x * scale_w + x[2] * w[2]:.5f}, exact {sum(a * b for a, b in zip(x, w)):.5f}")

# %% id="outlier-matmul" exercise="hybridlab.llm.quantize.outlier_matmul" points=4 minutes=40 difficulty=3

# %% [markdown] id="outlier-next"
# If the check fails: with `threshold=float("inf")` everything is integers, with 0 everything is float32. Find out which half is wrong.

# %% id="outlier-use"
x, weight = torch.randn(16, 256), torch.randn(64, 256)
x[:, 17] *= 40
exact = x @ weight.T
for name, threshold in (("integers alone", float("inf")), ("LLM.int8()", 6.0)):
    print(f"{name:15s} error {(outlier_matmul(x, weight, threshold) - exact).norm() / exact.norm():.3%} of the result")

# %% [markdown] id="gptq-why"
# ## Wednesday · 5. `gptq_quantize`: errors that cancel
#
# **Why.** Rounding each weight to the nearest makes each *weight* as good as it can be. What counts is the layer's *output*. If two features always come together, one weight that was rounded up can be
# made good by rounding the other down. GPTQ does that: it rounds column by column, and after each one moves the columns that are still free.
#
# **What is asked.** H is `hessian` = XᵀX / tokens, and U = `compensation(hessian, damping)`, which is given: upper triangular, float64.
#
# | | |
# | --- | --- |
# | scales | those of `absmax_quantize(weight, bits, group_size)`, for the weight as it came; they stay |
# | for each column j, left to right | |
# | 1 | code = round(column / scale of its group), from -Q to Q; 0 where the scale is 0 |
# | 2 | error = (column - code · scale) / U[j, j] |
# | 3 | from every column k > j, as it now stands, subtract error · U[j, k] |
# | precision | float64; `weight` and `hessian` stay unchanged |
# | result | `(codes, scales)` as `absmax_quantize` gives them |
# | `ValueError` | a hessian that is not d_in × d_in; whatever the given functions refuse |
#
# **Worked example.** Two weights, 0.4 and 0.4, a scale of 1, and two features that are nearly equal:

# %% id="gptq-example"
upper = compensation(torch.tensor([[1.0, 0.95], [0.95, 1.0]]), 0.01)
first, second = 0.4, 0.4
code = round(first)
error = (first - code) / upper[0, 0].item()
moved = second - error * upper[0, 1].item()
print(f"first code {code}; the second weight moves from {second} to {moved:.3f}, so its code is {round(moved)}, not {round(second)}")
print(f"for x = (1, 1): exact {first + second}, rounding to the nearest {round(first) + round(second)}, GPTQ {code + round(moved)}")

# %% id="gptq-quantize" exercise="hybridlab.llm.gptq.gptq_quantize" points=5 minutes=45 difficulty=4

# %% [markdown] id="gptq-next"
# If the check fails: with a hessian of `torch.eye(d_in)` nothing can be made good, and the codes must be those of `absmax_quantize`. Get that right first.

# %% id="gptq-use"
x = torch.randn(500, 96) @ torch.randn(96, 96) / 96**0.5
weight = torch.randn(48, 96)
for bits in (4, 3, 2):
    nearest, smart = absmax_quantize(weight, bits, 96), gptq_quantize(weight, layer_hessian(x), bits, 96)
    errors = [((codes * scales - weight) @ x.T).norm() / (weight @ x.T).norm() for codes, scales in (nearest, smart)]
    print(f"{bits} bits: output error {errors[0]:.1%} with rounding to the nearest, {errors[1]:.1%} with GPTQ")

# %% [markdown] id="friday-why"
# ## Friday · 6. `dequantize`: working-looking code with a bug
#
# A colleague wrote the way back from codes to weights. It passed their test: one scale a row, 8 bits, error below 1 %. Then they turned to small groups, which fit better. **Symptom:** with groups, the error
# does not fall, it explodes. Run the cell below and the figure after it, **find the bug and mend it.**
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `codes`, `scales` | int8 `(rows, d_in)` and float32 `(rows, groups)`, as `absmax_quantize(weight, bits, group_size)` gives them; they stay unchanged |
# | result | code · scale of its group: float32 `(rows, d_in)`; code j of a row belongs to group j // group_size |
# | `ValueError` | if there are not ceil(d_in / group_size) scales a row |
#
# **Worked example:**

# %% id="friday-example"
print("codes 1 2 3 4 in groups of two, scales 10 and 100:", [code * (10, 100)[j // 2] for j, code in enumerate((1, 2, 3, 4))])

# %% id="dequantize" exercise="hybridlab.llm.quantize.dequantize" points=3 minutes=30 difficulty=3

# %% id="friday-figure"
seed_everything(7)
weight = torch.randn(32, 512) * torch.rand(32, 512).pow(2)
sizes = (512, 256, 128, 64, 32, 16)
errors = []
for size in sizes:
    codes, scales = absmax_quantize(weight, 4, size)
    errors.append(((dequantize(codes, scales, size) - weight).norm() / weight.norm()).item())
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
axis.plot(range(len(sizes)), errors, "o-")
axis.set(xlabel="group size", ylabel="error / weight", title="4 bits: smaller groups must fit better", ylim=(0, 1.1 * max(errors)))
axis.set_xticks(range(len(sizes)), [str(size) for size in sizes])
plt.show()
print("  ".join(f"{size}: {error:.1%}" for size, error in zip(sizes, errors)))

# %% [markdown] id="friday-next"
# Once mended, the curve falls from left to right. If it does not: take one row of eight codes in two groups with the scales 1 and 100, and write down which scale each code meets. This bug keeps every shape
# and every dtype, and a test with one group a row can't see it.

# %% [markdown] id="challenge"
# ## Challenge (optional, no points): the dequantising product, faster
#
# A layer in 8 bits with one scale a row turns its codes into float32 weights, a float for every weight, and multiplies. When a model writes, there is a single token, and making
# the weights costs more than multiplying with them. Write `faster` so that it gives the same result in less time. **1.5 times as fast is good.**
#
# A hint: one scale a row stands before the whole sum. Must every weight be multiplied with it?

# %% id="challenge-code"
def faster(x, codes, scales):
    """x (tokens, d_in) times the weight that codes (d_out, d_in) and scales (d_out, 1) stand for."""
    return x @ dequantize(codes, scales, codes.shape[1]).T  # replace this line

# %% id="challenge-ratio"
def plain(x, codes, scales):
    return x @ dequantize(codes, scales, codes.shape[1]).T

codes, scales = absmax_quantize(torch.randn(1536, 576), 8, 576)
x = torch.randn(1, 576)
print(f"largest difference from the plain way: {(faster(x, codes, scales) - plain(x, codes, scales)).abs().max():.1e} (at most 1e-03)")
ratio = compare(lambda: faster(x, codes, scales), lambda: plain(x, codes, scales))

# %% [markdown] id="bigger"
# ## Grade, promote, see it run
#
# | | |
# | --- | --- |
# | `course grade week07` | points for each exercise, with hidden cases too |
# | `course promote week07` | what has passed becomes the library: the list below then says `learner` |
# | `course progress` | where you stand |
#
# Inside the bigger model: every linear layer of SmolLM2 in 4 bits, packed, in the library's `QuantizedLinear`. What does it still know? We ask twice: with a bare
# beginning of a sentence, and in the form in which it learned to answer (week 5). The next word, and its probability, before and after:

# %% id="bigger-model"
from hybridlab.exercise import REGISTRY
from hybridlab.llm.perplexity import block_linears
from hybridlab.llm.quantized_linear import quantize_linears
from hybridlab.llm.smollm2 import load_model, load_tokenizer
import hybridlab.llm.gptq
import hybridlab.llm.nf4

def next_words(model):
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, tokenize=False)
    for form, text in (("bare", "The capital of France is"), ("chat", chat + "The capital of France is")):
        with torch.no_grad():
            probability, token = model(tokenizer(text, return_tensors="pt").input_ids).logits[0, -1].softmax(-1).max(-1)
        print(f"   {form}: The capital of France is{tokenizer.decode(token)} ({probability:.0%})")


model, tokenizer = load_model(), load_tokenizer()
print("float32"), next_words(model)
before = sum(linear.weight.nbytes for _, linear in block_linears(model))
names = quantize_linears(model, bits=4, group_size=32)
after = sum(model.get_submodule(name).n_bytes for name in names)
print(f"{len(names)} layers: {before / 2**20:.0f} MiB in float32, {after / 2**20:.0f} MiB in 4 bits with scales for groups of 32")
print("4 bits"), next_words(model)
for symbol, entry in REGISTRY.items():
    if symbol.startswith(("hybridlab.llm.quantize", "hybridlab.llm.nf4", "hybridlab.llm.gptq")):
        print(f"{symbol.removeprefix('hybridlab.llm.'):30s} {entry.origin}")

# %% [markdown] id="finish"
# ## What to read, what comes next
#
# - [LLM.int8()](https://arxiv.org/abs/2208.07339), section 3: your exercise 4, with equation numbers.
# - [GPTQ](https://arxiv.org/abs/2210.17323), section 3: your exercise 5, and the three steps that make it fast for 175 billion weights.
# - [QLoRA](https://arxiv.org/abs/2305.14314), section 3: NF4, and how its scales are quantised once more.
#
# **Next week:** inference and chat. The model is small now; how does it answer many people at once?
