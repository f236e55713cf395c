"""Checks of week 6: low-rank adapters, instruction data, packed rows, and the loss of the answers."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from coursekit.checks import Mistake, check, close, must_raise
from hybridlab.llm.instruction import Example
from hybridlab.llm.lora import LoRAConfig

IGNORED = -100

# ---------------------------------------------------------------------------------------------- LoRALinear

# What peft 0.21.2 gives for one small layer (rank 2, alpha 3), forward and backward of y.square().sum() / 2.
# tests/unit/test_lora.py asks peft again, and holds these numbers against its answer.
PEFT = {
    "x": [[1.0, -2.0, 0.5], [0.25, 1.5, -1.0]],
    "weight": [[0.5, -0.25, 1.0], [-1.5, 0.75, 0.125]],
    "A": [[0.5, 1.0, -0.5], [-0.25, 0.5, 1.5]],
    "B": [[1.0, -0.5], [0.25, 2.0]],
    "y": [[-0.75, -5.09375], [2.546875, -1.015625]],
    "gradient_x": [[9.427734375, -14.02734375, -21.947265625], [5.755859375, -0.4375, -6.7353515625]],
    "gradient_A": [[-2.17529296875, 11.2294921875, -4.95703125], [-15.9580078125, 22.001953125, -2.40234375]],
    "gradient_B": [[10.0869140625, -2.54150390625], [10.1337890625, 5.05810546875]],
}


def make_base(seed, d_in, d_out, bias, dtype):
    generator = torch.Generator().manual_seed(seed)
    base = nn.Linear(d_in, d_out, bias=bias)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / math.sqrt(d_in))
    return base.to(dtype), generator


def fill(layer, generator, size=0.5):
    """A and B as after training."""
    with torch.no_grad():
        for part in (layer.lora_A, layer.lora_B):
            part.copy_(size * torch.randn(part.shape, generator=generator))


@check(
    "hybridlab.llm.lora.LoRALinear",
    visible=[
        {"seed": 0, "d_in": 6, "d_out": 4, "rank": 2, "alpha": 8.0, "snapshot": True},
        {"seed": 1, "d_in": 8, "d_out": 6, "rank": 2, "alpha": 8.0, "dtype": torch.bfloat16},
    ],
    hidden=[
        {"seed": 11, "d_in": 64, "d_out": 5, "rank": 16, "alpha": 8.0, "lead": (2, 3)},
        {"seed": 12, "d_in": 7, "d_out": 9, "rank": 3, "alpha": 1.0, "bias": False, "lead": ()},
        {"seed": 13, "d_in": 16, "d_out": 12, "rank": 4, "alpha": 16.0, "dtype": torch.bfloat16},
        {"seed": 14, "d_in": 64, "d_out": 6, "rank": 1, "alpha": 2.0, "dropout": 0.5},
    ],
    hints=(
        "Write down the shapes from right to left: x has d_in features, A x has rank of them, B A x has d_out. Which of the two begins at zero?",
        "forward: base(x) + scaling * B(A(dropout(x))) with F.linear, which multiplies by the transposed matrix; x.float() for the branch, "
        "and .to(y.dtype) at its end. merge: keep weight.clone() on self before you add.",
        "merge: `if self.weight_before is None: self.weight_before = weight.clone(); weight.copy_(weight + self.scaling * B @ A)` under "
        "torch.no_grad(). unmerge copies it back and sets it to None; forward looks whether it is None.",
    ),
)
def check_lora_linear(LoRALinear, seed, d_in, d_out, rank, alpha, bias=True, lead=(5,), dtype=torch.float32, dropout=0.0, snapshot=False):
    """Begins as the layer itself, adds the scaled low-rank branch with the right gradients, merges, and comes back bit for bit."""
    base, generator = make_base(seed, d_in, d_out, bias, dtype)
    layer = LoRALinear(base, rank, alpha, dropout)
    x = torch.randn(*lead, d_in, generator=generator).to(dtype)
    check_start(layer, base, x, rank, d_in, d_out)
    fill(layer, generator)
    layer.eval()
    check_branch(layer, base, x, alpha / rank, alpha, dtype)
    if dropout:
        check_dropout(LoRALinear, dropout)
    if dtype == torch.bfloat16:
        check_precision(LoRALinear, generator)
    check_merge(layer, base, x, alpha / rank, dtype)
    codes = LoRALinear(nn.Linear(4, 4), 1, 1.0)
    codes.base.weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    must_raise(ValueError, codes.merge, "LORA-14", "a base weight of 4-bit codes (uint8) must not be merged, and ValueError is expected",
               "codes are no numbers that something can be added to: ask weight.is_floating_point()")
    if snapshot:
        check_against_peft(LoRALinear)
    check_place(LoRALinear)


def check_start(layer, base, x, rank, d_in, d_out):
    if getattr(layer, "base", None) is not base:
        raise Mistake("LORA-03", "`base` is not the layer that was passed in", f"layer.base is a {type(getattr(layer, 'base', None)).__name__}",
                      "keep the module itself: the adapter is put around it, and nothing is copied")
    parts = dict(layer.named_parameters())
    for name, shape in (("lora_A", (rank, d_in)), ("lora_B", (d_out, rank))):
        if name not in parts:
            raise Mistake("LORA-03", f"there is no parameter `{name}`", f"the parameters are {sorted(parts)}", "nn.Parameter, set on self under this name")
        if tuple(parts[name].shape) != shape:
            raise Mistake("LORA-03", f"{name} has the wrong shape", f"got {tuple(parts[name].shape)}, expected {shape}", "A: rank × d_in, B: d_out × rank")
        if parts[name].dtype != torch.float32:
            raise Mistake("LORA-05", f"{name} is {parts[name].dtype}", f"the base is {base.weight.dtype}", "A and B are float32 whatever the base is: small updates are lost in 8 bits")
    trainable = {name for name, parameter in parts.items() if parameter.requires_grad}
    if trainable - {"lora_A", "lora_B"}:
        raise Mistake("LORA-04", "the base is not frozen", f"trainable: {sorted(trainable)}", "base.requires_grad_(False)")
    if trainable != {"lora_A", "lora_B"}:
        raise Mistake("LORA-04", "the adapter is not trainable", f"trainable: {sorted(trainable)}", "freeze the base alone")
    with torch.no_grad():
        same = torch.equal(layer(x), base(x))
    zero = {name: not parts[name].any().item() for name in ("lora_A", "lora_B")}
    if zero["lora_A"] and zero["lora_B"]:
        raise Mistake("LORA-02", "A and B both begin at zero", "then each one's gradient is multiplied by the other: nothing ever moves", "B begins at zero, A at random")
    if not same or not zero["lora_B"]:
        raise Mistake("LORA-01", "a new adapter changes the output", f"lora_B is {'zero' if zero['lora_B'] else 'not zero'}, layer(x) and base(x) {'agree' if same else 'differ'}",
                      "B begins at zero, and neither dropout nor a cast touches the base's own path")
    bound, a = 1 / math.sqrt(d_in), parts["lora_A"].detach()
    wrong = a.abs().max() > 1.0001 * bound or (a.numel() > 900 and (a.abs().max() < 0.97 * bound or not 0.93 < a.std() * math.sqrt(3) / bound < 1.07))
    if wrong:
        raise Mistake("LORA-02", "A does not begin as kaiming_uniform with a = √5 draws it", f"largest {a.abs().max().item():.4f}, spread {a.std().item():.4f}; the bound is 1/√d_in = {bound:.4f}",
                      "nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))")


def explicit(base, A, B, x, scaling):
    """The same layer as one matrix, in double precision."""
    weight = base.weight.double() + scaling * B.double() @ A.double()
    return F.linear(x.double(), weight, None if base.bias is None else base.bias.double())


def check_branch(layer, base, x, scaling, alpha, dtype):
    A, B = layer.lora_A.detach(), layer.lora_B.detach()
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.03, "atol": 0.03}
    mine = x.clone().requires_grad_()
    y = layer(mine)
    if y.dtype != dtype:
        raise Mistake("LORA-05", f"the output is {y.dtype}", f"base and x are {dtype}", "bring the branch to the dtype of base(x) before you add it")
    if torch.equal(y, base(x)):
        raise Mistake("LORA-07", "the branch is not added", "with a B that is not zero, layer(x) is still base(x)")
    factors = {"without any scaling": 1.0, "scaled by alpha, not alpha / rank": alpha, "scaled by rank / alpha": 1 / scaling}
    for how, factor in factors.items():
        if not math.isclose(factor, scaling) and torch.allclose(y.double(), explicit(base, A, B, x, factor), **tolerance):
            raise Mistake("LORA-06", f"the branch is added {how}", f"alpha / rank is {scaling:g}, here it counts {factor:g}", "scaling = alpha / rank")
    close(y, explicit(base, A, B, x, scaling), "LORA-09", "the output is not base(x) + alpha / rank · B A x", "F.linear(x, M) multiplies by the transposed M", **tolerance)
    if not math.isclose(getattr(layer, "scaling", 0.0), scaling):
        raise Mistake("LORA-06", "the attribute `scaling` is not alpha / rank", f"alpha / rank is {scaling:g}, got {getattr(layer, 'scaling', None)}", "self.scaling = alpha / rank: whoever saves an adapter asks for it")
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(5))
    got = torch.autograd.grad((y.float() * probe).sum(), [mine, layer.lora_A, layer.lora_B])
    A, B, theirs = A.requires_grad_(), B.requires_grad_(), x.double().requires_grad_()
    expected = torch.autograd.grad((explicit(base, A, B, theirs, scaling) * probe).sum(), [theirs, A, B])
    for name, a, b in zip(("x", "lora_A", "lora_B"), got, expected, strict=True):
        close(a, b, "LORA-09", f"the gradient of {name} is another one", "is something detached, or computed under no_grad?", **({"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.1}))


def check_precision(LoRALinear, generator):
    """Beside a base of zeros the output is the branch alone: rounded once, at its end."""
    base = nn.Linear(64, 32, bias=False).to(torch.bfloat16)
    layer = LoRALinear(base, 8, 8.0).eval()
    fill(layer, generator)
    x = torch.randn(40, 64, generator=generator).to(torch.bfloat16)
    with torch.no_grad():
        base.weight.zero_()
        got = layer(x)
    once = explicit(base, layer.lora_A.detach(), layer.lora_B.detach(), x, 1.0).to(torch.bfloat16)
    share = (got == once).double().mean().item()
    if share < 0.98:
        raise Mistake("LORA-05", "the branch is computed in bfloat16", f"{1 - share:.0%} of the numbers are rounded more than once", "x.float() before A, and back to the dtype of base(x) at the end")


def check_dropout(LoRALinear, dropout):
    base = nn.Linear(64, 6, bias=False)
    layer = LoRALinear(base, 1, 1.0, dropout)
    with torch.no_grad():
        layer.lora_A.fill_(1 / 64)
        layer.lora_B.fill_(1.0)
    x = torch.ones(300, 64)
    state = torch.get_rng_state()
    torch.manual_seed(7)
    layer.train()
    branch = (layer(x) - base(x)).detach()
    layer.eval()
    quiet = (layer(x) - base(x)).detach()
    torch.set_rng_state(state)
    if (quiet - 1).abs().max() > 1e-4:
        raise Mistake("LORA-08", "dropout acts in eval mode", f"the branch should give 1 everywhere, got {quiet.min().item():.3f} … {quiet.max().item():.3f}", "nn.Dropout knows the mode; F.dropout wants training=self.training")
    if branch.std() < 1e-3:
        raise Mistake("LORA-08", "dropout does nothing in train mode", f"dropout={dropout}, and the branch gives the same each time", "self.dropout(x) goes into A")
    if (branch.std(dim=1) > 1e-4).any() or not 0.9 < branch.mean() < 1.1 or (branch < 0.3).any():
        raise Mistake("LORA-08", "dropout does not act on the input of A alone", f"a row of the branch's output: {[round(v, 2) for v in branch[0].tolist()]}; all six should agree, and lie near 1",
                      "base(x) sees the whole x; of the branch only A's input is dropped")


def check_merge(layer, base, x, scaling, dtype):
    weight = base.weight
    before, bits = layer(x).detach(), weight.detach().clone()
    layer.unmerge()
    if not torch.equal(weight, bits):
        raise Mistake("LORA-12", "unmerge without a merge changes the weight", f"{int((weight != bits).sum())} numbers differ", "without a merge there is nothing to take back")
    layer.merge()
    if layer.base is not base or base.weight is not weight:
        raise Mistake("LORA-13", "merge puts another weight in the base's place", "base.weight is a new tensor", "change the weight in place: weight.copy_(…)")
    delta = scaling * layer.lora_B.detach() @ layer.lora_A.detach()
    if torch.equal(weight, bits):
        raise Mistake("LORA-10", "merge does not change the weight", "it is the same before and after", "weight.copy_(weight + scaling * B @ A) under torch.no_grad()")
    for how, wrong in (("without the scaling", delta / scaling), ("with the wrong sign", -delta)):
        if not math.isclose(scaling, 1.0) and torch.allclose(weight.float(), (bits.float() + wrong), rtol=2**-7, atol=1e-5):
            raise Mistake("LORA-10", f"merge adds B A {how}", f"alpha / rank is {scaling:g}", "merge adds exactly what forward adds")
    exact = (bits.float() + delta).to(dtype)
    if dtype == torch.bfloat16 and not torch.equal(weight, exact) and torch.allclose(weight.float(), exact.float(), rtol=0.02, atol=0.02):
        raise Mistake("LORA-11", "the correction is rounded before it is added", f"{int((weight != exact).sum())} of {weight.numel()} numbers are rounded twice", "add in float32, round the sum once")
    close(weight, exact, "LORA-10", "the merged weight is not W + alpha / rank · B A", rtol=1e-5, atol=1e-5)
    merged = layer(x).detach()
    if not torch.equal(merged, base(x)):
        raise Mistake("LORA-11", "after merge the branch is still added", "the correction counts twice", "merged: return base(x) alone")
    if dtype == torch.float32:
        close(merged, before, "LORA-10", "the merged layer gives another output", rtol=1e-4, atol=1e-4)
    once = weight.detach().clone()
    layer.merge()
    if not torch.equal(weight, once):
        raise Mistake("LORA-12", "a second merge adds the correction again", f"{int((weight != once).sum())} numbers differ", "remember that it is merged")
    layer.unmerge()
    if not torch.equal(weight, bits):
        raise Mistake("LORA-13", "unmerge does not bring the old weight back, bit for bit", f"{int((weight != bits).sum())} of {bits.numel()} numbers differ, by at most {(weight.float() - bits.float()).abs().max().item():.3g}",
                      "W + D - D is not W in floating point: keep a copy of W")
    if not torch.equal(layer(x), before):
        raise Mistake("LORA-13", "after unmerge the output is another one", "", "forward must add the branch again")
    with torch.no_grad():
        layer.lora_B.mul_(2.0)
    layer.merge()
    close(base.weight, (bits.float() + 2 * delta).to(dtype), "LORA-13", "a second merge, after more training, is another sum", "it must begin from the weight as it is then", rtol=1e-2, atol=1e-3)
    layer.unmerge()
    if not torch.equal(weight, bits):
        raise Mistake("LORA-13", "the second unmerge does not bring the weight back", "", "keep a new copy at each merge")


def check_place(LoRALinear):
    """The adapter beside a base on another device, and made while a model is loaded in another dtype."""
    layer = LoRALinear(nn.Linear(4, 3, device="meta"), 2, 2.0)
    if {layer.lora_A.device.type, layer.lora_B.device.type} != {"meta"}:
        raise Mistake("LORA-15", "A or B does not lie on the base weight's device", f"base on meta, A on {layer.lora_A.device}, B on {layer.lora_B.device}", "device=base.weight.device for both")
    base = nn.Linear(4, 3)
    torch.set_default_dtype(torch.bfloat16)
    try:
        layer = LoRALinear(base, 2, 2.0)
    finally:
        torch.set_default_dtype(torch.float32)
    if {layer.lora_A.dtype, layer.lora_B.dtype} != {torch.float32}:
        raise Mistake("LORA-05", "A or B follows PyTorch's default dtype", "a model that is loaded in bfloat16 sets that to bfloat16", "dtype=torch.float32 for both")


def check_against_peft(LoRALinear):
    stored = {name: torch.tensor(values) for name, values in PEFT.items()}
    base = nn.Linear(3, 2, bias=False)
    layer = LoRALinear(base, 2, 3.0)
    with torch.no_grad():
        base.weight.copy_(stored["weight"]), layer.lora_A.copy_(stored["A"]), layer.lora_B.copy_(stored["B"])
    x = stored["x"].clone().requires_grad_()
    y = layer(x)
    close(y, stored["y"], "LORA-09", "the output differs from peft's on the same weights", rtol=1e-5, atol=1e-5)
    (y.square().sum() / 2).backward()
    for name, got in (("x", x.grad), ("A", layer.lora_A.grad), ("B", layer.lora_B.grad)):
        close(got, stored[f"gradient_{name}"], "LORA-09", f"the gradient of {name} differs from peft's", rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------- inject_lora


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.kv_proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return x + self.norm(self.kv_proj(self.v_proj(self.q_proj(x)).tanh()))


class Small(nn.Module):
    """A model with the names that are easily taken for others: kv_proj for v_proj, a convolution called v_proj."""

    def __init__(self, seed, width=6):
        super().__init__()
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        self.embed = nn.Embedding(9, width)
        self.layers = nn.ModuleList(Attention(width) for _ in range(3))
        self.mix = nn.Module()
        self.mix.v_proj = nn.Conv1d(1, 1, 3, padding=1)
        self.lm_head = nn.Linear(width, 9, bias=False)
        torch.set_rng_state(state)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.mix.v_proj(x.reshape(-1, 1, x.shape[-1])).reshape(x.shape))


QV = [f"layers.{i}.{name}" for i in range(3) for name in ("q_proj", "v_proj")]


@check(
    "hybridlab.llm.lora.inject_lora",
    visible=[{"seed": 0, "targets": ("v_proj", "q_proj"), "expected": QV}],
    hidden=[
        {"seed": 21, "targets": ("layers.1.q_proj",), "expected": ["layers.1.q_proj"], "rank": 3, "dropout": 0.25},
        {"seed": 22, "targets": ("lm_head", "kv_proj"), "expected": [*(f"layers.{i}.kv_proj" for i in range(3)), "lm_head"]},
        {"seed": 23, "targets": ("2.v_proj", "v_proj"), "expected": QV[1::2], "alpha": 1.0},
    ],
    hints=(
        "model.named_modules() gives every name and module. Which of them are an nn.Linear, and end as one of the targets does? Collect them before you change anything.",
        "f'.{name}'.endswith(f'.{target}') is the rule in one line. Look first whether every target chooses something, then freeze the whole model, then replace.",
        "name.rpartition('.') gives the parent's name and the last part: setattr(model.get_submodule(parent), last, LoRALinear(...)). "
        "model.requires_grad_(False) comes before the first LoRALinear is made, or it freezes A and B too.",
    ),
)
def check_inject(inject_lora, seed, targets, expected, rank=2, alpha=4.0, dropout=0.0):
    """Exactly the named layers are wrapped, and afterwards nothing but their A and B is trainable."""
    from hybridlab.llm.lora import LoRALinear

    config = LoRAConfig(rank, alpha, dropout, targets)
    model, tokens = Small(seed), torch.arange(8)[None]
    originals, before = dict(model.named_modules()), model(tokens).detach()
    got = inject_lora(model, config)
    wrapped = [name for name, module in model.named_modules() if isinstance(module, LoRALinear)]
    if set(wrapped) - set(expected):
        raise Mistake("INJ-01", "a layer is wrapped that no target names", f"targets {targets}: {sorted(set(wrapped) - set(expected))}",
                      "the name is the target, or ends in a dot and the target; and it must be an nn.Linear")
    if set(expected) - set(wrapped):
        raise Mistake("INJ-02", "a layer that a target names is not wrapped", f"targets {targets}: {sorted(set(expected) - set(wrapped))}", "walk through all modules, at every depth")
    if not isinstance(got, list) or got != expected:
        raise Mistake("INJ-03", "the result is not the list of the wrapped layers' names, in the model's order", f"got {got!r:.120}, expected {expected}", "in the order of model.named_modules(), each once")
    for name in expected:
        layer, base = model.get_submodule(name), originals[name]
        if layer.base is not base:
            raise Mistake("INJ-09", "the wrapped layer is not the model's own", f"{name} holds another nn.Linear", "LoRALinear(layer, …) around the very module that stood there")
        if layer.lora_A.shape[0] != rank or not math.isclose(layer.scaling, alpha / rank) or any(m.p != dropout for m in layer.modules() if isinstance(m, nn.Dropout)):
            raise Mistake("INJ-09", "an adapter does not have the config's rank, alpha and dropout", f"{name}: rank {layer.lora_A.shape[0]}, scaling {layer.scaling:g}; config {config}",
                          "LoRALinear(layer, config.rank, config.alpha, config.dropout)")
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    adapters = {f"{name}.{part}" for name in expected for part in ("lora_A", "lora_B")}
    if adapters - trainable:
        raise Mistake("INJ-05", "the adapters themselves are frozen", f"{len(adapters - trainable)} of {len(adapters)}: {sorted(adapters - trainable)[0]}", "freeze the model first, then put the adapters in")
    if trainable - adapters:
        raise Mistake("INJ-04", "something else than the adapters is trainable", f"{sorted(trainable - adapters)[:3]}", "model.requires_grad_(False): embeddings, norms, biases, and the layers that were not chosen")
    if not torch.equal(model.eval()(tokens), before):
        raise Mistake("INJ-09", "the model gives another output", "untrained adapters change nothing", "only the chosen layers are replaced")
    check_refusals(inject_lora, seed, config, model, LoRALinear)


def check_refusals(inject_lora, seed, config, adapted, LoRALinear):
    for targets in (("q_proj", "w_proj"), ("proj",), ("norm", "q_proj")):
        fresh = Small(seed)
        error = must_raise(ValueError, lambda m=fresh, t=targets: inject_lora(m, LoRAConfig(2, 4.0, 0.0, t)), "INJ-06",
                           f"targets={targets} holds one that chooses no linear layer, and it must raise ValueError", "look at each target alone: does it choose anything?")
        bad = next(t for t in targets if t != "q_proj")
        if bad not in str(error):
            raise Mistake("INJ-06", "the error does not name the target that chooses nothing", f"its text is {str(error)!r:.100}", f"say {bad!r}, and which names there are")
        if any(isinstance(m, LoRALinear) for m in fresh.modules()) or not all(p.requires_grad for p in fresh.parameters()):
            raise Mistake("INJ-07", "a refused call changes the model", f"targets={targets}: some layers are wrapped or frozen already", "look at everything first, change afterwards")
    n_adapters = sum(isinstance(m, LoRALinear) for m in adapted.modules())
    others = LoRAConfig(2, 4.0, 0.0, ("lm_head",) if "lm_head" not in config.targets else ("v_proj",))  # layers that have none yet
    for again in (config, others):
        must_raise(ValueError, lambda c=again: inject_lora(adapted, c), "INJ-08", f"a model that has adapters already must be refused with ValueError (now with targets {again.targets})", "is any module a LoRALinear?")
    if sum(isinstance(m, LoRALinear) for m in adapted.modules()) != n_adapters:
        raise Mistake("INJ-07", "a refused call changes the model", "there are more adapters than before", "look first, change afterwards")


# ---------------------------------------------------------------------------------------------- dialogue_example


class Toy:
    """A tokenizer of one letter a token, with a chat template as plain as possible."""

    eos_token = "|"

    def apply_chat_template(self, conversation, tokenize=True, add_generation_prompt=False, **_):
        text = "".join(f"<{m['role'][0]}>{m['content']}|\n" for m in conversation) + ("<a>" if add_generation_prompt else "")
        return [ord(letter) for letter in text] if tokenize else text

    def __call__(self, text, **_):
        return {"input_ids": [ord(letter) for letter in text]}


def slowly(messages):
    """(tokens, labels) of a whole dialogue under Toy, letter by letter."""
    tokens, labels = [], []
    for i, message in enumerate(messages):
        answer = message["role"] == "assistant"
        for letter in f"<{message['role'][0]}>":
            tokens.append(ord(letter)), labels.append(IGNORED)
        for letter in f"{message['content']}|":
            tokens.append(ord(letter)), labels.append(ord(letter) if answer else IGNORED)
        if i < len(messages) - 1:
            tokens.append(ord("\n")), labels.append(IGNORED)
    return tokens, labels


def dialogue(seed, n_exchanges, system, extra=False):
    generator = torch.Generator().manual_seed(seed)

    def words(n):
        return "".join(chr(97 + int(i)) for i in torch.randint(26, (n,), generator=generator))

    messages = [{"role": "system", "content": words(4)}] if system else []
    if extra:  # an exchange may be a user's message that nobody answered
        messages.append({"role": "user", "content": words(3)})
    for i in range(n_exchanges):
        messages.append({"role": "user", "content": words(5 + 2 * i)})
        messages.append({"role": "assistant", "content": words(4 + i)})
        if extra and i == 0:  # an exchange may hold more than two messages
            messages += [{"role": "tool", "content": words(3)}, {"role": "assistant", "content": words(3)}]
    return messages


def without_oldest(messages, n_dropped):
    """The dialogue without its `n_dropped` oldest exchanges."""
    users = [i for i, message in enumerate(messages) if message["role"] == "user"]
    system = [m for m in messages[:1] if m["role"] == "system"]
    return system + messages[users[n_dropped] :]


@check(
    "hybridlab.llm.instruction.dialogue_example",
    visible=[{"seed": 0, "n_exchanges": 2}],
    hidden=[
        {"seed": 31, "n_exchanges": 1, "system": False},
        {"seed": 32, "n_exchanges": 4},
        {"seed": 33, "n_exchanges": 3, "system": False, "extra": True},
        {"seed": 34, "n_exchanges": 3, "extra": True},
    ],
    hints=(
        "The pieces come in order and each says whether it is an answer. Which two lists do you build from them, token by token?",
        "Too long? Find where the second message of the role 'user' stands among the turns (the system message is no turn), let the turns begin there, and take the pieces again.",
        "while sum(len(p.tokens) for p in pieces) > max_time: later = [i for i, m in enumerate(turns) if i > 0 and m['role'] == 'user']; "
        "without any, raise ValueError; else turns = turns[later[0]:] and pieces = dialogue_pieces(system + turns, tokenizer).",
    ),
)
def check_dialogue(dialogue_example, seed, n_exchanges, system=True, extra=False):
    """Answers are learned, all of them, what is given is not, and a long dialogue loses whole exchanges from its beginning."""
    messages, tokenizer = dialogue(seed, n_exchanges, system, extra), Toy()
    n_exchanges += extra
    copies = [dict(message) for message in messages]
    tokens, labels = slowly(messages)
    got = dialogue_example(messages, tokenizer, len(tokens))
    if messages != copies:
        raise Mistake("DIAL-10", "the messages that were passed in are changed", f"{len(copies)} messages went in, {len(messages)} are left", "make lists of your own")
    check_types(got)
    diagnose_labels(got, tokens, labels, messages)
    for dropped in range(n_exchanges):
        shorter = without_oldest(messages, dropped)
        wanted = slowly(shorter)
        for max_time in (len(wanted[0]), len(wanted[0]) + 1):
            if dropped and max_time >= len(slowly(without_oldest(messages, dropped - 1))[0]):
                continue
            mine = dialogue_example(messages, tokenizer, max_time)
            check_types(mine)
            diagnose_truncation(mine, wanted, tokens, max_time, system, messages)
    if messages != copies:
        raise Mistake("DIAL-10", "the messages that were passed in are changed", f"{len(copies)} messages went in, {len(messages)} are left", "make lists of your own")
    shortest = len(slowly(without_oldest(messages, n_exchanges - 1))[0])
    error = must_raise(ValueError, lambda: dialogue_example(messages, tokenizer, shortest - 1), "DIAL-08",
                       f"the last exchange alone has {shortest} tokens, more than max_time={shortest - 1}, and it must raise ValueError", "nothing is left that could be left out")
    if str(shortest) not in str(error) or str(shortest - 1) not in str(error):
        raise Mistake("DIAL-08", "the error does not name both numbers", f"its text is {str(error)!r:.120}", f"say {shortest} tokens and max_time {shortest - 1}")


def check_types(got):
    if not isinstance(got, Example):
        raise Mistake("DIAL-12", "the result is not an Example", f"got a {type(got).__name__}", "Example(tokens, labels)")
    for name, part in zip(("tokens", "labels"), got, strict=True):
        if not isinstance(part, torch.Tensor) or part.dtype != torch.int64 or part.ndim != 1:
            raise Mistake("DIAL-12", f"the {name} are not an int64 tensor of one axis", f"got {getattr(part, 'dtype', type(part).__name__)} {tuple(getattr(part, 'shape', ()))}", "torch.tensor(list_of_ints)")


def diagnose_labels(got, tokens, labels, messages):
    mine, given = got.labels.tolist(), got.tokens.tolist()
    if len(given) < len(tokens):
        raise Mistake("DIAL-11", "more is left out than needed", f"{len(given)} of {len(tokens)} tokens are left, and max_time is {len(tokens)}", "exactly max_time tokens fit")
    if given != tokens:
        raise Mistake("DIAL-09", "the tokens are not the pieces' tokens, joined in order", f"got {len(given)} tokens, expected {len(tokens)}", "each piece after the other, nothing added, nothing left out")
    if mine == tokens:
        raise Mistake("DIAL-01", "the prompt is learned, too", f"all {len(mine)} labels count", "IGNORE where the piece is not an answer")
    if mine == labels:
        return
    if mine in (labels[1:] + [IGNORED], [IGNORED, *labels[:-1]]):
        raise Mistake("DIAL-03", "the labels are shifted", "they lie one place beside their tokens", "the loss shifts them; a label stands at the place of its token")
    counted, should = sum(label != IGNORED for label in mine), sum(label != IGNORED for label in labels)
    last = len(labels) - next(i for i, label in enumerate(reversed(labels)) if label == IGNORED)
    if mine == [IGNORED] * last + labels[last:]:
        raise Mistake("DIAL-02", "only the last answer is learned", f"{counted} labels count, {should} should", "every answer of the dialogue counts")
    if all(label in (IGNORED, 0) or label == right for label, right in zip(mine, labels, strict=True)) and 0 in mine:
        raise Mistake("DIAL-03", "what is given has the label 0", "0 is a token like any other", "IGNORE is -100")
    if mine == [IGNORED if token == ord("|") else label for token, label in zip(tokens, labels, strict=True)]:
        raise Mistake("DIAL-04", "the mark that ends an answer is not learned", f"{counted} labels count, {should} should", "a model that never learned to stop goes on and on")
    if mine == [IGNORED if label != IGNORED else token for token, label in zip(tokens, labels, strict=True)]:
        raise Mistake("DIAL-01", "the questions are learned, and the answers are not", f"{counted} labels count", "is_answer says what is learned")
    raise Mistake("DIAL-09", "the labels are not those of the answers", f"{counted} count, {should} should", "the token itself in an answer, IGNORE elsewhere")


def diagnose_truncation(mine, wanted, all_tokens, max_time, system, messages):
    tokens, labels = mine.tokens.tolist(), mine.labels.tolist()
    if (tokens, labels) == wanted:
        return
    if len(tokens) > max_time:
        raise Mistake("DIAL-07", "the example is longer than max_time", f"{len(tokens)} tokens, max_time {max_time}", "leave out exchanges until it fits")
    if tokens == all_tokens[: len(tokens)] and len(tokens) < len(all_tokens):
        raise Mistake("DIAL-05", "the end is cut off, and with it the answer", f"{len(tokens)} of {len(all_tokens)} tokens are left", "drop the oldest exchanges, not the end")
    if tokens == all_tokens[-len(tokens) :] and tokens != wanted[0]:
        what = "the system message is gone" if system else "an exchange is cut in its middle"
        raise Mistake("DIAL-06", f"tokens are cut off at the beginning: {what}", f"it begins with {''.join(map(chr, tokens[:12]))!r}", "whole exchanges are left out, and the system message stays")
    if system and ord("s") != (tokens[1] if len(tokens) > 1 else None):
        raise Mistake("DIAL-06", "the system message is left out", f"it begins with {''.join(map(chr, tokens[:12]))!r}", "the system message is no exchange: it always stays")
    if len(tokens) < len(wanted[0]):
        raise Mistake("DIAL-11", "more is left out than needed", f"{len(tokens)} tokens are left, {len(wanted[0])} would fit into max_time {max_time}", "drop one exchange, look again; exactly max_time fits")
    raise Mistake("DIAL-06", "what is left is not the dialogue without its oldest exchanges", f"{len(tokens)} tokens, expected {len(wanted[0])}", "an exchange goes from one user message to the next")


# ---------------------------------------------------------------------------------------------- pack_examples


def make_examples(seed, lengths):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for i, n in enumerate(lengths):
        tokens = torch.randint(5, 90, (n,), generator=generator)
        labels = torch.where(torch.rand(n, generator=generator) < 0.7, tokens, torch.tensor(IGNORED))
        labels[0] = tokens[0] if i % 2 else IGNORED
        made.append(Example(tokens, labels))
    return made


def pack_slowly(examples, max_time, pad_token):
    """First-fit, one token at a time, with lists."""
    rows = []
    for example in examples:
        home = None
        for row in rows:
            if home is None and len(row["tokens"]) + len(example.tokens) <= max_time:
                home = row
        if home is None:
            home = {"tokens": [], "labels": [], "positions": [], "segments": []}
            rows.append(home)
        number = home["segments"][-1] + 1 if home["segments"] else 0
        for place, (token, label) in enumerate(zip(example.tokens.tolist(), example.labels.tolist(), strict=True)):
            for name, value in (("tokens", token), ("labels", label if place else IGNORED), ("positions", place), ("segments", number)):
                home[name].append(value)
    width = max(len(row["tokens"]) for row in rows)
    fills = {"tokens": pad_token, "labels": IGNORED, "positions": 0, "segments": -1}
    return {name: torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows]) for name, fill in fills.items()}


@check(
    "hybridlab.llm.packing.pack_examples",
    visible=[{"seed": 0, "lengths": (6, 5, 4, 5, 3), "max_time": 10}],
    hidden=[
        {"seed": 41, "lengths": (4,), "max_time": 9, "pad_token": 7},
        {"seed": 42, "lengths": (8, 8, 8), "max_time": 8},
        {"seed": 43, "lengths": (1, 1, 2, 1, 9, 3, 3), "max_time": 9, "pad_token": 3},
        {"seed": 44, "lengths": (7, 6, 5, 4, 3, 2, 1, 2, 3), "max_time": 11},
        {"seed": 45, "lengths": (9, 9, 2, 2, 2, 7, 1), "max_time": 12},
    ],
    hints=(
        "Two steps: first decide which example goes into which row, then fill the tensors. For the first step you need only lengths.",
        "Keep for each row how many tokens it has. The first row with used + length <= max_time takes the example; without one, open a new row.",
        "Make four tensors with torch.full((n_rows, max(used)), fill, dtype=torch.int64) for pad_token, IGNORE, 0, -1; then write [row, start:end] for each example, "
        "labels only [row, start + 1 : end], positions torch.arange(end - start), segments the number within the row.",
    ),
)
def check_pack(pack_examples, seed, lengths, max_time, pad_token=0):
    """First-fit rows with the right tokens, labels, restarting positions and segment numbers, and padding that counts nowhere."""
    examples = make_examples(seed, lengths)
    copies = [Example(e.tokens.clone(), e.labels.clone()) for e in examples]
    expected = pack_slowly(examples, max_time, pad_token)
    got = pack_examples(examples, max_time, pad_token)
    for a, b in zip(itertools.chain(*examples), itertools.chain(*copies), strict=True):
        if not torch.equal(a, b):
            raise Mistake("PACK-10", "the examples that were passed in are changed", "tokens or labels differ after the call", "write into new tensors")
    names = ("tokens", "labels", "positions", "segments")
    if not all(hasattr(got, name) for name in names):
        raise Mistake("PACK-09", "the result is not a PackedRows", f"got a {type(got).__name__}", "PackedRows(tokens, labels, positions, segments)")
    mine = {name: getattr(got, name) for name in names}
    shape = tuple(expected["tokens"].shape)
    diagnose_rows(mine, expected, shape, max_time)
    if not torch.equal(mine["tokens"], expected["tokens"]):
        padding = expected["segments"] == -1
        if torch.equal(mine["tokens"][~padding], expected["tokens"][~padding]):
            raise Mistake("PACK-05", "the padding is not pad_token", f"pad_token {pad_token}, got {mine['tokens'][padding].unique().tolist()}")
        raise Mistake("PACK-01", "the examples do not stand in the rows where first-fit puts them", f"lengths {lengths}, max_time {max_time}; row 0 begins {mine['tokens'][0, :6].tolist()}, expected {expected['tokens'][0, :6].tolist()}",
                      "in their order, each into the *first* row that has room")
    diagnose_parts(mine, expected)
    check_pack_refusals(pack_examples, examples, max_time)


def diagnose_rows(mine, expected, shape, max_time):
    for name, part in mine.items():
        if not isinstance(part, torch.Tensor) or part.dtype != torch.int64:
            raise Mistake("PACK-09", f"the {name} are not an int64 tensor", f"got {getattr(part, 'dtype', type(part).__name__)}", "torch.full(shape, fill, dtype=torch.int64)")
        if part.ndim == 2 and tuple(part.shape) != shape:
            if part.shape[0] != shape[0] or part.shape[1] < shape[1]:
                raise Mistake("PACK-01", "the rows are not those of first-fit", f"got {part.shape[0]} rows, the fullest with {part.shape[1]} tokens; expected {shape[0]} and {shape[1]}", "each example into the first row that has room; exactly full is allowed")
            raise Mistake("PACK-06", "the rows are not as long as the fullest one", f"got {part.shape[1]}, the fullest row has {shape[1]}, max_time is {max_time}", "the padding behind the longest row is work for nothing")
        if tuple(part.shape) != shape:
            raise Mistake("PACK-09", f"the {name} have the wrong shape", f"got {tuple(part.shape)}, expected {shape} (rows, time)")


def diagnose_parts(mine, expected):
    padding, first = expected["segments"] == -1, (expected["positions"] == 0) & (expected["segments"] >= 0)
    labels = mine["labels"]
    if (labels[padding] != IGNORED).any():
        raise Mistake("PACK-05", "padding is learned", f"labels of padding: {labels[padding].unique().tolist()}", "the label of padding is IGNORE")
    if (labels[first] != IGNORED).any():
        raise Mistake("PACK-03", "an example's first token is to be learned", f"{int((labels[first] != IGNORED).sum())} of them; in a row, the neighbour's last token would have to predict it", "labels[row, start] is IGNORE")
    if not torch.equal(labels, expected["labels"]):
        raise Mistake("PACK-09", "the labels are not those of the examples", f"{int((labels != expected['labels']).sum())} differ", "labels[row, start + 1 : end] = example.labels[1:]")
    run_on = torch.arange(expected["positions"].shape[1]).expand_as(padding)
    if not torch.equal(mine["positions"], expected["positions"]):
        if torch.equal(mine["positions"][~padding], run_on[~padding]):
            raise Mistake("PACK-02", "the positions run on from one example to the next", f"row 0: {mine['positions'][0].tolist()}", "each example begins at 0, as it would alone")
        raise Mistake("PACK-02", "the positions are not 0, 1, 2, … within each example, and 0 in the padding", f"row 0: {mine['positions'][0].tolist()}, expected {expected['positions'][0].tolist()}")
    if not torch.equal(mine["segments"], expected["segments"]):
        raise Mistake("PACK-04", "the segments do not number the examples of each row", f"row 0: {mine['segments'][0].tolist()}, expected {expected['segments'][0].tolist()}", "0 for the first example of *each* row, -1 for padding")


def check_pack_refusals(pack_examples, examples, max_time):
    long = make_examples(1, (2, max_time + 1, 3))
    error = must_raise(ValueError, lambda: pack_examples(long, max_time), "PACK-08", f"an example of {max_time + 1} tokens does not fit into max_time={max_time}, and it must raise ValueError", "look at the length before you look for a row")
    if str(max_time + 1) not in str(error) or "1" not in str(error).replace(str(max_time + 1), ""):
        raise Mistake("PACK-08", "the error names neither the example nor its length", f"its text is {str(error)!r:.100}", f"example 1 has {max_time + 1} tokens")
    error = must_raise(ValueError, lambda: pack_examples([], max_time), "PACK-07", "an empty training set must raise ValueError", "without examples there is nothing to pack")
    if "training set" not in str(error):
        raise Mistake("PACK-07", "the error does not say that the training set is empty", f"its text is {str(error)!r:.100}", "look at it first, and say what is empty")
    if pack_examples(examples, max_time).tokens.tolist() != pack_slowly(examples, max_time, 0)["tokens"].tolist():
        raise Mistake("PACK-05", "without pad_token the padding is not 0", "", "pad_token: int = 0")


# ---------------------------------------------------------------------------------------------- packed_mask


@check(
    "hybridlab.llm.packing.packed_mask",
    visible=[{"segments": [[0, 0, 0, 1, 1, -1], [0, 1, 1, 1, 1, 2]]}],
    hidden=[
        {"segments": [[0]]},
        {"segments": [[0, 0, 1, 2, 2, 2, -1, -1], [0] * 8, [0, 1, 2, 3, 4, 5, 6, 7]]},
        {"segments": [[0, 1, -1, -1, -1], [0, 0, 0, 0, 1]]},
    ],
    hints=(
        "Two conditions must both hold. One compares two segments, the other two places.",
        "segments[:, :, None] == segments[:, None, :] compares every query (rows of the result) with every key (columns). One more axis stands for the heads.",
        "(segments[:, None, :, None] == segments[:, None, None, :]).tril(): padding has a segment of its own, so it needs no case of its own.",
    ),
)
def check_packed_mask(packed_mask, segments):
    """Each token sees itself and what stands before it in its own example, and no row of the mask is empty."""
    segments = torch.tensor(segments)
    rows, time = segments.shape
    got = packed_mask(segments)
    if not isinstance(got, torch.Tensor) or tuple(got.shape) != (rows, 1, time, time):
        raise Mistake("PMASK-05", "the mask has the wrong shape", f"got {tuple(getattr(got, 'shape', ()))}, expected {(rows, 1, time, time)}", "(rows, 1, query, key): the 1 stands for all heads")
    if got.dtype != torch.bool:
        raise Mistake("PMASK-05", "the mask is not Bool", f"got {got.dtype}", "True = may look")
    right = torch.zeros(rows, 1, time, time, dtype=torch.bool)
    for row, query in itertools.product(range(rows), range(time)):
        for key in range(query + 1):
            right[row, 0, query, key] = segments[row, query] == segments[row, key]
    if torch.equal(got, right):
        on_meta = packed_mask(segments.to("meta"))
        if on_meta.device.type != "meta":
            raise Mistake("PMASK-05", "the mask does not lie on the segments' device", f"segments on meta, mask on {on_meta.device}", "make what you need from the segments, or with device=segments.device")
        return
    same = segments[:, None, :, None] == segments[:, None, None, :]
    if torch.equal(got, ~right):
        raise Mistake("PMASK-06", "True and False are the wrong way round", "", "True = may look")
    if torch.equal(got, right.mT) and time > 1:
        raise Mistake("PMASK-06", "queries and keys are swapped", "tokens look at what comes after them", "rows are queries, columns are keys; .tril() keeps what lies before")
    if not got.diagonal(dim1=-2, dim2=-1)[:, 0][segments >= 0].all():
        raise Mistake("PMASK-03", "a token may not look at itself", "the diagonal is False", "itself and what stands before it: .tril(), not .tril(-1)")
    if torch.equal(got & (segments >= 0)[:, None, :, None], right & (segments >= 0)[:, None, :, None]):
        raise Mistake("PMASK-04", "padding does not follow the rule, and rows of the mask may be empty", f"{int((~got.any(-1)).sum())} rows are empty", "padding sees the padding before it and itself: otherwise softmax divides nothing by nothing")
    if torch.equal(got, same):
        raise Mistake("PMASK-01", "tokens look ahead", "the mask is not causal", "and nothing that comes later: .tril()")
    if (got & ~same).any():
        raise Mistake("PMASK-02", "a token looks into another example", f"{int((got & ~same).sum())} places are open that should be closed", "segments must be equal")
    if (got & ~right).any():
        raise Mistake("PMASK-01", "tokens look ahead", f"{int((got & ~right).sum())} places lie after their query", "and nothing that comes later: .tril()")
    raise Mistake("PMASK-07", "a token does not see all that stands before it in its example", f"{int((right & ~got).sum())} places are closed that should be open", "the whole example up to and with itself")


# ---------------------------------------------------------------------------------------------- answer_loss


class Head(nn.Module):
    """A linear head in double precision, or in bfloat16, that notes what it was called with."""

    def __init__(self, d_model, vocab, generator, dtype):
        super().__init__()
        self.weight = torch.randn(vocab, d_model, generator=generator, dtype=torch.float64).to(dtype)
        self.calls = []

    def forward(self, hidden):
        self.calls.append(hidden)
        return hidden @ self.weight.T


def losses_by_place(hidden, head, labels, offset):
    """(loss of each counted label, when predicted from `offset` places before it) in double precision, one by one."""
    found = []
    for b, t in itertools.product(*map(range, labels.shape)):
        if labels[b, t] != IGNORED and 0 <= t - offset < labels.shape[1]:
            logits = hidden[b, t - offset].double() @ head.weight.double().T
            found.append((b, -logits.log_softmax(-1)[labels[b, t]]))
    return found


@check(
    "hybridlab.llm.finetune.answer_loss",
    visible=[{"seed": 0, "shape": (2, 7)}],
    hidden=[
        {"seed": 51, "shape": (1, 2), "share": 1.0},
        {"seed": 52, "shape": (3, 9), "share": 0.3},
        {"seed": 53, "shape": (4, 6), "share": 0.6, "empty_row": True},
        {"seed": 54, "shape": (2, 8), "dtype": torch.bfloat16},
    ],
    hints=(
        "Take a row of three tokens. Which hidden state has seen only what stands before the second token? What would a model learn if it were allowed to see the token itself?",
        "Compare what is cut off on the left with what is cut off on the right: hidden states and labels must be shifted *against* each other.",
        "before, wanted = hidden[:, :-1], labels[:, 1:].",
    ),
)
def check_answer_loss(answer_loss, seed, shape, share=0.5, empty_row=False, dtype=torch.float32):
    """Each counted label is predicted from the place before it, the mean is over all of them, and the head sees no other place."""
    generator = torch.Generator().manual_seed(seed)
    d_model, vocab = 5, 11
    hidden = torch.randn(*shape, d_model, generator=generator).to(dtype)
    labels = torch.randint(vocab, shape, generator=generator)
    labels[torch.rand(shape, generator=generator) > share] = IGNORED
    labels[0, -1] = 3
    labels[:, 0] = 2  # predicted by nothing
    if empty_row:
        labels[1, 1:] = IGNORED
    head = Head(d_model, vocab, generator, dtype)
    mine = hidden.clone().requires_grad_()
    given = labels.clone()
    got = answer_loss(mine, head, given)
    if not torch.equal(given, labels):
        raise Mistake("ALOSS-08", "the labels that were passed in are changed", "", "index, and write nothing")
    if not isinstance(got, torch.Tensor) or got.ndim:
        raise Mistake("ALOSS-08", "the loss is not one number", f"got {type(got).__name__} {tuple(getattr(got, 'shape', ()))}", "a tensor without axes")
    parts = losses_by_place(hidden, head, labels, 1)
    values = torch.stack([loss for _, loss in parts])
    tolerance = {"rel_tol": 1e-4, "abs_tol": 1e-5} if dtype == torch.float32 else {"rel_tol": 0.02, "abs_tol": 0.02}

    def is_like(value):
        return math.isclose(got.item(), float(value), **tolerance)

    if not is_like(values.mean()):
        diagnose_loss(is_like, hidden, head, labels, parts, values, float(got), shape)
    if got.dtype != torch.float32:
        raise Mistake("ALOSS-06", f"the loss is computed in {got.dtype}", f"hidden states and head are {dtype}", "the logits .float() before the cross-entropy")
    check_head_calls(head, hidden, labels, d_model)
    if dtype == torch.bfloat16:
        close(got, F.cross_entropy(head(hidden[:, :-1]).float().flatten(0, 1), labels[:, 1:].flatten()), "ALOSS-06", "the loss is rounded to bfloat16", "the logits .float() before the cross-entropy", rtol=1e-5)
    close(got, values.mean(), "ALOSS-09", "the loss is another number", rtol=tolerance["rel_tol"], atol=tolerance["abs_tol"])
    theirs = hidden.double().requires_grad_()
    expected = torch.autograd.grad(torch.stack([loss for _, loss in losses_by_place(theirs, head, labels, 1)]).mean(), theirs)[0]
    close(torch.autograd.grad(got, mine)[0], expected, "ALOSS-09", "the gradient of the hidden states is another one", rtol=1e-3 if dtype == torch.float32 else 0.05, atol=1e-6 if dtype == torch.float32 else 0.01)
    masked = torch.full(shape, IGNORED)
    masked[:, 0] = 1
    must_raise(ValueError, lambda: answer_loss(hidden, head, masked), "ALOSS-05", "labels of which none counts must raise ValueError",
               "the mean over nothing is NaN: say that every label is masked (the label at place 0 is predicted by nothing)")


def diagnose_loss(is_like, hidden, head, labels, parts, values, got, shape):
    for offset, code, how in ((0, "ALOSS-01", "from its own place: the model may see what it should predict"), (-1, "ALOSS-02", "from the place *after* it")):
        for skip_first in (False, True):
            shown = labels.clone()
            if skip_first:
                shown[:, 0] = IGNORED
            found = losses_by_place(hidden, head, shown, offset)
            if found and is_like(torch.stack([loss for _, loss in found]).mean()):
                raise Mistake(code, f"each label is predicted {how}", f"the loss is {got:.4f}, from the place before it would be {values.mean().item():.4f}", "the token at place t is predicted from the hidden state at t - 1")
    if is_like(values.sum()):
        raise Mistake("ALOSS-03", "the loss is a sum", f"of {len(values)} labels: {got:.4f}", "the mean over the labels that count")
    if is_like(values.sum() / labels[:, 1:].numel()) or is_like(values.sum() / labels.numel()):
        raise Mistake("ALOSS-03", "the sum is divided by all places, the masked ones too", f"{len(values)} of {labels[:, 1:].numel()} places count", "divide by the number of labels that count")
    rows = [torch.stack([loss for b, loss in parts if b == row]).mean() for row in range(shape[0]) if any(b == row for b, _ in parts)]
    if is_like(torch.stack(rows).mean()) or is_like(torch.stack(rows).sum() / shape[0]):
        raise Mistake("ALOSS-03", "the loss is the mean of the rows' means", "rows with few answers count too much", "one mean over the counted labels of all rows")
    everything = labels.clone()
    everything[labels == IGNORED] = 0
    if is_like(torch.stack([loss for _, loss in losses_by_place(hidden, head, everything, 1)]).mean()):
        raise Mistake("ALOSS-07", "masked labels are learned, as if they were token 0", f"{len(values)} places count", "-100 is left out, not replaced")
    if math.isnan(got):
        raise Mistake("ALOSS-03", "the loss is NaN", "is there a row without any label that counts?", "one mean over the counted labels of all rows")
    raise Mistake("ALOSS-09", "the loss is another number", f"got {got:.5f}, expected {values.mean().item():.5f}", "mean of -log softmax(head(hidden[t - 1]))[labels[t]] over the labels that count")


def check_head_calls(head, hidden, labels, d_model):
    needed = hidden[:, :-1][labels[:, 1:] != IGNORED]
    seen = head.calls
    if len(seen) != 1 or tuple(seen[0].shape) != tuple(needed.shape):
        raise Mistake("ALOSS-04", "the head runs on more than the places that count, or several times", f"{len(seen)} calls, shapes {[tuple(s.shape) for s in seen][:3]}; needed is one of {tuple(needed.shape)}",
                      "pick the hidden states first, then call the head: with 49,152 words it is the dearest layer of all")
    if not torch.equal(seen[0].detach(), needed):
        raise Mistake("ALOSS-04", "the head gets the hidden states in another order", "", "row by row, in their order")
