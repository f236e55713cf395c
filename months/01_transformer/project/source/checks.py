"""The checks of month 1's project. Four judge code; the last one also measures the model that the notebook trained."""

import dataclasses
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import torch
from coursekit.checks import Mistake, check, close, outcome_file
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

TARGET = 1.75  # nats per character, on the tenth of the plays that training never sees
OUTCOME = "mini_gpt.pt"


# ---------------------------------------------------------------- training_flops

SHAPES = {
    "gpt2": {"d_model": 24, "n_layers": 3, "n_heads": 4},
    "llama": {"d_model": 48, "n_layers": 2, "n_heads": 6, "n_kv_heads": 2, "d_ff": 40, "mlp": "swiglu", "positions": "rotary", "norm": "rmsnorm"},
    "one-layer": {"d_model": 20, "n_layers": 1, "n_heads": 5, "n_kv_heads": 1, "d_ff": 12, "bias": True},
    "deep": {"d_model": 16, "n_layers": 7, "n_heads": 2, "mlp": "swiglu", "norm_placement": "post"},
}


def counted(config, batch_size, time):
    """The products of one update as PyTorch counts them, by the kind of product, while a model of that shape does one."""
    from hybridlab.transformer.model import MiniTransformer

    model = MiniTransformer(config)
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(batch_size, time, dtype=torch.int64)).sum().backward()
    return counter.get_total_flops()


@check(
    "hybridlab.transformer.cost.training_flops",
    visible=[{"shape": "gpt2", "vocab_size": 11, "batch_size": 3, "time": 8}],
    hidden=[
        {"shape": "llama", "vocab_size": 19, "batch_size": 2, "time": 16},
        {"shape": "one-layer", "vocab_size": 5, "batch_size": 5, "time": 1},
        {"shape": "deep", "vocab_size": 30, "batch_size": 1, "time": 12},
    ],
    hints=(
        "Write down the rows and columns of each matrix that one token is multiplied with. Which of them are narrower than d_model?",
        "weights in a layer = q + k + v + o + MLP; then lm_head once. Beside the weights, each layer has two products of "
        "the tokens with each other.",
        "6 * batch_size * time * (n_layers * (2*d*d + 2*d*n_kv_heads*d_head + m*d*d_ff) + d*vocab_size + n_layers*2*time*d), "
        "with m = 2 for GELU and 3 for SwiGLU",
    ),
)
def check_training_flops(training_flops, shape, vocab_size, batch_size, time):
    """The count is exactly that of PyTorch's own counter, for GPT-2's shape and for Llama's."""
    from hybridlab.transformer.config import TransformerConfig

    config = TransformerConfig(vocab_size, max_time=16, **SHAPES[shape])
    got, right = training_flops(config, batch_size, time), counted(config, batch_size, time)
    if got == right:
        if not isinstance(got, int) or isinstance(got, bool):
            raise Mistake("COST-07", "the count is not a whole number", f"got the {type(got).__name__} {got!r}", "use // or no division at all")
        return
    tokens, d, layers = batch_size * time, config.d_model, config.n_layers
    heads = 6 * tokens * layers * 2 * time * d
    unshared = 6 * tokens * layers * 2 * d * (d - config.n_kv_heads * config.d_head)
    third = 6 * tokens * layers * d * config.d_ff
    named = [
        (right / 2, "COST-01", "each weight counts as one operation", "a multiplication and an addition are two"),
        (right / 3, "COST-02", "only the forward pass is counted", "backward costs twice as much as forward"),
        (right * 2 / 3, "COST-02", "backward is counted once", "it needs the gradient of the input and that of the weights: two products for each one"),
        (right - heads, "COST-03", "the products of queries with keys and of weights with values are missing", "they hold no parameter, but they cost"),
        (right - heads // 2, "COST-03", "one of the two products of tokens with tokens is missing", "q with k, then the weights with v"),
        (right + unshared, "COST-04", "k_proj and v_proj are counted at full width", "they have n_kv_heads * d_head outputs"),
        (right - 6 * tokens * d * vocab_size, "COST-05", "lm_head is missing", "the logits are a product too, of d_model by vocab_size"),
        (right + 6 * tokens * d * vocab_size, "COST-05", "the embedding is counted", "a row is looked up: that is no product"),
    ]
    if config.mlp == "swiglu":
        named.append((right - third, "COST-06", "SwiGLU is counted with two matrices", "gate, up and down are three"))
    else:
        named.append((right + third, "COST-06", "GELU's MLP is counted with three matrices", "up and down are two"))
    for value, code, what, hint in named:
        if got == value and value != right:
            raise Mistake(code, what, f"{got:,.0f} for {config.mlp} with {layers} layers; PyTorch counts {right:,}", hint)
    close(got, right, "COST-09", "the count differs from PyTorch's", "print the terms one by one for one layer and one token", rtol=0, atol=0.5)


# ---------------------------------------------------------------- orthogonalize


def by_svd(matrices, rounds):
    """The oracle: the polynomial on the singular values alone, in float64."""
    u, s, vh = torch.linalg.svd(matrices.double(), full_matrices=False)
    s = s / (s.square().sum(-1, keepdim=True).sqrt() + 1e-7)
    for _ in range(rounds):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return (u * s.unsqueeze(-2)) @ vh


@check(
    "hybridlab.transformer.muon.orthogonalize",
    visible=[{"seed": 0, "shape": (4, 6)}, {"seed": 1, "shape": (2, 4, 6)}],
    hidden=[
        {"seed": 11, "shape": (12, 5)},
        {"seed": 12, "shape": (3, 8, 8), "scale": 0.1},
        {"seed": 13, "shape": (2, 7, 3), "steps": 2, "scale": 50.0},
        {"seed": 14, "shape": (5, 9), "steps": 1, "dtype": torch.float64},
        {"seed": 15, "shape": (300, 10)},
        {"seed": 16, "shape": (3, 5), "scale": 0.0},
        {"seed": 17, "shape": (3, 5), "scale": 1e-8},
    ],
    forbids=("svd", "svdvals", "svd_lowrank", "polar", "eigh", "eig", "qr", "matrix_power", "orthogonal_", "_zeropower_via_newtonschulz", "Muon"),
    hints=(
        "Look at one singular value s. Why must it lie below 1 before the first round, and what is the longest that it can be?",
        "Divide each matrix by its own norm. torch.linalg.matrix_norm(x, keepdim=True) treats leading axes as separate matrices.",
        "for _ in range(steps): A = x @ x.mT; x = a*x + (b*A + c*A@A) @ x. Transpose before and after if rows > columns.",
    ),
)
def check_orthogonalize(orthogonalize, seed, shape, steps=5, scale=1.0, dtype=torch.float32):
    """Singular vectors stay, and singular values follow the polynomial round by round, for each matrix on its own."""
    x = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    if len(shape) == 3:  # matrices of very different sizes in one stack
        x = x * torch.tensor([10.0**-i for i in range(shape[0])], dtype=torch.float64)[:, None, None]
    x = x.to(dtype)
    before = x.clone()
    with FlopCounterMode(display=False) as counter:
        got = orthogonalize(x) if steps == 5 else orthogonalize(x, steps)
    if not torch.equal(x, before):
        raise Mistake("MUON-01", "the input was changed", hint="x = x / norm makes a new tensor, x /= norm writes into the gradient itself")
    if not isinstance(got, torch.Tensor) or got.shape != x.shape:
        seen = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
        raise Mistake("MUON-02", "the shape is not that of the input", f"got {seen} for {shape}", "a matrix that was transposed has to be transposed back")
    if not torch.isfinite(got).all():
        worst = "a zero matrix" if scale == 0 else f"{int((~torch.isfinite(got)).sum())} of {got.numel()} values"
        hint = "add 1e-7 to the norm" if scale == 0 else "a singular value above about 1.3 grows in each round: divide by the norm first"
        raise Mistake("MUON-03", "values are not finite", worst, hint)
    right = by_svd(before, steps)
    if scale == 0:
        return close(got, torch.zeros_like(got), "MUON-03", "a zero matrix does not stay zero", "add 1e-7 to the norm")
    if len(shape) == 3:
        whole = before.double() / before.double().norm()
        u, s, vh = torch.linalg.svd(whole, full_matrices=False)
        for _ in range(steps):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        if torch.allclose(got.double(), (u * s.unsqueeze(-2)) @ vh, atol=1e-3):
            raise Mistake("MUON-04", "the whole stack is divided by one norm", f"shape {shape}: small matrices stay small beside a large one",
                          "each matrix has a norm of its own: matrix_norm over the last two axes, with keepdim=True")
    for fewer, word in ((steps - 1, "one round too few"), (steps + 1, "one round too many")):
        if torch.allclose(got.double(), by_svd(before, fewer), atol=1e-3) and not torch.allclose(right, by_svd(before, fewer), atol=1e-3):
            raise Mistake("MUON-05", f"the polynomial is applied {fewer} times", f"{word} for steps={steps}", "range(steps) runs steps times")
    if torch.allclose(got.double(), before.double() / (before.double().norm(dim=-1, keepdim=True) + 1e-7), atol=1e-3):
        raise Mistake("MUON-06", "the rows are normalised, but not made orthogonal to each other", hint="Newton–Schulz works on X Xᵀ")
    close(got, right, "MUON-09", "values differ from the polynomial on the singular values", "compare with the formula, term by term", rtol=0, atol=2e-3)
    if got.dtype != x.dtype:
        raise Mistake("MUON-07", "the dtype changed", f"got {got.dtype} for {x.dtype}", "build every new tensor from x")
    rows, columns = sorted(x.shape[-2:])
    count = x[..., 0, 0].numel() * steps * (4 * rows * rows * columns + 2 * rows**3)
    if counter.get_total_flops() > 2 * count:
        raise Mistake("MUON-08", "the larger of the two squares is computed", f"{counter.get_total_flops() / count:.0f} times the operations needed for shape {shape}",
                      "if there are more rows than columns, transpose first and back at the end")


# ---------------------------------------------------------------- text_loss


class Bigram(nn.Module):
    """A model small enough to loop over: the logits depend on the token, its place in the window, and dropout."""

    def __init__(self, seed, vocab_size, max_time):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.table = nn.Parameter(2 * torch.randn(vocab_size, vocab_size, generator=generator))
        self.place = nn.Parameter(2 * torch.randn(max_time, vocab_size, generator=generator))
        self.dropout = nn.Dropout(0.5)
        self.asked = []

    def forward(self, tokens):
        self.asked.append((tuple(tokens.shape), torch.is_grad_enabled(), self.training))
        return self.dropout(self.table[tokens] + self.place[: tokens.shape[1]])


def one_by_one(model, tokens, time):
    """The oracle: one target at a time."""
    total = 0.0
    for i in range(len(tokens) - 1):
        start = i // time * time
        logits = model.table[tokens[i]] + model.place[i - start]
        total += F.cross_entropy(logits, tokens[i + 1]).item()
    return total / (len(tokens) - 1)


@check(
    "hybridlab.transformer.evaluation.text_loss",
    visible=[{"seed": 0, "length": 44, "time": 8, "batch_size": 2}],
    hidden=[
        {"seed": 21, "length": 50, "time": 7, "batch_size": 3},
        {"seed": 22, "length": 6, "time": 9, "batch_size": 4},
        {"seed": 23, "length": 2, "time": 5, "batch_size": 1},
        {"seed": 24, "length": 33, "time": 4, "batch_size": 100, "training": False},
        {"seed": 25, "length": 31, "time": 5, "batch_size": 6},
        {"seed": 26, "length": 333, "time": 5, "batch_size": None},
    ],
    hints=(
        "How many targets are there in a text of n tokens, and in how many windows do they lie? What is left at the end?",
        "Add up (mean of the batch) * (targets in the batch), and divide once, at the end, by the number of all targets.",
        "full = (n - 1) // time * time; inputs tokens[:full].view(-1, time), targets tokens[1:full+1].view(-1, time); then the rest "
        "tokens[full:-1] and tokens[full+1:] as a batch of one. model.eval() and torch.no_grad() around it, model.train(was) after it.",
    ),
)
def check_text_loss(text_loss, seed, length, time, batch_size, training=True):
    """Every token but the first is predicted exactly once, without dropout or gradients, and the mean is over tokens."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(7, (length,), generator=generator)
    model = Bigram(seed, 7, time).train(training)
    for short in (torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)):
        try:
            text_loss(model, short, time=time)
        except ValueError:
            continue
        except ZeroDivisionError:
            pass
        raise Mistake("EVAL-07", f"a text of {len(short)} tokens is accepted", hint="raise ValueError: with fewer than two tokens there is nothing to predict")
    model.asked.clear()
    got = text_loss(model, tokens, time=time) if batch_size is None else text_loss(model, tokens, time=time, batch_size=batch_size)
    right = one_by_one(model, tokens, time)
    if any(trains for _, _, trains in model.asked):
        raise Mistake("EVAL-01", "the model is in training mode while it is measured", "dropout changes the loss from call to call", "model.eval() first")
    if any(grad for _, grad, _ in model.asked):
        raise Mistake("EVAL-02", "gradients are recorded", "the graph of a whole text takes memory for nothing", "with torch.no_grad(): around the forward passes")
    if model.training != training:
        raise Mistake("EVAL-03", "the model comes back in another mode", f"training={training} before, {model.training} after",
                      "remember model.training, and give it to model.train() at the end")
    if not isinstance(got, float):
        raise Mistake("EVAL-08", "the result is not a Python float", f"got {type(got).__name__}", "take .item() of a tensor")
    predicted = sum(rows * columns for (rows, columns), _, _ in model.asked)
    if predicted < length - 1 and length - 1 - predicted < time and abs(got - right) > 1e-5:
        raise Mistake("EVAL-04", "the end of the text is left out", f"{predicted} of {length - 1} targets are predicted", "the last window is as short as what is left")
    batches = max(1, batch_size or 64)
    widest = max(rows for (rows, _), _, _ in model.asked)
    if widest > batches:
        raise Mistake("EVAL-05", "more windows go through the model at once than batch_size", f"{widest} windows, batch_size={batch_size}", "split the windows into batches")
    full = (length - 1) // time * time
    if abs(got - right) > 1e-5 and predicted == length - 1:
        means, weights = batch_means(model, tokens, time, batches, full)
        if abs(got - sum(means) / len(means)) < 1e-5:
            raise Mistake("EVAL-06", "the mean is over batches, not over tokens", f"got {got:.4f}, expected {right:.4f}",
                          "a small batch may not weigh as much as a full one: multiply each mean by its number of targets")
        means, _ = batch_means(model, tokens, time, 1, full)
        if abs(got - sum(means) / len(means)) < 1e-5:
            raise Mistake("EVAL-06", "the mean is over windows, not over tokens", f"got {got:.4f}, expected {right:.4f}",
                          "the short last window may not weigh as much as a full one: multiply each mean by its number of targets")
    close(got, right, "EVAL-09", "the loss differs from predicting the tokens one by one", "is every token but the first predicted once, with the same weight, from the tokens just before it?", atol=1e-5)
    if full and (batch_size or 64) > 1 and full // time > 1 and widest == 1:
        raise Mistake("EVAL-05", "the windows go through the model one at a time", f"batch_size={batch_size}", "batch_size windows at once: it is many times faster")


def batch_means(model, tokens, time, batch_size, full):
    inputs, targets = tokens[:full].view(-1, time), tokens[1 : full + 1].view(-1, time)
    pieces = [*zip(inputs.split(batch_size), targets.split(batch_size), strict=True)] if full else []
    if full < len(tokens) - 1:
        pieces.append((tokens[None, full:-1], tokens[None, full + 1 :]))
    means = []
    for x, y in pieces:
        logits = model.table[x] + model.place[: x.shape[1]]
        means.append(F.cross_entropy(logits.flatten(0, 1), y.flatten()).item())
    return means, [y.numel() for _, y in pieces]


# ---------------------------------------------------------------- mini_gpt


@check(
    "hybridlab.transformer.recipe.mini_gpt",
    visible=[{"vocab_size": 75, "seed": 0}],
    hidden=[{"vocab_size": 31, "seed": None}],
    hints=(
        "Start from nanogpt(vocab_size) and change one thing at a time. Which of its choices are older than Llama?",
        "TransformerConfig.llama with qk_norm=True, and Muon for the matrices. Then spend the whole budget: how many updates does it pay for?",
        "d_model=128, n_layers=4, n_heads=4, n_kv_heads=4, 12 windows of 64; lr=0.02 for the matrices, adamw_lr a good deal higher than "
        "AdamW alone would take; a short warm-up, and down to 0 at the end; steps = BUDGET_FLOPS // training_flops(model, 12, 64).",
    ),
)
def check_mini_gpt(mini_gpt, vocab_size, seed):
    """The recipe fits the budget and any vocabulary, and a run of sixteen updates already beats guessing by frequency."""
    from hybridlab.transformer import recipe as library

    try:
        got = mini_gpt(vocab_size)
        if not isinstance(got, library.Recipe):
            raise Mistake("RECIPE-01", "it does not return a Recipe", f"got {type(got).__name__}", "return Recipe(model, training, ...)")
        model, _ = got.build()
    except ValueError as refused:
        raise Mistake("RECIPE-06", "the choices do not fit together", str(refused), "the sentence says which value, and what it must be") from None
    if got.model.vocab_size != vocab_size:
        raise Mistake("RECIPE-02", "the vocabulary's size is fixed", f"asked for {vocab_size}, got {got.model.vocab_size}", "hand vocab_size on to TransformerConfig")
    parameters = sum(p.numel() for p in model.parameters())
    if parameters > library.BUDGET_PARAMETERS:
        raise Mistake("RECIPE-03", "the model has too many parameters", f"{parameters:,}; at most {library.BUDGET_PARAMETERS:,}", "fewer layers, or a smaller d_model")
    if got.flops > library.BUDGET_FLOPS:
        raise Mistake("RECIPE-04", "the run costs more than the budget", f"{got.flops / 1e12:.3f} · 10¹² operations; at most {library.BUDGET_FLOPS / 1e12:.3f} · 10¹²",
                      "fewer steps, a smaller batch, or a smaller model")
    training = got.training
    if training.time != got.model.max_time:
        raise Mistake("RECIPE-08", "the model has positions that training never shows it", f"max_time={got.model.max_time}, windows of {training.time}",
                      "give max_time and time the same length")
    if training.warmup > training.steps / 4 or training.floor > 0.1:
        raise Mistake("RECIPE-05", "the learning rate does not come down in time", f"warm-up {training.warmup} of {training.steps} steps, floor {training.floor:g} of the peak",
                      "a short warm-up, then down to a tenth or less: the last steps at a small rate bring most of the gain")
    if seed is not None:
        probe(got, seed)


def probe(recipe, seed):
    """Sixteen updates on the real text."""
    from hybridlab.data.shakespeare import load_shakespeare
    from hybridlab.transformer.training import TrainConfig, train

    text = load_shakespeare()
    torch.manual_seed(seed)
    model, optimizer = recipe.build()
    old = recipe.training
    short = TrainConfig(16, min(old.batch_size, 8), min(old.time, 64), warmup=4, eval_every=16, eval_batches=1, max_grad_norm=old.max_grad_norm, seed=seed)
    try:
        losses = train(model, text.train, text.validation[:5000], optimizer, short, progress=False).losses
    except FloatingPointError as error:
        raise Mistake("RECIPE-07", "training breaks within sixteen updates", str(error)[:120], "a smaller learning rate") from None
    last = sum(losses[-4:]) / 4
    if last > 3.3:
        high = max(losses[1:]) > losses[0] + 0.5
        raise Mistake("RECIPE-07", "the loss rises" if high else "it hardly learns", f"{losses[0]:.2f} nats at the first update, {last:.2f} after sixteen; guessing by frequency gives 3.30",
                      "the learning rate is too high" if high else "the learning rate is too low")


# ---------------------------------------------------------------- load_gpt, and the outcome


class Planted:
    """What a hostile file holds: unpickling it runs code."""

    def __reduce__(self):
        return exec, ("import os; os.environ['RAN'] = 'yes'",)


@check(
    "hybridlab.transformer.pretrained.load_gpt",
    visible=[{"seed": 0, "kind": "llama"}, {"outcome": True}],
    hidden=[{"seed": 31, "kind": "gpt2"}, {"seed": 32, "kind": "untied"}],
    hints=(
        "What has to be known before a model can take weights, and in which of the four entries does it stand?",
        "torch.load(path, map_location='cpu', weights_only=True) reads values and tensors and refuses everything else.",
        "model = MiniTransformer(TransformerConfig(**state['config'])); model.load_state_dict(state['weights']); model.eval(); and "
        "CharacterVocabulary(state['characters']). Before that, look at state['format'].",
    ),
)
def check_load_gpt(load_gpt, seed=0, kind="", outcome=False):
    """A saved model comes back whole and ready to use; yours, from this notebook's run, reaches the target on unseen text."""
    if outcome:
        return measure_outcome()
    with tempfile.TemporaryDirectory() as folder:
        judge_loading(load_gpt, Path(folder), seed, kind)


def judge_loading(load_gpt, folder, seed, kind):
    from hybridlab.data.characters import CharacterVocabulary
    from hybridlab.transformer import pretrained
    from hybridlab.transformer.config import TransformerConfig
    from hybridlab.transformer.model import MiniTransformer

    shapes = {
        "llama": TransformerConfig.llama(7, d_model=16, n_layers=2, qk_norm=True, max_time=8, dropout=0.3),
        "gpt2": TransformerConfig.gpt2(7, d_model=24, n_layers=1, n_heads=2, max_time=12, dropout=0.1),
        "untied": TransformerConfig(7, d_model=8, n_layers=3, n_heads=1, max_time=8, tie_embeddings=False, norm_placement="post"),
    }
    torch.manual_seed(seed)
    original = MiniTransformer(shapes[kind])
    for parameter in original.parameters():
        nn.init.normal_(parameter, std=0.3)
    vocabulary = CharacterVocabulary("zyx wvu")  # not in sorted order
    path = folder / "model.pt"
    pretrained.save_gpt(path, original.train(), vocabulary)
    torch.manual_seed(seed + 1)
    got = load_gpt(path)
    if not (isinstance(got, tuple) and len(got) == 2 and isinstance(got[0], nn.Module) and isinstance(got[1], CharacterVocabulary)):
        raise Mistake("GPT-01", "it does not return a model and a vocabulary", f"got {describe(got)}", "return model, CharacterVocabulary(...)")
    model, characters = got
    if getattr(model, "config", None) != original.config:
        raise Mistake("GPT-02", "the model has another shape than the file says", f"got {getattr(model, 'config', None)}", "TransformerConfig(**state['config'])")
    for name, weight in original.state_dict().items():
        if not torch.equal(model.state_dict().get(name, torch.zeros(0)), weight):
            raise Mistake("GPT-03", "the weights are not those of the file", f"{name} differs", "model.load_state_dict(state['weights'])")
    if model.training:
        raise Mistake("GPT-04", "the model is still in training mode", "dropout is on: two calls give two answers", "end with model.eval()")
    if characters.characters != vocabulary.characters:
        raise Mistake("GPT-05", "the characters are in another order", f"{vocabulary.characters!r} in the file, {characters.characters!r} here",
                      "a character's place is its token: take the text of the file as it is")
    from_gpu(load_gpt, folder, path)
    refuse_hostile(load_gpt, folder)
    refuse_incomplete(load_gpt, folder, path)
    refuse_foreign(load_gpt, folder)


def describe(got):
    return f"({', '.join(type(part).__name__ for part in got)})" if isinstance(got, tuple) else type(got).__name__


def from_gpu(load_gpt, folder, path):
    """The same file as a machine with a GPU would have written it: its pickle names the device of each tensor."""
    written = folder / "from_gpu.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(written, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                content = content.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            target.writestr(name, content)
    try:
        devices = {parameter.device.type for parameter in load_gpt(written)[0].parameters()}
    except RuntimeError as error:
        raise Mistake("GPT-09", "a file from a machine with a GPU can't be loaded", str(error)[:100], "torch.load(..., map_location='cpu')") from None
    if devices != {"cpu"}:
        raise Mistake("GPT-09", "the model is not on the CPU", f"its parameters are on {', '.join(devices)}", "torch.load(..., map_location='cpu')")


def refuse_hostile(load_gpt, folder):
    os.environ.pop("RAN", None)
    torch.save({"format": Planted(), "config": Planted()}, folder / "hostile.pt", pickle_module=pickle)
    try:
        load_gpt(folder / "hostile.pt")
    except Exception:
        pass
    if os.environ.pop("RAN", None):
        raise Mistake("GPT-06", "code that was hidden in the file was run", "a file with a planted command ran it while it was loaded",
                      "torch.load(..., weights_only=True)")


def refuse_incomplete(load_gpt, folder, path):
    state = torch.load(path, weights_only=True)
    for change in ("missing", "more"):
        weights = dict(state["weights"])
        if change == "missing":
            weights.pop("layers.0.self_attn.v_proj.weight")
        else:
            weights["layers.9.self_attn.v_proj.weight"] = torch.zeros(2, 2)
        torch.save(state | {"weights": weights}, folder / "changed.pt")
        try:
            load_gpt(folder / "changed.pt")
        except Exception:
            continue
        raise Mistake("GPT-07", "a file with weights missing or left over is accepted", f"one weight {change}, and no error",
                      "load_state_dict is strict unless it is told otherwise: leave it so")


def refuse_foreign(load_gpt, folder):
    for number, content in enumerate(({"format": "a cook book", "config": {}}, {"weights": {}}, [1, 2, 3], torch.zeros(3))):
        path = folder / f"foreign{number}.pt"
        torch.save(content, path)
        try:
            load_gpt(path)
        except ValueError as refused:
            if path.name in str(refused):
                continue
            said = f"ValueError: {refused}"
        except Exception as other:
            said = f"{type(other).__name__}: {other}"
        else:
            said = "no error"
        raise Mistake("GPT-08", "a file with something else in it is not refused by name", said[:150],
                      "raise ValueError, with the path in it, unless it is a dictionary whose 'format' is FORMAT")


def measure_outcome():
    """Measure the file that the notebook wrote; no figure that was printed there is believed, and no code of the answer is used."""
    from hybridlab.data.shakespeare import load_shakespeare
    from hybridlab.transformer.config import TransformerConfig
    from hybridlab.transformer.model import MiniTransformer
    from hybridlab.transformer.recipe import BUDGET_PARAMETERS

    path = outcome_file(OUTCOME)
    if path is None:
        return
    if not path.is_file():
        raise Mistake("GPT-10", "there is no trained model", f"no {OUTCOME} beside the notebook", "run the training cell above; it writes the file at the end")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model = MiniTransformer(dataclasses.replace(TransformerConfig(**state["config"]), dropout=0.0))
        model.load_state_dict(state["weights"])
    except Exception as error:
        raise Mistake("GPT-11", f"{OUTCOME} can't be used", f"{type(error).__name__}: {error}"[:150], "delete it and run the training cell again") from None
    text = load_shakespeare()
    if state["characters"] != text.vocabulary.characters or model.config.vocab_size != len(text.vocabulary):
        raise Mistake("GPT-11", f"{OUTCOME} can't be used", "its characters are not those of the plays", "train on load_shakespeare(), and save its vocabulary")
    parameters = sum(p.numel() for p in model.parameters())
    if parameters > BUDGET_PARAMETERS:
        raise Mistake("GPT-12", "the model has too many parameters", f"{parameters:,}; at most {BUDGET_PARAMETERS:,}", "train the recipe that was checked above")
    unseen = whole_loss(model, text.validation)
    stride = len(text.train) // 8
    trained = sum(whole_loss(model, text.train[i * stride : i * stride + 1025]) for i in range(8)) / 8
    if not unseen <= TARGET:
        raise Mistake("GPT-13", "the loss on unseen text is above the target", f"{unseen:.3f} nats per character; the target is {TARGET}",
                      "is the budget spent, and does the rate come down to nearly 0? Compare with the third hint of the recipe")
    if unseen < trained - 0.1:
        raise Mistake("GPT-14", "the unseen text is known better than the trained one", f"{unseen:.3f} nats on validation, {trained:.3f} on the training text",
                      "train on text.train alone: validation is for measuring")


@torch.no_grad()
def whole_loss(model, tokens, time=64):
    """The oracle of the outcome: PyTorch's cross-entropy over windows of 64, whatever the model was trained with."""
    time = min(time, model.config.max_time)
    model.eval()
    full = (len(tokens) - 1) // time * time
    inputs, targets = tokens[:full].view(-1, time), tokens[1 : full + 1].view(-1, time)
    total = 0.0
    for x, y in zip(inputs.split(32), targets.split(32), strict=True):
        total += F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
    return total / full
