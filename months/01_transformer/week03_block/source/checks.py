"""Week 3's checks: two norms, the gated MLP, the block, the initialisation, the whole model."""

import math

import torch
from coursekit.checks import Mistake, check, close, must_raise
from hybridlab.transformer.block import build_norm
from hybridlab.transformer.config import TransformerConfig
from torch import Tensor, nn
from torch.nn import functional as F

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def same(a, b, tolerance: float = 1e-5) -> bool:
    return isinstance(a, Tensor) and a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance)


def refuse_twins(got, right, twins) -> None:
    """Raise the first mistake whose own result `got` equals; a twin is (result, code, what, hint)."""
    if same(got, right):
        return
    for result, code, what, hint in twins:
        if same(got, result):
            place = (got - right).abs().argmax() if got.shape == right.shape else 0
            mine, wanted = got.flatten()[place].item(), right.flatten()[place].item()
            raise Mistake(code, what, f"a value is {mine:.4g} where {wanted:.4g} is right", hint)


def gradient(module, x, weights) -> Tensor:
    """The gradient of sum(module(x) · weights) with respect to x."""
    leaf = x.detach().clone().requires_grad_()
    out = module(leaf)
    if not isinstance(out, Tensor) or not out.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad((out * weights).sum(), leaf, allow_unused=True)[0].nan_to_num(nan=math.inf)


def require_vector(module, name: str, d: int, value: float, code: str) -> None:
    """The parameter `name` exists, is learned, has d numbers, and they begin at `value`."""
    vector = getattr(module, name, None)
    if not isinstance(vector, nn.Parameter):
        raise Mistake(code, f"`{name}` is not learned", f"got a {type(vector).__name__}", f"self.{name} = nn.Parameter(...)")
    if vector.shape != (d,) or not (vector == value).all():
        evidence = f"shape {tuple(vector.shape)}, values from {vector.min():.3g} to {vector.max():.3g}"
        raise Mistake(code, f"`{name}` should be {d} numbers that begin at {value:g}", evidence, "torch.ones or torch.zeros of d")


def require_own_axis(norm, x, code: str) -> None:
    """Each token is normalised by itself: another token, or another batch, changes nothing."""
    if x.ndim == 1:
        return
    other = x.clone()
    other[-1, ..., :] = other[-1, ..., :] * 5 + 2
    if x.ndim > 2:
        other[:, -1] = other[:, -1] * 5 + 2
    kept = (slice(None, -1),) * (x.ndim - 1 if x.ndim < 4 else 2)
    before, after = norm(x), norm(other)
    if isinstance(before, Tensor) and before.shape == x.shape and before[kept].numel() and not same(before[kept], after[kept]):
        gap = (before[kept] - after[kept]).abs().max().item()
        raise Mistake(
            code, "a token's result depends on other tokens",
            f"with only the last token changed, an earlier one moved by {gap:.3g}",
            "the last axis holds one token's numbers: take the mean over that axis alone, with keepdim=True",
        )  # fmt: skip


def require_wide_statistics(norm, oracle, seed: int, d: int, dtype: str, code: str) -> None:
    """Half precision: the statistics are computed in float32, and the dtype comes back."""
    x = (torch.randn(64, d, generator=torch.Generator().manual_seed(seed)) + 0.3).to(HALF[dtype])
    x = x * 300 if dtype == "float16" else x
    norm = norm.to(HALF[dtype])
    got = norm(x)
    if got.dtype != x.dtype:
        raise Mistake(code, "the dtype changed", f"{x.dtype} went in, {got.dtype} came out", "cast back with .to(x.dtype) at the end")
    equal = (got == oracle(x.float()).to(x.dtype)).float().mean().item()
    if equal < 0.97:
        raise Mistake(
            code, "the statistics were computed in half precision",
            f"only {equal:.0%} of the {dtype} values are right; 300² is more than float16 can hold",
            "compute with x.float(), and cast the result back",
        )  # fmt: skip


def require_mixed_dtype(norm, x, code: str) -> None:
    """A half-precision token through float32 gains still comes out in half precision."""
    got = norm(x.bfloat16())
    if got.dtype != torch.bfloat16:
        raise Mistake(code, "the dtype changed", f"bfloat16 went in, {got.dtype} came out",
                      "compute in float32, and cast the result to x.dtype last of all, after the gain")


@check(
    "hybridlab.transformer.norms.RMSNorm",
    visible=[{"seed": 0, "shape": (2, 3, 8)}],
    hidden=[
        {"seed": 11, "shape": (5, 6), "eps": 1e-2},
        {"seed": 12, "shape": (7,), "scale": 100.0},
        {"seed": 13, "shape": (2, 3, 2, 16), "eps": 1e-3, "scale": 0.1},
        {"seed": 14, "shape": (3, 32), "dtype": "float16"},
        {"seed": 15, "shape": (3, 48), "dtype": "bfloat16"},
    ],
    forbids=("rms_norm", "layer_norm", "RMSNorm", "LayerNorm"),
    hints=(
        "Which axis holds the numbers of one token? One mean per token, and keepdim=True so that it divides the whole token.",
        "The root comes last: square, mean, add eps, root. Divide x by that, then multiply by the gain.",
        "x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps), times weight, back to x.dtype",
    ),
)
def check_rms_norm(RMSNorm, seed, shape, eps=None, scale=1.0, dtype="float32"):
    """Each token has root mean square 1, whatever the others do; gains, eps and half precision are where they belong."""
    d = shape[-1]
    norm = RMSNorm(d) if eps is None else RMSNorm(d, eps=eps)
    eps = eps or 1e-5
    require_vector(norm, "weight", d, 1.0, "RMS-01")
    if extra := sorted(set(dict(norm.named_parameters())) - {"weight"}):
        raise Mistake("RMS-01", "there is a parameter too many", f"found {extra}", "RMSNorm has a gain and no bias")
    random = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=random) + 1.0) * scale
    gain, weights = torch.rand(d, generator=random) + 0.5, torch.randn(shape, generator=random)
    if dtype != "float32":
        require_wide_statistics(norm, lambda t: F.rms_norm(t, (d,), eps=eps), seed, d, dtype, "RMS-06")
        return
    require_own_axis(norm, x, "RMS-02")
    small = x * math.sqrt(eps) / scale
    with torch.no_grad():
        norm.weight.copy_(gain)
    square = small.square().mean(-1, keepdim=True)
    twins = [
        ((small - small.mean(-1, keepdim=True)) / (small.var(-1, unbiased=False, keepdim=True) + eps).sqrt() * gain, "RMS-03",
         "the mean was subtracted", "that is LayerNorm; RMSNorm leaves the mean alone"),
        (small / (square.sqrt() + eps) * gain, "RMS-04", "eps was added outside the root", "sqrt(mean square + eps)"),
        (small / square.sqrt() * gain, "RMS-04", "eps was not used", "sqrt(mean square + eps): a token of zeros must not give NaN"),
        (small / (square * d + eps).sqrt() * gain, "RMS-05", "divided by the length, not by the root of the *mean* square",
         "mean, not sum: the result's root mean square is 1, not 1/√d"),
        (small / (square + eps) * gain, "RMS-05", "divided by the mean square, without the root", "take the square root"),
        (small * torch.rsqrt(square + eps), "RMS-07", "the gain was not applied", "multiply by self.weight at the end"),
    ]  # fmt: skip
    refuse_twins(norm(small), F.rms_norm(small, (d,), gain, eps), twins)
    for tokens in (small, x):
        close(norm(tokens), F.rms_norm(tokens, (d,), gain, eps), "RMS-09", "values differ from torch's rms_norm")
    expected = gradient(lambda t: F.rms_norm(t, (d,), gain, eps), small, weights)
    size = expected.abs().max().item()
    close(gradient(norm, small, weights) / size, expected / size, "RMS-08", "the gradient differs from torch's rms_norm",
          "the statistics are part of the graph: no detach, no no_grad", rtol=1e-4, atol=1e-5)  # fmt: skip
    require_mixed_dtype(norm, x, "RMS-06")
    precise = norm.double()(x.double())
    close(precise, F.rms_norm(x.double(), (d,), gain.double(), eps), "RMS-06", "float64 lost digits",
          "only half precision is widened to float32; float64 stays", rtol=1e-12, atol=1e-12)  # fmt: skip


@check(
    "hybridlab.transformer.norms.LayerNorm",
    visible=[{"seed": 0, "shape": (2, 3, 8)}, {"seed": 1, "shape": (2, 4, 6), "bias": False}],
    hidden=[
        {"seed": 21, "shape": (5, 6), "eps": 1e-2},
        {"seed": 22, "shape": (7,), "scale": 100.0},
        {"seed": 23, "shape": (2, 3, 2, 16), "eps": 1e-3, "scale": 0.1, "bias": False},
        {"seed": 24, "shape": (4, 3, 32), "dtype": "float16"},
        {"seed": 25, "shape": (3, 48), "dtype": "bfloat16"},
    ],
    forbids=("layer_norm", "rms_norm", "LayerNorm", "RMSNorm"),
    hints=(
        "Give the broken cell two tokens, change the second, and look at the first.",
        "Print the shape of the mean. How many means does a batch of 2 × 5 tokens need?",
        "Mean and variance over dim=-1 with keepdim=True: one of each for every token.",
    ),
)
def check_layer_norm(LayerNorm, seed, shape, eps=None, scale=1.0, bias=None, dtype="float32"):
    """Each token has mean 0 and variance 1 by itself; gain, shift, eps and half precision are where they belong."""
    d = shape[-1]
    norm = LayerNorm(d, **({} if eps is None else {"eps": eps}), **({} if bias is None else {"bias": bias}))
    eps, bias = eps or 1e-5, bias is not False
    require_vector(norm, "weight", d, 1.0, "LN-01")
    if bias:
        require_vector(norm, "bias", d, 0.0, "LN-01")
    elif not hasattr(norm, "bias") or norm.bias is not None:
        evidence = f"bias is a {type(norm.bias).__name__}" if hasattr(norm, "bias") else "there is no attribute `bias`"
        raise Mistake("LN-01", "bias=False was not heeded", evidence, "set self.bias = None then")
    random = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=random) + 1.0) * scale
    gain, shift = torch.rand(d, generator=random) + 0.5, torch.randn(d, generator=random) if bias else torch.zeros(d)
    weights = torch.randn(shape, generator=random)
    if dtype != "float32":
        require_own_axis(norm, x, "LN-02")
        require_wide_statistics(norm, lambda t: F.layer_norm(t, (d,), eps=eps), seed, d, dtype, "LN-06")
        return
    require_own_axis(norm, x, "LN-02")
    with torch.no_grad():
        norm.weight.copy_(gain)
        if bias:
            norm.bias.copy_(shift)
    small = x * math.sqrt(eps) / scale
    centred, variance = small - small.mean(-1, keepdim=True), small.var(-1, unbiased=False, keepdim=True)
    twins = [
        (centred / (small.var(-1, keepdim=True) + eps).sqrt() * gain + shift, "LN-03", "the variance divides by d - 1",
         "LayerNorm's variance is the plain mean of the squares: unbiased=False"),
        (centred / (variance.sqrt() + eps) * gain + shift, "LN-04", "eps was added outside the root", "sqrt(variance + eps)"),
        (centred / (small.std(-1, keepdim=True) + eps) * gain + shift, "LN-03", "torch.std divides by d - 1",
         "take the plain mean of the squares, and add eps inside the root"),
        (centred / variance.sqrt() * gain + shift, "LN-04", "eps was not used", "a token of equal numbers must not give NaN"),
        (small / (small.square().mean(-1, keepdim=True) + eps).sqrt() * gain + shift, "LN-05", "the mean was not subtracted",
         "that is RMSNorm"),
        (small / (variance + eps).sqrt() * gain + shift, "LN-05", "the mean was not subtracted", "subtract it before dividing"),
        ((centred / (variance + eps).sqrt() + shift) * gain, "LN-07", "the shift was added before the gain", "gain first, then shift"),
        (centred / (variance + eps).sqrt() * gain, "LN-07", "the shift was not added", "+ bias at the end"),
        (centred / (variance + eps).sqrt(), "LN-07", "gain and shift were not applied", "· weight + bias at the end"),
    ]  # fmt: skip
    refuse_twins(norm(small), F.layer_norm(small, (d,), gain, shift, eps), twins)
    for tokens in (small, x):
        close(norm(tokens), F.layer_norm(tokens, (d,), gain, shift, eps), "LN-09", "values differ from torch's layer_norm", atol=1e-5)
    expected = gradient(lambda t: F.layer_norm(t, (d,), gain, shift, eps), small, weights)
    size = expected.abs().max().item()
    close(gradient(norm, small, weights) / size, expected / size, "LN-08", "the gradient differs from torch's layer_norm",
          "mean and variance are part of the graph: no detach, no no_grad", rtol=1e-4, atol=1e-5)  # fmt: skip
    require_mixed_dtype(norm, x, "LN-06")
    precise = norm.double()(x.double())
    close(precise, F.layer_norm(x.double(), (d,), gain.double(), shift.double(), eps), "LN-06", "float64 lost digits",
          "only half precision is widened to float32; float64 stays", rtol=1e-11, atol=1e-11)  # fmt: skip


@check(
    "hybridlab.transformer.mlp.SwiGLU",
    visible=[{"seed": 0, "shape": (2, 3, 8), "d_ff": 12}],
    hidden=[
        {"seed": 31, "shape": (5, 6), "d_ff": 16, "bias": True},
        {"seed": 32, "shape": (4,), "d_ff": 3, "scale": 10.0},
        {"seed": 33, "shape": (2, 1, 3, 16), "d_ff": 40, "bias": True},
    ],
    forbids=("SwiGLU", "glu"),
    hints=(
        "Three linear layers. Two of them read the token itself; the third reads the product of the first two.",
        "Only the gate goes through SiLU: z · sigmoid(z). torch has it as F.silu.",
        "down_proj(F.silu(gate_proj(x)) * up_proj(x))",
    ),
)
def check_swiglu(SwiGLU, seed, shape, d_ff, bias=None, scale=1.0):
    """The SiLU of one branch gates the other, and the weights have Llama's names and shapes."""
    d = shape[-1]
    torch.manual_seed(seed)
    mlp = SwiGLU(d, d_ff) if bias is None else SwiGLU(d, d_ff, bias=bias)
    shapes = {"gate_proj.weight": (d_ff, d), "up_proj.weight": (d_ff, d), "down_proj.weight": (d, d_ff)}
    if bias:
        shapes |= {"gate_proj.bias": (d_ff,), "up_proj.bias": (d_ff,), "down_proj.bias": (d,)}
    found = {name: tuple(value.shape) for name, value in mlp.state_dict().items()}
    if found != shapes:
        wrong = sorted(set(found.items()) ^ set(shapes.items()))
        raise Mistake("SWI-01", "the weights are not gate_proj, up_proj, down_proj of the right shapes", f"mismatch at {wrong[:3]}",
                      "nn.Linear(d_model, d_ff) twice and nn.Linear(d_ff, d_model), with bias=bias")  # fmt: skip
    with torch.no_grad():
        for value in mlp.parameters():
            value.normal_()
    x, weights = torch.randn(shape) * scale, torch.randn(shape)
    state = {name: value.detach().clone() for name, value in mlp.named_parameters()}

    def linear(t, name):
        return F.linear(t, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def slow(t):
        gate, up = linear(t, "gate_proj"), linear(t, "up_proj")
        return linear(gate / (1 + torch.exp(-gate)) * up, "down_proj")

    gate, up = linear(x, "gate_proj"), linear(x, "up_proj")
    refuse_twins(mlp(x), slow(x), [
        (linear(gate * F.silu(up), "down_proj"), "SWI-02", "the wrong branch went through SiLU", "silu(gate) · up, not gate · silu(up)"),
        (linear(F.gelu(gate) * up, "down_proj"), "SWI-03", "the gate went through GELU", "that is GEGLU; SwiGLU takes SiLU"),
        (linear(gate.sigmoid() * up, "down_proj"), "SWI-03", "the gate went through a sigmoid alone", "SiLU is z · sigmoid(z)"),
        (linear(gate.relu() * up, "down_proj"), "SWI-03", "the gate went through ReLU", "that is ReGLU; SwiGLU takes SiLU"),
        (linear(gate * up, "down_proj"), "SWI-03", "the gate went through nothing", "F.silu(gate)"),
        (linear(F.silu(gate) + up, "down_proj"), "SWI-04", "the branches were added", "a gate multiplies"),
        (linear(F.silu(gate * up), "down_proj"), "SWI-05", "SiLU was taken of the product", "squash the gate first, then multiply"),
        (linear(F.silu(gate) * F.silu(up), "down_proj"), "SWI-05", "both branches were squashed", "up stays as it is"),
    ])  # fmt: skip

    size = slow(x).abs().max().item()
    close(mlp(x), slow(x), "SWI-09", "values differ from down(silu(gate(x)) · up(x))", atol=1e-5 * size)
    expected = gradient(slow, x, weights)
    size = expected.abs().max().item()
    close(gradient(mlp, x, weights) / size, expected / size, "SWI-08", "the gradient differs", "no detach", rtol=1e-4, atol=1e-5)


def wake(module: nn.Module, seed: int) -> None:
    """Give every gain, bias and matrix its own random values, so that two of them are never alike."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            noise = torch.randn(value.shape, generator=random)
            value.copy_(noise.abs() + 0.5 if value.ndim == 1 else noise * 0.4)


class Spy(nn.Module):
    """Stands in for an attention; remembers what it was called with."""

    def forward(self, x, **given):
        self.given = given
        return 0.5 * x


class Cache:
    """The plainest cache: keeps what it is given."""

    def __init__(self):
        self.k = self.v = None

    def __len__(self):
        return 0 if self.k is None else self.k.shape[-2]

    def append(self, k, v):
        self.k = k if self.k is None else torch.cat([self.k, k], -2)
        self.v = v if self.v is None else torch.cat([self.v, v], -2)
        return self.k, self.v


@check(
    "hybridlab.transformer.block.Block",
    visible=[{"seed": 0, "norm_placement": "pre"}, {"seed": 1, "norm_placement": "post"}],
    hidden=[
        {"seed": 41, "norm_placement": "pre", "norm": "rmsnorm", "mlp": "swiglu", "positions": "rotary", "n_kv_heads": 1},
        {"seed": 42, "norm_placement": "post", "bias": True, "dropout": 0.4},
        {"seed": 43, "norm_placement": "pre", "dropout": 0.3},
    ],
    forbids=("TransformerEncoderLayer", "LlamaDecoderLayer"),
    hints=(
        "Follow the stream: what is added to x, and is x itself ever replaced by something normalised?",
        "Pre-norm: the norm stands on the branch. Post-norm: the norm stands on the sum.",
        "pre: h = x + dropout(self_attn(norm1(x))); y = h + dropout(mlp(norm2(h))). post: norm1(x + …), norm2(h + …).",
    ),
)
def check_block(Block, seed, norm_placement, **changes):
    """Both residual connections and both norms are in place, before or after as asked; dropout, padding and cache too."""
    torch.manual_seed(seed)
    config = TransformerConfig(vocab_size=7, d_model=16, n_heads=2, n_layers=2, norm_placement=norm_placement, **changes)
    block = Block(config).eval()
    wake(block, seed)
    pre = norm_placement == "pre"
    attention, mlp, norm1, norm2 = block.self_attn, block.mlp, block.input_layernorm, block.post_attention_layernorm
    x = torch.randn(2, 5, config.d_model) * 1.5
    before = x.clone()
    got = block(x)
    if not torch.equal(x, before):
        raise Mistake("BLOCK-07", "x was changed in place", f"it moved by {(x - before).abs().max():.3g}", "x = x + …, not x += …")

    def pre_norm(x, drop=lambda t: t):
        h = x + drop(attention(norm1(x)))
        return h + drop(mlp(norm2(h)))

    def post_norm(x, drop=lambda t: t):
        h = norm1(x + drop(attention(x)))
        return norm2(h + drop(mlp(h)))

    line, other = (pre_norm, post_norm) if pre else (post_norm, pre_norm)
    h = x + attention(norm1(x)) if pre else norm1(x + attention(x))
    bare = attention(norm1(x)) if pre else norm1(attention(x))
    normed = norm1(x) + attention(norm1(x))
    no_skip = "a layer without its skip must carry everything itself"
    twins = [
        (other(x), "BLOCK-03", f"norm_placement={norm_placement!r} gave the other line", "compare the two lines of the contract"),
        (bare + mlp(norm2(bare)) if pre else norm2(bare + mlp(bare)), "BLOCK-01", "attention is not added to x", no_skip),
        (mlp(norm2(h)) if pre else norm2(mlp(h)), "BLOCK-01", "the MLP is not added to the stream", no_skip),
        (mlp(norm2(bare)) if pre else norm2(mlp(bare)), "BLOCK-01", "there are no residual connections", no_skip),
        (h + mlp(norm1(h)) if pre else norm1(h + mlp(h)), "BLOCK-04", "the first norm is used twice", "the MLP has its own norm"),
        (h + mlp(h) if pre else h + mlp(norm2(h)), "BLOCK-04", "the MLP's norm is missing or misplaced", "norm2 is that of the MLP"),
        (h + mlp(norm2(x)) if pre else norm2(h + mlp(x)), "BLOCK-05", "the MLP reads x, not what attention has added to it", "pass h on"),
        (x + mlp(norm2(h)) if pre else norm2(x + mlp(h)), "BLOCK-05", "the MLP's skip begins at x and loses attention", "h + mlp(…)"),
    ]
    if pre:
        stream = "the norm belongs on the branch; the stream itself stays as it is"
        twins += [
            (norm2(normed) + mlp(norm2(normed)), "BLOCK-02", "the residual stream carries the normalised x", stream),
            (normed + mlp(norm2(normed)), "BLOCK-02", "the residual stream carries the normalised x", stream),
            (norm2(h) + mlp(norm2(h)), "BLOCK-02", "the residual stream carries the normalised h", stream),
        ]
    refuse_twins(got, line(x), twins)
    close(got, line(x), "BLOCK-09", f"values differ from the {norm_placement}-norm line", rtol=1e-4, atol=1e-5)
    weights = torch.randn_like(x)
    close(gradient(block, x, weights), gradient(line, x, weights), "BLOCK-09", "the gradient differs", "no detach", rtol=1e-3, atol=1e-4)
    if config.dropout:
        block.train()
        torch.manual_seed(seed)
        got = block(x)
        torch.manual_seed(seed)
        close(got, line(x, nn.Dropout(config.dropout)), "BLOCK-06", "dropout is not where it belongs",
              "once on the output of attention, once on that of the MLP, before each is added", rtol=1e-4, atol=1e-5)  # fmt: skip
        block.eval()
    block.self_attn = spy = Spy()
    padding, cache = torch.ones(2, 5, dtype=torch.bool), Cache()
    block(x, padding=padding, cache=cache)
    for name, value in (("padding", padding), ("cache", cache)):
        if spy.given.get(name) is not value:
            raise Mistake("BLOCK-08", f"`{name}` did not reach the attention", f"it got {sorted(spy.given)}", f"pass {name}={name} on")


@check(
    "hybridlab.transformer.model.init_weights",
    visible=[{"seed": 0, "n_layers": 3}],
    hidden=[
        {"seed": 51, "n_layers": 5, "family": "llama"},
        {"seed": 52, "n_layers": 3, "family": "llama", "tie_embeddings": False, "qk_norm": True},
        {"seed": 53, "n_layers": 7, "tie_embeddings": False},
    ],
    hints=(
        "Walk over model.named_parameters(): the name and the number of dimensions tell you what each one is.",
        "Three kinds: matrices that write into the stream, other matrices, biases. Norm gains are vectors whose name ends in weight.",
        "nn.init.normal_(p, std=0.02 / math.sqrt(2 * config.n_layers)) for o_proj.weight and down_proj.weight",
    ),
)
def check_init_weights(init_weights, seed, n_layers, family="gpt2", **changes):
    """Every matrix is drawn with its own size, biases are 0, gains stay, and tied weights stay tied."""
    config = getattr(TransformerConfig, family)(300, d_model=96, n_heads=4, n_layers=n_layers, max_time=128, **changes)
    model = skeleton(config)
    with torch.no_grad():
        for value in model.parameters():
            value.fill_(1.25)
    before = {name: id(value) for name, value in model.named_parameters()}
    torch.manual_seed(seed)
    init_weights(model, config)
    if {name: id(value) for name, value in model.named_parameters()} != before:
        raise Mistake("INIT-06", "parameters were replaced by new ones", hint="fill them in place with nn.init: tied ones stay tied")
    for name, value in model.named_parameters():
        size, mean = value.std().item(), value.mean().item()
        if name.endswith("bias"):
            if value.any():
                raise Mistake("INIT-03", f"{name} is not 0", f"values around {mean:.3g}", "nn.init.zeros_ on every bias")
        elif value.ndim == 1:
            if not (value == 1.25).all():
                raise Mistake("INIT-04", f"the norm's gain {name} was touched", f"1.25 before, around {mean:.3g} now", "leave gains alone")
        elif size == 0:
            raise Mistake("INIT-05", f"{name} was not drawn", f"all its values are still {mean:.3g}", "embeddings are matrices too")
        else:
            judge_matrix(name, value.detach().flatten(), size, mean, n_layers)
    again = skeleton(config)
    torch.manual_seed(seed + 1)
    init_weights(again, config)
    if any(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True) if a.ndim == 2):
        raise Mistake("INIT-07", "two seeds gave the same weights", hint="leave the random state to the caller: no manual_seed inside")


def judge_matrix(name: str, values: Tensor, size: float, mean: float, n_layers: int) -> None:
    writes = name.endswith(("o_proj.weight", "down_proj.weight"))
    wanted = 0.02 / math.sqrt(2 * n_layers) if writes else 0.02
    if abs(size / wanted - 1) > 0.04:
        evidence = f"{name}: standard deviation {size:.5f}, expected {wanted:.5f}"
        if writes:
            raise Mistake("INIT-02", "what writes into the stream has the wrong size", evidence, "0.02 / √(2 · n_layers): two a layer")
        raise Mistake("INIT-01", "a matrix has the wrong size", evidence, "0.02, for all but o_proj.weight and down_proj.weight")
    if abs(mean) > 6 * wanted / math.sqrt(len(values)):
        raise Mistake("INIT-01", "a matrix is not centred on 0", f"{name}: mean {mean:.5f}", "mean 0")
    if values.abs().max() < 2.5 * wanted:
        raise Mistake("INIT-07", "the weights are not from a normal distribution", f"{name}: none beyond 2.5 deviations", "nn.init.normal_")


def skeleton(config: TransformerConfig) -> nn.Module:
    """A model's parameters by their names, without its code."""
    model, bias = nn.Module(), config.bias
    model.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
    if config.positions == "learned":
        model.embed_positions = nn.Embedding(config.max_time, config.d_model)
    model.layers = nn.ModuleList()
    for _ in range(config.n_layers):
        layer, d = nn.Module(), config.d_model
        layer.self_attn, layer.mlp, kv = nn.Module(), nn.Module(), config.n_kv_heads * config.d_head
        layer.input_layernorm, layer.post_attention_layernorm = build_norm(config), build_norm(config)
        for part, name, wide, narrow in (
            (layer.self_attn, "q_proj", d, d), (layer.self_attn, "k_proj", d, kv), (layer.self_attn, "v_proj", d, kv),
            (layer.self_attn, "o_proj", d, d), (layer.mlp, "up_proj", d, config.d_ff), (layer.mlp, "down_proj", config.d_ff, d),
        ):  # fmt: skip
            setattr(part, name, nn.Linear(wide, narrow, bias=bias))
        if config.mlp == "swiglu":
            layer.mlp.gate_proj = nn.Linear(d, config.d_ff, bias=bias)
        if config.qk_norm:
            layer.self_attn.q_norm, layer.self_attn.k_norm = nn.RMSNorm(config.d_head), nn.RMSNorm(config.d_head)
        model.layers.append(layer)
    model.norm = build_norm(config)
    model.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
    if config.tie_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
    return model


@check(
    "hybridlab.transformer.model.MiniTransformer",
    visible=[{"seed": 0, "family": "gpt2"}, {"seed": 1, "family": "llama"}],
    hidden=[
        {"seed": 61, "family": "gpt2", "tie_embeddings": False, "dropout": 0.3, "n_layers": 2},
        {"seed": 62, "family": "llama", "n_heads": 3, "n_kv_heads": 1, "n_layers": 4},
        {"seed": 63, "family": "gpt2", "norm_placement": "post", "positions": "sinusoidal", "n_layers": 3},
        {"seed": 64, "family": "llama", "tie_embeddings": False, "norm_placement": "post", "n_layers": 2},
        {"seed": 65, "family": "llama", "n_layers": 1},
    ],
    forbids=("LlamaForCausalLM", "LlamaModel", "GPT2LMHeadModel", "Transformer"),
    hints=(
        "Write down the shape after each submodule. The names in the contract, read downwards, are the forward pass.",
        "Two things to build with care: n_layers *different* blocks, and one tensor that is both embedding and head.",
        "start = 0 if caches is None else len(caches[0]); each layer gets its own cache; return self.lm_head(self.norm(x)).",
    ),
)
def check_mini_transformer(MiniTransformer, seed, family, **changes):
    """The wiring is right: own blocks, tied or untied head, norm, positions that go on after a cache, logits as they are."""
    torch.manual_seed(seed)
    size = {"d_model": 24, "n_heads": 4, "n_layers": 3, "max_time": 12}
    config = getattr(TransformerConfig, family)(19, **size | changes)
    model = MiniTransformer(config).eval()
    judge_structure(model, config)
    wake(model, seed)
    tokens = torch.randint(0, config.vocab_size, (2, 7))
    got, line = model(tokens), by_hand(model)
    x = model.dropout(model.embed_positions(model.embed_tokens(tokens), 0))
    for layer in model.layers:
        x = layer(x)
    refuse_twins(got, line(tokens), [
        (F.softmax(line(tokens), -1), "MODEL-06", "probabilities came back, not logits", "return the head's output as it is"),
        (F.log_softmax(line(tokens), -1), "MODEL-06", "log-probabilities came back, not logits", "return the head's output as it is"),
        (x, "MODEL-06", "the stream came back, not logits", "the head comes last"),
    ])  # fmt: skip
    if config.norm_placement == "pre":
        skipped = (model.lm_head(x), "MODEL-04", "the final norm was skipped", "a pre-norm stream was never normalised itself")
        refuse_twins(got, line(tokens), [skipped])
    close(got, line(tokens), "MODEL-19", "values differ from embed → positions → blocks → norm → head", rtol=1e-4, atol=1e-4)
    judge_positions_and_caches(model, tokens, config, line)
    padding = torch.arange(7) < torch.tensor([[7], [4]])
    close(model(tokens, padding=padding), line(tokens, padding), "MODEL-08", "`padding` did not reach the blocks",
          "layer(x, padding=padding, cache=cache)", rtol=1e-4, atol=1e-4)  # fmt: skip
    if config.dropout:
        model.train()
        torch.manual_seed(seed)
        got = model(tokens)
        torch.manual_seed(seed)
        close(got, line(tokens), "MODEL-09", "dropout is not where it belongs", "once, after the positions are added", rtol=1e-4, atol=1e-4)


def by_hand(model):
    def line(tokens, padding=None):
        x = model.dropout(model.embed_positions(model.embed_tokens(tokens), 0))
        for layer in model.layers:
            x = layer(x, padding=padding)
        return F.linear(model.norm(x), model.lm_head.weight)

    return line


def judge_structure(model, config) -> None:
    if getattr(model, "config", None) is not config:
        raise Mistake("MODEL-01", "`config` was not kept", hint="self.config = config")
    layers = list(model.layers)
    if len(layers) != config.n_layers:
        raise Mistake("MODEL-02", "the number of blocks is wrong", f"{len(layers)}, expected {config.n_layers}", "one Block for each layer")
    if len({id(layer) for layer in layers}) < len(layers):
        evidence = f"{len(layers)} layers, {len({id(layer) for layer in layers})} Block"
        raise Mistake("MODEL-02", "all layers are one and the same block", evidence, "[Block(config)] * n repeats one object: build each")
    tied = model.lm_head.weight is model.embed_tokens.weight
    if tied != config.tie_embeddings:
        what = f"tie_embeddings={config.tie_embeddings}, but the head's weight is {'' if tied else 'not '}the embedding's"
        raise Mistake("MODEL-03", what,
                      hint="self.lm_head.weight = self.embed_tokens.weight shares the parameter; a copy would drift away")  # fmt: skip
    expected = {name: tuple(value.shape) for name, value in skeleton(config).state_dict().items()}
    if config.norm_placement == "post":
        expected = {name: shape for name, shape in expected.items() if not name.startswith("norm.")}
    found = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if wrong := sorted(set(found.items()) ^ set(expected.items())):
        code, what = ("MODEL-04", "the final norm is not what it should be") if all(n.startswith("norm.") for n, _ in wrong) else (
            "MODEL-01", "names or shapes in the state_dict are not the contract's")  # fmt: skip
        raise Mistake(code, what, f"mismatch at {wrong[:3]}", "pre-norm: norm = build_norm(config); post-norm: nn.Identity()")
    for name, value in model.named_parameters():
        if value.ndim == 2 and not 0.5 < value.std().item() / (0.02 / math.sqrt(2 * config.n_layers)) < 4:
            raise Mistake("MODEL-05", "the weights were not drawn by init_weights", f"{name}: standard deviation {value.std():.3g}",
                          "init_weights(self, config) as the last line of __init__")  # fmt: skip


def judge_positions_and_caches(model, tokens, config, line) -> None:
    caches = [Cache() for _ in model.layers]
    try:
        parts = [model(part, caches=caches) for part in tokens.split([3, 1, 3], dim=1)]
    except (RuntimeError, IndexError, TypeError) as error:
        raise Mistake("MODEL-07", "three pieces through the caches failed", str(error).splitlines()[0], "layer i gets caches[i]") from None
    close(torch.cat(parts, 1), line(tokens), "MODEL-07", "in pieces, with caches, the logits differ from the whole",
          "a piece begins at position len(caches[0]), read before the blocks append to it", rtol=1e-4, atol=1e-4)  # fmt: skip
    for n in (config.n_layers - 1, config.n_layers + 1):
        wrong = [Cache() for _ in range(n)]
        must_raise(ValueError, lambda wrong=wrong: model(tokens, caches=wrong), "MODEL-10",
                   f"{n} caches for {config.n_layers} layers were accepted", "raise ValueError unless there is one a layer")  # fmt: skip
