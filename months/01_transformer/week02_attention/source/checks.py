"""How week 2's answers are judged: softmax, masks, attention, positions, many heads."""

import math
from typing import NamedTuple

import torch
from coursekit.checks import Mistake, check, close, must_raise

LOOSE = {"float64": 1e-9, "float32": 2e-5, "bfloat16": 5e-2}  # absolute, on values of about 1: a few rounding steps each


class Suspect(NamedTuple):
    """A known mistake, as the values that it would have given."""

    code: str
    what: str
    values: torch.Tensor
    hint: str


def normal(seed, *shape, dtype="float32"):
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return numbers.to(getattr(torch, dtype))


def same(a, b, atol):
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=atol, atol=atol, equal_nan=True)


def diagnose(got, expected, suspects, atol):
    """Raise the first suspect that explains `got`, unless `got` is right."""
    if same(got, expected, atol):
        return
    for suspect in suspects:
        if same(got, suspect.values, atol) and not same(suspect.values, expected, atol):
            gap = (got.double() - expected.double()).abs().max()
            raise Mistake(suspect.code, suspect.what, f"largest difference {gap:.3g}", suspect.hint)


def tensor_of(got, shape, dtype, code, what, hint):
    """Raise Mistake unless `got` is a tensor of this shape and dtype."""
    if not isinstance(got, torch.Tensor):
        raise Mistake(code, what, f"got a {type(got).__name__}", hint)
    if tuple(got.shape) != tuple(shape) or got.dtype != dtype:
        raise Mistake(code, what, f"got {tuple(got.shape)} {got.dtype}, expected {tuple(shape)} {dtype}", hint)


def untouched(names, tensors, before, code):
    for name, tensor, old in zip(names, tensors, before, strict=True):
        if not torch.equal(tensor, old):
            raise Mistake(code, f"the answer changes its input {name}", "the caller's tensor holds other values than before",
                          "write a new tensor in place of `-=`, `*=` and methods that end in _")


def gradients(function, inputs, upstream):
    """The gradients of (function(*inputs) * upstream).sum(), zeros where an input does not matter."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    if not out.requires_grad:
        return None
    found = torch.autograd.grad((out * upstream).sum(), leaves, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]


# ------------------------------------------------------------------ softmax


@check(
    "hybridlab.transformer.attention.softmax",
    visible=[{"seed": 0, "shape": (3, 5)}, {"seed": 1, "shape": (2, 4, 3), "dim": 1}],
    hidden=[
        {"seed": 11, "shape": (2, 1, 7)},
        {"seed": 12, "shape": (6, 4), "dim": 0, "scale": 30.0},
        {"seed": 13, "shape": (2, 3, 4, 5), "dim": -2, "dtype": "float64"},
        {"seed": 14, "shape": (3, 8), "dtype": "bfloat16"},
    ],
    forbids=("softmax", "log_softmax", "Softmax", "softmin", "scaled_dot_product_attention"),
    hints=(
        "Which axis has to add up to 1? Everything that you sum or compare runs along `dim`, with keepdim=True.",
        "exp(100) is already infinite in float32. The weights stay the same if you subtract one number from all scores of a row.",
        "powers = exp(scores - maximum along dim); the weights are powers / (sum of powers along dim).",
    ),
)
def check_softmax(softmax, seed, shape, dim=-1, scale=1.0, dtype="float32"):
    """The weights add up to one along dim; scores of ±1e4 and -inf leave weights and gradients finite."""
    atol = LOOSE[dtype]
    scores = normal(seed, *shape, dtype=dtype) * scale
    before = scores.clone()
    got = softmax(scores, dim=dim)
    tensor_of(got, shape, scores.dtype, "SOFT-07", "shape or dtype is not that of the scores", "softmax changes values, nothing else")
    untouched(["scores"], [scores], [before], "SOFT-05")

    sums = got.double().sum(dim)
    if not torch.allclose(sums, torch.ones_like(sums), atol=max(atol, 1e-4)):
        raise Mistake("SOFT-01", f"the weights do not add up to 1 along dim={dim}", f"the sums are {numbers(sums)}",
                      "take the sum along `dim`, and keep that axis with keepdim=True")
    close(softmax(scores), torch.softmax(scores, -1), "SOFT-08", "without dim it must run along the last axis", atol=atol, rtol=atol)

    one_row = torch.tensor([1e4, 1e4 - 64, 0.0, -1e4], dtype=scores.dtype)
    high = softmax(one_row, dim=0)
    if not torch.isfinite(high).all():
        raise Mistake("SOFT-02", "large scores overflow", f"scores {numbers(one_row)} gave {numbers(high)}",
                      "exp(89) is the last that float32 can hold; subtract the largest score first")
    steps = torch.arange(scores.numel() // scores.shape[dim])
    others = [n for i, n in enumerate(shape) if i != dim % len(shape)]
    far = scores.float() - 200 * steps.view(others).unsqueeze(dim)
    close(softmax(far, dim=dim), torch.softmax(far, dim), "SOFT-04", "a row that lies far below the others loses its weights",
          "each row has a maximum of its own; one maximum for the whole tensor makes exp of the lower rows 0",
          atol=2e-3, rtol=0)  # a score of 5,000 is itself rounded to 2e-4 in float32

    hidden = scores.clone().index_fill_(dim, torch.tensor([0]), -torch.inf)
    if shape[dim] > 1:
        close(softmax(hidden, dim=dim), torch.softmax(hidden, dim), "SOFT-03", "a score of -inf must get the weight 0, and no other score may notice",
              "use the maximum as the number to subtract: it stays finite", atol=atol, rtol=atol)

    upstream = normal(seed + 1, *shape, dtype=dtype)
    for label, x in (("", scores), (" at scores of about 1e4", scores * 1e4)):
        mine = gradients(lambda s: softmax(s, dim=dim), [x], upstream)
        if mine is None:
            raise Mistake("SOFT-06", "no gradient comes back", "the result has no requires_grad",
                          "no .detach(), .data, .item(), numpy or torch.no_grad() on the way from scores to weights")
        theirs = gradients(lambda s: torch.softmax(s, dim), [x], upstream)
        close(mine[0], theirs[0], "SOFT-06", f"the gradient is wrong{label}", "only a number that cancels (the maximum) may be detached",
              atol=atol * 4, rtol=atol * 4)
    close(got, torch.softmax(scores, dim), "SOFT-09", "the weights differ from torch's", "weights are proportional to exp(score)",
          atol=atol, rtol=atol)


def numbers(tensor, most=6):
    flat = tensor.flatten().tolist()
    return "[" + ", ".join(f"{x:.4g}" for x in flat[:most]) + (", …]" if len(flat) > most else "]")


# ------------------------------------------------------------------ masks


def mask_by_loop(n_queries, n_keys, causal, real, offset=None, strict=False):
    """The mask, cell by cell. `offset` and `strict` make the known mistakes."""
    offset = n_keys - n_queries if offset is None else offset
    batch = 1 if real is None else len(real)
    mask = torch.zeros(batch, 1, n_queries, n_keys, dtype=torch.bool)
    for b in range(batch):
        for i in range(n_queries):
            for j in range(n_keys):
                late = causal and (j >= i + offset if strict else j > i + offset)
                mask[b, 0, i, j] = not late and (real is None or bool(real[b, j]))
    return mask


@check(
    "hybridlab.transformer.attention.attention_mask",
    visible=[
        {"n_queries": 4, "n_keys": 4, "causal": True},
        {"n_queries": 2, "n_keys": 5, "causal": True},
        {"n_queries": 3, "n_keys": 3, "causal": False, "lengths": (3, 1)},
        {"n_queries": 2, "n_keys": 2, "causal": True, "lengths": (2, 1)},
        {"n_queries": 2, "n_keys": 3, "causal": True, "edges": True},
    ],
    hidden=[
        {"n_queries": 6, "n_keys": 6, "causal": True, "lengths": (6, 2, 4)},
        {"n_queries": 1, "n_keys": 7, "causal": True},
        {"n_queries": 3, "n_keys": 8, "causal": True, "lengths": (5, 8), "left": True},
        {"n_queries": 5, "n_keys": 2, "causal": False},
        {"n_queries": 1, "n_keys": 1, "causal": True},
        {"n_queries": 4, "n_keys": 4, "causal": True, "lengths": (2, 4), "left": True},
        {"n_queries": 2, "n_keys": 6, "causal": False, "lengths": (0, 6)},
        {"n_queries": 3, "n_keys": 3, "causal": False, "lengths": (3, 2), "edges": True},
    ],
    hints=(
        "Write down the positions: query i stands at n_keys - n_queries + i, key j at j. When may i look at j?",
        "The padding speaks about keys, so it belongs on the last axis: (batch, 1, 1, n_keys) lets it apply to every query.",
        "torch.ones(..., dtype=torch.bool).tril(n_keys - n_queries), then & padding[:, None, None, :].",
    ),
)
def check_attention_mask(attention_mask, n_queries, n_keys, causal, lengths=None, left=False, edges=False):
    """Each query sees itself and what came before it, and nobody sees padding."""
    real = None
    if lengths is not None:
        real = torch.arange(n_keys) < torch.tensor(lengths)[:, None]
        real = real.flip(1) if left else real
    expected = mask_by_loop(n_queries, n_keys, causal, real)
    got = attention_mask(n_queries, n_keys, causal=causal, padding=real)
    if not isinstance(got, torch.Tensor) or got.dtype != torch.bool:
        kind = got.dtype if isinstance(got, torch.Tensor) else type(got).__name__
        raise Mistake("MASK-04", "the mask is not Bool", f"got {kind}", "dtype=torch.bool; True = may look")
    if got.shape != expected.shape:
        raise Mistake("MASK-05", "the mask has the wrong shape", f"got {tuple(got.shape)}, expected {tuple(expected.shape)}",
                      "(batch or 1, 1, n_queries, n_keys): the axis of size 1 is there for the heads")
    place = f"{n_queries} queries at the end of {n_keys} keys, causal={causal}"
    open_to_all = mask_by_loop(n_queries, n_keys, False, real)
    swapped = expected
    if real is not None and n_queries == n_keys:
        swapped = mask_by_loop(n_queries, n_keys, causal, None) & real[:, None, :, None]
    for code, what, values, hint in (
        ("MASK-01", "the mask is upside down", ~expected, "True means: this query may look at this key"),
        ("MASK-02", "a query can't see its own token", mask_by_loop(n_queries, n_keys, causal, real, strict=True),
         "the diagonal belongs to what may be seen: j <= position of the query"),
        ("MASK-03", "cached keys are not counted: the first query is treated as position 0",
         mask_by_loop(n_queries, n_keys, causal, real, offset=0), "query i stands at n_keys - n_queries + i"),
        ("MASK-07", "the padding hides queries in place of keys", swapped, "padding belongs on the last axis, that of the keys"),
        ("MASK-06", "the padding is ignored", mask_by_loop(n_queries, n_keys, causal, None), "both must allow it: causal & padding"),
        ("MASK-08", "the future can be seen", open_to_all, "with causal=True no query looks at a later position"),
    ):
        values = values.expand_as(expected)
        if torch.equal(got, values) and not torch.equal(values, expected):
            raise Mistake(code, what, f"{place}: {first_difference(got, expected)}", hint)
    if not torch.equal(got, expected):
        raise Mistake("MASK-09", "some query sees the wrong keys", f"{place}: {first_difference(got, expected)}",
                      "compare the mask with the worked example, row by row")
    if edges:
        must_raise(ValueError, lambda: attention_mask(3, 2, causal=True), "MASK-10",
                   "3 queries can't be the last of 2 keys, and that must raise ValueError", "only with causal=True")
        short = torch.ones(2, 1, dtype=torch.bool)
        must_raise(ValueError, lambda: attention_mask(1, n_keys, causal=causal, padding=short), "MASK-10",
                   f"padding of length 1 for {n_keys} keys must raise ValueError", "compare its last axis with n_keys")
        on_meta(attention_mask, n_queries, n_keys, causal, real)


def on_meta(attention_mask, n_queries, n_keys, causal, real):
    """PyTorch's "meta" device has shapes but no values: enough to see where a mask would lie."""
    where = "on `device`" if real is None else "where `padding` lies"
    kwargs = {"device": "meta"} if real is None else {"padding": real.to("meta")}
    hint = "hand the device to torch.ones or torch.arange: device=device if padding is None else padding.device"
    try:
        found = attention_mask(n_queries, n_keys, causal=causal, **kwargs).device.type
    except RuntimeError as error:
        raise Mistake("MASK-11", f"the mask does not lie {where}", str(error).split("\n")[0], hint) from None
    if found != "meta":
        raise Mistake("MASK-11", f"the mask does not lie {where}", f"expected meta, got {found}", hint)


def first_difference(got, expected):
    b, _, i, _ = torch.nonzero(got != expected)[0].tolist()
    sees, should = (torch.nonzero(m[b, 0, i]).flatten().tolist() for m in (got, expected))
    return f"in row {b} of the batch, query {i} sees keys {sees}, expected {should}"


# ------------------------------------------------------------------ attention


def attend(q, k, v, mask, *, scale=None, groups="blocks", axis=-1, masking="before", dead="zeros"):
    """Attention in float64, by einsum. The keyword arguments make the known mistakes."""
    q, k, v = q.double(), k.double(), v.double()
    n = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(n, 1) if groups == "blocks" else x.repeat(1, n, 1, 1) for x in (k, v))
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    full = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand_as(scores)
    if masking == "before":
        scores = scores.masked_fill(~full, -torch.inf)
    weights = torch.softmax(scores, axis)
    if masking == "after":
        weights = weights * full
    if masking == "before":
        weights = weights.nan_to_num() if dead == "zeros" else torch.where(weights.isnan(), 1 / k.shape[2], weights)
    return torch.einsum("bhij,bhjd->bhid", weights, v)


MASKS = {
    "none": lambda b, h, i, j, seed: None,
    "causal": lambda b, h, i, j, seed: torch.ones(1, 1, i, j, dtype=torch.bool).tril(j - i),
    "random": lambda b, h, i, j, seed: (normal(seed, b, h, i, j) > -0.5) | torch.eye(i, j, dtype=torch.bool),
    "padding": lambda b, h, i, j, seed: (torch.arange(j) < torch.arange(1, b + 1)[:, None]).view(b, 1, 1, j),
    # the first query of each sequence may look at nothing
    "dead": lambda b, h, i, j, seed: torch.ones(b, 1, i, j, dtype=torch.bool).tril(-1),
    "all dead": lambda b, h, i, j, seed: torch.zeros(b, 1, i, j, dtype=torch.bool),
}


@check(
    "hybridlab.transformer.attention.scaled_dot_product_attention",
    visible=[
        {"seed": 0, "heads": 2, "kv_heads": 2, "queries": 3, "keys": 3, "mask": "causal"},
        {"seed": 1, "heads": 4, "kv_heads": 2, "queries": 2, "keys": 5, "mask": "none"},
        {"seed": 2, "heads": 2, "kv_heads": 1, "queries": 4, "keys": 4, "mask": "dead"},
        {"seed": 3, "heads": 2, "kv_heads": 2, "queries": 2, "keys": 2, "mask": "causal", "edges": True},
    ],
    hidden=[
        {"seed": 11, "heads": 6, "kv_heads": 3, "queries": 5, "keys": 7, "mask": "random", "d_head": 8, "d_value": 3},
        {"seed": 12, "heads": 4, "kv_heads": 1, "queries": 1, "keys": 6, "mask": "padding", "batch": 3},
        {"seed": 13, "heads": 3, "kv_heads": 3, "queries": 4, "keys": 6, "mask": "all dead", "dtype": "float64"},
        {"seed": 14, "heads": 8, "kv_heads": 4, "queries": 6, "keys": 6, "mask": "causal", "dtype": "bfloat16", "d_head": 16},
        {"seed": 15, "heads": 4, "kv_heads": 2, "queries": 5, "keys": 5, "mask": "dead", "scale": 300.0},
        {"seed": 16, "heads": 1, "kv_heads": 1, "queries": 1, "keys": 1, "mask": "none", "batch": 1, "d_head": 2},
        {"seed": 17, "heads": 3, "kv_heads": 1, "queries": 2, "keys": 3, "mask": "none", "edges": True},
    ],
    forbids=("functional", "scaled_dot_product_attention", "MultiheadAttention", "multi_head_attention_forward"),
    hints=(
        "Three steps: scores of every query with every key, softmax over the keys, mean of the values with those weights.",
        "-inf in a whole row gives 0/0. Fill hidden scores with a very low finite number; what then happens in a row that sees nothing?",
        "scores.masked_fill(~mask, torch.finfo(scores.dtype).min); at the end out.masked_fill(~mask.any(-1, keepdim=True), 0). "
        "For groups: k.repeat_interleave(heads // kv_heads, dim=1) is the simple way.",
    ),
)
def check_attention(attention, seed, heads, kv_heads, queries, keys, mask, batch=2, d_head=4, d_value=6, dtype="float32", scale=1.0, edges=False):
    """The values are averaged with softmax(q kᵀ/√d_head); groups share keys; a row that sees nothing gives zeros."""
    atol = LOOSE[dtype]
    # (batch, time, heads, d) turned to (batch, heads, time, d), as a projection hands them over: not contiguous
    q = normal(seed, batch, queries, heads, d_head, dtype=dtype).transpose(1, 2) * scale
    k = normal(seed + 100, batch, keys, kv_heads, d_head, dtype=dtype).transpose(1, 2)
    v = normal(seed + 200, batch, keys, kv_heads, d_value, dtype=dtype).transpose(1, 2)
    seen = MASKS[mask](batch, heads, queries, keys, seed)
    expected = attend(q, k, v, seen)
    inputs, before = [q, k, v], [q.clone(), k.clone(), v.clone()]
    kept = None if seen is None else seen.clone()
    got = attention(q, k, v, seen) if seen is not None else attention(q, k, v)
    tensor_of(got, expected.shape, q.dtype, "ATTN-13", "shape or dtype of the result is wrong",
              "one vector of d_value for each query of each head: (batch, heads, queries, d_value), dtype as q")
    untouched(["q", "k", "v"], inputs, before, "ATTN-12")
    if seen is not None:
        untouched(["mask"], [seen], [kept], "ATTN-12")
    case = f"mask: {mask}, {heads} heads on {kv_heads} key/value heads, {queries} queries, {keys} keys"
    if not torch.isfinite(got).all():
        raise Mistake("ATTN-06", "NaN in the result", f"{case}; {int(got.isnan().any(-1).sum())} queries are NaN",
                      "a row of -inf alone is 0/0 in softmax: fill with torch.finfo(scores.dtype).min")
    diagnose(got, expected, suspects(q, k, v, seen, keys), atol)
    close(got, expected, "ATTN-09", f"the values differ from softmax(q kᵀ/√d_head) v ({case})",
          "print scores and weights of the worked example and compare", atol=atol, rtol=atol)

    upstream = normal(seed + 300, *got.shape, dtype=dtype)
    mine = gradients(lambda *x: attention(*x, seen), inputs, upstream)
    if mine is None or not all(torch.isfinite(g).all() for g in mine):
        raise Mistake("ATTN-10", "the gradients are NaN or missing", case,
                      "putting NaN right in the result does not help: backward still meets it; use a low finite number in place of -inf")
    theirs = gradients(lambda *x: attend(*x, seen), [x.double() for x in inputs], upstream.double())
    for name, a, b in zip("qkv", mine, theirs, strict=True):
        close(a, b, "ATTN-14", f"the gradient of {name} is wrong ({case})", "no detach on the way", atol=8 * atol * max(1, scale), rtol=8 * atol)
    if edges:
        refusals(attention, q, k, v, heads)


def suspects(q, k, v, seen, keys):
    d_head, queries = q.shape[-1], q.shape[2]
    upside_down = attend(q, k, v, ~seen) if seen is not None else attend(q, k, v, seen)
    return [
        Suspect("ATTN-01", "the scores are not divided by √d_head", attend(q, k, v, seen, scale=1.0), "divide by d_head ** 0.5"),
        Suspect("ATTN-02", "the scores are divided by the wrong number", attend(q, k, v, seen, scale=1 / d_head), "√d_head, not d_head"),
        Suspect("ATTN-02", "the scores are divided by the wrong number", attend(q, k, v, seen, scale=(q.shape[1] * d_head) ** -0.5),
                "√d_head is the width of one head, not that of the model"),
        Suspect("ATTN-02", "the scores are divided by the wrong number", attend(q, k, v, seen, scale=keys**-0.5), "√d_head, not √(number of keys)"),
        Suspect("ATTN-03", "softmax ran over the queries", attend(q, k, v, seen, axis=-2), "each query's weights add up to 1 over the keys: the last axis"),
        Suspect("ATTN-04", "the mask is used upside down", upside_down, "True means: may look; fill where ~mask"),
        Suspect("ATTN-05", "the mask is not used", attend(q, k, v, None), "hide scores before softmax wherever the mask is False"),
        Suspect("ATTN-07", "query heads read the wrong key/value head", attend(q, k, v, seen, groups="turns"),
                "head h reads h // groups: repeat_interleave gives 0 0 1 1, repeat gives 0 1 0 1"),
        Suspect("ATTN-08", "the mask was applied after softmax, so the weights no longer add up to 1", attend(q, k, v, seen, masking="after"),
                "mask the scores, then take softmax"),
        Suspect("ATTN-11", "a query that may look at nothing returns the mean of all values", attend(q, k, v, seen, dead="mean"),
                "at the end put zeros wherever mask.any(-1) is False"),
    ]


def refusals(attention, q, k, v, heads):
    three = torch.cat([k] * (heads + 1), dim=1)[:, : heads + 1]
    must_raise(ValueError, lambda: attention(q, three, three), "ATTN-15",
               f"{heads} query heads on {heads + 1} key/value heads must raise ValueError", "test heads % kv_heads first")
    numbers_mask = torch.zeros(1, 1, q.shape[2], k.shape[2])
    must_raise(ValueError, lambda: attention(q, k, v, numbers_mask), "ATTN-15",
               "a mask of numbers must raise ValueError: 0.0 means `look` to some libraries and `don't` to others", "test mask.dtype")


# ------------------------------------------------------------------ positions


def sinusoids(time, d_model, *, layout="pairs", swap=False, exponent=2.0, start=0, base=10_000.0):
    """The table, entry by entry, with Python's own sin and cos. The keyword arguments make the known mistakes."""
    table = torch.zeros(time, d_model, dtype=torch.float64)
    for p in range(time):
        for i in range(d_model // 2):
            angle = (p + start) / base ** (exponent * i / d_model)
            pair = (math.cos(angle), math.sin(angle)) if swap else (math.sin(angle), math.cos(angle))
            columns = (2 * i, 2 * i + 1) if layout == "pairs" else (i, i + d_model // 2)
            table[p, columns[0]], table[p, columns[1]] = pair
    return table


@check(
    "hybridlab.transformer.positions.sinusoidal_positions",
    visible=[{"time": 6, "d_model": 8}, {"time": 3, "d_model": 2}, {"time": 2, "d_model": 4, "edges": True}],
    hidden=[{"time": 64, "d_model": 32}, {"time": 1, "d_model": 6}, {"time": 200, "d_model": 10}, {"time": 17, "d_model": 4, "edges": True}],
    hints=(
        "Build the angles first: a column of positions, shape (time, 1), against a row of d_model/2 frequencies.",
        "The exponent of column pair i is 2i / d_model: that is torch.arange(0, d_model, 2) / d_model.",
        "torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1) puts sine and cosine side by side.",
    ),
)
def check_sinusoidal(sinusoidal_positions, time, d_model, edges=False):
    """Even columns are sines, odd ones cosines, at frequencies from 1 down to 1/10000."""
    got = sinusoidal_positions(time, d_model)
    tensor_of(got, (time, d_model), torch.float32, "SIN-05", "shape or dtype of the table is wrong", "one row a position, float32")
    expected = sinusoids(time, d_model)
    diagnose(got, expected, [
        Suspect("SIN-01", "all sines stand first, then all cosines", sinusoids(time, d_model, layout="halves"),
                "sine and cosine of one frequency are neighbours: columns 2i and 2i+1"),
        Suspect("SIN-02", "sine and cosine are swapped", sinusoids(time, d_model, swap=True), "sine in the even columns: row 0 begins 0, 1, 0, 1"),
        Suspect("SIN-03", "the frequencies fall too slowly", sinusoids(time, d_model, exponent=1.0), "the exponent is 2i / d_model, not i / d_model"),
        Suspect("SIN-03", "the frequencies fall too fast", sinusoids(time, d_model, exponent=4.0),
                "2i counts the columns 0, 2, 4 …: don't double it twice"),
        Suspect("SIN-04", "the positions do not begin at 0", sinusoids(time, d_model, start=1), "torch.arange(time)"),
        Suspect("SIN-07", "the frequencies rise in place of falling", sinusoids(time, d_model, exponent=-2.0), "divide by 10000 ** …"),
    ], atol=2e-4)
    close(got, expected, "SIN-09", "the table differs from the paper's", "compare with the worked example", atol=2e-4, rtol=0)
    if edges:
        must_raise(ValueError, lambda: sinusoidal_positions(time, d_model + 1), "SIN-06",
                   f"d_model={d_model + 1} is odd and must raise ValueError")


def turned(x, angles, *, pairs="halves", way=1.0, part="both", put="back"):
    """Turn pairs of features as complex numbers, in float64. The keyword arguments make the known mistakes."""
    x = x.double()
    half = x.shape[-1] // 2
    a, b = (x[..., :half], x[..., half:]) if pairs == "halves" else (x[..., ::2], x[..., 1::2])
    spin = torch.polar(torch.ones_like(angles), way * angles)
    if part == "swapped":
        spin = torch.complex(spin.imag, spin.real)
    z = torch.complex(a, b) * spin
    if part == "no cross":
        z = torch.complex(a * spin.real, b * spin.real)
    if part == "both plus":
        z = torch.complex(a * spin.real + b * spin.imag, b * spin.real + a * spin.imag)
    if pairs == "halves" or put == "in halves":
        return torch.cat((z.real, z.imag), dim=-1)
    return torch.stack((z.real, z.imag), dim=-1).flatten(-2)


@check(
    "hybridlab.transformer.positions.apply_rotary",
    visible=[{"seed": 0, "shape": (2, 3, 5, 8)}, {"seed": 1, "shape": (4, 2), "dtype": "bfloat16"}, {"seed": 2, "shape": (3, 4), "edges": True}],
    hidden=[
        {"seed": 11, "shape": (1, 2, 7, 16), "start": 100},
        {"seed": 12, "shape": (3, 6, 4), "dtype": "float64"},
        {"seed": 13, "shape": (2, 2, 3, 32), "dtype": "bfloat16"},
        {"seed": 14, "shape": (1, 1, 1, 6), "start": 3},
        {"seed": 15, "shape": (2, 2, 8), "dtype": "bfloat16", "edges": True},
    ],
    hints=(
        "Write d_head = 4 on paper: features 0 and 2 are one pair, features 1 and 3 the other.",
        "first, second = x[..., :half], x[..., half:]. Both new halves need both old ones, so don't overwrite.",
        "torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1), with cos and sin in x's dtype.",
    ),
)
def check_apply_rotary(apply_rotary, seed, shape, start=0, dtype="float32", edges=False):
    """Pairs (i, i + d_head/2) turn by their angle, lengths stay, and so does the dtype."""
    atol = LOOSE[dtype]
    x = normal(seed, *shape, dtype=dtype)
    half = shape[-1] // 2
    angles = (start + torch.arange(shape[-2], dtype=torch.float64))[:, None] * 100.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    cos, sin = angles.cos().float(), angles.sin().float()
    if dtype == "float64":
        cos, sin = angles.cos(), angles.sin()
    inputs, before = [x, cos, sin], [x.clone(), cos.clone(), sin.clone()]
    got = apply_rotary(x, cos, sin)
    untouched(["x", "cos", "sin"], inputs, before, "ROPE-06")
    tensor_of(got, shape, x.dtype, "ROPE-05", "shape or dtype of x is not kept", "cos.to(x.dtype) before you multiply")
    expected = turned(x, angles)
    diagnose(got, expected, [
        Suspect("ROPE-01", "neighbours 2i and 2i+1 are paired", turned(x, angles, pairs="neighbours"),
                "this library pairs i with i + d_head/2, as Llama does"),
        Suspect("ROPE-01", "neighbours 2i and 2i+1 are paired, and put together in halves", turned(x, angles, pairs="neighbours", put="in halves"),
                "the pairs are i and i + d_head/2: take the two halves, x[..., :half] and x[..., half:], not every second feature"),
        Suspect("ROPE-02", "the pairs turn the wrong way round", turned(x, angles, way=-1.0), "a·cos − b·sin goes first, b·cos + a·sin second"),
        Suspect("ROPE-03", "sine and cosine are swapped", turned(x, angles, part="swapped"), "position 0 has the angle 0, and nothing may turn there"),
        Suspect("ROPE-04", "lengths change: both products have the same sign", turned(x, angles, part="both plus"), "one of the four products has a minus"),
        Suspect("ROPE-04", "lengths change: the sine is missing", turned(x, angles, part="no cross"), "each new feature needs both old ones"),
    ], atol)
    lengths = [t.double().norm(dim=-1) for t in (got, x)]
    close(lengths[0], lengths[1], "ROPE-04", "lengths change", "a rotation keeps them; is the new first half used to make the second?",
          atol=4 * atol, rtol=4 * atol)
    close(got, expected, "ROPE-09", "the values differ from a rotation of pairs (i, i + d_head/2)", "compare with the worked example",
          atol=atol, rtol=atol)
    upstream = normal(seed + 1, *shape, dtype=dtype)
    mine = gradients(lambda t: apply_rotary(t, cos, sin), [x], upstream)
    if mine is None:
        raise Mistake("ROPE-08", "no gradient comes back", "the result has no requires_grad", "no .data, .detach() or numpy on the way")
    close(mine[0], turned(upstream, angles, way=-1.0), "ROPE-08", "the gradient is wrong", "no detach on the way", atol=2 * atol, rtol=2 * atol)
    if edges:
        for width in (1, half + 1, 2 * half):
            wide = torch.ones(shape[-2], width)
            must_raise(ValueError, lambda wide=wide: apply_rotary(x, wide, wide), "ROPE-07",
                       f"cos of width {width} for d_head {shape[-1]} must raise ValueError", "the width has to be d_head / 2")


# ------------------------------------------------------------------ many heads


class Wardrobe:
    """A cache that keeps what it is handed, and remembers the shapes."""

    def __init__(self):
        self.k = self.v = None
        self.handed = []

    def __len__(self):
        return 0 if self.k is None else self.k.shape[2]

    def append(self, k, v):
        self.handed.append((tuple(k.shape), tuple(v.shape)))
        self.k, self.v = (k, v) if self.k is None else (torch.cat((self.k, k), 2), torch.cat((self.v, v), 2))
        return self.k, self.v


class Doubler(torch.nn.Module):
    """A normalisation whose effect depends on the place in the head and on the length: a rotation before it is not one after it."""

    def __init__(self, width):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.linspace(0.5, 2.0, width))

    def forward(self, x):
        return x / x.norm(dim=-1, keepdim=True) * self.weight


def merged(out, way):
    """(batch, heads, time, d_head) to (batch, time, heads * d_head)."""
    batch, heads, time, d_head = out.shape
    if way == "reshape only":
        return out.reshape(batch, time, heads * d_head)
    if way == "heads last":
        return out.permute(0, 2, 3, 1).reshape(batch, time, heads * d_head)
    return torch.cat([out[:, h] for h in range(heads)], dim=-1)


def many_heads(model, x, heads, kv_heads, theta, causal, real, *, split="", merge="", rotate="q k", norm="before", groups="blocks", wide=False):
    """What the module should compute, in float64, from its own weights. The keyword arguments make the known mistakes."""
    batch, time, width = x.shape
    d_head = width // heads
    weights = {name: p.detach().double() for name, p in model.named_parameters()}

    def project(name, n):
        y = x.double() @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)
        if split == "view only":
            return y.reshape(batch, n, time, d_head)
        if split == "features first":
            return torch.stack([y[..., h::n] for h in range(n)], dim=1)
        return torch.stack([y[..., h * d_head : (h + 1) * d_head] for h in range(n)], dim=1)

    q, k, v = project("q_proj", heads), project("k_proj", kv_heads), project("v_proj", kv_heads)
    angles = torch.arange(time, dtype=torch.float64)[:, None] * (theta or 1.0) ** (-torch.arange(d_head // 2, dtype=torch.float64) / (d_head / 2))

    def normed(y, name):
        scale = weights.get(f"{name}_norm.weight")
        return y if scale is None or norm == "no" else y / y.norm(dim=-1, keepdim=True) * scale

    def rotated(y, name):
        return turned(y, angles) if theta and name in rotate else y

    for step in (rotated, normed) if norm == "after" else (normed, rotated):
        q, k = step(q, "q"), step(k, "k")
    v = rotated(v, "v")
    mask = mask_by_loop(time, time, causal, real)
    out = attend(q, k, v, mask, groups=groups, scale=width**-0.5 if wide else None)
    return merged(out, merge) @ weights["o_proj.weight"].T + weights.get("o_proj.bias", 0.0)


@check(
    "hybridlab.transformer.attention.MultiHeadAttention",
    visible=[
        {"seed": 0, "d_model": 12, "heads": 3, "kv_heads": None, "time": 5},
        {"seed": 1, "d_model": 16, "heads": 4, "kv_heads": 2, "time": 4, "theta": 100.0},
        {"seed": 2, "d_model": 8, "heads": 2, "kv_heads": 1, "time": 3, "norm": True, "lengths": (3, 1), "theta": 10.0, "edges": True},
    ],
    hidden=[
        {"seed": 11, "d_model": 24, "heads": 6, "kv_heads": 2, "time": 7, "theta": 10_000.0, "lengths": (7, 3), "bias": True},
        {"seed": 12, "d_model": 16, "heads": 2, "kv_heads": 1, "time": 6, "theta": 50.0, "norm": True},
        {"seed": 13, "d_model": 8, "heads": 2, "kv_heads": 2, "time": 5, "causal": False, "lengths": (2, 4, 0), "norm": True},
        {"seed": 14, "d_model": 6, "heads": 1, "kv_heads": 1, "time": 3, "bias": True},
        {"seed": 15, "d_model": 32, "heads": 4, "kv_heads": 4, "time": 9, "theta": 1_000.0},
        {"seed": 16, "d_model": 12, "heads": 2, "kv_heads": 2, "time": 3, "edges": True},
    ],
    forbids=("functional", "MultiheadAttention"),
    hints=(
        "Draw who influences whom: change one token of x and see which outputs move. With causal attention nothing before it may.",
        "Follow one number: after attention, which axis says `head` and which says `time`? Then look at how the heads are joined.",
        "From (batch, heads, time, d_head) the heads must stand beside d_head before they are joined: out.transpose(1, 2).flatten(2).",
    ),
)
def check_multi_head(MultiHeadAttention, seed, d_model, heads, kv_heads, time, theta=None, causal=True, lengths=None, bias=False, norm=False, edges=False):
    """Heads split and join without mixing tokens, keys are shared, positions turn, the cache changes nothing."""
    torch.manual_seed(seed)
    widths = []

    def factory(width):
        widths.append(width)
        return Doubler(width)

    options = {"rope_theta": theta, "qk_norm": factory if norm else None} | ({"bias": True} if bias else {})
    model = MultiHeadAttention(d_model, heads, kv_heads, **options)
    groups = kv_heads or heads
    parameters(model, d_model, heads, groups, bias, norm, widths)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape))
    x = normal(seed, max(2, len(lengths or ())), time, d_model)
    real = None if lengths is None else torch.arange(time) < torch.tensor(lengths)[:, None]
    arguments = {"padding": real} if causal else {"padding": real, "causal": False}
    before = x.clone()
    got = model(x, **arguments)
    tensor_of(got, x.shape, x.dtype, "MHA-04", "shape or dtype of the result is wrong", "(batch, time, d_model) comes back")
    untouched(["x"], [x], [before], "MHA-04")

    def oracle(**changes):
        known = {"causal": causal, "real": real} | {name: changes.pop(name) for name in ("causal", "real") if name in changes}
        return many_heads(model, x, heads, groups, theta, known["causal"], known["real"], **changes)

    expected = oracle()
    diagnose(got.detach(), expected, [
        Suspect("MHA-01", "joining the heads mixes the tokens: a token sees what comes after it", oracle(merge="reshape only"),
                "bring heads and d_head side by side before you join them: which axis holds the time?"),
        Suspect("MHA-01", "the joined features are not in the order head by head", oracle(merge="heads last"), "all of head 0 first, then all of head 1"),
        Suspect("MHA-02", "splitting into heads mixes the tokens", oracle(split="view only"), "first (time, heads, d_head), then swap time and heads"),
        Suspect("MHA-02", "a head does not take neighbouring features", oracle(split="features first"), "head h takes features h·d_head … (h+1)·d_head − 1"),
        Suspect("MHA-05", "queries and keys are not rotated", oracle(rotate=""), "rope_theta is given: apply_rotary to q and to k"),
        Suspect("MHA-05", "only one of queries and keys is rotated", oracle(rotate="q"), "the distance counts only when both turn"),
        Suspect("MHA-05", "only one of queries and keys is rotated", oracle(rotate="k"), "the distance counts only when both turn"),
        Suspect("MHA-06", "the values are rotated too", oracle(rotate="q k v"), "positions decide who is looked at, not what is said: leave v alone"),
        Suspect("MHA-07", "q_norm and k_norm are not applied before the rotation", oracle(norm="after"), "project, split, norm, rotate, attend"),
        Suspect("MHA-07", "q_norm and k_norm are not applied", oracle(norm="no"), "project, split, norm, rotate, attend"),
        Suspect("MHA-08", "the future can be seen", oracle(causal=False), "hand `causal` on to attention_mask"),
        Suspect("MHA-08", "the past alone can be seen although causal=False", oracle(causal=True), "hand `causal` on to attention_mask"),
        Suspect("MHA-10", "the padding is ignored", oracle(real=None), "hand `padding` on to attention_mask"),
        Suspect("MHA-11", "the scores are divided by √d_model", oracle(wide=True), "√d_head: the width of one head"),
    ], atol=2e-4)
    close(got, expected, "MHA-09", "the result differs from many heads, one after the other",
          "leave out parts (rotation, groups, padding) until it agrees", atol=2e-4, rtol=2e-4)
    with_a_cache(model, x, got, real, causal, groups, d_model // heads)
    (got * normal(seed + 5, *got.shape)).sum().backward()
    for name, p in model.named_parameters():
        if p.grad is None or not torch.isfinite(p.grad).all():
            raise Mistake("MHA-12", f"{name} gets no finite gradient", "None" if p.grad is None else "NaN", "every projection must take part")
    if edges:
        for wrong in ((13, 4, None), (12, 4, 3), (12, 2, 4)):
            must_raise(ValueError, lambda wrong=wrong: MultiHeadAttention(*wrong), "MHA-13",
                       "MultiHeadAttention(d_model={}, n_heads={}, n_kv_heads={}) must raise ValueError".format(*wrong),
                       "d_model % n_heads and n_heads % n_kv_heads must be 0")
        with torch.device("meta"):  # shapes without values: shows what was left on the CPU
            away = MultiHeadAttention(16, 4, 2, rope_theta=10.0)
        try:
            away(torch.empty(1, 3, 16, device="meta"))
        except RuntimeError as error:
            raise Mistake("MHA-17", "it works on the CPU alone", str(error).split("\n")[0],
                          "positions and mask must lie where x lies: device=x.device") from None


def parameters(model, d_model, heads, kv_heads, bias, norm, widths):
    """Names and shapes must be those of Llama, or its weights can't be loaded later."""
    d_head = d_model // heads
    wide = {"q_proj": heads * d_head, "k_proj": kv_heads * d_head, "v_proj": kv_heads * d_head}
    expected = {f"{name}.weight": (n, d_model) for name, n in wide.items()} | {"o_proj.weight": (d_model, heads * d_head)}
    if bias:
        expected |= {f"{name}.bias": (n,) for name, n in (wide | {"o_proj": d_model}).items()}
    if norm:
        expected |= {"q_norm.weight": (d_head,), "k_norm.weight": (d_head,)}
    got = {name: tuple(p.shape) for name, p in model.named_parameters()}
    for name in sorted(expected.keys() | got.keys()):
        if expected.get(name) != got.get(name):
            raise Mistake("MHA-03", "the parameters are not the ones asked for", f"{name}: got {got.get(name)}, expected {expected.get(name)}",
                          "k_proj and v_proj make n_kv_heads heads of d_head features; bias only where bias=True; qk_norm(d_head)")


def with_a_cache(model, x, whole, real, causal, kv_heads, d_head):
    """Token by token and in chunks, the cached answer must be that of the whole sequence."""
    if not causal:
        return
    time = x.shape[1]
    for cuts in ([1] * time, [2, time - 2], [time]):
        cache, parts, start = Wardrobe(), [], 0
        for n in cuts:
            padding = None if real is None else real[:, : start + n]
            parts.append(model(x[:, start : start + n], padding=padding, cache=cache))
            start += n
            if len(cache) != start:
                raise Mistake("MHA-14", "the cache does not hold what has been read", f"{start} tokens read, {len(cache)} in the cache",
                              "an empty cache is falsy: write `if cache is not None`")
        for shapes, n in zip(cache.handed, cuts, strict=True):
            if shapes != ((x.shape[0], kv_heads, n, d_head),) * 2:
                raise Mistake("MHA-16", "the cache is handed the wrong shapes", f"got {shapes[0]} for {n} tokens and {kv_heads} key/value heads",
                              "(batch, n_kv_heads, time, d_head): the new tokens only, and before heads are shared out")
        close(torch.cat(parts, 1), whole, "MHA-15", f"reading {time} tokens in pieces of {cuts} through a cache changes the answer",
              "x's first token stands at position len(cache), asked before append; rotate k before it is stored", atol=2e-4, rtol=2e-4)
