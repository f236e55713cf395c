"""How week 11's answers are judged: definitions without a state in float64, PyTorch's own attention, texts cut in pieces, and what must be refused."""

import torch
import torch.nn.functional as F
from coursekit.checks import Mistake, check, close, must_raise
from coursekit.graph import nodes_of, quadratic_slices
from hybridlab.ssm.linear_attention import LinearState

# ------------------------------------------------------------------ for all of them


def draw(seed, *shapes):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]


def same(a, b, tolerance=1e-9):
    return len(a) == len(b) and all(p.shape == q.shape and torch.allclose(p.double(), q.double(), rtol=tolerance, atol=tolerance) for p, q in zip(a, b, strict=True))


def untouched(names, given, before, code):
    for name, mine, was in zip(names, given, before, strict=False):  # a state may not be there
        if not torch.equal(mine, was):
            raise Mistake(code, f"the answer changes its input {name}", "the caller's tensor holds other values than before", "no `+=` on it, no methods that end in _, no assignment into a slice")


def a_pair(got, y_shape, code, hint):
    if not isinstance(got, tuple) or len(got) != 2 or not isinstance(got[0], torch.Tensor):
        raise Mistake(code, "two things are expected: the result and what is handed on", f"got a {type(got).__name__}", hint)
    if tuple(got[0].shape) != tuple(y_shape):
        raise Mistake(code, "the result has the wrong shape", f"got {tuple(got[0].shape)}, expected {tuple(y_shape)}", hint)


def diagnose(got, expected, suspects, evidence):
    """Raise the first known mistake that explains `got`, unless `got` is right. (y, then the state; a suspect of y alone is a list of one.)"""
    if same(got, expected):
        return
    for code, what, values, hint in suspects:
        parts = len(values)
        if same(got[:parts], values) and not same(expected[:parts], values):
            raise Mistake(code, what, evidence, hint)


def gradients(names, mine, expected, given, code_slices, code_gradient, code_in_place):
    """Backward gives the definition's gradients, and its graph has no slice for each token. `mine` and `expected` map inputs to y."""
    inputs = [part.clone().requires_grad_() for part in given]
    in_place = (code_in_place, "the answer works in place, on what is the caller's or what backward still needs", "PyTorch says", "no `+=` on it, no methods that end in _, no assignment into a slice")
    try:
        y = mine(*inputs)
    except RuntimeError as error:
        if "inplace" in str(error) or "in-place" in str(error):
            raise Mistake(*in_place[:2], f"{in_place[2]}: {str(error)[:120]}", in_place[3]) from None
        raise
    if slices := quadratic_slices(nodes_of(y)):
        raise Mistake(code_slices, "backward will be quadratic in the length", f"slices on the graph: {'; '.join(slices)}. Each makes a gradient as large as the whole tensor that it is cut from",
                      "for k_t, … in zip(k.unbind(…), …): one node gives all tokens")
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    try:
        got = torch.autograd.grad((y * weights).sum(), inputs, allow_unused=True)
    except RuntimeError as error:
        raise Mistake(*in_place[:2], f"{in_place[2]}: {str(error)[:120]}", in_place[3]) from None
    theirs = [part.clone().requires_grad_() for part in given]
    right = torch.autograd.grad((expected(*theirs) * weights).sum(), theirs, allow_unused=True)
    for name, part, a, b in zip(names, given, got, right, strict=False):
        a, b = (torch.zeros_like(part) if grad is None else grad for grad in (a, b))
        close(a, b, code_gradient, f"the gradient of {name} differs", "is something detached, or computed under no_grad?", rtol=1e-6, atol=1e-6)


def halves(run, given, code, hint):
    """Half precision in, half precision out; what is carried stays in float32, and is as exact as that. `run` gives (y, (state tensors))."""
    half = [part.bfloat16() for part in given]
    y, state = run(*half)
    if y.dtype != torch.bfloat16:
        raise Mistake(code, "y does not have its input's dtype", f"bfloat16 went in, {y.dtype} came out", "round y, at the very end")
    wide_y, wide = run(*(part.float() for part in half))
    for part, right in zip(state, wide, strict=True):
        if part.dtype != torch.float32:
            raise Mistake(code, "the state is not float32", f"it is {part.dtype}", hint)
        if not same((part,), (right,), 1e-4):
            raise Mistake(code, "the state was computed in half precision", f"it differs by up to {(part - right).abs().max():.2g} from that of the same numbers in float32", hint)
    if wide_y.dtype != torch.float32:
        raise Mistake(code, "float32 in, another dtype out", f"y is {wide_y.dtype}", "round y to the input's dtype")
    close(y.float() / wide_y.abs().max(), wide_y / wide_y.abs().max(), code, "y was computed in half precision", hint, rtol=0, atol=0.006)


# ------------------------------------------------------------------ token shift


@check(
    "hybridlab.ssm.token_shift.token_shift",
    visible=[{"seed": 0, "shape": (1, 4, 2)}, {"seed": 1, "shape": (2, 3, 5), "begin": True}],
    hidden=[
        {"seed": 11, "shape": (3, 1, 2), "begin": True},
        {"seed": 12, "shape": (2, 9, 4), "begin": True, "edges": True},
        {"seed": 13, "shape": (1, 1, 3)},
    ],
    forbids=("pad", "ZeroPad2d"),
    hints=(
        "The result has as many rows as x. Which row of x is not in it, and what stands in row 0?",
        "torch.cat along axis 1: `last` as one row, then all of x but its last token. x[:, -1] goes to the next call.",
        "torch.cat([last.to(x.dtype)[:, None], x[:, :-1]], 1), and x[:, -1].clone(): a slice alone would keep all of x in memory.",
    ),
)
def check_token_shift(token_shift, seed, shape, begin=False, edges=False):
    """Each token is given the one before it, across cuts too, and what is handed on is one token and not a whole text."""
    x, last = draw(seed, shape, (shape[0], shape[2]))
    given, before = (x, last), (x.clone(), last.clone())
    got = token_shift(x, last) if begin else token_shift(x)
    a_pair(got, shape, "SHIFT-12", "return the shifted x, and the last token of x")
    untouched(("x", "last"), given, before, "SHIFT-08")
    begins = last if begin else torch.zeros_like(last)
    expected = F.pad(x, (0, 0, 1, -1))  # transformers' Rwkv: nn.ZeroPad2d((0, 0, 1, -1))
    expected[:, 0] = begins
    evidence = f"x of shape {shape}{', with a last token' if begin else ''}; row 0 of the result begins with {got[0][0, 0, 0]:.3g}, row 0 of x with {x[0, 0, 0]:.3g}"
    following, alone = F.pad(x, (0, 0, -1, 1)), F.pad(x, (0, 0, 1, -1))
    around = torch.cat([x[:, -1:], x[:, :-1]], 1)
    for code, what, values, hint in (
        ("SHIFT-02", "the end of the text comes in again at its beginning", around, "roll turns in a circle; in front of the first token stands `last`"),
        ("SHIFT-01", "each token is given the one behind it", following, "row t is x[:, t - 1]: a model that sees the next token has nothing to learn"),
        ("SHIFT-03", "the token before x is not used", alone, "row 0 is `last`"),
        ("SHIFT-04", "nothing is shifted", x, "row t is x[:, t - 1]"),
    ):
        if same((got[0],), (values,)) and not same((values,), (expected,)):
            raise Mistake(code, what, evidence, hint)
    close(got[0], expected, "SHIFT-09", "the shifted x differs from torch's padding", "do three tokens by hand", rtol=0, atol=0)
    if isinstance(got[1], torch.Tensor) and same((got[1],), (expected[:, -1],)) and not same((expected[:, -1],), (x[:, -1],)):
        raise Mistake("SHIFT-05", "the token that is handed on is one too old", "it is the last row of the result", "the next call needs the last token of x itself")
    close(got[1], x[:, -1], "SHIFT-05", "the token that is handed on is not the last of x", "x[:, -1]", rtol=0, atol=0)
    if got[1].untyped_storage().nbytes() > got[1].nbytes:
        raise Mistake("SHIFT-06", "what is handed on keeps the whole text in memory", f"{got[1].nbytes} bytes are looked at, {got[1].untyped_storage().nbytes()} are held", "a slice is a view: .clone() it")
    half = token_shift(x.bfloat16(), last.float())
    if half[0].dtype != torch.bfloat16 or half[1].dtype != torch.bfloat16:
        raise Mistake("SHIFT-13", "the result does not have x's dtype", f"x is bfloat16, the result {half[0].dtype} and {half[1].dtype}", "last.to(x.dtype)")
    if edges:
        for what, bad in {"no tokens": (x[:, :0], last), "a last token of another width": (x, last[:, 1:]), "a last token of another batch": (x, last[:1]), "a last token with an axis of time": (x, last[:, None])}.items():
            must_raise(ValueError, lambda bad=bad: token_shift(*bad), "SHIFT-07", f"{what} must raise ValueError", "require_tokens and require_shapes are given")
        leaf = x.clone().requires_grad_()
        y = token_shift(leaf, last)[0]
        grad = torch.autograd.grad(y.sum(), leaf, allow_unused=True)[0] if y.requires_grad else None
        if grad is None or not torch.equal(grad, F.pad(torch.ones_like(x)[:, :-1], (0, 0, 0, 1))):
            raise Mistake("SHIFT-14", "no gradient flows to x", "it is shifted back in backward", "no .data, no .detach() on the whole of x")


# ------------------------------------------------------------------ linear attention

LINEAR_NAMES = ("q", "k", "v", "memory", "weight")


def phi(x, times=1):
    """torch's own elu, plus one."""
    for _ in range(times):
        x = F.elu(x) + 1
    return x


def by_definition(q, k, v, begin=None, *, maps=1, maps_k=None, divided=True, asked=True, early=False, ahead=0, forget=0, count_begin=True, own_twice=0):
    """Linear attention with all T² weights at once, without a state; the keyword arguments make the known mistakes. Gives (y, memory, weight)."""
    q, k = phi(q, maps), phi(k, maps if maps_k is None else maps_k)
    time = q.shape[2]
    places = torch.arange(time)
    sees = places[:, None] > places if early else places[:, None] >= places
    if ahead:
        sees = places[:, None] // ahead >= places // ahead
    if forget:
        sees = sees & (places[:, None] // forget == places // forget)
    weights = (q @ k.mT) * sees
    if own_twice:  # all of the own chunk on top of what is seen of it
        weights = weights + (q @ k.mT) * (places[:, None] // own_twice == places // own_twice)
    memory, weight = torch.zeros_like(k.mT @ v) if begin is None else begin.memory, torch.zeros_like(k.sum(2)) if begin is None else begin.weight
    total = weights @ v + q @ memory
    ask = q if asked else torch.ones_like(q)
    count = ((ask @ k.mT) * sees).sum(-1) if not asked else weights.sum(-1)
    count = count + (ask @ (weight if count_begin else weight * 0)[..., None]).squeeze(-1)
    return total / count[..., None] if divided else total, memory + k.mT @ v, weight + k.sum(2)


def flat(got):
    """(y, memory, weight) out of (y, LinearState)."""
    return got[0], got[1].memory, got[1].weight


TURNED = ("the memory is turned", "it is (…, d_value, d_key), and should be (…, d_key, d_value)", "φ(k) vᵀ: rows are keys, columns are values")


def attend(linear, seed, sizes, begin, code, code_shape):
    """The inputs, the answer and what is expected; shapes and types are right behind this."""
    batch, heads, time, d_key, d_value = sizes
    q, k, v, memory, weight = draw(seed, *((batch, heads, time, d_key),) * 2, (batch, heads, time, d_value), (batch, heads, d_key, d_value), (batch, heads, d_key))
    state = LinearState(memory, weight.abs()) if begin else None
    given = [q, k, v] + ([*state] if begin else [])
    before = [part.clone() for part in given]
    got = linear(q, k, v, state) if begin else linear(q, k, v)
    a_pair(got, v.shape, code_shape, "return y, LinearState(memory, weight)")
    if isinstance(got[1], LinearState) and d_key != d_value and got[1].memory.shape == memory.mT.shape:
        raise Mistake(f"{code}-12", *TURNED)
    if not isinstance(got[1], LinearState) or got[1].memory.shape != memory.shape or got[1].weight.shape != weight.shape:
        raise Mistake(f"{code}-12", "the state is not a LinearState of memory and weight", f"got a {type(got[1]).__name__}; memory should be {tuple(memory.shape)}, weight {tuple(weight.shape)}", "LinearState(memory, weight)")
    untouched(LINEAR_NAMES, given, before, f"{code}-11")
    return (q, k, v, state), flat(got)


def carried(linear, given, whole, code, ignored, half, cut=None):
    """A text cut in two, with the state handed on."""
    q, k, v, state = given
    cut = cut or max(1, q.shape[2] // 3)
    if q.shape[2] > cut:
        first, middle = linear(q[:, :, :cut], k[:, :, :cut], v[:, :, :cut], state)
        second, end = linear(q[:, :, cut:], k[:, :, cut:], v[:, :, cut:], middle)
        if not same((torch.cat([first, second], 2), *end), whole):
            evidence = f"cut behind token {cut}: the second piece is read as if nothing had been before it"
            if same((second,), (by_definition(q[:, :, cut:], k[:, :, cut:], v[:, :, cut:])[0],)):
                raise Mistake(ignored, "the state that was given is not used", evidence, "begin with inputs.state")
            if same((second,), (by_definition(q[:, :, cut:], k[:, :, cut:], v[:, :, cut:], middle, count_begin=False)[0],)):
                raise Mistake(half, "the memory goes on, the weight begins anew", evidence, "both parts of the state are carried")
            raise Mistake(code, "a text in two pieces gives something else than the whole", f"cut behind token {cut}, the state handed on", "the state that goes out is memory and weight behind the last token")


def linear_refusals(linear, given, code_bad, code_zero):
    q, k, v, state = given
    for what, bad in {
        "no tokens": (q[:, :, :0], k[:, :, :0], v[:, :, :0], state),
        "keys of another width": (q, k[..., 1:], v, None),
        "values of another length": (q, k, v[:, :, 1:], state),
        "a memory of another shape": (q, k, v, LinearState(state.memory[..., 1:], state.weight)),
    }.items():
        must_raise(ValueError, lambda bad=bad: linear(*bad), code_bad, f"{what} must raise ValueError", "the first line calls linear_inputs(q, k, v, state), which raises")
    must_raise(ValueError, lambda: linear(q * 0 - 1e4, k, v), code_zero, "queries whose weights are all 0 must raise ValueError", "divide(total, weight, inputs) does the division, and refuses")


NO_WEIGHT = "no key of a weight above 0"  # what divide says of a weight of 0
FIRST_LINE = "inputs = linear_inputs(q, k, v, state): q, k, v and state in it are wide already"


@check(
    "hybridlab.ssm.linear_attention.linear_attention",
    visible=[{"seed": 0, "sizes": (1, 1, 3, 2, 2)}, {"seed": 1, "sizes": (2, 2, 14, 3, 4), "begin": True}],
    hidden=[
        {"seed": 11, "sizes": (1, 2, 1, 4, 2), "begin": True},
        {"seed": 12, "sizes": (2, 3, 20, 3, 3), "begin": True, "edges": True},
        {"seed": 13, "sizes": (1, 1, 30, 1, 5)},
    ],
    forbids=("chunked_linear_attention", "quadratic_linear_attention", "cumsum"),
    hints=(
        "Write down one token: what is added to memory, what to weight, and what is read with φ(q)? Which shape has each?",
        "inputs = linear_inputs(…) has φ(q), φ(k) and v already. k_t[..., None] * v_t[..., None, :] is (batch, heads, d_key, d_value), like the memory. Write first, then read.",
        "total_t = (q_t[..., None, :] @ memory).squeeze(-2); weight_t = (q_t * weight).sum(-1). Stack both lists along axis 2, and divide(total, weight, inputs) at the end.",
    ),
)
def check_linear_attention(linear_attention, seed, sizes, begin=False, edges=False):
    """Attention's weighted mean, out of a state that does not grow: equal to all T² weights at once, with their gradients."""
    try:
        given, got = attend(linear_attention, seed, sizes, begin, "LINA", "LINA-12")
    except ValueError as error:
        if begin or NO_WEIGHT not in str(error):
            raise
        raise Mistake("LINA-03", "token 0 is read from an empty state", f"its weight is 0 when y is taken: {str(error)[:60]}", "memory and weight take the token in before it reads them: it sees itself") from None
    q, k, v, state = given
    expected = by_definition(q, k, v, state)
    none = by_definition(q, k, v)
    evidence = f"batch, heads, time, d_key, d_value = {sizes}; y differs by up to {(got[0] - expected[0]).abs().max():.3g}"
    if begin or sizes[2] > 1:
        if got[0].isnan().any():
            raise Mistake("LINA-03", "token 0 is read from an empty state", evidence, "memory and weight take the token in before it reads them: it sees itself")
        diagnose(got, expected, [
            ("LINA-02", "the result is not divided by the weights", by_definition(q, k, v, state, divided=False)[:1], "a mean: divide(total, weight, inputs)"),
            ("LINA-01", "φ is applied twice", by_definition(q, k, v, state, maps=2)[:1], "linear_inputs has applied it"),
            ("LINA-01", "φ is applied twice to k", by_definition(q, k, v, state, maps_k=2)[:1], "linear_inputs has applied it"),
            ("LINA-01", "φ is applied twice to q", by_definition(q, k, v, state, maps=2, maps_k=1)[:1], "linear_inputs has applied it"),
            ("LINA-15", "the weight is summed up, not asked with φ(q)", by_definition(q, k, v, state, asked=False)[:1], "φ(q) · weight: (q_t * weight).sum(-1)"),
            ("LINA-01", "φ is not applied", by_definition(q, k, v, state, maps=0)[:1], "take q and k from what linear_inputs gives"),
            ("LINA-03", "the token is read before it has entered the state", by_definition(q, k, v, state, early=True)[:1], "memory and weight first, then y"),
            ("LINA-04", "the state that was given is not used", none, "begin with inputs.state"),
            ("LINA-05", "the memory goes on, the weight begins anew", by_definition(q, k, v, state, count_begin=False)[:1], "both parts of the state are carried"),
        ], evidence)
    if same((got[1].mT,), (expected[1],)) and not same((got[1],), (expected[1],)):
        raise Mistake("LINA-12", *TURNED)
    close(got[0], expected[0], "LINA-09", "y differs from the mean with all T² weights", "do the worked example with your function", rtol=1e-9, atol=1e-9)
    for name, mine, right in zip(("memory", "weight"), got[1:], expected[1:], strict=True):
        close(mine, right, "LINA-06", f"{name} is not that behind the last token", "return the last memory and weight, as sums: not divided", rtol=1e-9, atol=1e-9)
    carried(linear_attention, given, expected, "LINA-06", "LINA-04", "LINA-05")
    pieces = (q, k, v) if state is None else (q, k, v, *state)

    def mine(q, k, v, *begin):
        return linear_attention(q, k, v, LinearState(*begin) if begin else None)[0]

    gradients(LINEAR_NAMES, mine, lambda q, k, v, *begin: by_definition(q, k, v, LinearState(*begin) if begin else None)[0], pieces, "LINA-10", "LINA-14", "LINA-11")
    halves(lambda *parts: linear_attention(*parts[:3], LinearState(*parts[3:]) if begin else None), pieces, "LINA-13", FIRST_LINE)
    if edges:
        linear_refusals(linear_attention, given, "LINA-07", "LINA-08")


# ------------------------------------------------------------------ in chunks


@check(
    "hybridlab.ssm.linear_attention.chunked_linear_attention",
    visible=[
        {"seed": 0, "sizes": (1, 1, 8, 2, 3), "chunk": 4},
        {"seed": 1, "sizes": (2, 2, 7, 3, 4), "chunk": 3, "begin": True},
        {"seed": 2, "sizes": (1, 1, 256, 2, 3), "chunk": 16, "long": True},
    ],
    hidden=[
        {"seed": 11, "sizes": (2, 1, 5, 3, 2), "chunk": 32, "begin": True},
        {"seed": 12, "sizes": (2, 3, 33, 3, 3), "chunk": 8, "begin": True, "edges": True},
        {"seed": 13, "sizes": (1, 2, 1, 2, 5), "chunk": 4, "begin": True},
        {"seed": 14, "sizes": (1, 2, 9, 4, 2), "chunk": 1},
        {"seed": 15, "sizes": (1, 1, 512, 2, 2), "chunk": 32, "begin": True, "long": True},
    ],
    forbids=("quadratic_linear_attention",),
    hints=(
        "Begin with a text of one chunk and no state: then it is masked attention with φ(q) · φ(k) as weights. What must a second chunk know of the first?",
        "F.pad(part, (0, 0, 0, -time % chunk)).unflatten(2, (-1, chunk)), for the parts of linear_inputs: padded behind φ they weigh nothing. What a chunk leaves is φ(k)ᵀ v, and Σ φ(k).",
        "torch.cat([state.memory[:, :, None], leaves], 2).cumsum(2) holds the memory before each chunk, and in its last place the one behind the text. Add totals, add weights, and divide once.",
    ),
)
def check_chunked(chunked_linear_attention, seed, sizes, chunk, begin=False, edges=False, long=False):
    """The recurrence's values, state and gradients in matmuls, for every length and chunk, from any state."""

    def run(q, k, v, state=None):
        return chunked_linear_attention(q, k, v, state, chunk=chunk)

    time = sizes[2]
    try:
        given, got = attend(run, seed, sizes, begin, "LINC", "LINC-05" if time % chunk else "LINC-12")
    except (RuntimeError, IndexError) as error:
        if time % chunk == 0:
            raise
        raise Mistake("LINC-05", "a text that does not fill its last chunk is not read", f"{time} tokens in chunks of {chunk}: {type(error).__name__}: {str(error)[:120]}",
                      "fill φ(q), φ(k) and v up with zeros, and cut the sums to `time`") from None
    except ValueError as error:
        if NO_WEIGHT not in str(error):
            raise
        if time % chunk == 0 and not begin:
            raise Mistake("LINC-18", "a token does not see itself", f"token 0 has a weight of 0: {str(error)[:60]}", "within a chunk: .tril(), the diagonal included") from None
        raise Mistake("LINC-19", "what only fills up is divided, too", f"{time} tokens in chunks of {chunk}: {str(error)[:60]}", "cut totals and weights to `time` before `divide`: what fills up weighs 0") from None
    q, k, v, state = given
    expected = by_definition(q, k, v, state)
    evidence = f"batch, heads, time, d_key, d_value = {sizes}, chunk {chunk}; y differs by up to {(got[0] - expected[0]).abs().max():.3g}"
    if -time % chunk and same(got[1:2], expected[1:2]) and same(got[2:], (expected[2] + -time % chunk,)):
        raise Mistake("LINC-10", "tokens that fill up weigh something", f"{evidence}; the weight counts {-time % chunk} tokens too many", "φ(0) is 1: fill up behind φ, where linear_inputs is done")
    own = by_definition(q, k, v, state, forget=chunk)
    parts = [by_definition(q, k, v, None, forget=chunk)[0]]
    if not long:
        parts.append(by_parts(q, k, v, state, chunk))
        diagnose(got, expected, [
            ("LINC-01", "each chunk begins with nothing", parts[:1], "step 3: what all earlier chunks left comes on top, in total and in weight"),
            ("LINC-01", "each chunk begins with the given state", own[:1], "step 3: a cumsum over what the chunks left"),
            ("LINC-02", "tokens to come are seen", by_definition(q, k, v, state, ahead=chunk)[:1], "within a chunk: .tril()"),
            ("LINC-03", "a chunk's own tokens are counted twice", by_definition(q, k, v, state, own_twice=chunk)[:1], "the memory *before* the chunk: the last place of the cumsum is the one behind the text"),
            ("LINC-04", "two means are added up", parts[1:], "add the totals, add the weights, and divide once"),
            ("LINC-06", "the state that was given is not used", by_definition(q, k, v)[:1], "it comes first in the cumsum over the chunks"),
            ("LINC-16", "φ is applied twice", by_definition(q, k, v, state, maps=2)[:1], "linear_inputs has applied it"),
            ("LINC-18", "a token does not see itself", by_definition(q, k, v, state, early=True)[:1], "within a chunk: .tril(), the diagonal included"),
        ], evidence)
    close(got[0], expected[0], "LINC-09", "y differs from the mean with all T² weights", "print y chunk by chunk: which is the first to be wrong?", rtol=1e-9, atol=1e-9)
    for name, mine, right in zip(("memory", "weight"), got[1:], expected[1:], strict=True):
        close(mine, right, "LINC-14", f"{name} is not that behind the last token", "the last place of the cumsum", rtol=1e-9, atol=1e-9)
    carried(run, given, expected, "LINC-14", "LINC-06", "LINC-06", cut=chunk if time > chunk else None)
    pieces = (q, k, v) if state is None else (q, k, v, *state)

    def mine(q, k, v, *begin):
        return run(q, k, v, LinearState(*begin) if begin else None)[0]

    if long:
        count = len(nodes_of(mine(*(part.clone().requires_grad_() for part in pieces))))
        if count > 4 * time:
            raise Mistake("LINC-17", "there is a loop over tokens", f"{count} operations are on the graph of {time} tokens; matmuls over all chunks need some 40", "no loop over time: one matmul with an axis of chunks")
        batch, heads, _, d_key, d_value = sizes
        allowed = 3 * batch * heads * max(time * max(chunk, d_key, d_value), (time // chunk + 1) * d_key * d_value) // 2
        held = kept_numbers(lambda: mine(*(part.clone().requires_grad_() for part in pieces)))
        if held > allowed:
            raise Mistake("LINC-20", "chunk is not used, or more is kept than chunks need", f"{time} tokens in chunks of {chunk}: a tensor of {held:,} numbers is kept, and time · chunk is {time * chunk:,}",
                          "scores for each chunk with itself alone: (batch, heads, chunks, chunk, chunk)")
    else:
        gradients(LINEAR_NAMES, mine, lambda q, k, v, *begin: by_definition(q, k, v, LinearState(*begin) if begin else None)[0], pieces, "LINC-17", "LINC-15", "LINC-11")
    halves(lambda *parts: run(*parts[:3], LinearState(*parts[3:]) if begin else None), pieces, "LINC-13", FIRST_LINE)
    if edges:
        linear_refusals(run, given, "LINC-07", "LINC-08")
        for bad in (0, -3):
            must_raise(ValueError, lambda bad=bad: chunked_linear_attention(q, k, v, chunk=bad), "LINC-07", f"chunk={bad} must raise ValueError", "a chunk holds at least one token")
        if not same(flat(chunked_linear_attention(*given)), expected):
            raise Mistake("LINC-09", "without `chunk` the result is another", f"{time} tokens", "the chunk changes the speed and nothing else")


def by_parts(q, k, v, state, chunk):
    """The mean within the chunk plus the mean of the past: what comes of dividing twice."""
    places = torch.arange(q.shape[2])
    own = places[:, None] // chunk == places // chunk
    a, b = phi(q), phi(k)
    scores = a @ b.mT
    within, past = scores * own.tril(), scores * (places[:, None] // chunk > places // chunk)
    memory, weight = (k.mT @ v * 0, k.sum(2) * 0) if state is None else state
    count = past.sum(-1) + (a @ weight[..., None]).squeeze(-1)
    return (within @ v) / within.sum(-1, keepdim=True) + ((past @ v + a @ memory) / count[..., None]).nan_to_num(0)


# ------------------------------------------------------------------ WKV-4

WKV_NAMES = ("k", "v", "decay", "bonus", "state")


def wkv_by_softmax(k, v, decay, bonus, state=None, *, last_bonus=True, older=0, fades=True, early=False, keeps_bonus=False, naive=False):
    """WKV as torch.softmax over all exponents, one token at a time. Gives (y, log of the true denominator, numerator / denominator)."""
    batch, time, d = k.shape
    rate = decay if fades else decay * 0
    a, b, m = (k.new_zeros(batch, d), k.new_zeros(batch, d), k.new_full((batch, d), -1e38)) if state is None else state.unbind(1)
    start, mean = m + b.log(), torch.where(b > 0, a / b, a * 0)
    ys = []
    for t in range(time + 1):
        ages = torch.arange(t - 1 + older, older - 1, -1.0, dtype=k.dtype)[:, None] if t else k.new_zeros(0, 1)
        own = bonus if keeps_bonus else 0
        past = torch.cat([(start - (t + older) * rate)[:, None], k[:, :t] + own - ages * rate], 1)
        values = torch.cat([mean[:, None], v[:, :t]], 1)
        if t == time:  # what is left, before the next token's read: not one step older
            past = past + older * rate
            weights = torch.softmax(past, 1)
            return torch.stack(ys, 1), torch.logsumexp(past, 1), (weights * values).sum(1)
        if not early:
            past = torch.cat([past, (k[:, t] + (bonus if last_bonus else 0))[:, None]], 1)
            values = torch.cat([values, v[:, t : t + 1]], 1)
        ys.append((torch.softmax(past, 1) * values).sum(1))


def sums_of(state):
    """What the state's rows stand for, whatever they are scaled by: (log of the true denominator, numerator / denominator)."""
    a, b, m = state.double().unbind(1)
    return m + b.log(), a / b


@check(
    "hybridlab.ssm.wkv4.wkv4",
    visible=[{"seed": 0, "shape": (1, 3, 2), "begin": True}, {"seed": 1, "shape": (2, 14, 3)}],
    hidden=[
        {"seed": 11, "shape": (3, 1, 2), "begin": True},
        {"seed": 12, "shape": (2, 20, 3), "begin": True, "edges": True},
        {"seed": 13, "shape": (1, 12, 4), "size": 200.0},
        {"seed": 14, "shape": (2, 9, 3), "size": 30.0, "begin": True},
        {"seed": 15, "shape": (1, 7, 4), "loud": 80.0},
    ],
    forbids=("chunked_wkv4", "rwkv_linear_attention", "softmax", "logsumexp"),
    hints=(
        "Take both lines of the contract for one token: which weight has the past now, and which has it for the next token? Where does the bonus stand, and where does it not?",
        "There are two maxima in one step: n = max(m, bonus + k) to read, and another n = max(m - decay, k) to go on. All that goes into exp has its n subtracted.",
        "past, present = exp(m - n), exp(bonus + k_t - n); y = (past · a + present · v_t) / (past · b + present). Then the same with m - decay and k_t, for a and b, and m = n.",
    ),
)
def check_wkv4(wkv4, seed, shape, begin=False, size=1.0, loud=1.0, edges=False):
    """RWKV's mean equals a softmax over all exponents, for keys of any size, from any state, with its gradients."""
    batch, time, d = shape
    k, v, decay, bonus, a, b, m = draw(seed, shape, shape, (d,), (d,), (batch, d), (batch, d), (batch, d))
    k, decay, bonus = k * size, decay.abs() + 0.1, bonus * loud
    state = torch.stack([a, b.abs() + 0.1, m * size], 1) if begin else None
    given = [k, v, decay, bonus] + ([state] if begin else [])
    before = [part.clone() for part in given]
    expected = wkv_by_softmax(k, v, decay, bonus, state)
    evidence = f"batch, time, d = {shape}; keys from {k.min():.3g} to {k.max():.3g}, bonuses to {bonus.abs().max():.3g}"
    unsafe = ("WKV-01", "large keys or bonuses give NaN or infinity", evidence, "subtract the largest exponent, m or the token's own, from all that goes into exp")
    try:
        got = wkv4(*given)
        a_pair(got, shape, "WKV-12", "return y.to(k.dtype), the state with rows a, b, m")
        narrow = [part.float() for part in given]
        narrow[0] = narrow[0] * 100
        if not all(part.isfinite().all() for part in (*got, *wkv4(*narrow))):
            raise Mistake(*unsafe)
    except ValueError as error:
        raise Mistake(*unsafe[:2], f"{evidence}: {str(error)[:100]}", unsafe[3]) from None
    if not isinstance(got[1], torch.Tensor) or tuple(got[1].shape) != (batch, 3, d):
        raise Mistake("WKV-12", "the state is not (batch, 3, d)", f"got a {type(got[1]).__name__} of shape {tuple(getattr(got[1], 'shape', ()))}", "torch.stack([a, b, m], 1)")
    untouched(WKV_NAMES, given, before, "WKV-11")
    mine = (got[0], *sums_of(got[1]))
    none = wkv_by_softmax(k, v, decay, bonus)
    diagnose(mine, expected, [
        ("WKV-04", "the state that was given is not used", none, "inputs[\"state\"].unbind(1) is a, b, m"),
        ("WKV-03", "the present token has no bonus", wkv_by_softmax(k, v, decay, bonus, state, last_bonus=False)[:1], "exp(bonus + k_t), now"),
        ("WKV-02", "the bonus stays with a token when it has become the past", wkv_by_softmax(k, v, decay, bonus, state, keeps_bonus=True)[:1], "now exp(bonus + k), later exp(k): two weights of one token"),
        ("WKV-05", "the past does not fade", wkv_by_softmax(k, v, decay, bonus, state, fades=False)[:1], "m - decay, in the line for later"),
        ("WKV-06", "the past has faded one step too far when it is read", wkv_by_softmax(k, v, decay, bonus, state, older=1)[:1], "to read: exp(m - n), without the decay; the token before has an age of 0"),
        ("WKV-16", "y is taken when the token has entered the state", wkv_by_softmax(k, v, decay, bonus, state, older=1, last_bonus=False)[:1], "first the line for now, with the bonus, then the line for later: a / b behind it is the next token's past"),
        ("WKV-18", "the present token is not in y", wkv_by_softmax(k, v, decay, bonus, state, early=True)[:1], "(past · a + present · v_t) / (past · b + present), with present = exp(bonus + k_t - n)"),
        ("WKV-17", "the decay has been through exp", wkv_by_softmax(k, v, decay.exp(), bonus, state), "decay is what is subtracted from an exponent: m - decay"),
    ], evidence)
    close(got[0], expected[0], "WKV-09", "y differs from the softmax over all exponents", "do the worked example with your function; is m what a and b were divided by?", rtol=1e-9, atol=1e-9)
    for rows, found in (([1, 2, 0], "m, a, b"), ([1, 0, 2], "b, a, m")):
        if same(sums_of(got[1][:, rows]), expected[1:]):
            raise Mistake("WKV-12", "the state's rows are in another order", f"they are {found}", "torch.stack([a, b, m], 1)")
    close(mine[1], expected[1], "WKV-15", "exp(m) · b is not the sum of the weights behind the last token", "a, b and m belong together: m ← n, the n of the line for later", rtol=1e-9, atol=1e-9)
    close(mine[2], expected[2], "WKV-15", "exp(m) · a is not the sum behind the last token", "a, b and m belong together", rtol=1e-9, atol=1e-9)
    if (got[1][:, 1] > 1e6).any() or (got[1][:, 1] < 1e-6).any():
        raise Mistake("WKV-15", "the state is not scaled by its largest exponent", f"b reaches from {got[1][:, 1].min():.3g} to {got[1][:, 1].max():.3g}", "m ← max(m - decay, k): b stays between 1 and a few tens")
    if size == 1:
        gradients(WKV_NAMES, lambda *parts: wkv4(*parts)[0], lambda *parts: wkv_by_softmax(*parts)[0], given, "WKV-10", "WKV-14", "WKV-11")

        def through_the_state(*parts):
            return wkv4(*parts[:4], wkv4(*parts)[1])[0]

        def expected_through(*parts):
            twice = [torch.cat([part, part], 1) for part in parts[:2]]
            return wkv_by_softmax(*twice, *parts[2:])[0][:, time:]

        gradients(WKV_NAMES, through_the_state, expected_through, given, "WKV-10", "WKV-14", "WKV-11")
        halves(lambda *parts: (lambda y, after: (y, (after,)))(*wkv4(*parts)), given, "WKV-13", "wkv4_inputs gives all in float32: use what it gives, not what was given")
    if edges:
        for what, bad in {"no tokens": (k[:, :0], v[:, :0], decay, bonus, state), "a decay below 0": (k, v, -decay, bonus, state), "a state of another shape": (k, v, decay, bonus, state[:, :2])}.items():
            must_raise(ValueError, lambda bad=bad: wkv4(*bad), "WKV-07", f"{what} must raise ValueError", "the first line calls wkv4_inputs, which raises")
        spoilt, last = v.clone(), k.clone()
        spoilt[:, 0] = torch.nan
        last[:, -1] = torch.inf
        must_raise(ValueError, lambda: wkv4(k, spoilt, decay, bonus, state), "WKV-08", "NaN in v must raise ValueError", "the last line but the return calls require_finite_result(inputs, y, state)")
        must_raise(ValueError, lambda: wkv4(last, v, decay, bonus, state), "WKV-08", "infinity in k must raise ValueError", "the last line but the return calls require_finite_result(inputs, y, state)")
        loud = torch.full((1, 2, 1), 2e38)  # twice that is infinite in float32; the bonus keeps the second one out of y
        must_raise(ValueError, lambda: wkv4(loud * 0, loud, torch.zeros(1), torch.full((1,), -100.0)), "WKV-08", "a state that overflows must raise ValueError", "hand require_finite_result both, y and the state")


# ------------------------------------------------------------------ the delta rule


def by_transitions(r, log_w, k, v, a, b, state=None, *, removes=1, faded=False, early=False, rows=False, turned=False, raw=False, exchanged=False, stays=False):
    """The delta rule with a whole matrix for each token: S ← S (diag(w) + a bᵀ) + v kᵀ. The keyword arguments make the known mistakes."""
    a, b = (b, a) if exchanged else (a, b)
    S = torch.zeros(*v.shape[:1], v.shape[2], v.shape[3], k.shape[3], dtype=v.dtype) if state is None else state
    ys = []
    for t in range(k.shape[1]):
        w = log_w[:, t] if raw else torch.exp(log_w[:, t])
        w = torch.ones_like(w) if stays else w
        fade = torch.diag_embed(w)
        out = removes * a[:, t, :, :, None] * b[:, t, :, None]
        kept = S @ fade if not rows else fade @ S
        before = kept if faded else S
        write = v[:, t, :, :, None] * k[:, t, :, None]
        new = kept + before @ out + (write.mT if turned else write)
        ys.append(((S if early else new) @ r[:, t, :, :, None])[..., 0])
        S = new
    return torch.stack(ys, 1), S


@check(
    "hybridlab.ssm.delta_rule.delta_rule",
    visible=[{"seed": 0, "sizes": (1, 3, 1, 2, 2)}, {"seed": 1, "sizes": (2, 14, 2, 3, 4), "begin": True}],
    hidden=[
        {"seed": 11, "sizes": (2, 1, 2, 4, 2), "begin": True},
        {"seed": 12, "sizes": (2, 18, 2, 3, 3), "begin": True, "edges": True},
        {"seed": 13, "sizes": (1, 10, 3, 5, 2)},
    ],
    forbids=("chunked_delta_rule",),
    hints=(
        "S is (d_value, d_key): a map from keys to values. What is S a: a number, a vector, of which length? Along which axis of S does the decay go?",
        "removed = S @ a_t[..., None] has shape (…, d_value, 1), and is taken from S as it stood, before it fades. removed * b_t[..., None, :] is as large as S.",
        "S = S * exp(log_w_t)[..., None, :] + removed * b_t[..., None, :] + v_t[..., None] * k_t[..., None, :]; then y_t = (S @ r_t[..., None]).squeeze(-1).",
    ),
)
def check_delta_rule(delta_rule, seed, sizes, begin=False, edges=False):
    """Fade, take out, write, read: equal to one whole matrix a token, from any state, and what is stored under a key is replaced."""
    batch, time, heads, d_key, d_value = sizes
    of_keys, of_values = (batch, time, heads, d_key), (batch, time, heads, d_value)
    r, log_w, k, v, a, b, state = draw(seed, of_keys, of_keys, of_keys, of_values, of_keys, of_keys, (batch, heads, d_value, d_key))
    log_w, a = -log_w.abs() * 0.5, F.normalize(a, dim=-1)
    b = -a * torch.sigmoid(b) + 0.2 * b / d_key
    given = [r, log_w, k, v, a, b] + ([state] if begin else [])
    before = [part.clone() for part in given]
    names = ("r", "log_w", "k", "v", "a", "b", "state")
    got = delta_rule(*given)
    a_pair(got, of_values, "DELTA-12", "return y.to(v.dtype), S")
    if not isinstance(got[1], torch.Tensor) or got[1].shape != state.shape:
        raise Mistake("DELTA-12", "the state has the wrong shape", f"expected {tuple(state.shape)}", "S is (batch, heads, d_value, d_key)")
    untouched(names, given, before, "DELTA-11")
    expected = by_transitions(*given)
    evidence = f"batch, time, heads, d_key, d_value = {sizes}; y differs by up to {(got[0] - expected[0]).abs().max():.3g}"
    suspects = [
        ("DELTA-03", "the state is read before the token has changed it", by_transitions(*given, early=True)[:1], "y_t reads the state behind token t"),
        ("DELTA-04", "the state that was given is not used", by_transitions(*given[:6]), "S begins with inputs.state"),
        ("DELTA-19", "what is taken out is subtracted", by_transitions(*given, removes=-1), "+ removed bᵀ: the minus is in a already (a = -k)"),
        ("DELTA-01", "nothing is taken out", by_transitions(*given, removes=0), "removed = S a_t, and removed b_tᵀ comes on top of S"),
        ("DELTA-02", "what is taken out has faded already", by_transitions(*given, faded=True), "removed comes from S as it stood before this token"),
        ("DELTA-16", "a and b are exchanged", by_transitions(*given, exchanged=True), "S a is what is found; it is put back under b"),
        ("DELTA-15", "log w is taken for w", by_transitions(*given, raw=True), "exp(log_w): a factor from 0 to 1"),
        ("DELTA-17", "nothing fades", by_transitions(*given, stays=True), "S · exp(log_w)"),
    ]
    if d_key == d_value:
        suspects += [
            ("DELTA-05", "rows of S fade, not columns", by_transitions(*given, rows=True), "the decay is one for each channel of the *key*: exp(log_w)[..., None, :]"),
            ("DELTA-06", "what is written is turned", by_transitions(*given, turned=True), "v kᵀ: rows are values, columns are keys"),
        ]
    diagnose(got, expected, suspects, evidence)
    close(got[0], expected[0], "DELTA-09", "y differs from one whole matrix a token", "do the worked example with your function", rtol=1e-9, atol=1e-9)
    close(got[1], expected[1], "DELTA-18", "the state is not S behind the last token", "return the S of the last step", rtol=1e-9, atol=1e-9)
    gradients(names, lambda *parts: delta_rule(*parts)[0], lambda *parts: by_transitions(*parts)[0], given, "DELTA-10", "DELTA-14", "DELTA-11")
    gradients(names, lambda *parts: delta_rule(*parts)[1], lambda *parts: by_transitions(*parts)[1], given, "DELTA-10", "DELTA-14", "DELTA-11")
    halves(lambda *parts: (lambda y, S: (y, (S,)))(*delta_rule(*parts)), given, "DELTA-13", "delta_inputs gives all in float32: use what it gives, not what was given")
    if edges:
        for what, bad in {"no tokens": [part[:, :0] for part in given[:6]], "a log_w above 0": [r, -log_w, k, v, a, b], "a state of another shape": [*given[:6], state[..., 1:]]}.items():
            must_raise(ValueError, lambda bad=bad: delta_rule(*bad), "DELTA-07", f"{what} must raise ValueError", "the first line calls delta_inputs, which raises")
        spoilt, late = v.clone(), r.clone()
        spoilt[:, 0], late[:, -1] = torch.nan, torch.inf
        must_raise(ValueError, lambda: delta_rule(r, log_w, k, spoilt, a, b), "DELTA-08", "NaN in v must raise ValueError", "the last line but the return calls require_finite_result(inputs._asdict(), y, S)")
        must_raise(ValueError, lambda: delta_rule(late, log_w, k, v, a, b), "DELTA-08", "infinity in r must raise ValueError", "require_finite_result looks at y and at the state: hand it both")


# ------------------------------------------------------------------ attention in a window


def by_mask(q, k, v, window=None, *, top_left=False, wider=0, future=0, groups="neighbours"):
    """torch's own attention with the whole mask; the keyword arguments make the known mistakes."""
    queries, keys = q.shape[2], k.shape[2]
    own = torch.arange(queries)[:, None] + (0 if top_left else keys - queries)
    places = torch.arange(keys)
    sees = places // max(future, 1) <= own // max(future, 1) if future else places <= own
    if window is not None:
        sees = sees & (places > own - window - wider)
    times = q.shape[1] // k.shape[1]
    k, v = ((part.repeat_interleave(times, 1) if groups == "neighbours" else part.repeat(1, times, 1, 1)) for part in (k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=sees)


def kept_numbers(call):
    """The largest tensor that autograd keeps of a call."""
    largest = 0

    def pack(tensor):
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return largest


@check(
    "hybridlab.ssm.window_attention.window_attention",
    visible=[
        {"seed": 0, "heads": (2, 1), "queries": 6, "keys": 6, "window": 3, "block": 4},
        {"seed": 1, "heads": (2, 2), "queries": 3, "keys": 7, "window": 4, "block": 2},
        {"seed": 2, "heads": (1, 1), "queries": 200, "keys": 210, "window": 8, "block": 16, "long": True},
    ],
    hidden=[
        {"seed": 11, "heads": (4, 2), "queries": 9, "keys": 9, "window": None, "block": 4},
        {"seed": 12, "heads": (6, 2), "queries": 1, "keys": 8, "window": None, "block": 128, "edges": True},
        {"seed": 13, "heads": (4, 2), "queries": 13, "keys": 21, "window": 5, "block": 3},
        {"seed": 14, "heads": (1, 1), "queries": 5, "keys": 12, "window": 1, "block": 5},
        {"seed": 15, "heads": (4, 4), "queries": 7, "keys": 7, "window": 50, "block": 1},
        {"seed": 16, "heads": (1, 1), "queries": 300, "keys": 310, "window": 16, "block": 32, "long": True},
        {"seed": 17, "heads": (2, 1), "queries": 10, "keys": 14, "window": None, "block": 4},
        {"seed": 18, "heads": (1, 1), "queries": 300, "keys": 300, "window": 8, "default": True},
    ],
    forbids=("flex_attention", "unfold"),
    hints=(
        "Ask two queries over five keys. At which place does the first of them stand? At which does this code believe it to stand?",
        "If text was read before, there are more keys than queries, and the queries are the last of them. Which number must be added to a query's place?",
        "Query i stands at i + keys - queries: add it where `own` is made. Mask, first key and last key all follow from `own`.",
    ),
)
def check_window_attention(window_attention, seed, heads, queries, keys, window, block=None, edges=False, long=False, default=False):
    """torch's own attention under the whole mask, with queries that are the last of the keys, and never more scores than block · (window + block)."""
    of_q, of_kv = heads
    q, k, v = draw(seed, (2, of_q, queries, 4), (2, of_kv, keys, 4), (2, of_kv, keys, 4))
    given, before = (q, k, v), (q.clone(), k.clone(), v.clone())
    options = {} if default else {"block": block}
    got = window_attention(q, k, v, window, **options)
    if not isinstance(got, torch.Tensor) or got.shape != q.shape:
        raise Mistake("WIN-12", "the result has the wrong shape", f"got {tuple(getattr(got, 'shape', ()))}, expected {tuple(q.shape)}", "one answer a query, joined along axis 2")
    untouched(("q", "k", "v"), given, before, "WIN-11")
    expected = by_mask(q, k, v, window)
    evidence = f"{queries} queries, {keys} keys, window {window}, block {block}"
    suspects = [
        ("WIN-01", "queries are taken for the first of the keys, and are the last", {"top_left": True}, "query i stands at i + keys - queries"),
        ("WIN-02", "the window holds one token too many", {"wider": 1}, "itself and the window - 1 before it"),
        ("WIN-02", "the window holds one token too few", {"wider": -1}, "itself and the window - 1 before it"),
        ("WIN-03", "tokens to come are seen", {"future": keys}, "a query sees no key behind its own place"),
        ("WIN-08", "heads take the keys of the wrong group", {"groups": "far"}, "query head h reads key head h // (heads / kv_heads): scaled_dot_product_attention does it"),
    ]
    if not same((got,), (expected,)):
        for code, what, wrong, hint in suspects:
            other = by_mask(q, k, v, window, **wrong).nan_to_num(0)
            if same((got.nan_to_num(0),), (other,)) and not same((other,), (expected,)):
                raise Mistake(code, what, evidence, hint)
        if not same((got,), (expected,)) and window is not None and same((got,), (by_mask(q, k, v),)):
            raise Mistake("WIN-05", "the window is not used", evidence, "seen > own - window")
        if queries < keys and got.isfinite().all():
            rest = window_attention(*(F.pad(part, (0, 0, 0, 0)) for part in (q, k[:, :, -queries:], v[:, :, -queries:])), window, **options)
            if same((rest,), (by_mask(q, k[:, :, -queries:], v[:, :, -queries:], window),)):
                raise Mistake("WIN-01", "with more keys than queries, the queries' places are wrong", evidence, "query i stands at i + keys - queries")
    close(got, expected, "WIN-09", "the result differs from torch's attention under the whole mask", "print the mask of the second block", rtol=1e-9, atol=1e-9)
    leaves = [part.clone().requires_grad_() for part in given]
    weights = torch.randn(q.shape, generator=torch.Generator().manual_seed(1), dtype=q.dtype)
    mine = torch.autograd.grad((window_attention(*leaves, window, **options) * weights).sum(), leaves, allow_unused=True)
    for name, a, b in zip("qkv", mine, torch.autograd.grad((by_mask(*leaves, window) * weights).sum(), leaves), strict=True):
        close(torch.zeros_like(b) if a is None else a, b, "WIN-14", f"the gradient of {name} differs", "is something detached?", rtol=1e-7, atol=1e-9)
    if long or default:
        block = 128 if default else block
        allowed = 2 * of_q * max(block * (window + block), keys * 4)
        held = kept_numbers(lambda: window_attention(*leaves, window, **options))
        if held > allowed:
            raise Mistake("WIN-04", "all scores are in memory at once", f"{evidence}: a tensor of {held:,} numbers is kept; blocks need {allowed:,}", "each block is given the keys from its first query's window on, up to its last query")
    half = window_attention(*(part.bfloat16() for part in given), window, **options)
    if half.dtype != torch.bfloat16:
        raise Mistake("WIN-13", "the result does not have q's dtype", f"bfloat16 went in, {half.dtype} came out", "scaled_dot_product_attention keeps it")
    if edges:
        for what, call in {
            "more queries than keys": lambda: window_attention(k[:, :, :3].repeat(1, 3, 1, 1), k[:, :, :2], v[:, :, :2]),
            "a window of 0": lambda: window_attention(q, k, v, 0),
            "a block of 0": lambda: window_attention(q, k, v, None, 0),
            "a negative window": lambda: window_attention(q, k, v, -2),
        }.items():
            must_raise(ValueError, call, "WIN-07", f"{what} must raise ValueError", "look at the sizes before you compute")
        if not same((window_attention(q, k, v),), (by_mask(q, k, v),)):
            raise Mistake("WIN-09", "without window and block the result is another", evidence, "a window of None sees all that stands before")
