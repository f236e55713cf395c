# %% [markdown] id="title"
# # Week 1: gradients for free
#
# **The question of the week.** A model has a million numbers, and one loss. How can one pass through the model tell us, *for each of the
# million*, how the loss changes when that number changes, for about the price of two more passes?

# %% [markdown] id="outcomes"
# **Afterwards you can**
# * compute a gradient by hand on a graph, and explain what `loss.backward()` does;
# * say what shape every gradient has, and why broadcasting turns into a sum;
# * predict what a backward pass costs, in FLOPs and bytes;
# * write a loss that survives logits of ±10,000;
# * write SGD and AdamW, and say why AdamW is not Adam with L2.
#
# **Time:** Monday 90 minutes, Thursday 60, Sunday 30. The notebook runs in less than a minute.
# **You need:** Python, the derivative of a product, and matrix multiplication.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import math
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from coursekit.notebook import review, seed_everything
from coursekit.sliders import slide
from hybridlab.runtime import set_threads
from hybridlab.transformer.autograd import Array, Value
from hybridlab.transformer.graph_drawing import draw_graph
from hybridlab.transformer.losses import cross_entropy, log_softmax
from hybridlab.transformer.optim import adamw_step, sgd_step
from ipywidgets import Dropdown, FloatSlider

seed_everything(0)
set_threads(1)  # models as small as these run faster on one core than on two

# %% [markdown] id="monday"
# # Monday: the idea
#
# ## One neuron, by hand
#
# A model with two numbers, `w` and `b`, predicts `w * x + b`. The loss is the squared error. Before any theory, let us simply *try*: change
# each number a little, and look at the loss.

# %% id="nudge"
x, target = 2.0, 5.0
w, b = 3.0, 1.0


def loss_of(w, b):
    error = w * x + b - target
    return error**2


h = 1e-6
print(f"loss at w = {w}, b = {b}: {loss_of(w, b)}")
print(f"w up by {h}: the loss changes {(loss_of(w + h, b) - loss_of(w, b)) / h:.3f} times as much")
print(f"b up by {h}: the loss changes {(loss_of(w, b + h) - loss_of(w, b)) / h:.3f} times as much")

# %% [markdown] id="by-hand"
# Those two numbers are the gradient. Trying works, but it needs one more run *per number*. Now the same with symbols. Every step is small:
#
# | step | value | slope of this step |
# | --- | --- | --- |
# | `p = w * x` | 6 | d p/d w = x = 2 |
# | `y = p + b` | 7 | d y/d p = 1, d y/d b = 1 |
# | `e = y - target` | 2 | d e/d y = 1 |
# | `loss = e ** 2` | 4 | d loss/d e = 2 e = 4 |
#
# From the loss back to `w`, multiply the slopes: 4 · 1 · 1 · 2 = 8. From the loss back to `b`: 4 · 1 · 1 = 4. That is the chain rule. The part
# 4 · 1 is shared: it is computed once. This sharing is what makes one pass enough.

# %% id="value-by-hand"
w, b = Value(3.0, name="w"), Value(1.0, name="b")
error = w * x + b - target
loss = error**2
loss.backward()
print(f"loss {loss.data}, d(loss)/dw = {w.grad}, d(loss)/db = {b.grad}")

# %% id="graph"
fig, ax = plt.subplots(figsize=(10, 3.4), layout="constrained")
draw_graph(loss, ax)
ax.set_title("forward: left to right. backward: right to left, times the blue slope")
plt.show()

# %% [markdown] id="twice"
# ## A number that is used twice
#
# In `a * a + a`, the number `a` reaches the output by three arrows. A small change of `a` goes along *all* of them at once, so the gradients
# of all uses **add up**. For a = 3: 3 + 3 + 1 = 7.

# %% id="twice-graph"
a = Value(3.0, name="a")
out = a * a + a
out.backward()
fig, ax = plt.subplots(figsize=(7, 2.6), layout="constrained")
draw_graph(out, ax)
plt.show()
print(f"d(a * a + a)/da at a = 3: {a.grad}")

# %% [markdown] id="slider-why"
# ## Move it
#
# Now a neuron with `tanh`. Move `w` to 3 or to -3 and look at the slope on the arrow out of the sum: `tanh` is flat there. A slope near 0
# multiplies everything before it by nearly 0: the neuron stops learning. This is a *saturated* neuron.

# %% id="slider"
def neuron(w):
    weight = Value(w, name="w")
    y = (weight * 1.5 + 0.2).tanh()
    y.backward()
    fig, ax = plt.subplots(figsize=(8, 2.8), layout="constrained")
    draw_graph(y, ax)
    ax.set_title(f"d(tanh)/dw = {weight.grad:.4f}")
    return fig


slide(neuron, w=FloatSlider(value=0.4, min=-3, max=3, step=0.2, continuous_update=False))

# %% [markdown] id="arrays"
# ## From numbers to arrays
#
# A node for each number would be far too slow. So one node holds a whole array, and a slope becomes a function: it takes the gradient of the
# result and returns the gradient of the parent. We call it a *pull* (the books say *vector–Jacobian product*).
#
# | forward | pull to the first operand | pull to the second |
# | --- | --- | --- |
# | `a + b` | `g` | `g` |
# | `a * b` | `g * b` | `g * a` |
# | `a @ b` | `g @ b.T` | `a.T @ g` |
# | `a.sum(axis)` | `g`, repeated along `axis` | |
# | `a[rows]` | zeros, `g` added at `rows` | |
#
# One rule helps to remember all of them: **a gradient has the shape of what it belongs to.** For `a @ b` with shapes (2, 3) and (3, 4), `g` is
# (2, 4). Only `g @ b.T` gives (2, 3).

# %% id="shapes"
a, b = Array(np.ones((2, 3))), Array(np.ones((3, 4)))
(a @ b).sum().backward()
print(f"a {a.shape}, its gradient {a.grad.shape};  b {b.shape}, its gradient {b.grad.shape}")

# %% [markdown] id="broadcasting"
# **Broadcasting.** A bias of shape (3,) beside four rows is used four times. Used several times means: add up. So on the way back, the
# gradient of shape (4, 3) is summed to (3,).

# %% id="broadcasting-run"
rows = Array(np.ones((4, 3)))
bias = Array([1.0, 2.0, 3.0])
weights = np.arange(12.0).reshape(4, 3)
((rows + bias) * weights).sum().backward()
print("gradient that arrives, shape (4, 3):\n", weights)
print("bias.grad, shape (3,):", bias.grad, " = the sums of the columns")

# %% [markdown] id="real-size"
# ## At real size
#
# Three spiral arms, a network with two hidden layers, everything on our own engine. First the proof: its gradients against PyTorch's.

# %% id="spirals"
rng = np.random.default_rng(0)
points, arms = 100, 3
turn = np.concatenate([np.linspace(0, 4, points) + 2.1 * arm for arm in range(arms)])
radius = np.tile(np.linspace(0.1, 1, points), arms)
turn = turn + rng.normal(scale=0.15, size=turn.shape)
inputs = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
labels = np.repeat(np.arange(arms), points)
print(f"inputs {inputs.shape}: {arms} arms of {points} points; labels {labels.shape}")

# %% id="network"
def draw_weights(hidden):
    shapes = [(2, hidden), (hidden,), (hidden, hidden), (hidden,), (hidden, arms)]
    return [rng.normal(size=s) / s[0] ** 0.5 if len(s) == 2 else np.zeros(s) for s in shapes]


def logits_of(inputs, w):
    hidden = (inputs @ w[0] * 3.0 + w[1]).tanh()
    return (hidden @ w[2] + w[3]).tanh() @ w[4]


def mean_loss(logits, labels):
    shifted = logits - logits.data.max(-1, keepdims=True)
    log_p = shifted - shifted.exp().sum(-1, keepdims=True).log()
    return -log_p[np.arange(len(labels)), labels].sum() * (1 / len(labels))

# %% id="against-pytorch"
start = draw_weights(hidden=32)
ours = [Array(w) for w in start]
mean_loss(logits_of(Array(inputs), ours), labels).backward()

theirs = [torch.tensor(w, requires_grad=True) for w in start]
torch.nn.functional.cross_entropy(logits_of(torch.tensor(inputs), theirs), torch.tensor(labels)).backward()
for mine, right in zip(ours, theirs):
    print(f"shape {str(mine.shape):9s} largest difference to PyTorch {np.abs(mine.grad - right.grad.numpy()).max():.1e}")

# %% id="train-spirals"
losses, began = [], time.perf_counter()
for step in range(400):
    ours = [Array(w) for w in start]
    loss = mean_loss(logits_of(Array(inputs), ours), labels)
    loss.backward()
    start = [w.data - 0.5 * w.grad for w in ours]
    losses.append(float(loss.data))
right = (logits_of(Array(inputs), ours).data.argmax(-1) == labels).mean()
print(f"{len(losses)} steps in {time.perf_counter() - began:.1f} s: loss {losses[0]:.2f} → {losses[-1]:.3f} nats, {right:.0%} of the points right")

# %% id="spirals-figure"
grid = np.stack(np.meshgrid(np.linspace(-1.2, 1.2, 120), np.linspace(-1.2, 1.2, 120)), axis=-1).reshape(-1, 2)
chosen = logits_of(Array(grid), ours).data.argmax(-1).reshape(120, 120)
fig, (left, middle) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
left.imshow(chosen, extent=(-1.2, 1.2, -1.2, 1.2), origin="lower", cmap="Pastel2", vmax=7)
left.scatter(*inputs.T, c=labels, s=8, cmap="Dark2", vmax=7)
left.set(title="what the network says, everywhere", xlabel="first input", ylabel="second input")
middle.plot(losses)
middle.set(title="trained by our own engine", xlabel="step", ylabel="loss, nats", yscale="log")
plt.show()

# %% [markdown] id="one-pass"
# **The claim of the week, as a figure.** *Trying* each number needs one forward pass per number, so its time grows with the number of
# parameters times the time of a pass. *Backward* needs a fixed number of passes. If that were not so, the two lines would run side by side.

# %% id="race"
def seconds(call, repeat=3):
    times = []
    for _ in range(repeat):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return min(times)


def one_loss(weights):
    return mean_loss(logits_of(Array(inputs), [Array(w) for w in weights]), labels)


def try_each(weights, count):
    for _ in range(count):
        one_loss(weights)

# %% id="race-run"
race = []
for hidden in [4, 8, 16, 32, 64, 128]:
    weights = draw_weights(hidden)
    count = sum(w.size for w in weights)
    forward = seconds(lambda: one_loss(weights), repeat=5)
    both = seconds(lambda: one_loss(weights).backward(), repeat=5)
    tried = seconds(lambda: try_each(weights, count), repeat=1) if count < 1500 else float("nan")
    race.append((count, forward, both, tried))
    print(f"{count:6d} parameters: forward {forward * 1e3:6.2f} ms, forward + backward {both / forward:.1f} times that")

# %% id="race-figure"
count, forward, both, tried = np.array(race).T
plt.figure(figsize=(6.5, 3.6), layout="constrained")
plt.loglog(count, tried, "o-", label="trying each number (measured)")
plt.loglog(count, count * forward, "--", color="tab:blue", alpha=0.6, label="parameters × one forward pass")
plt.loglog(count, both, "s-", color="tab:orange", label="one backward pass (measured)")
plt.xlabel("parameters")
plt.ylabel("seconds for the whole gradient")
plt.legend()
plt.show()
print(f"at {count[-1]:.0f} parameters, trying would take {count[-1] * forward[-1] / both[-1]:.0f} times as long")

# %% [markdown] id="cost"
# ## What it costs
#
# **FLOPs.** A product of (batch, m) and (m, n) takes 2 · batch · m · n operations. Backward makes two products of the same size: one for the
# input's gradient, one for the weight's. So **backward = 2 × forward**, except that nobody asks for the gradient of the data: the first layer
# makes one product only.
#
# **Bytes.** To pull, each node needs what it saw on the way forward: every layer's input stays in memory until backward comes by. This, and
# not the weights, is what fills a GPU in training.

# %% id="predict-cost"
batch, sizes = 256, [64, 256, 256, 10]
products = [2 * batch * m * n for m, n in zip(sizes, sizes[1:])]
forward_flops = sum(products)
backward_flops = 2 * sum(products) - products[0]
kept_bytes = 4 * batch * sum(sizes[:-1])
print(f"predicted: forward {forward_flops / 1e6:.1f} MFLOP, backward {backward_flops / 1e6:.1f} MFLOP ({backward_flops / forward_flops:.2f} times)")
print(f"predicted: {kept_bytes / 2**20:.3f} MiB kept for backward")

# %% id="measure-cost"
from torch.utils.flop_counter import FlopCounterMode

layers = [torch.nn.Linear(m, n) for m, n in zip(sizes, sizes[1:])]
model = torch.nn.Sequential(layers[0], torch.nn.Tanh(), layers[1], torch.nn.Tanh(), layers[2])
data, parameters, kept = torch.randn(batch, sizes[0]), {p.data_ptr() for p in model.parameters()}, {}


def note(tensor):
    if tensor.data_ptr() not in parameters:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
    return tensor


with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
    out = model(data)
    measured_forward = counter.get_total_flops()
    out.sum().backward()
print(f"measured:  forward {measured_forward / 1e6:.1f} MFLOP, backward {(counter.get_total_flops() - measured_forward) / 1e6:.1f} MFLOP")
print(f"measured:  {sum(kept.values()) / 2**20:.3f} MiB kept for backward")

# %% id="measure-time"
def backward_time():
    model(data).sum().backward()


forward_seconds, both_seconds = seconds(lambda: model(data), 20), seconds(backward_time, 20)
predicted = 1 + backward_flops / forward_flops
print(f"time: forward {forward_seconds * 1e3:.2f} ms, forward + backward {both_seconds * 1e3:.2f} ms: {both_seconds / forward_seconds:.1f} times")
print(f"(from the FLOPs alone: {predicted:.1f} times)")

# %% [markdown] id="breaks"
# ## How it breaks
#
# **1. The wrong order.** A node may hand on its gradient only when all of it has arrived. Going breadth first looks reasonable and is wrong:
# below, `m` has a short and a long way to the output, and hands on after the short one.

# %% id="wrong-order"
def breadth_first(root):
    root.grad, queue, seen = 1.0, [root], {root}
    while queue:
        node = queue.pop(0)
        for parent, slope in zip(node.parents, node.slopes):
            parent.grad += slope * node.grad
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)


for name, run in [("breadth first", breadth_first), ("right order", lambda root: root.backward())]:
    a = Value(0.1)
    m = a * 2.0
    run(m + ((m * 3.0).tanh() + 1.0).tanh())
    print(f"{name:14s} d(out)/da = {a.grad:.4f}")
h, out = 1e-6, lambda a: 2 * a + math.tanh(math.tanh(6 * a) + 1)
print(f"{'by trying':14s} d(out)/da = {(out(0.1 + h) - out(0.1 - h)) / (2 * h):.4f}")

# %% [markdown] id="breaks-zero"
# **2. Gradients that were not cleared.** `backward` *adds* to `.grad`. Whoever forgets to set it to zero walks on with the sum of all old
# gradients. The step gets too large, overshoots, comes back, and never comes to rest.

# %% id="not-cleared"
def descend(clear, steps=60, lr=0.05):
    theta, grad, path = 4.0, 0.0, []
    for _ in range(steps):
        v = Value(theta)
        ((v - 1.0) ** 2).backward()
        grad = v.grad if clear else grad + v.grad
        theta -= lr * grad
        path.append(theta)
    return path


plt.figure(figsize=(6.5, 2.8), layout="constrained")
plt.plot(descend(clear=True), label="cleared before each step")
plt.plot(descend(clear=False), label="never cleared")
plt.axhline(1.0, color="0.7", ls="--", label="the minimum")
plt.xlabel("step")
plt.ylabel("theta")
plt.legend()
plt.show()

# %% [markdown] id="breaks-nudge"
# **3. Trying as a replacement.** Trying has no good step size: a large `h` sees the curve bend, a small `h` drowns in rounding. Backward has no
# `h`. (Trying is still the best *test* of a gradient that you wrote yourself.)

# %% id="nudge-error"
f, exact = lambda v: math.exp(math.sin(v)), math.exp(math.sin(1.2)) * math.cos(1.2)
steps = np.logspace(-15, -1, 57)
error = [abs((f(1.2 + h) - f(1.2 - h)) / (2 * h) - exact) / abs(exact) for h in steps]
plt.figure(figsize=(6.5, 2.8), layout="constrained")
plt.loglog(steps, np.maximum(error, 1e-17))
plt.xlabel("step size h")
plt.ylabel("relative error")
plt.title("the gradient of exp(sin(x)), by trying")
plt.show()
print(f"best step {steps[int(np.argmin(error))]:.0e}, its relative error {min(error):.0e}")

# %% [markdown] id="loss"
# ## From logits to a loss
#
# A language model gives one *logit* for each token that could come next. Softmax makes probabilities of them, and the loss is −log of the
# probability of the token that came: the *surprise*, in nats. By hand, for the logits 1, 2, 3:

# %% id="loss-by-hand"
logits = [1.0, 2.0, 3.0]
e = [math.exp(v) for v in logits]
p = [v / sum(e) for v in e]
print("probabilities:", [round(v, 4) for v in p])
print("surprise of each token:", [round(-math.log(v), 4) for v in p], "nats")
print("-log_softmax:         ", [round(-v, 4) for v in log_softmax(torch.tensor(logits)).tolist()])

# %% [markdown] id="loss-overflow"
# **How it breaks.** float32 ends at 3.4 · 10³⁸, which is exp(88.7). One larger logit, and the sum is infinite: so is the loss, and its gradient is
# inf / inf = nan. The cure: all logits of a row may be moved by the same amount without changing the probabilities. So subtract the largest one
# first. Then the largest exp is exp(0) = 1, and the sum lies between 1 and the number of tokens.

# %% id="overflow-figure"
def naive(logits):
    return logits - logits.exp().sum(-1, keepdim=True).log()


sizes_tried = torch.logspace(0, 4, 200)
row = torch.tensor([0.2, -1.0, 1.0, 0.5])
curves = {"naive": naive, "log_softmax": log_softmax}
plt.figure(figsize=(6.5, 3), layout="constrained")
for (name, f), width in zip(curves.items(), [6, 1.5]):
    plt.loglog(sizes_tried, [-f(row * s)[0].item() for s in sizes_tried], lw=width, label=name)
plt.axvline(88.7, color="0.6", ls="--", label="exp overflows")
plt.xlabel("largest logit")
plt.ylabel("loss, nats")
plt.legend()
plt.show()
for name, f in curves.items():
    large = (row * 1e4).requires_grad_()
    f(large)[0].backward()
    print(f"{name:11s} at 10,000: {f(large).tolist()}, gradient {large.grad.tolist()}")

# %% [markdown] id="loss-gradient"
# **Its gradient is beautiful:** probability minus 1 for the right token, probability for the others. A sure and right model gets almost no
# gradient; a sure and wrong one gets almost the largest possible. Move the size of the logits, and the right token.

# %% id="loss-slider"
def gradient_of_loss(size, right):
    logits = (torch.tensor([0.2, -1.0, 1.0, 0.5]) * size).requires_grad_()
    loss = cross_entropy(logits.unsqueeze(0), torch.tensor([right]))
    loss.backward()
    fig, (left, middle) = plt.subplots(1, 2, figsize=(8, 2.4), layout="constrained", sharey=True)
    left.bar(range(4), logits.detach().softmax(-1), color=["tab:green" if t == right else "0.7" for t in range(4)])
    left.set(title="probability (green: the right token)", xlabel="token", ylim=(-1.05, 1.05))
    middle.bar(range(4), logits.grad, color="tab:orange")
    middle.set(title=f"gradient of the loss ({loss.item():.2f} nats)", xlabel="token")
    return fig


slide(gradient_of_loss, size=FloatSlider(value=1, min=0, max=10, step=0.5, continuous_update=False), right=Dropdown(options=[0, 1, 2, 3]))

# %% [markdown] id="updates"
# ## From gradients to steps
#
# A gradient says where down is. An *update rule* says how far to go.
#
# * **SGD**: `param -= lr * grad`. In a narrow valley it must be slow: a step that is good along the valley is too large across it.
# * **Momentum**: go along a decaying sum of gradients. What changes its sign cancels; what does not, adds up.
# * **AdamW**: divide each number's average gradient by its own typical size. Every parameter then moves by about `lr` per step, whatever the
#   size of its gradient. And every step takes `lr * weight_decay` of each parameter away.
#
# The valley below is 50 times as steep in one direction as in the other.

# %% id="valley"
STEEP = torch.tensor([1.0, 50.0])


def walk(rule, lr, steps=60):
    theta, path = torch.tensor([-4.0, 1.0]), []
    first, second = torch.zeros(2), torch.zeros(2)
    for step in range(1, steps + 1):
        path.append(theta.clone())
        grad = STEEP * theta
        if rule == "AdamW":
            adamw_step(theta, grad, first, second, step, lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
        else:
            sgd_step(theta, grad, first, lr=lr, momentum=0.9 if rule == "momentum" else 0.0)
    return torch.stack(path)

# %% id="valley-figure"
def draw_valley(sgd, momentum, adamw):
    fig, axes = plt.subplots(1, 3, figsize=(11, 2.6), layout="constrained", sharey=True)
    across, up = torch.meshgrid(torch.linspace(-5, 3, 100), torch.linspace(-2.5, 2.5, 100), indexing="xy")
    height = 0.5 * (STEEP[0] * across**2 + STEEP[1] * up**2)
    for ax, (rule, lr) in zip(axes, {"SGD": sgd, "momentum": momentum, "AdamW": adamw}.items()):
        path = walk(rule, lr)
        ax.contour(across, up, height.log1p(), levels=10, colors="0.8")
        ax.plot(*path.T, "o-", ms=2.5, lw=1)
        ax.set(xlim=(-5, 3), ylim=(-2.5, 2.5), xlabel="first parameter")
        ax.set_title(f"{rule}, lr {lr:g}\nafter {len(path)} steps at {path[-1].norm():.2g} from the minimum", fontsize=10)
    axes[0].set_ylabel("second parameter")
    return fig


slide(
    draw_valley,
    sgd=FloatSlider(value=0.038, min=0.002, max=0.042, step=0.002, readout_format=".3f", continuous_update=False),
    momentum=FloatSlider(value=0.02, min=0.002, max=0.08, step=0.002, readout_format=".3f", continuous_update=False),
    adamw=FloatSlider(value=0.3, min=0.02, max=1.0, step=0.02, continuous_update=False),
)

# %% [markdown] id="equal-why"
# Move SGD's slider above 0.04 = 2 / 50: each step now jumps farther over the valley than the one before. And are these rules really the ones
# that everybody uses? 50 steps beside `torch.optim`:

# %% id="equal-torch"
def farthest(rule, optimizer_class, **options):
    torch.manual_seed(1)
    mine = torch.randn(5, dtype=torch.float64)
    theirs = mine.clone().requires_grad_()
    optimizer = optimizer_class([theirs], lr=0.05, **options)
    buffers, worst = (torch.zeros_like(mine), torch.zeros_like(mine)), 0.0
    for step in range(1, 51):
        grad = torch.randn(5, dtype=torch.float64)
        rule(mine, grad, buffers, step, lr=0.05, **options)
        theirs.grad = grad
        optimizer.step()
        worst = max(worst, (mine - theirs.detach()).abs().max().item())
    return worst


sgd = lambda p, g, s, step, **options: sgd_step(p, g, s[0], **options)
adamw = lambda p, g, s, step, **options: adamw_step(p, g, *s, step, **options)
print(f"SGD with momentum and decay: differs by at most {farthest(sgd, torch.optim.SGD, momentum=0.9, weight_decay=0.1):.0e}")
print(f"AdamW:                       differs by at most {farthest(adamw, torch.optim.AdamW, betas=(0.9, 0.95), weight_decay=0.1):.0e}")

# %% [markdown] id="thursday"
# # Thursday: the paper
#
# **Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (arXiv 1711.05101).** Decay keeps weights small, so that a model does not
# learn its training data by heart. Two ways:
#
# * **L2**: add `weight_decay * param` to the gradient.
# * **Decoupled**: shrink `param` itself; leave the gradient alone.
#
# With SGD both do the same. For Adam the paper claims:
#
# 1. They are **not** the same: L2 shrinks weights with large gradients *less*.
# 2. Decoupled decay gives the **better test error** (the authors: 15 % lower, relative, on images).
# 3. The best decay **does not move** when the learning rate changes.

# %% [markdown] id="paper-mechanism"
# ## Claim 1: who is shrunk?
#
# Weights of 1, gradients of pure noise of different sizes. Nothing but the decay pulls. Prediction: decoupled leaves
# (1 − lr · decay)^steps of *every* weight. L2's pull is divided by the gradient's size s, so exp(−lr · decay · steps / s) is left, once s is
# larger than the pull.

# %% id="shrinkage"
from hybridlab.transformer.decay_study import error_grid, shrinkage

gradient_sizes = torch.logspace(-2, 2, 17)
left = {kind: shrinkage(kind, gradient_sizes, lr=1e-3, weight_decay=0.5, steps=2000) for kind in ("l2", "decoupled")}
plt.figure(figsize=(6.5, 3.2), layout="constrained")
plt.semilogx(gradient_sizes, left["l2"], "o", label="L2 in the gradient")
plt.semilogx(gradient_sizes, torch.exp(-1e-3 * 0.5 * 2000 / gradient_sizes), "--", color="tab:blue", label="L2, predicted")
plt.semilogx(gradient_sizes, left["decoupled"], "s", color="tab:orange", label="decoupled")
plt.axhline((1 - 1e-3 * 0.5) ** 2000, color="tab:orange", ls="--", label="decoupled, predicted")
plt.xlabel("size of the weight's gradients")
plt.ylabel("what is left of a weight of 1")
plt.legend()
plt.show()
print(f"left at gradient size 0.1 and at 100: L2 {left['l2'][4]:.2f} and {left['l2'][-1]:.2f}, decoupled {left['decoupled'][4]:.2f} and {left['decoupled'][-1]:.2f}")

# %% [markdown] id="paper-setup"
# ## Claims 2 and 3: learning rate × weight decay
#
# A small network learns 400 examples, one label in five wrong: it *will* learn by heart. We train it for each pair of learning rate and weight
# decay, with both kinds. And a control that the paper does not have: once with input features of **equal** size (so all gradients are of like
# size), once with sizes **spread** over 1.5 decades. If claim 1 is the reason, L2 must work in the first case and fail in the second.

# %% id="grid"
rates = [10 ** (-3 + i / 2) for i in range(5)]
decays = {"l2": [1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1], "decoupled": [1e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0, 30.0]}
seeds = 2
began = time.perf_counter()
errors = {
    (spread, kind): sum(error_grid(kind, rates, decays[kind], spread=spread, seed=s) for s in range(seeds)) / seeds
    for spread in (0.0, 1.5)
    for kind in ("l2", "decoupled")
}
runs = seeds * sum(e.numel() for e in errors.values())
print(f"{runs} networks trained for 1,000 steps each, in {time.perf_counter() - began:.0f} s")

# %% id="heat-maps"
fig, axes = plt.subplots(2, 2, figsize=(10, 5.6), layout="constrained")
names = {"l2": "Adam + L2", "decoupled": "AdamW"}
for ax, ((spread, kind), error) in zip(axes.flat, errors.items()):
    image = ax.imshow(100 * error, cmap="viridis_r", vmin=20, vmax=45, origin="lower", aspect="auto")
    for row, column in enumerate(error.argmin(1)):
        ax.text(column, row, f"{100 * error[row, column]:.0f}", color="black" if error[row, column] < 0.33 else "white",
                ha="center", va="center", weight="bold")
    ax.set_xticks(range(7), [f"{d:g}" for d in decays[kind]])
    ax.set_yticks(range(5), [f"{r:.3f}" for r in rates])
    ax.set(title=f"{names[kind]}, features {'spread' if spread else 'equal'}", xlabel="weight_decay", ylabel="lr")
fig.colorbar(image, ax=axes, label="test error, % (number: best of its row)")
plt.show()

# %% [markdown] id="paper-verdict"
# ## Paper's claim beside ours
#
# | | paper | here |
# | --- | --- | --- |
# | L2 and decay differ under Adam | proposition 2 | the two curves of claim 1 |
# | better test error | CIFAR-10, ImageNet32x32: clearly | spread features: clearly. Equal features: no |
# | best decay stays put | figure 2: AdamW's good region is less tilted | AdamW's best column hardly moves over a factor of 100 in lr |
#
# **What we must say.** Our task is tiny and made up. Where all gradients are alike, L2 is as good, just as claim 1 says. Its best column stays put
# there too, so our runs do *not* show that L2 is the worse one on claim 3. And the paper's decay per step is λ alone (times the schedule);
# PyTorch's AdamW, and ours, takes lr · `weight_decay`. Our last row holds for *that* product.

# %% id="paper-table"
for spread in (0.0, 1.5):
    print(f"features {'spread over 1.5 decades' if spread else 'of equal size'}:")
    for kind in ("l2", "decoupled"):
        error = errors[spread, kind]
        best, none = error.min().item(), error[:, 0].min().item()
        columns = error.argmin(1)
        print(f"  {names[kind]:10s} best {best:.1%}, almost no decay {none:.1%}; best decay at each lr: {[f'{decays[kind][c]:g}' for c in columns]}")
gain = {s: 1 - (errors[s, "decoupled"].min() / errors[s, "l2"].min()).item() for s in (0.0, 1.5)}
print(f"AdamW's test error, relative to Adam + L2:  paper 15 % lower;  ours {gain[1.5]:.0%} lower (spread), {-gain[0.0]:.0%} higher (equal)")

# %% [markdown] id="place"
# # Where this sits
#
# * **In our system:** the mini-GPT of week 4, the LoRA adapters of month 2, the Mamba memory of month 3 and the experts of month 4 are all
#   trained by `cross_entropy`, a backward pass and AdamW. The code that you promote from this week's lab is the code that they run.
# * **In systems in use:** PyTorch's `autograd` is this engine in C++, with a pull for each of its operations; JAX builds the same pulls by
#   transforming the program. Llama was trained with AdamW, β = (0.9, 0.95), weight decay 0.1 (arXiv 2302.13971, section 2.3).
# * **What it costs there:** AdamW keeps two numbers beside every parameter.

# %% id="place-cost"
parameters = 7e9
print(f"A model of {parameters:.0e} parameters, float32: weights {4 * parameters / 1e9:.0f} GB, gradients {4 * parameters / 1e9:.0f} GB, "
      f"AdamW's two averages {8 * parameters / 1e9:.0f} GB")

# %% [markdown] id="sunday"
# # Sunday: review
#
# Put your answer in the place of `...` and run the cell. Numbers may be written as Python: `2 * 3`.

# %% id="answer"
answer = review("week01")

# %% [markdown] id="q1-text"
# **1.** `y = x * x * x`, `x = Value(2.0)`, `y.backward()`. What is `x.grad`?

# %% id="q1"
answer("q1", ...)

# %% [markdown] id="q2-text"
# **2.** Activations of shape (8, 5, 3) plus a bias of shape (3,). How many numbers are added up for *each* number of `bias.grad`?

# %% id="q2"
answer("q2", ...)

# %% [markdown] id="q3-text"
# **3.** The matrix products of a forward pass take 100 GFLOP. How many GFLOP does the backward pass take, about?

# %% id="q3"
answer("q3", ...)

# %% [markdown] id="q4-text"
# **4.** What is the first number of `log_softmax([10000, 10000])`?

# %% id="q4"
answer("q4", ...)

# %% [markdown] id="q5-text"
# **5.** Adam with L2. One weight has gradients 100 times as large as another. Is it shrunk "more", "less" or "equally"?

# %% id="q5"
answer("q5", ...)

# %% [markdown] id="q6-text"
# **6.** How many bytes does AdamW keep for each float32 parameter, beside the parameter and its gradient?

# %% id="q6"
answer("q6", ...)

# %% [markdown] id="q7-text"
# **7.** In PyTorch's AdamW you halve `lr` and leave `weight_decay`. By what factor does the decay *per step* change?

# %% id="q7"
answer("q7", ...)

# %% [markdown] id="reading"
# # Further reading
#
# * Baydin et al., *Automatic Differentiation in Machine Learning: a Survey* (arXiv 1502.05767): forward and reverse mode side by side, and why
#   reverse wins when there is one output.
# * Loshchilov and Hutter, *Decoupled Weight Decay Regularization* (arXiv 1711.05101): Thursday's paper; figure 2 is the one to look at.
# * PyTorch's documentation, *Autograd mechanics*: what is kept for backward, and what in-place operations do to it.
#
# **Next:** the lab of this week (Tuesday, Wednesday, Friday). Next week: **attention**.
