"""How week 10's answers are judged: slow loops in float64, gradients, texts cut in pieces, and what must be refused."""

import torch
import torch.nn.functional as F
from coursekit.checks import Mistake, check, close, must_raise
from coursekit.graph import kept_bytes, nodes_of, quadratic_slices
from hybridlab.ssm.mamba_config import MambaConfig, step_size
from hybridlab.ssm.mixer_state import MixerState

# ------------------------------------------------------------------ for all scans


def draw(seed, shapes, dt=0.3):
    """x, dt, A, B, C, state of these shapes, in float64: steps of about `dt`, decays of a few."""
    g = torch.Generator().manual_seed(seed)
    x, step, A, B, C, state = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)
    return x, step.abs() * dt, -A.abs() * 3, B, C, state


def selective(seed, batch, time, d_inner, d_state, dt=0.3):
    return draw(seed, ((batch, time, d_inner), (batch, time, d_inner), (d_inner, d_state), (batch, time, d_state), (batch, time, d_state), (batch, d_inner, d_state)), dt)


def in_heads(seed, batch, time, heads, d_head, groups, d_state, dt=0.3):
    return draw(seed, ((batch, time, heads, d_head), (batch, time, heads), (heads,), (batch, time, groups, d_state), (batch, time, groups, d_state), (batch, heads, d_head, d_state)), dt)


def recurrence(x, dt, A, B, C, state=None, *, decay=torch.exp, step=True, early=False, swapped=False, hold=False, forget=0):
    """Mamba's scan, token by token. The keyword arguments make the known mistakes."""
    h = torch.zeros(x.shape[0], *A.shape, dtype=x.dtype) if state is None else state
    B, C = (C, B) if swapped else (B, C)
    ys = []
    for t in range(x.shape[1]):
        before = torch.zeros_like(h) if forget and t and t % forget == 0 else h
        enters = (x[:, t] * dt[:, t] if step else x[:, t])[..., None] * B[:, t, None]
        if hold:
            enters = torch.expm1(dt[:, t, :, None] * A) / A * x[:, t, :, None] * B[:, t, None]
        h = decay(dt[:, t, :, None] * A) * before + enters
        ys.append(torch.einsum("bdn,bn->bd", before if early else h, C[:, t]))
    return torch.stack(ys, 1), h


def heads_recurrence(x, dt, A, B, C, state=None, *, interleaved=False, **wrong):
    """Mamba-2's scan by way of Mamba's, head by head."""
    heads, groups = x.shape[2], B.shape[2]
    ys, ends = [], []
    for i in range(heads):
        group = i % groups if interleaved else i // (heads // groups)
        one = A[i].expand(x.shape[3], B.shape[3])
        y, end = recurrence(x[:, :, i], dt[:, :, i, None].expand(x[:, :, i].shape), one, B[:, :, group], C[:, :, group], None if state is None else state[:, i], **wrong)
        ys.append(y)
        ends.append(end)
    return torch.stack(ys, 2), torch.stack(ends, 1)


def a_pair(got, y_shape, second_shape, code, second="the state"):
    """Raise Mistake unless `got` is two tensors of these shapes."""
    if not isinstance(got, tuple) or len(got) != 2 or not all(isinstance(part, torch.Tensor) for part in got):
        raise Mistake(code, f"two tensors are expected: y and {second}", f"got a {type(got).__name__}", f"return y, and {second}")
    for name, part, shape in zip(("y", second), got, (y_shape, second_shape), strict=True):
        if tuple(part.shape) != tuple(shape):
            raise Mistake(code, f"{name} has the wrong shape", f"got {tuple(part.shape)}, expected {tuple(shape)}", f"y has x's shape; {second} has that of the one that is given")


def same(a, b, tolerance=1e-9):
    return all(p.shape == q.shape and torch.allclose(p.double(), q.double(), rtol=tolerance, atol=tolerance) for p, q in zip(a, b, strict=True))


def untouched(given, before, code):
    for name, mine, was in zip(("x", "dt", "A", "B", "C", "state"), given, before, strict=True):
        if not torch.equal(mine, was):
            raise Mistake(code, f"the answer changes its input {name}", "the caller's tensor holds other values than before", "no `+=`, no methods that end in _, no assignment into a slice")


def dtypes(scan, given, code):
    """Half precision in, half precision out; the state and all that decays stay in float32."""
    x, dt, A, B, C, state = given
    half = (x.bfloat16(), dt.bfloat16(), A.float(), B.bfloat16(), C.bfloat16(), state.float())
    y, end = scan(*half)
    if y.dtype != torch.bfloat16:
        raise Mistake(code, "y does not have x's dtype", f"x is bfloat16, y is {y.dtype}", "y.to(x.dtype), at the very end")
    if end.dtype != torch.float32:
        raise Mistake(code, "the state is not float32", f"it is {end.dtype}", "selective_inputs / ssd_inputs give all in float32: use what they give, not what was given")
    wide = scan(*(part.float() for part in half))
    if not same((end,), (wide[1],), 1e-4):
        raise Mistake(code, "the state was computed in half precision", f"it differs by up to {(end - wide[1]).abs().max():.2g} from that of the same numbers in float32", "widen first, round y last")
    y, end = scan(x.float(), dt.float(), A.float(), B.float(), C.float(), state.float())
    if y.dtype != torch.float32 or end.dtype != torch.float32:
        raise Mistake(code, "float32 in, another dtype out", f"y {y.dtype}, state {end.dtype}", "y.to(x.dtype)")


def refusals(scan, given, code_bad, code_nan):
    """Bad input, and results that are not finite."""
    x, dt, A, B, C, state = given
    for what, bad in {
        "a negative dt": (x, -dt, A, B, C, state),
        "a positive A": (x, dt, -A, B, C, state),
        "a state of another shape": (x, dt, A, B, C, state[..., :-1]),
        "a text of no tokens": (x[:, :0], dt[:, :0], A, B[:, :0], C[:, :0], state),
    }.items():
        must_raise(ValueError, lambda bad=bad: scan(*bad), code_bad, f"{what} must raise ValueError", "the first line calls selective_inputs, or ssd_inputs for SSD, which raises")
    spoilt = x.clone()
    spoilt[:, 0] = torch.nan
    must_raise(ValueError, lambda: scan(spoilt, dt, A, B, C, state), code_nan, "NaN in x must raise ValueError", "the last line but the return calls require_finite(y, state, inputs)")
    late = C.clone()
    late[:, -1] = torch.inf  # spoils y alone
    must_raise(ValueError, lambda: scan(x, dt, A, B, late, state), code_nan, "infinity in C must raise ValueError", "require_finite looks at y and at the state: hand it both")


NOT_IN_PLACE = "no `+=` or `*=` on it, no methods that end in _, no assignment into a slice"


def differentiable(call, code):
    """What `call` gives; a Mistake where PyTorch complains of a change in place."""
    try:
        return call()
    except RuntimeError as error:
        if not any(word in str(error) for word in ("inplace", "in-place")):
            raise
        raise Mistake(code, "the answer works in place, on what is the caller's or what backward still needs", f"PyTorch says: {str(error)[:120]}", NOT_IN_PLACE) from None


def gradients(scan, given, expected_y, code_slices, code_gradient, code_in_place, by_unbind, most_nodes=None, code_nodes=""):
    """Backward gives the loop's gradients, finite ones, and its graph has no slice for each token."""
    mine = [part.clone().requires_grad_() for part in given]
    y, end = differentiable(lambda: scan(*mine), code_in_place)
    nodes = nodes_of(y)
    if slices := quadratic_slices(nodes):
        raise Mistake(code_slices, "backward will be quadratic in the length", f"slices on the graph: {'; '.join(slices)}. Each makes a gradient as large as the whole tensor that it is cut from", by_unbind)
    if most_nodes and len(nodes) > most_nodes:
        raise Mistake(code_nodes, "the loop goes over tokens, not over places in a chunk", f"{len(nodes)} operations are on the graph; with all chunks at once it is a third of that",
                      "cut into (batch, chunks, chunk, …) first; one step of the loop works on all chunks")
    if len(nodes) > 1000 or given[0].shape[1] > 12:
        return  # the values of long gradients are those of short ones
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    got = differentiable(lambda: torch.autograd.grad((y * weights).sum() + end.square().sum(), mine, allow_unused=True), code_in_place)
    theirs = [part.clone().requires_grad_() for part in given]
    y, end = expected_y(*theirs)
    expected = torch.autograd.grad((y * weights).sum() + end.square().sum(), theirs)
    for name, a, b in zip(("x", "dt", "A", "B", "C", "state"), got, expected, strict=True):
        close(torch.zeros_like(b) if a is None else a, b, code_gradient, f"the gradient of {name} differs from the loop's", "is something detached, or computed under no_grad?", rtol=1e-6, atol=1e-6)


def pieces(scan, given, whole, code, code_ignored, cut=None):
    """A text that is cut in two, with the state handed on."""
    x, dt, A, B, C, state = given
    cut = cut or max(1, x.shape[1] // 3)
    if x.shape[1] <= cut:
        return
    first, middle = scan(x[:, :cut], dt[:, :cut], A, B[:, :cut], C[:, :cut], state)
    rest = (x[:, cut:], dt[:, cut:], A, B[:, cut:], C[:, cut:])
    second, end = scan(*rest, middle)
    if same((torch.cat([first, second], 1), end), whole):
        return
    if same((second,), (scan(*rest, torch.zeros_like(middle))[0],)):
        raise Mistake(code_ignored, "the state that was given is not used", f"cut behind token {cut}: the second piece is read as if nothing had been before it", "begin with inputs.state")
    raise Mistake(code, "a text in two pieces gives something else than the whole", f"cut behind token {cut}, the state handed on", "the state that goes out is h behind the last token")


def diagnose(got, expected, suspects, evidence):
    """Raise the first known mistake that explains `got`, unless `got` is right. Values may be a function of nothing that computes them."""
    if same(got, expected):
        return
    suspects = [(code, what, values() if callable(values) else values, hint) for code, what, values, hint in suspects]
    for parts in (2, 1):  # y and state explained; else y alone
        for code, what, values, hint in suspects:
            if same(got[:parts], values[:parts]) and not same(expected[:parts], values[:parts]):
                raise Mistake(code, what, evidence, hint)


# ------------------------------------------------------------------ the loop


@check(
    "hybridlab.ssm.selective_scan.selective_scan",
    visible=[
        {"seed": 0, "sizes": (1, 3, 2, 3)},
        {"seed": 1, "sizes": (2, 5, 3, 4), "begin": True},
        {"seed": 2, "sizes": (1, 24, 2, 3), "begin": True},
    ],
    hidden=[
        {"seed": 11, "sizes": (3, 1, 2, 5), "begin": True},
        {"seed": 12, "sizes": (2, 40, 4, 3), "begin": True, "edges": True},
        {"seed": 13, "sizes": (1, 24, 1, 1)},
    ],
    forbids=("chunked_scan", "ssd", "mamba_selective_scan"),
    hints=(
        "Write the five lines for one token first: what is left of h, what comes on top, what is read out. Which shape has each of them?",
        "dt_t is (batch, d_inner) and A is (d_inner, d_state): dt_t[..., None] * A is (batch, d_inner, d_state), like h. B_t[:, None] goes along the channels.",
        "h = torch.exp(dt_t[..., None] * A) * h + (dt_t * x_t)[..., None] * B_t[:, None]; y_t = (h @ C_t[..., None]).squeeze(-1). Collect the y_t in a list, and torch.stack(ys, 1).",
    ),
)
def check_selective_scan(selective_scan, seed, sizes, begin=False, edges=False):
    """The recurrence, from any state, with the loop's gradients; half precision keeps its state in float32."""
    given = selective(seed, *sizes)
    if not begin:
        given = (*given[:5], torch.zeros_like(given[5]))
    before = [part.clone() for part in given]
    got = selective_scan(*given) if begin else selective_scan(*given[:5])
    expected = recurrence(*given)
    a_pair(got, given[0].shape, given[5].shape, "SSCAN-12")
    untouched(given, before, "SSCAN-11")
    evidence = f"batch, time, d_inner, d_state = {sizes}; y differs by up to {(got[0] - expected[0]).abs().max():.3g}"
    none = torch.zeros_like(given[5])
    diagnose(got, expected, [
        ("SSCAN-01", "what enters is not multiplied with dt", recurrence(*given, step=False), "dt_t · x_t · B_t: a step of 0 must change nothing"),
        ("SSCAN-02", "the decay is not exp(dt · A)", recurrence(*given, decay=lambda z: 1 + z), "exp of the product; 1 + dt · A is only its beginning, and negative for a large dt"),
        ("SSCAN-02", "the decay is not exp(dt · A)", recurrence(*given, decay=lambda z: torch.exp(torch.exp(z))), "exp once"),
        ("SSCAN-02", "the decay is exp(-dt · A), and the state grows", recurrence(*given, decay=lambda z: torch.exp(-z)), "A is at most 0 as it comes in: no further minus"),
        ("SSCAN-15", "B comes in by zero-order hold, as in week 9", recurrence(*given, hold=True), "Mamba takes Euler's rule for B: dt_t · x_t · B_t. Only the decay is exact"),
        ("SSCAN-03", "y is read before the token has entered the state", recurrence(*given, early=True), "h_t first, then y_t = h_t C_t"),
        ("SSCAN-04", "the state that was given is not used", recurrence(*given[:5], none), "h begins with inputs.state"),
        ("SSCAN-05", "B and C are exchanged", recurrence(*given, swapped=True), "B writes, C reads"),
    ], evidence)
    close(got[0], expected[0], "SSCAN-09", "y differs from the recurrence", "compare with the worked example", rtol=1e-9, atol=1e-9)
    close(got[1], expected[1], "SSCAN-06", "the state that goes out is not h behind the last token", "return the h of the last step", rtol=1e-9, atol=1e-9)
    pieces(selective_scan, given, expected, "SSCAN-06", "SSCAN-04")
    dtypes(selective_scan, given, "SSCAN-13")
    gradients(selective_scan, given, recurrence, "SSCAN-10", "SSCAN-14", "SSCAN-11", "for x_t, … in zip(x.unbind(1), …): one node gives all tokens")
    if edges:
        refusals(selective_scan, given, "SSCAN-07", "SSCAN-08")


# ------------------------------------------------------------------ the convolution


def by_taps(x, weight, bias=None, past=None, *, flip=False, ahead=False):
    """The convolution, token by token."""
    width = weight.shape[1]
    past = x.new_zeros(x.shape[0], width - 1, x.shape[2]) if past is None else past
    taps = weight.flip(1) if flip else weight
    seen = torch.cat([x, past], 1) if ahead else torch.cat([past, x], 1)
    y = torch.stack([(seen[:, t : t + width] * taps.T).sum(1) for t in range(x.shape[1])], 1)
    return y if bias is None else y + bias


@check(
    "hybridlab.ssm.causal_conv.causal_conv",
    visible=[
        {"seed": 0, "batch": 1, "time": 5, "d": 2, "width": 3},
        {"seed": 1, "batch": 2, "time": 6, "d": 3, "width": 4, "begin": True},
        {"seed": 2, "batch": 1, "time": 1, "d": 2, "width": 4, "begin": True},
        {"seed": 3, "batch": 1, "time": 4, "d": 2, "width": 1},
    ],
    hidden=[
        {"seed": 11, "batch": 2, "time": 2, "d": 3, "width": 4, "begin": True},
        {"seed": 12, "batch": 1, "time": 1, "d": 4, "width": 5, "begin": True, "bias": False},
        {"seed": 13, "batch": 3, "time": 7, "d": 2, "width": 1},
        {"seed": 14, "batch": 2, "time": 30, "d": 5, "width": 4, "begin": True, "edges": True},
    ],
    forbids=("conv1d", "Conv1d", "unfold"),
    hints=(
        "Put `past` in front of x. How long is the result, and from which place to which does the oldest tap read it?",
        "seen = torch.cat([past, x], 1) has width - 1 + time tokens. Tap k reads seen[:, k : k + time], and multiplies it with weight[:, k].",
        "y = sum(seen[:, k : k + time] * weight[:, k] for k in range(width)), plus the bias if there is one. The new past is seen[:, time:].clone(): also right where time is smaller than width - 1.",
    ),
)
def check_causal_conv(causal_conv, seed, batch, time, d, width, begin=False, bias=True, edges=False):
    """Equal to torch's own convolution, without a look ahead, and continued from any past, however short the pieces."""
    g = torch.Generator().manual_seed(seed)
    x, weight, shift, past = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in ((batch, time, d), (d, width), (d,), (batch, width - 1, d)))
    shift = shift if bias else None
    begins = past if begin else torch.zeros_like(past)
    before = [part.clone() for part in (x, weight, past)]
    got = causal_conv(x, weight, shift, past if begin else None)
    if isinstance(got, tuple) and len(got) == 2 and isinstance(got[1], torch.Tensor) and got[1].shape == x.shape != past.shape:
        if width == 1:
            raise Mistake("CAUSAL-14", "with width 1 the new past is all of x, and should be empty", f"got {tuple(got[1].shape)}, expected {tuple(past.shape)}", "[-0:] is all: count from the front, seen[:, time:]")
        if time < width - 1:
            raise Mistake("CAUSAL-04", "a piece shorter than the convolution forgets the past", f"{time} tokens, width {width}: the new past is made of x alone, got {tuple(got[1].shape)}, expected {tuple(past.shape)}",
                          "the last width - 1 tokens of past *and* x")
    a_pair(got, x.shape, past.shape, "CAUSAL-12", "the new past")
    for name, mine, was in zip(("x", "weight", "past"), (x, weight, past), before, strict=True):
        if not torch.equal(mine, was):
            raise Mistake("CAUSAL-10", f"the answer changes its input {name}", "the caller's tensor holds other values than before", "no `+=` on it, no assignment into it")
    seen = torch.cat([begins, x], 1)
    expected = F.conv1d(seen.mT, weight[:, None], shift, groups=d).mT
    evidence = f"batch {batch}, {time} tokens, {d} channels, width {width}{', with a past' if begin else ''}"
    for code, what, values, hint in (
        ("CAUSAL-06", "the bias is missing", by_taps(x, weight, None, begins), "one number a channel, on top of the sum"),
        ("CAUSAL-01", "the weights are in the wrong order", by_taps(x, weight, shift, begins, flip=True), "the last column of weight is for the present token, the first for the oldest"),
        ("CAUSAL-03", "the past is not used", by_taps(x, weight, shift), "put it in front of x"),
        ("CAUSAL-02", "tokens to come are seen", by_taps(x, weight, shift, begins, ahead=True), "the width - 1 more tokens stand in front of x, not behind it"),
    ):
        if same((got[0],), (values,)) and not same((values,), (expected,)):
            raise Mistake(code, what, evidence, hint)
    close(got[0], expected, "CAUSAL-09", "y differs from torch's convolution", "do three tokens of one channel by hand", rtol=1e-9, atol=1e-9)
    if same(got[1:], (F.pad(x, (0, 0, width, 0))[:, x.shape[1] + 1 :],)) and not same(got[1:], (seen[:, time:],)):
        raise Mistake("CAUSAL-04", "a piece shorter than the convolution forgets the past", f"{evidence}: the new past is made of x alone", "the last width - 1 tokens of past *and* x")
    close(got[1], seen[:, time:], "CAUSAL-08", "the new past is not the last width - 1 inputs", "inputs, as they came in, the oldest first", rtol=0, atol=0)
    if got[1].numel() and got[1].untyped_storage().nbytes() > got[1].nbytes:
        raise Mistake("CAUSAL-05", "the new past keeps the whole text in memory", f"{got[1].nbytes} bytes are looked at, {got[1].untyped_storage().nbytes()} are held", "a slice is a view: .clone() it")
    half = causal_conv(x.bfloat16(), weight.bfloat16(), None, past.float())
    if half[0].dtype != torch.bfloat16 or half[1].dtype != torch.bfloat16:
        raise Mistake("CAUSAL-13", "y and the new past do not have x's dtype", f"x is bfloat16, y is {half[0].dtype}, past {half[1].dtype}", "past.to(x.dtype) before it is joined to x")
    if edges:
        for what, bad in {
            "no tokens": (x[:, :0], weight, shift, past),
            "a bias of another size": (x, weight, torch.zeros(d + 1), past),
            "a weight for other channels": (x, weight[1:], None, past),
            "a past that is too short": (x, weight, shift, past[:, 1:]),
            "a past of another batch": (x, weight, shift, past[:1]),
        }.items():
            must_raise(ValueError, lambda bad=bad: causal_conv(*bad), "CAUSAL-07", f"{what} must raise ValueError", "compare shapes before you compute: a size of 1 would be spread without a word")


# ------------------------------------------------------------------ two levels

NEVER_DIVIDE = "never divide by a running product of decays: exp of a sum that is at most 0 can't overflow"


def known_of_two_levels(given, chunk, got, expected, evidence):
    """Raise what explains a wrong result of the two levels."""
    x, step, A, B, C, state = given
    elapsed = torch.cat([part.cumsum(1) for part in step.split(chunk, 1)], 1)
    forgetful = recurrence(*given, forget=chunk)
    alone = recurrence(x, step, A, B, C, None, forget=chunk)
    starts = [recurrence(x[:, :n], step[:, :n], A, B[:, :n], C[:, :n], state)[1] if n else state for n in range(0, x.shape[1], chunk)]
    ends = [*starts[1:], expected[1]]
    starts, ends = (torch.stack(states, 1).repeat_interleave(chunk, 1)[:, : x.shape[1]] for states in (starts, ends))
    late = alone[0] + torch.einsum("btn,btdn,btdn->btd", C, torch.exp((elapsed - step)[..., None] * A), starts)
    ended = alone[0] + torch.einsum("btn,btdn,btdn->btd", C, torch.exp(elapsed[..., None] * A), ends)
    diagnose(got, expected, [
        ("TWO-01", "each chunk begins with nothing", forgetful, "step 2: a loop over the chunks carries the state"),
        ("TWO-02", "y lacks what stood in the state when its chunk began", (alone[0], expected[1]), "step 3"),
        ("TWO-03", "the decay since the chunk's beginning leaves out the token itself", (late, expected[1]), "exp(A · (dt up to *and with* t)): cumsum includes its own element"),
        ("TWO-18", "the state at a chunk's end is taken for that at its beginning", (ended, expected[1]), "step 2: note the state first, then move it on"),
        ("TWO-06", "the state that was given is not used", recurrence(x, step, A, B, C), "step 2 begins with inputs.state"),
    ], evidence)
    fill = -x.shape[1] % chunk
    repeated = recurrence(*(torch.cat([part, part[:, -1:].expand(-1, fill, -1)], 1) for part in (x, step)), A, *(torch.cat([part, part[:, -1:].expand(-1, fill, -1)], 1) for part in (B, C)), state)
    if fill and same(got[1:], repeated[1:]) and not same(repeated[1:], expected[1:]):
        raise Mistake("TWO-17", "the tokens that fill up the last chunk change the state", f"{evidence}: the last token is read {fill + 1} times", "fill up with zeros: a token of dt = 0 changes nothing")
    if same(got[1:], forgetful[1:]) and not same(forgetful[1:], expected[1:]):
        raise Mistake("TWO-14", "the state that goes out is that of the last chunk alone", evidence, "return the state behind the loop of step 2")


@check(
    "hybridlab.ssm.chunked_scan.chunked_scan",
    visible=[
        {"seed": 0, "sizes": (1, 8, 2, 2), "chunk": 4},
        {"seed": 1, "sizes": (2, 7, 3, 4), "chunk": 3, "begin": True},
        {"seed": 2, "sizes": (1, 28, 2, 3), "chunk": 14, "begin": True, "dt": 1e4},
    ],
    hidden=[
        {"seed": 11, "sizes": (2, 5, 2, 3), "chunk": 32, "begin": True},
        {"seed": 12, "sizes": (3, 1, 2, 2), "chunk": 4, "begin": True},
        {"seed": 13, "sizes": (2, 33, 2, 3), "chunk": 8, "begin": True, "edges": True},
        {"seed": 14, "sizes": (1, 40, 2, 2), "chunk": 8, "begin": True, "dt": 1e4},
        {"seed": 15, "sizes": (2, 12, 3, 2), "chunk": 1, "begin": True},
        {"seed": 16, "sizes": (1, 512, 1, 2), "chunk": 16, "begin": True, "long": True},
    ],
    forbids=("selective_scan", "ssd", "mamba_selective_scan"),
    hints=(
        "Begin with a text that fills its chunks, and leave steps 2 and 3 away: your result must be right in the first chunk, and right everywhere if each chunk began with zeros.",
        "F.pad(part, (0, 0, 0, -time % chunk)).unflatten(1, (-1, chunk)) gives (batch, chunks, chunk, …). unbind(2) gives the places in a chunk, for all chunks at once; unbind(1) gives the chunks, for the loop of step 2.",
        "elapsed = dt.cumsum(2), within the chunk, its own token included. Step 2: now = exp(elapsed of the last place · A) · now + end of the chunk. Step 3: y_t += Σ_n C_t[n] · exp(elapsed_t · A) · begin of its chunk.",
    ),
)
def check_chunked_scan(chunked_scan, seed, sizes, chunk, begin=False, edges=False, dt=0.3, long=False):
    """The loop's values and gradients, for every length and chunk, in a loop over places; steps of any size give numbers."""
    given = selective(seed, *sizes, dt=dt)
    if not begin:
        given = (*given[:5], torch.zeros_like(given[5]))

    def scan(*parts):
        return chunked_scan(*parts, chunk=chunk)

    before = [part.clone() for part in given]
    try:
        got = scan(*given) if begin else scan(*given[:5])
    except (RuntimeError, ValueError, IndexError) as error:
        if dt > 100:
            raise Mistake("TWO-04", "large steps give NaN or infinity", f"dt is about {dt:g}: {str(error)[:120]}", NEVER_DIVIDE) from None
        if sizes[1] % chunk == 0:
            raise
        raise Mistake("TWO-05", "a text that does not fill its last chunk is not read", f"{sizes[1]} tokens in chunks of {chunk}: {type(error).__name__}: {str(error)[:120]}",
                      "fill up with tokens of dt = 0 and cut y to `time`; chunk = min(chunk, time) spares work") from None
    expected = recurrence(*given)
    a_pair(got, given[0].shape, given[5].shape, "TWO-12" if sizes[1] % chunk == 0 else "TWO-05")
    untouched(given, before, "TWO-11")
    if not all(part.isfinite().all() for part in got):
        raise Mistake("TWO-04", "large steps give NaN or infinity", f"dt is about {dt:g}", NEVER_DIVIDE)
    evidence = f"batch, time, d_inner, d_state = {sizes}, chunk {chunk}; y differs by up to {(got[0] - expected[0]).abs().max():.3g}"
    if not long:
        known_of_two_levels(given, chunk, got, expected, evidence)
    close(got[0], expected[0], "TWO-09", "y differs from the loop", "print y chunk by chunk: which chunk is the first to be wrong?", rtol=1e-9, atol=1e-9)
    close(got[1], expected[1], "TWO-14", "the state differs from the loop's", "return the state behind the loop of step 2", rtol=1e-9, atol=1e-9)
    pieces(scan, given, expected, "TWO-14", "TWO-06", cut=chunk if sizes[1] % chunk == 0 else None)
    dtypes(scan, given, "TWO-13")
    gradients(scan, given, recurrence, "TWO-15", "TWO-16", "TWO-11", "places by .unbind(2), chunks by .unbind(1): one node gives all of them", 1400 if long else None, "TWO-10")
    if edges:
        refusals(scan, given, "TWO-07", "TWO-08")
        for bad in (0, -3):
            must_raise(ValueError, lambda bad=bad: chunked_scan(*given, chunk=bad), "TWO-07", f"chunk={bad} must raise ValueError", "a chunk holds at least one token")
        whole = chunked_scan(*given)
        if not same(whole, expected):
            raise Mistake("TWO-09", "without `chunk` the result is another", f"{sizes[1]} tokens", "the chunk changes the speed and nothing else")


# ------------------------------------------------------------------ segment sums


def stretches(steps, *, inclusive=False):
    """S, one sum at a time, with steps below -88 counted as -88."""
    steps = steps.clamp(min=-88.0)
    time = steps.shape[-1]
    S = steps.new_full((*steps.shape, time), -torch.inf)
    for i in range(time):
        for j in range(i + 1):
            S[..., i, j] = steps[..., j if inclusive else j + 1 : i + 1].sum(-1)
    return S


@check(
    "hybridlab.ssm.ssd.segment_sum",
    visible=[{"seed": 0, "shape": (4,)}, {"seed": 1, "shape": (2, 3)}, {"seed": 2, "shape": (2, 9), "reset": True}],
    hidden=[
        {"seed": 11, "shape": (2, 3, 7)},
        {"seed": 12, "shape": (1,)},
        {"seed": 13, "shape": (2, 16), "reset": True},
        {"seed": 14, "shape": (3, 30), "scale": 40.0},
    ],
    forbids=("tril_indices", "triu_indices"),
    hints=(
        "The sum of a stretch is the difference of two running sums. Which two?",
        "total = steps.cumsum(-1); S = total[..., :, None] - total[..., None, :]. Now the part above the diagonal: what must stand there so that exp gives 0, in backward too?",
        "total = steps.clamp(min=FORGOTTEN).cumsum(-1), and S.masked_fill(mask, -torch.inf) with mask = torch.ones(time, time, dtype=torch.bool).triu(1).",
    ),
)
def check_segment_sum(segment_sum, seed, shape, reset=False, scale=1.0):
    """Every stretch's sum, nothing of the future, digits behind a reset, and gradients that are numbers."""
    steps = -torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    if reset:
        steps[..., 5] = -1e6
        steps = steps.float()
    before = steps.clone()
    got = segment_sum(steps)
    expected = stretches(steps.double())
    time = shape[-1]
    if not isinstance(got, torch.Tensor) or tuple(got.shape) != (*shape, time):
        shown = tuple(got.shape) if isinstance(got, torch.Tensor) else type(got).__name__
        raise Mistake("SEGS-07", "the result has the wrong shape", f"got {shown}, expected {(*shape, time)}", "one row and one column a token, on the last two axes; the axes before stay")
    if got.dtype != steps.dtype:
        raise Mistake("SEGS-07", "the result has another dtype", f"{steps.dtype} became {got.dtype}", "keep that of steps")
    if not torch.equal(steps, before):
        raise Mistake("SEGS-10", "the answer changes its input", "steps are other than before", "clamp and cumsum without _ at the end")
    lower = torch.ones(time, time, dtype=torch.bool).tril()
    mine, right = ([round(value, 3) for value in S[..., -1, :].flatten()[:3].tolist()] for S in (got, expected))
    evidence = f"steps of shape {shape}: the last row begins with {mine}, expected {right}"
    if time > 1 and same((got,), (expected.mT,)):
        raise Mistake("SEGS-03", "rows and columns are exchanged", evidence, "row i is where a token looks from, column j what it sees")
    if got.isnan().any():
        raise Mistake("SEGS-06", "there are NaN in it", f"{int(got.isnan().sum())} of {got.numel()}", "0 · inf is NaN: masked_fill, not a product with a mask")
    if time > 1 and same((got[..., lower],), (-expected[..., lower],), 1e-6):
        raise Mistake("SEGS-03", "the running sums are subtracted the wrong way round", evidence, "row i minus column j: total[..., :, None] - total[..., None, :]; sums of steps are at most 0")
    if (got.diagonal(dim1=-2, dim2=-1) == -torch.inf).any():
        raise Mistake("SEGS-08", "the diagonal is masked, too", evidence, "a token sees itself: 0 on the diagonal, the mask is triu(1)")
    if (got[..., ~lower] != -torch.inf).any():
        raise Mistake("SEGS-02", "above the diagonal is something else than -inf", f"row 0 is {got[..., 0, :].flatten()[:4].tolist()}", "exp(0) is 1: a token would see all that is to come")
    inclusive = stretches(steps.double(), inclusive=True)
    if same((got[..., lower],), (inclusive[..., lower],), 1e-6):
        raise Mistake("SEGS-01", "the sum has one step too many", evidence, "S[i, j] begins with step j + 1, so the diagonal is 0: token j itself has not decayed when it enters")
    if reset:
        kept = torch.zeros(time, time, dtype=torch.bool)
        kept[6:, 5:] = True
        kept[:5, :5] = True
        kept &= lower
        if not torch.allclose(got[..., kept].double(), expected[..., kept], rtol=1e-3, atol=1e-3):
            raise Mistake("SEGS-04", "behind a step of -1e6 the sums have no digits left", f"off by up to {(got[..., kept].double() - expected[..., kept]).abs().max():.2g}", "clamp the steps at FORGOTTEN before they are added up")
        across = got[..., 6:, :5]
        if (across > -80).any():
            raise Mistake("SEGS-04", "a step of -1e6 does not forget", f"the sum across it is {across.max():.3g}", "clamp at FORGOTTEN = -88, not higher")
    else:
        close(got.masked_fill(~lower, 0), expected.masked_fill(~lower, 0), "SEGS-09", "the sums differ", "do four steps by hand", rtol=1e-9, atol=1e-9)
    given = (steps.double() * 300).requires_grad_()  # exp of the differences above the diagonal overflows
    (grad,) = differentiable(lambda: torch.autograd.grad(torch.exp(segment_sum(given)).sum(), given), "SEGS-10")
    if not grad.isfinite().all():
        raise Mistake("SEGS-05", "the gradient is NaN", f"{int(grad.isnan().sum())} of {grad.numel()}, with steps down to {given.min():.3g}", "-inf must be in place before exp: what exp made infinite can't be masked away in backward")


# ------------------------------------------------------------------ SSD


WRONG_STEPS = (
    ("SSD-15", "B and C are exchanged in step 1", "exchanged", "rows of the attention read: C Bᵀ"),
    ("SSD-19", "the mask of decays is turned: tokens see what comes after them", "mask", "L[i, j] is what token j leaves at token i: rows look, columns are seen"),
    ("SSD-19", "masked attention is turned: tokens see what comes after them", "both", "(L ∘ C Bᵀ) (dt · x): rows look, columns are seen"),
    ("SSD-20", "what a token leaves has decayed by the token's own step", "leaves", "step 2: the steps *behind* t alone, exp(total of the last - total of t)"),
    ("SSD-21", "the decay since the chunk's beginning leaves out the token itself", "reads", "step 4: the steps up to *and with* t; cumsum includes its own element"),
    ("SSD-22", "the state at a chunk's end is taken for that at its beginning", "end", "step 3: note the state first, then move it on"),
)


def ssd_by_steps(x, step, A, B, C, state, chunk, wrong):
    """The four steps, chunk after chunk, with one of them wrong."""
    B, C = (part.repeat_interleave(x.shape[2] // B.shape[2], 2) for part in (B, C))
    ys = []
    for one, dt, write, read in zip(*(part.split(chunk, 1) for part in (x, step, B, C)), strict=True):
        steps, enters = dt * A, dt[..., None] * one
        total = steps.cumsum(1)
        L = torch.exp(total[:, :, None] - total[:, None]).where(torch.ones(dt.shape[1], dt.shape[1], dtype=torch.bool).tril()[..., None], 0.0)
        scores = torch.einsum("bihn,bjhn->bijh", *((write, read) if wrong == "exchanged" else (read, write)))
        attention = {"mask": L.transpose(1, 2) * scores, "both": (L * scores).transpose(1, 2)}.get(wrong, L * scores)
        y = torch.einsum("bijh,bjhp->bihp", attention, enters)
        leaving = torch.exp(total[:, -1:] - total + (steps if wrong == "leaves" else 0))
        end = torch.exp(total[:, -1])[..., None, None] * state + torch.einsum("bth,bthp,bthn->bhpn", leaving, enters, write)
        entering = torch.exp(total - (steps if wrong == "reads" else 0))
        ys.append(y + torch.einsum("bth,bhpn,bthn->bthp", entering, end if wrong == "end" else state, read))
        state = end
    return torch.cat(ys, 1), state


@check(
    "hybridlab.ssm.ssd.ssd",
    visible=[
        {"seed": 0, "sizes": (1, 8, 1, 2, 1, 3), "chunk": 4},
        {"seed": 1, "sizes": (2, 7, 4, 3, 2, 5), "chunk": 3, "begin": True},
        {"seed": 2, "sizes": (1, 28, 2, 2, 1, 3), "chunk": 2, "begin": True, "reset": True},
    ],
    hidden=[
        {"seed": 11, "sizes": (2, 33, 6, 2, 3, 4), "chunk": 8, "begin": True, "edges": True},
        {"seed": 12, "sizes": (2, 5, 4, 3, 4, 2), "chunk": 64, "begin": True},
        {"seed": 13, "sizes": (3, 1, 2, 3, 1, 2), "chunk": 4, "begin": True},
        {"seed": 14, "sizes": (1, 20, 2, 2, 1, 2), "chunk": 8, "begin": True, "dt": 1e4},
        {"seed": 15, "sizes": (1, 9, 3, 2, 1, 4), "chunk": 1, "begin": True},
        {"seed": 16, "sizes": (1, 512, 1, 2, 1, 2), "chunk": 32, "begin": True, "long": True},
        {"seed": 17, "sizes": (2, 40, 2, 3, 2, 2), "chunk": 16, "begin": True, "reset": True},
    ],
    forbids=("selective_scan", "chunked_scan", "mamba_chunk_scan_combined", "cumprod"),
    hints=(
        "Write step 1 first, for one head and one chunk: two matmuls with a mask between them. It must equal the loop if the text fits into one chunk and begins with zeros.",
        "Cut everything to (batch, chunks, heads or groups, chunk, …). For the groups: unflatten the heads to (groups, heads / groups), and give B and C an axis of 1 there. total = the running sum of the steps in a chunk.",
        "Decays: within L = exp(segment_sum(steps)); leaving exp(total[last] - total); entering from the state exp(total); over the chunk exp(total[last]). leaves = (entering · leaving decay)ᵀ B; read = exp(total) · (C beginᵀ).",
    ),
)
def check_ssd(ssd, seed, sizes, chunk, begin=False, edges=False, dt=0.3, long=False, reset=False):
    """The loop's values and gradients with matmuls, for groups, lengths and chunks of any size; resets keep their digits."""
    given = in_heads(seed, *sizes, dt=dt)
    if not begin:
        given = (*given[:5], torch.zeros_like(given[5]))

    def scan(*parts):
        return ssd(*parts, chunk=chunk)

    before = [part.clone() for part in given]
    try:
        got = scan(*given) if begin else scan(*given[:5])
    except (RuntimeError, ValueError, IndexError) as error:
        if sizes[1] % chunk == 0:
            raise
        raise Mistake("SSD-05", "a text that does not fill its last chunk is not read", f"{sizes[1]} tokens in chunks of {chunk}: {type(error).__name__}: {str(error)[:120]}",
                      "fill up with tokens of dt = 0 and cut y to `time`") from None
    expected = heads_recurrence(*given)
    a_pair(got, given[0].shape, given[5].shape, "SSD-12" if sizes[1] % chunk == 0 else "SSD-05")
    untouched(given, before, "SSD-11")
    if not all(part.isfinite().all() for part in got):
        raise Mistake("SSD-04", "large steps give NaN or infinity", f"dt is about {dt:g}", "only sums of steps, at most 0, may go into exp: no exp(-total)")
    x, step, A, B, C, state = given
    evidence = f"batch, time, heads, d_head, groups, d_state = {sizes}, chunk {chunk}; y differs by up to {(got[0] - expected[0]).abs().max():.3g}"
    alone = heads_recurrence(x, step, A, B, C, None, forget=chunk)[0]
    diagnose(got, expected, [
        ("SSD-01", "heads take B and C of the wrong group", heads_recurrence(*given, interleaved=True), "head i uses group i // (heads / groups): unflatten(heads, (groups, -1)) puts neighbours together"),
        ("SSD-02", "each chunk begins with nothing", heads_recurrence(*given, forget=chunk), "step 3: a loop over the chunks carries the state"),
        ("SSD-02", "y lacks what stood in the state when its chunk began", (alone, expected[1]), "step 4"),
        ("SSD-03", "what enters is not multiplied with dt", heads_recurrence(*given, step=False), "(L ∘ C Bᵀ) (dt · x), and the same in the state"),
        ("SSD-06", "the state that was given is not used", heads_recurrence(x, step, A, B, C), "step 3 begins with inputs.state"),
        ("SSD-15", "B and C are exchanged", heads_recurrence(*given, swapped=True), "rows of the attention read: C Bᵀ"),
        *((code, what, lambda wrong=wrong: ssd_by_steps(*given, chunk, wrong), hint) for code, what, wrong, hint in WRONG_STEPS),
    ], evidence)
    if dt < 100:
        close(got[0], expected[0], "SSD-09", "y differs from the loop", "print y chunk by chunk: is the first chunk right? Then step 1 is, and 2 to 4 are left", rtol=1e-9, atol=1e-9)
        close(got[1], expected[1], "SSD-14", "the state differs from the loop's", "steps 2 and 3: how much of token t is left at the chunk's end?", rtol=1e-9, atol=1e-9)
        pieces(scan, given, expected, "SSD-14", "SSD-06", cut=chunk if sizes[1] % chunk == 0 else None)
        gradients(scan, given, heads_recurrence, "SSD-18", "SSD-16", "SSD-11", "the chunks by .unbind(1), for the loop of step 3: one node gives all of them", 4000 if long else None, "SSD-10")
    if long:
        mine = [part.clone().requires_grad_() for part in given]
        held, allowed = max(kept_bytes(lambda: scan(*mine))) // 8, 8 * sizes[1] * chunk
        if held > allowed:
            raise Mistake("SSD-23", "the cost grows with the square of the length", f"{sizes[1]} tokens in chunks of {chunk}: a tensor of {held:,} numbers is kept; chunks need {allowed:,} at most", "step 1 is within a chunk of `chunk` tokens: cut the time axis first")
    dtypes(scan, given, "SSD-13")
    steep = [part.clone().requires_grad_() for part in (x, step * 1e5, A, B, C, state)]
    try:
        y, _ = scan(*steep)
    except ValueError as error:
        raise Mistake("SSD-04", "large steps give NaN or infinity", f"steps down to {(steep[1] * A).min():.3g}: {str(error)[:100]}", "only sums of steps, at most 0, may go into exp: no exp(-total)") from None
    grads = torch.autograd.grad(y.sum(), steep)
    if not all(grad.isfinite().all() for grad in grads):
        raise Mistake("SSD-16", "with large steps the gradient is NaN", f"steps down to {(steep[1] * A).min():.3g}", "the mask must be in place before exp: segment_sum does it")
    if reset:
        narrow = [part.float() for part in given]
        narrow[1][:, 20] = 1e6
        exact = heads_recurrence(*(part.double() for part in narrow))
        y, end = scan(*narrow)
        size = exact[0].abs().max().item()
        close(y / size, exact[0] / size, "SSD-17", "behind a step that forgets all, digits are lost", "every running sum is one of steps.clamp(min=FORGOTTEN)", rtol=2e-5, atol=2e-5)
        size = exact[1].abs().max().item()
        close(end / size, exact[1] / size, "SSD-17", "behind a step that forgets all, digits are lost", "every running sum is one of steps.clamp(min=FORGOTTEN)", rtol=2e-5, atol=2e-5)
    if edges:
        refusals(scan, given, "SSD-07", "SSD-08")
        for bad in (0, -3):
            must_raise(ValueError, lambda bad=bad: ssd(*given, chunk=bad), "SSD-07", f"chunk={bad} must raise ValueError", "a chunk holds at least one token")
        if not same(ssd(*given), expected):
            raise Mistake("SSD-09", "without `chunk` the result is another", f"{sizes[1]} tokens", "the chunk changes the speed and nothing else")


# ------------------------------------------------------------------ the mixer


def mixer_by_hand(mixer, u, state=None, *, conv_past=True, skip="x", gate_first=False, activation=True):
    """The mixer in single steps; the keyword arguments make the known mistakes."""
    config = mixer.config
    past, memory = (None, None) if state is None else state
    projected = u @ mixer.in_proj.weight.T
    raw, gate = projected[..., : config.d_inner], projected[..., config.d_inner :]
    if gate_first:
        raw, gate = gate, raw
    x = by_taps(raw, mixer.conv1d.weight[:, 0], mixer.conv1d.bias, past if conv_past else None)
    x = x * torch.sigmoid(x) if activation else x
    low, B, C = (x @ mixer.x_proj.weight.T).split([config.dt_rank, config.d_state, config.d_state], -1)
    z = low @ mixer.dt_proj.weight.T + mixer.dt_proj.bias
    dt = torch.log1p(torch.exp(z)) if config.step == "softplus" else z.clamp(min=0)
    y, memory = recurrence(x, dt, -torch.exp(mixer.A_log), B, C, memory)
    y = y + {"x": mixer.D * x, "raw": mixer.D * raw, "none": 0}[skip]
    width = config.d_conv - 1
    seen = torch.cat([torch.zeros(u.shape[0], width, config.d_inner, dtype=u.dtype) if past is None else past, raw], 1)
    return (y * gate * torch.sigmoid(gate)) @ mixer.out_proj.weight.T, MixerState(seen[:, seen.shape[1] - width :], memory)


@check(
    "hybridlab.ssm.mamba_block.MambaMixer",
    visible=[
        {"seed": 0, "time": 6},
        {"seed": 1, "time": 9, "cuts": [4, 1, 4], "half": True},
    ],
    hidden=[
        {"seed": 11, "time": 12, "cuts": [1, 1, 2, 3, 5], "step": "relu"},
        {"seed": 12, "time": 8, "cuts": [7, 1], "d_conv": 2, "dt_rank": 3, "d_state": 5, "expand": 3},
        {"seed": 13, "time": 5, "cuts": [1, 1, 1, 1, 1], "batch": 1, "half": True},
    ],
    forbids=("selective_scan", "chunked_scan"),
    hints=(
        "Read a text whole, and then in two pieces, and print where the two results differ. How many tokens behind the cut are wrong, and which part of the mixer looks back just so far?",
        "The convolution's past are its *inputs*. Which `x` goes into the state in this code, and what has happened to that name in the meantime?",
        "causal_conv returns (y, new past). Keep the second one, untouched, and put it into the MixerState.",
    ),
)
def check_mixer(MambaMixer, seed, time, cuts=(), batch=2, half=False, **changes):
    """Equal to the mixer step by step, also when a text is cut anywhere and the state is carried; steps are float32 in a bfloat16 model."""
    torch.manual_seed(seed)
    config = MambaConfig(7, **{"d_model": 6, "version": 1, "d_state": 3, **changes})
    mixer = MambaMixer(config)
    for parameter in mixer.parameters():
        if parameter.ndim < 2 or parameter is mixer.A_log:
            parameter.data += 0.3 * torch.randn_like(parameter)
    mixer = mixer.double()
    u = 2 * torch.randn(batch, time, config.d_model, dtype=torch.float64)
    result = mixer(u)
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], MixerState):
        raise Mistake("MIXER-12", "the result and a MixerState are expected", f"got a {type(result).__name__}", "return self.out_proj(…), MixerState(past, memory)")
    got, state = result
    expected, end = mixer_by_hand(mixer, u)
    for code, what, options, hint in (
        ("MIXER-04", "D's share is missing", {"skip": "none"}, "y + D · x, with the x that went into the scan"),
        ("MIXER-05", "D multiplies what the convolution has not seen", {"skip": "raw"}, "D times what step 2 gave"),
        ("MIXER-02", "gate and x are exchanged", {"gate_first": True}, "the first half of in_proj is x, the second the gate"),
        ("MIXER-06", "there is no SiLU behind the convolution", {"activation": False}, "x = F.silu(x)"),
    ):
        if same((got,), (mixer_by_hand(mixer, u, **options)[0],), 1e-7):
            raise Mistake(code, what, f"{time} tokens, read whole", hint)
    close(got, expected, "MIXER-09", "the result differs from the contract's steps", "compare step by step with the contract", rtol=1e-7, atol=1e-9)
    if not same((state.memory,), (end.memory,), 1e-7):
        raise Mistake("MIXER-07", "the memory is not the scan's state behind the last token", f"shape {tuple(state.memory.shape)}", "run_selective_scan returns it")
    seam(mixer, u, cuts, expected, state, end)
    if half:
        halves(mixer, u)
    mixer(u)[0].square().sum().backward()
    still = [name for name, p in mixer.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    if still:
        raise Mistake("MIXER-10", "some weights learn nothing", ", ".join(still), "is a part detached, or left out?")


def seam(mixer, u, cuts, expected, state, end):
    """Read in pieces: what is wrong behind the cut says what was not carried."""
    width = mixer.config.d_conv - 1
    if state.past.shape == end.past.shape and not same((state.past,), (end.past,), 1e-7):
        raise Mistake("MIXER-01", "the past that is handed on is not the convolution's inputs", f"the last {width} tokens of another tensor are in the state; the result of this piece is right, the next one's will not be",
                      "what causal_conv gives back is the past: what stood there *before* convolution and SiLU")
    close(state.past, end.past, "MIXER-01", "the past that is handed on is not the convolution's inputs", "what causal_conv gives back is the past", rtol=1e-7, atol=1e-9)
    now, before = None, 0
    for piece in u.split(list(cuts), 1) if cuts else ():
        y, after = mixer(piece, now)
        if after.past.shape != end.past.shape:
            raise Mistake("MIXER-01", "the past that is handed on is not the convolution's last inputs", f"behind a piece of {piece.shape[1]} tokens it has shape {tuple(after.past.shape)}, expected {tuple(end.past.shape)}",
                          "what causal_conv gives back is the past, also behind a piece shorter than the convolution")
        right = expected[:, before : before + piece.shape[1]]
        if not same((y,), (right,), 1e-7):
            wrong = [before + t for t in range(y.shape[1]) if not same((y[:, t],), (right[:, t],), 1e-7)]
            evidence = f"cut before token {before}: tokens {wrong} are wrong"
            if now and same((y,), (mixer_by_hand(mixer, piece, now, conv_past=False)[0],), 1e-7):
                raise Mistake("MIXER-03", "the convolution begins anew with every piece", evidence, "hand state.past to causal_conv")
            if now and same((y,), (mixer_by_hand(mixer, piece, MixerState(now.past, None))[0],), 1e-7):
                raise Mistake("MIXER-08", "the scan begins anew with every piece", evidence, "hand state.memory to run_selective_scan")
            raise Mistake("MIXER-14", "a text in pieces gives something else than the whole", evidence, "state.past goes to causal_conv, state.memory to the scan")
        now, before = after, before + piece.shape[1]


def halves(mixer, u):
    """In a bfloat16 model, dt is computed in float32: from the R numbers on, not only at the end."""
    wide = mixer.to(torch.bfloat16)
    seen = {}
    import hybridlab.ssm.fused as fused

    class Spy(Exception):
        pass

    def scan(x, dt, A, *rest):
        seen.update(dt=dt, A=A)
        raise Spy

    def step(z, kind):
        seen["dt's projection"] = z
        return step_size(z, kind)

    code = type(mixer).forward.__globals__
    original = {"run_selective_scan": code.get("run_selective_scan", fused.run_selective_scan), "step_size": code.get("step_size", step_size)}
    code.update(run_selective_scan=scan, step_size=step)
    try:
        wide(u.bfloat16())
    except Spy:
        pass
    finally:
        code.update(original)
    mixer.double()
    if "dt" not in seen:
        raise Mistake("MIXER-13", "run_selective_scan is not called", "step 5 of the contract", "it chooses the fastest scan that is there")
    for name, values in seen.items():
        if values.dtype == torch.float32 and (name == "A" or not torch.equal(values, values.bfloat16().float())):
            continue
        how = values.dtype if values.dtype != torch.float32 else "float32 with bfloat16's digits: it was widened too late"
        raise Mistake("MIXER-11", f"in a bfloat16 model {name} is not computed in float32", f"it is {how}", "widen the R numbers, dt_proj's weight and bias, and A_log before they are used: with three digits, steps and decays lose a long text")
