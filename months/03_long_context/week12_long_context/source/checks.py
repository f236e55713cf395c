"""How week 12's answers are judged: counting in the texts, sums in float64, models that note what they are given, and slow loops."""

import itertools
import math
import weakref

import torch
from coursekit.checks import Mistake, check, close, must_raise
from hybridlab.ssm.induction_text import IGNORED, SIGN
from hybridlab.ssm.mamba2_block import Mamba2Mixer
from hybridlab.ssm.mamba_config import MambaConfig
from hybridlab.ssm.mamba_model import Mamba
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.planted import ABSENT, FIRST_VALUE, VOCAB


def gen(seed):
    return torch.Generator().manual_seed(seed)


def tensors(got, shapes, code, hint):
    """Raise Mistake unless `got` is a tuple of tensors of these shapes."""
    if not isinstance(got, tuple) or len(got) != len(shapes) or not all(isinstance(part, torch.Tensor) for part in got):
        raise Mistake(code, f"{len(shapes)} tensors are expected", f"got a {type(got).__name__}", hint)
    for part, shape in zip(got, shapes, strict=True):
        if tuple(part.shape) != tuple(shape):
            raise Mistake(code, "a tensor has the wrong shape", f"got {tuple(part.shape)}, expected {tuple(shape)}", hint)


# ------------------------------------------------------------------ the texts


def one_text(row, marks, extra):
    """Raise Mistake unless this text and what is wanted of it are as they should be; returns (places of the signs, answer)."""
    signs = [t for t, token in enumerate(row) if token == SIGN]
    shown = f"a text is {row}"
    if row[-1] != SIGN:
        raise Mistake("INDUCT-11", "the text does not end with a sign", shown, "the last token asks")
    if len(signs) > 2 + extra:
        raise Mistake("INDUCT-03", "there are signs that nobody placed", f"{shown}: {len(signs)} signs, {2 + extra} expected", "ordinary tokens are below SIGN: torch.randint(SIGN, …)")
    behind = [row[t + 1] for t in signs[:-1]]
    if len(signs) < 2 + extra or SIGN in behind:
        raise Mistake("INDUCT-02", "pairs of sign and answer lie over each other", f"{shown}: {len(signs)} signs, {2 + extra} expected, behind them {behind}",
                      "draw places in a text that lacks the answers, without repeats, sort them, and move each by the number of pairs before it")
    if len(set(behind)) != 1:
        raise Mistake("INDUCT-10", "the signs of one text have different answers behind them", f"{shown}: {behind}", "one answer a text, behind each of its signs")
    asked = [t for t, mark in enumerate(marks) if mark != IGNORED]
    if asked == signs:
        raise Mistake("INDUCT-04", "the first sign asks as well", f"{shown}, wanted {marks}", "what stands behind the first sign can't be known: IGNORED")
    if asked and all(row[t] != SIGN for t in asked[:-1]) and asked != signs[1:]:
        raise Mistake("INDUCT-05", "what is wanted stands at the answer, not at the sign", f"{shown}, wanted {marks}", "wanted[t] is what has to follow token t")
    if asked != signs[1:] or {marks[t] for t in asked} != set(behind):
        raise Mistake("INDUCT-09", "what is wanted is not the answer, at each sign but the first", f"{shown}, wanted {marks}", "IGNORED everywhere else")
    return tuple(signs[:-1]), behind[0]


@check(
    "hybridlab.ssm.induction_text.induction_batch",
    visible=[
        {"seed": 0, "batch": 400, "length": 8, "extra": 0},
        {"seed": 1, "batch": 400, "length": 9, "extra": 1},
    ],
    hidden=[
        {"seed": 11, "batch": 3000, "length": 12, "extra": 0},
        {"seed": 12, "batch": 3000, "length": 10, "extra": 2, "refused": True},
        {"seed": 13, "batch": 300, "length": 3, "extra": 0, "refused": True},
        {"seed": 14, "batch": 300, "length": 9, "extra": 3, "refused": True},
        {"seed": 15, "batch": 1, "length": 64, "extra": 3},
    ],
    hints=(
        "Write it for one sign first: where may it stand, so that its answer still fits in front of the last token?",
        "With more signs: leave the answers out of the text. Then room = length - 1 - (1 + extra) places are left, and any 1 + extra different ones of them are a right choice. Each answer put back moves the signs behind it by one.",
        "places = torch.rand(batch, room, generator=generator).topk(1 + extra).indices.sort().values + torch.arange(1 + extra); tokens.scatter_(1, places, SIGN).scatter_(1, places + 1, answers); wanted is set at places[:, 1:] and at the last token.",
    ),
)
def check_induction_batch(induction_batch, seed, batch, length, extra, refused=False):
    """Each text has an answer of its own behind every sign, the signs stand anywhere, and all but the first ask."""
    before = torch.random.get_rng_state()
    generator = gen(seed)
    got = induction_batch(batch, length, extra=extra, generator=generator)
    tensors(got, [(batch, length)] * 2, "INDUCT-12", "return tokens, wanted")
    if not torch.equal(before, torch.random.get_rng_state()):
        raise Mistake("INDUCT-07", "chance comes from elsewhere than the generator", "torch's global generator has moved", "generator=generator in each torch.rand and torch.randint")
    tokens, wanted = got
    if tokens.dtype != torch.int64 or wanted.dtype != torch.int64 or tokens.min() < 0 or tokens.max() > SIGN:
        raise Mistake("INDUCT-12", "tokens are whole numbers from 0 to SIGN", f"dtypes {tokens.dtype}, {wanted.dtype}; from {tokens.min()} to {tokens.max()}", "torch.randint gives int64")
    found = [one_text(row, marks, extra) for row, marks in zip(tokens.tolist(), wanted.tolist(), strict=True)]
    if batch >= 300:
        answers = torch.bincount(torch.tensor([answer for _, answer in found]), minlength=SIGN)
        if (answers > 0).sum() == 1:
            raise Mistake("INDUCT-01", "all texts have the same answer", f"{batch} texts, answer {int(answers.argmax())}", "one draw for each text: torch.randint(SIGN, (batch, 1), …)")
        if answers.min() < 0.25 * batch / SIGN:
            raise Mistake("INDUCT-08", "not every token below SIGN is an answer as often as the others", f"how often 0 … 14 are: {answers.tolist()}", "torch.randint(SIGN, …) gives 0 … SIGN - 1")
        filler = torch.bincount(tokens.flatten(), minlength=SIGN)[:SIGN]
        if filler.min() < 0.3 * filler.float().mean():
            raise Mistake("INDUCT-08", "not every token below SIGN occurs as often as the others", f"how often 0 … 14 are: {filler.tolist()}", "torch.randint(SIGN, …) gives 0 … SIGN - 1")
        ways = math.comb(length - 2 - extra, 1 + extra)
        counted = {}
        for places, _ in found:
            counted[places] = counted.get(places, 0) + 1
        rarest = min(counted.values()) if len(counted) == ways else 0
        if rarest < 0.4 * batch / ways and ways < batch / 20:
            raise Mistake("INDUCT-06", "some places are never, or hardly ever, taken", f"{len(counted)} of {ways} ways to place {1 + extra} pairs in {length} tokens occur; the rarest {rarest} times in {batch}",
                          "also the very beginning, and the two tokens in front of the last sign")
    again = induction_batch(batch, length, generator=gen(seed)) if not extra else induction_batch(batch, length, extra=extra, generator=gen(seed))
    if not torch.equal(again[0], tokens) or (length > 8 and torch.equal(induction_batch(batch, length, extra=extra, generator=generator)[0], tokens)):
        raise Mistake("INDUCT-07", "the texts do not follow from the generator", "the same seed must give the same texts, and the next call others", "no manual_seed in the function, no generator of its own")
    if refused:
        for short in (2 + 2 * extra, extra, 0):
            must_raise(ValueError, lambda short=short: induction_batch(2, short, extra=extra, generator=gen(0)), "INDUCT-13", f"{short} tokens with {extra} extra questions must raise ValueError", "at least 3 + 2 · extra tokens")


# ------------------------------------------------------------------ fading


@check(
    "hybridlab.ssm.decay_penalty.fading",
    visible=[{"seed": 0, "shape": (2, 5, 3), "kind": "relu"}, {"seed": 1, "shape": (4, 2), "kind": "softplus"}],
    hidden=[
        {"seed": 11, "shape": (3,), "kind": "relu"},
        {"seed": 12, "shape": (2, 3, 4, 1), "kind": "softplus"},
        {"seed": 13, "shape": (6, 4), "kind": "softplus", "scale": 3000.0},
        {"seed": 14, "shape": (6, 4), "kind": "relu", "scale": 3000.0},
    ],
    forbids=("step_size",),
    hints=(
        "Two factors: a step dt that is never negative, and the size of A. Which of the two is the same for all tokens?",
        "A = -exp(A_log), so |A| = exp(A_log), one number a head. F.softplus(z) does not overflow; torch.log(1 + torch.exp(z)) does.",
        "wide = torch.promote_types(z.dtype, torch.float32); return F.relu(z.to(wide)) * A_log.to(wide).exp(), and the same with F.softplus; any other kind raises ValueError.",
    ),
)
def check_fading(fading, seed, shape, kind, scale=3.0):
    """dt · |A|, for either kind of step, for z of any size, in float32 at least, with gradients."""
    z, A_log = torch.randn(shape, generator=gen(seed), dtype=torch.float64) * scale, torch.randn(shape[-1], generator=gen(seed + 1), dtype=torch.float64)

    def size(z, A_log, kind):
        step = z.clamp(min=0) if kind == "relu" else torch.logaddexp(z, torch.zeros_like(z))
        return step * torch.exp(A_log)

    before = z.clone(), A_log.clone()
    got, expected = fading(z, A_log, kind), size(z, A_log, kind)
    tensors((got,), [shape], "FADE-12", "one number for each token and head, as z")
    if not (torch.equal(z, before[0]) and torch.equal(A_log, before[1])):
        raise Mistake("FADE-13", "the answer changes its input", "z or A_log holds other values than before", "no methods that end in _")
    if not got.isfinite().all():
        raise Mistake("FADE-01", "a large z overflows", f"z up to {z.max():.0f}: {int((~got.isfinite()).sum())} numbers are not finite", "F.softplus knows that softplus(z) is z for a large z")
    shown = f"z {z.flatten()[0]:.3f}, A_log {A_log[0]:.3f}, {kind}: got {got.flatten()[0]:.4f}, expected {expected.flatten()[0]:.4f}"
    other = "softplus" if kind == "relu" else "relu"
    for code, what, values, hint in (
        ("FADE-02", "the sign of A is in the result", -expected, "fading is never below 0: dt · |A|"),
        ("FADE-03", "A_log is taken for A itself", size(z, torch.zeros_like(A_log), kind) * A_log.abs(), "|A| = exp(A_log)"),
        ("FADE-03", "A_log is taken for A itself", size(z, torch.zeros_like(A_log), kind) * A_log, "|A| = exp(A_log)"),
        ("FADE-04", "softplus and relu are exchanged", size(z, A_log, other), 'the kind "relu" is max(z, 0)'),
        ("FADE-10", "that is dt alone", size(z, torch.zeros_like(A_log), kind), "times exp(A_log)"),
        ("FADE-11", "that is what is left, not by how much it fades", torch.exp(-expected), "the exponent itself: dt · |A|"),
    ):
        if torch.allclose(got.double(), values) and not torch.allclose(values, expected):
            raise Mistake(code, what, shown, hint)
    close(got, expected, "FADE-09", "the values differ from dt · |A|", shown, rtol=1e-9, atol=1e-9)
    mine = [part.clone().requires_grad_() for part in (z, A_log)]
    theirs = [part.clone().requires_grad_() for part in (z, A_log)]
    out = fading(*mine, kind)
    if not out.requires_grad:
        raise Mistake("FADE-08", "no gradient flows", "the result does not require one", "no detach, no no_grad: the price is paid through it")
    weights = torch.randn(shape, generator=gen(5), dtype=torch.float64)
    grads = torch.autograd.grad((out * weights).sum(), mine, allow_unused=True)
    for name, a, b in zip(("z", "A_log"), grads, torch.autograd.grad((size(*theirs, kind) * weights).sum(), theirs), strict=True):
        close(torch.zeros_like(b) if a is None else a, b, "FADE-08", f"the gradient of {name} differs", "is something detached?", rtol=1e-7, atol=1e-9)
    for halves in ((z.bfloat16(), A_log.bfloat16()), (z.bfloat16(), A_log.float()), (z.float(), A_log.bfloat16())):
        got = fading(*halves, kind)
        if got.dtype != torch.float32:
            raise Mistake("FADE-05", "the result is not float32", f"z {halves[0].dtype}, A_log {halves[1].dtype}: got {got.dtype}", "torch.promote_types(z.dtype, torch.float32), for both")
        wide = size(*(part.double() for part in halves), kind)
        if not got.isfinite().all():
            raise Mistake("FADE-01", "a large z overflows", f"z up to {z.max():.0f} in float32", "F.softplus knows that softplus(z) is z for a large z")
        if not torch.allclose(got.double(), wide, rtol=1e-4, atol=1e-6):
            raise Mistake("FADE-06", "it was computed in half precision", f"differs by up to {(got - wide).abs().max():.2g} from the same numbers in float32", "widen both first, then compute")
    for wrong in ("Relu", "gelu", ""):
        must_raise(ValueError, lambda wrong=wrong: fading(z, A_log, wrong), "FADE-07", f"the kind {wrong!r} must raise ValueError", "a wrong name must not count as the other kind")


# ------------------------------------------------------------------ what is left


@check(
    "hybridlab.ssm.decay_penalty.survival",
    visible=[{"seed": 0, "shape": (4, 1)}, {"seed": 1, "shape": (2, 6, 3)}],
    hidden=[
        {"seed": 11, "shape": (2, 2, 9, 4)},
        {"seed": 12, "shape": (1, 1, 5)},
        {"seed": 13, "shape": (12, 12), "reset": True},
        {"seed": 14, "shape": (3, 2, 2)},
    ],
    hints=(
        "Write down, for three tokens with fading a, b, c, what is left at the end of what each of them wrote. Which fadings stand in which line?",
        "Turn the text round (flip along time): then the tokens behind are the tokens before, and cumsum sums them. It includes the token's own, so the sums have to move by one.",
        "from_end = fading.flip(-2).cumsum(-2); a row of zeros in front of from_end[..., :-1, :]; flip back; exp of minus that.",
    ),
)
def check_survival(survival, seed, shape, reset=False):
    """exp of minus the fading of all tokens behind, with all digits, for any number of heads and texts."""
    fading = torch.rand(shape, generator=gen(seed), dtype=torch.float64) * 0.7
    fading[..., -1, :] += 0.2
    if reset:
        fading[3] = 1e6
        fading = fading.float()
    before = fading.clone()
    got = survival(fading)
    tensors((got,), [shape], "LEFT-12", "one number for each token and head")
    if not torch.equal(fading, before):
        raise Mistake("LEFT-06", "the answer changes its input", "fading holds other values than before", "no methods that end in _, no assignment into it")
    wide = fading.double()
    time = shape[-2]
    expected = torch.stack([torch.exp(-wide[..., t + 1 :, :].sum(-2)) for t in range(time)], -2)
    own = torch.stack([torch.exp(-wide[..., t:, :].sum(-2)) for t in range(time)], -2)
    front = torch.stack([torch.exp(-wide[..., : t + 1, :].sum(-2)) for t in range(time)], -2)
    strict = torch.stack([torch.exp(-wide[..., :t, :].sum(-2)) for t in range(time)], -2)
    heads = torch.stack([torch.exp(-wide[..., h + 1 :].sum(-1)) for h in range(shape[-1])], -1)
    product = torch.stack([(1 - wide[..., t + 1 :, :]).prod(-2) for t in range(time)], -2)
    shown = f"fading {[round(f, 3) for f in wide.reshape(-1, *shape[-2:])[0, :, 0].tolist()]}: got {[round(f, 3) for f in got.reshape(-1, *shape[-2:])[0, :, 0].tolist()]}, expected {[round(f, 3) for f in expected.reshape(-1, *shape[-2:])[0, :, 0].tolist()]}"
    for code, what, values, hint in (
        ("LEFT-01", "a token's own fading is in it", own, "what it writes comes in after its own decay: the last token keeps 1"),
        ("LEFT-02", "summed from the beginning of the text", front, "what fades is what was written: the tokens *behind* count"),
        ("LEFT-02", "summed from the beginning of the text", strict, "what fades is what was written: the tokens *behind* count"),
        ("LEFT-04", "summed over the heads", heads, "the axis of time is the one before the last: dim -2"),
        ("LEFT-05", "1 - fading is not what is left", product, "exp(-fading): a product of them is exp of minus the sum"),
    ):
        if not reset and torch.allclose(got.double(), values) and not torch.allclose(values, expected):
            raise Mistake(code, what, shown, hint)
    if reset and not torch.allclose(got.double(), expected, rtol=1e-4, atol=1e-6):
        raise Mistake("LEFT-03", "behind a large fading the digits are lost", shown, "sum from the end; a difference of two running sums, or a quotient of two decays, has no digits left behind a 1e6")
    close(got, expected, "LEFT-09", "the values differ from the sums, one by one", shown, rtol=1e-5 if reset else 1e-9, atol=1e-7 if reset else 1e-9)
    if time > 1 and not survival(wide.requires_grad_()).requires_grad:
        raise Mistake("LEFT-08", "no gradient flows", "the result does not require one", "no detach, no no_grad")


# ------------------------------------------------------------------ in pieces


class Notes:
    """A stand-in for a model: a vector per token that knows all tokens before it, and notes of what it was given."""

    def __init__(self):
        self.given, self.states, self.outputs, self.alive, self.free = [], [], [], 0, True

    def read(self, tokens, state):
        self.given.append(tokens.shape[1])
        self.states.append(state)
        self.free = self.free and not torch.is_grad_enabled()
        self.alive = max(self.alive, sum(ref() is not None for ref in self.outputs))
        before = torch.zeros(len(tokens), 1) if state is None else state[0]
        if not tokens.shape[1]:
            return torch.zeros(len(tokens), 0, 2), [before]
        sums = before + tokens.cumsum(1)
        out = torch.stack([sums, tokens.float() + 0.5], -1)
        self.outputs.append(weakref.ref(out))
        return out, [sums[:, -1:].clone()]


@check(
    "hybridlab.ssm.streaming.read_stream",
    visible=[{"seed": 0, "batch": 1, "lengths": (3, 2)}, {"seed": 1, "batch": 2, "lengths": (4, 4, 1)}],
    hidden=[
        {"seed": 11, "batch": 3, "lengths": (5,)},
        {"seed": 12, "batch": 2, "lengths": (0, 3, 0, 2, 0), "refused": True},
        {"seed": 13, "batch": 1, "lengths": (1,) * 30},
        {"seed": 14, "batch": 2, "lengths": (40, 7, 33), "real": True},
    ],
    forbids=("cat",),
    hints=(
        "Two things are kept from piece to piece. One of them you are given by model.read; which one do you only need when all is read?",
        "for tokens in pieces: read, state = model.read(tokens, state). The last token's vector is read[:, -1]; a slice keeps the whole piece in memory, a clone does not.",
        "with torch.inference_mode() around the loop; pass over a piece whose shape[1] is 0; ValueError if `last` is still None at the end; return last, state.",
    ),
)
def check_read_stream(read_stream, seed, batch, lengths, real=False, refused=False):
    """What the whole text gives, in pieces of any length, one piece at a time, with nothing kept of those that are read."""
    text = torch.randint(16, (batch, sum(lengths)), generator=gen(seed))
    model, handed = Notes(), 0

    def pieces():
        nonlocal handed
        for piece in text.split(list(lengths), 1):
            if sum(model.given) < handed:
                raise Mistake("PIECES-02", "a piece is asked for before the one before it is read", f"{handed} tokens were handed out, {sum(model.given)} read", "read each piece in the loop: no list(pieces), no torch.cat")
            handed += piece.shape[1]
            yield piece.clone()

    try:
        got = read_stream(model, pieces())
    except IndexError:
        raise Mistake("PIECES-04", "a piece without tokens breaks the reading", f"pieces of {lengths} tokens", "pass over it: its shape[1] is 0") from None
    if not isinstance(got, tuple) or len(got) != 2:
        raise Mistake("PIECES-12", "two things are expected: the last token's vector and the state", f"got a {type(got).__name__}", "return last, state")
    if 0 in model.given:
        raise Mistake("PIECES-04", "a piece without tokens is read", f"model.read was given {model.given} tokens", "pass over it: its shape[1] is 0")
    if len(model.states) > 1 and all(state is None for state in model.states):
        raise Mistake("PIECES-01", "each piece is read as if nothing had been before it", f"model.read was given the state None {len(model.states)} times", "hand on the state that the piece before gave")
    last, state = got
    tensors((last,), [(batch, 2)], "PIECES-06", "the last token's vector alone: read[:, -1]")
    total = text.sum(1).float()
    expected = torch.stack([total, text[:, -1] + 0.5], -1)
    if not torch.equal(last, expected):
        raise Mistake("PIECES-09", "that is not what the model gives for the text's last token", f"pieces of {lengths} tokens: got {last.tolist()}, expected {expected.tolist()}", "the last token of the last piece that has one")
    if not isinstance(state, list) or not torch.equal(state[0][:, 0], total):
        raise Mistake("PIECES-08", "the state is not the one behind the last token", f"pieces of {lengths} tokens", "return what the last model.read gave")
    if not model.free:
        raise Mistake("PIECES-03", "everything is kept for a backward pass that never comes", "gradients are enabled while the model reads", "with torch.inference_mode(): around the loop")
    if model.alive > 2:
        raise Mistake("PIECES-10", "what the model gave for each piece is kept", f"the vectors of {model.alive} pieces are in memory together", "keep the last token's vector alone")
    if last.untyped_storage().nbytes() > last.nbytes:
        raise Mistake("PIECES-07", "the last vector keeps a whole piece in memory", f"{last.nbytes} bytes are looked at, {last.untyped_storage().nbytes()} are held", "a slice is a view: .clone() it")
    if real:
        torch.manual_seed(seed)
        mamba = Mamba(MambaConfig(16, d_model=16, n_layers=2, d_head=16, d_state=4))
        with torch.no_grad():
            whole = mamba.read(text)[0][:, -1]
        close(read_stream(mamba, text.split(list(lengths), 1))[0], whole, "PIECES-09", "a Mamba in pieces gives something else than whole", "hand on the state", rtol=1e-4, atol=1e-5)
    if refused:
        for empty in ([], [text[:, :0]] * 2):
            must_raise(ValueError, lambda empty=empty: read_stream(Notes(), iter(empty)), "PIECES-05", "a text without tokens must raise ValueError", "`last` is None behind the loop")


# ------------------------------------------------------------------ mimetic start


@check(
    "hybridlab.ssm.mimetic.mimetic_init",
    visible=[{"seed": 0, "sizes": {"d_model": 8, "d_head": 4, "d_state": 3}}],
    hidden=[
        {"seed": 11, "sizes": {"d_model": 6, "d_head": 6, "d_state": 4, "n_groups": 2, "d_conv": 2}},
        {"seed": 12, "sizes": {"d_model": 8, "d_head": 8, "d_state": 5, "d_conv": 3, "step": "relu"}},
        {"seed": 13, "sizes": {"d_model": 16, "d_head": 8, "d_state": 4, "n_groups": 2}},
    ],
    hints=(
        "Write down where each part lies in the rows of in_proj: with d_inner = 4 and three states, from which row to which are gate, x, B, C and the steps?",
        "rows = mixer.in_proj.weight; B is rows[2 * inner : 2 * inner + states], C the `states` rows behind it. conv1d.weight is (channels, 1, d_conv): its last tap is taps[..., -1], the token before is taps[..., -2]. All under torch.no_grad().",
        "taps.zero_(); taps[..., -1] = 1; then for B's channels, inner to inner + states, the last two taps are 1 and 0. out_proj.weight.copy_(rows[inner : 2 * inner].T); zero_() on the bias, A_log and D.",
    ),
)
def check_mimetic_init(mimetic_init, seed, sizes):
    """Each weight exactly as the four points say, every other as it was, and all of them still learning; tests/unit shows that such a layer looks up."""
    torch.manual_seed(seed)
    mixer = Mamba2Mixer(MambaConfig(10, **sizes))
    before = {name: weight.detach().clone() for name, weight in mixer.named_parameters()}
    objects = {name: id(weight) for name, weight in mixer.named_parameters()}
    try:
        mimetic_init(mixer)
    except RuntimeError as error:
        if "leaf" in str(error):
            raise Mistake("MIMIC-08", "autograd refuses the change", str(error)[:120], "with torch.no_grad(): around it") from None
        raise
    config, now = mixer.config, dict(mixer.named_parameters())
    if {name: id(weight) for name, weight in now.items()} != objects or not all(weight.requires_grad and weight.is_leaf for weight in now.values()):
        raise Mistake("MIMIC-08", "the parameters are not the same objects, or learn no more", "an optimizer that was made before would train others", "change the numbers: copy_, zero_, assignment into a slice")
    inner, states = config.d_inner, config.n_groups * config.d_state
    rows, old = now["in_proj.weight"].detach(), before["in_proj.weight"]
    b, c = slice(2 * inner, 2 * inner + states), slice(2 * inner + states, 2 * inner + 2 * states)
    if torch.equal(rows[b], old[c]) and torch.equal(rows[c], old[c]):
        raise Mistake("MIMIC-12", "B was made like C, and not C like B", "the rows of B have changed", "the rows of C become those of B")
    if not torch.equal(rows[c], old[b]):
        raise Mistake("MIMIC-01", "the rows of C are not those of B", f"d_inner {inner}, n_groups · d_state {states}", "gate, x, B, C, steps: C begins at row 2 · d_inner + n_groups · d_state")
    if not torch.equal(torch.cat([rows[: c.start], rows[c.stop :]]), torch.cat([old[: c.start], old[c.stop :]])):
        raise Mistake("MIMIC-09", "other rows of in_proj have changed", "only those of C may", "x, B, the gate and the steps stay as they were")
    taps = now["conv1d.weight"].detach()[:, 0]
    expected = torch.zeros_like(taps)
    expected[:, -1] = 1
    plain = expected.clone()
    expected[inner : inner + states] = torch.nn.functional.one_hot(torch.tensor(config.d_conv - 2), config.d_conv).float()
    if torch.equal(taps, plain):
        raise Mistake("MIMIC-02", "B comes from the present token", "all last taps are 1", "a value is to be written under the key *before* it: for B, the tap before the last")
    if torch.equal(taps, expected.flip(-1)):
        raise Mistake("MIMIC-03", "the taps are in the wrong order", "the last tap reads the present token, the first the oldest", "taps[..., -1] = 1")
    close(taps, expected, "MIMIC-13", "the taps differ", "one tap of 1 for each channel; x, B, C in this order", rtol=0, atol=0)
    for name, code, hint in (("conv1d.bias", "MIMIC-10", "the convolution passes on what comes, and adds nothing"), ("A_log", "MIMIC-04", "A = -exp(A_log) = -1, so A_log is 0"), ("D", "MIMIC-05", "the layer says only what it finds")):
        if now[name].any():
            raise Mistake(code, f"{name} is not 0", f"it begins with {now[name].flatten()[0].item():.3f}", hint)
    close(now["out_proj.weight"].detach(), old[inner : 2 * inner].T, "MIMIC-06", "out_proj is not the transpose of x's rows", "rows d_inner to 2 · d_inner of in_proj make x", rtol=0, atol=0)
    for name in ("dt_bias", "norm.weight"):
        if not torch.equal(now[name], before[name]):
            raise Mistake("MIMIC-09", f"{name} has changed", "it is none of those that are to be set", "leave it as it was")
    single = Mamba2Mixer(MambaConfig(10, **(sizes | {"d_conv": 1})))
    kept = single.in_proj.weight.detach().clone()
    must_raise(ValueError, lambda: mimetic_init(single), "MIMIC-07", "d_conv=1 must raise ValueError", "there is no token before")
    if not torch.equal(single.in_proj.weight, kept):
        raise Mistake("MIMIC-07", "a refused mixer has been changed", "its in_proj holds other numbers", "look at d_conv first")


# ------------------------------------------------------------------ questions


@check(
    "hybridlab.ssm.needle.ask",
    visible=[{"seed": 0, "batch": 1, "asked": 3}, {"seed": 1, "batch": 2, "asked": 2}],
    hidden=[
        {"seed": 11, "batch": 3, "asked": 4, "learn": True},
        {"seed": 12, "batch": 4, "asked": 1},
        {"seed": 13, "batch": 2, "asked": 5, "layers": 3},
    ],
    hints=(
        "Questions are laid out text by text: (text 0, question 0), (text 0, question 1), … In which order do the copies of the states stand?",
        "repeat_interleave(n, 0) gives a a b b, repeat(n, 1, …) gives a b a b. Which of the two does questions.reshape(-1, 1) fit?",
        "part.repeat_interleave(asked, 0) for both parts of each layer's state; then logits[:, 0, FIRST_VALUE:].unflatten(0, (-1, asked)).",
    ),
)
def check_ask(ask, seed, batch, asked, layers=2, learn=False):
    """Each question alone, to a copy of its own text's state, as a loop over texts and questions would ask; the state stays."""
    torch.manual_seed(seed)
    model = Mamba(MambaConfig(VOCAB, d_model=16, n_layers=layers, d_head=16, d_state=4))
    torch.nn.init.normal_(model.embeddings.weight)
    texts, questions = torch.randint(VOCAB, (batch, 9), generator=gen(seed)), torch.randint(VOCAB, (batch, asked), generator=gen(seed + 1))
    with torch.no_grad():
        _, state = model.read(texts)
    kept = [MixerState(*(part.clone() for part in layer)) for layer in state]

    def one(text, question, past=None):
        at = text if past is None else past
        alone = [MixerState(layer.past[at : at + 1], layer.memory[text : text + 1]) for layer in kept]
        return model(questions.reshape(-1)[question].view(1, 1), alone)[0][0, 0]

    with torch.no_grad():
        got = ask(model, state, questions)
        pairs = list(itertools.product(range(batch), range(asked)))
        logits = torch.stack([one(i, i * asked + j) for i, j in pairs])
        swapped = torch.stack([one((i * asked + j) % batch, i * asked + j) for i, j in pairs])
        mixed = torch.stack([one(i, i * asked + j, past=(i * asked + j) % batch) for i, j in pairs])
        read = model(questions, kept)[0].flatten(0, 1)
        nothing = model(questions.reshape(-1, 1))[0][:, 0]
    values = ABSENT - FIRST_VALUE + 1
    if isinstance(got, torch.Tensor) and got.shape in ((batch, asked, values - 1), (batch, asked, VOCAB)):
        raise Mistake("ASK-03", "the logits are not those of the values and of ABSENT", f"{got.shape[-1]} logits, {values} expected", "logits from FIRST_VALUE on: ABSENT is the last token")
    tensors((got,), [(batch, asked, values)], "ASK-06", "(batch, asked, values and ABSENT)")
    for mine, was in zip(state, kept, strict=True):
        if not (torch.equal(mine.past, was.past) and torch.equal(mine.memory, was.memory)):
            raise Mistake("ASK-04", "the state of the texts has changed", "it holds other numbers than before", "ask copies")
    shown = f"{batch} texts, {asked} questions each"
    flat = got.flatten(0, 1)
    for code, what, wrong, hint in (
        ("ASK-01", "questions go to the states of other texts", swapped, "the copies stand in another order than the questions"),
        ("ASK-07", "the convolution's past is that of another text", mixed, "both parts of a layer's state are copied in the same way"),
        ("ASK-02", "the questions are read one after the other, as a text", read, "each question to a copy of its own: it must not see the one before"),
        ("ASK-10", "the state is not used", nothing, "model(tokens, state): without a state the model knows nothing of the texts"),
    ):
        wrong = wrong[:, FIRST_VALUE:]
        if torch.allclose(flat, wrong, rtol=1e-4, atol=1e-5) and not torch.allclose(wrong, logits[:, FIRST_VALUE:], rtol=1e-4, atol=1e-5):
            raise Mistake(code, what, shown, hint)
    close(flat, logits[:, FIRST_VALUE:], "ASK-09", "the logits differ from those of one question at a time", shown, rtol=1e-4, atol=1e-5)
    if learn:
        _, state = model.read(texts)
        answer = ask(model, state, questions)
        grads = torch.autograd.grad(answer.square().sum(), [model.embeddings.weight, model.layers[0].mixer.in_proj.weight], allow_unused=True) if answer.requires_grad else [None]
        if any(g is None for g in grads) or not grads[0][texts.unique()].any(1).all():
            raise Mistake("ASK-05", "no gradient reaches the text", "the model could not learn from its answers", "no inference_mode, no no_grad, no detach: training asks, too")
