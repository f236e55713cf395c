"""How week 7's answers are judged: groups and scales, packing, NF4's levels, outliers, GPTQ, and the way back."""

import math
from typing import NamedTuple

import torch
from coursekit.checks import Mistake, check, close, must_raise


class Suspect(NamedTuple):
    """A known mistake, as the values that it would have given."""

    code: str
    what: str
    values: object
    hint: str


def normal(seed, *shape, dtype="float32"):
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return numbers.to(getattr(torch, dtype))


def same(a, b, atol=1e-6):
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=atol, atol=atol)


def diagnose(got, expected, suspects, atol=1e-6):
    """Raise the first suspect that explains `got`, unless `got` is right."""
    if same(got, expected, atol):
        return
    for suspect in suspects:
        if same(got, suspect.values, atol) and not same(suspect.values, expected, atol):
            raise Mistake(suspect.code, suspect.what, f"{differences(got, expected)}", suspect.hint)


def differences(got, expected):
    gap = (got.double() - expected.double()).abs()
    return f"{int((gap > 1e-6).sum())} of {gap.numel()} numbers differ, by {gap.max():.3g} at most"


def untouched(tensor, before, code, name):
    if not torch.equal(tensor, before):
        raise Mistake(code, f"the answer changes its input {name}", "the caller's tensor holds other values than before",
                      "write a new tensor in place of `-=`, `*=` and methods that end in _")


def a_pair(got, shapes, dtypes, code):
    """Raise Mistake unless `got` is (codes, scales) of these shapes and dtypes."""
    if not isinstance(got, tuple) or len(got) != 2 or not all(isinstance(part, torch.Tensor) for part in got):
        raise Mistake(code, "two tensors are expected: codes and scales", f"got a {type(got).__name__}", "return codes, scales")
    for name, part, shape, dtype in zip(("codes", "scales"), got, shapes, dtypes, strict=True):
        if tuple(part.shape) != tuple(shape):
            raise Mistake(code, f"{name} have the wrong shape", f"got {tuple(part.shape)}, expected {tuple(shape)}",
                          "one code a weight; one scale for each group of each row, ceil(d_in / group_size) of them")
        if part.dtype != dtype:
            raise Mistake(code, f"{name} have the wrong dtype", f"got {part.dtype}, expected {dtype}", "codes are int8, scales float32")


# ------------------------------------------------------------------ absmax


def by_groups(weight, bits, group_size, *, largest=None, signed=False, rounding=torch.round, whole=False, early=False):
    """Codes and scales, group by group. The keyword arguments make the known mistakes."""
    largest = largest or 2 ** (bits - 1) - 1
    rows, d_in = weight.shape
    codes, scales = torch.zeros(rows, d_in, dtype=torch.int8), torch.zeros(rows, math.ceil(d_in / group_size))
    for r in range(rows):
        for g in range(scales.shape[1]):
            cut = slice(g * group_size, min((g + 1) * group_size, d_in))
            part = (weight if whole else weight[r : r + 1, cut]).float()
            scale = (part.max() if signed else part.abs().max()) / largest
            scales[r, g] = scale
            if scale != 0:
                numbers = weight[r, cut].float().round() if early else weight[r, cut].float()
                codes[r, cut] = rounding(numbers / scale).clamp(-127, 127).to(torch.int8)
    return codes, scales


@check(
    "hybridlab.llm.quantize.absmax_quantize",
    visible=[
        {"seed": 0, "shape": (2, 8), "bits": 8, "group_size": 4},
        {"seed": 1, "shape": (3, 7), "bits": 4, "group_size": 3},
        {"seed": 2, "shape": (2, 6), "bits": 4, "group_size": 6, "edges": True},
    ],
    hidden=[
        {"seed": 11, "shape": (4, 40), "bits": 3, "group_size": 16},
        {"seed": 12, "shape": (1, 50), "bits": 2, "group_size": 50},
        {"seed": 13, "shape": (5, 9), "bits": 8, "group_size": 64, "dtype": "bfloat16"},
        {"seed": 14, "shape": (3, 5), "bits": 8, "group_size": 1},
        {"seed": 15, "shape": (2, 24), "bits": 5, "group_size": 8, "dtype": "float64", "edges": True},
    ],
    forbids=("quantize_per_tensor", "quantize_per_channel", "fake_quantize_per_channel_affine", "fake_quantize_per_tensor_affine"),
    hints=(
        "Bring the groups onto an axis of their own first: (rows, groups, group_size). If d_in is no multiple, which number can fill up the last group without changing its maximum?",
        "groups.abs().amax(-1) / Q are the scales. Divide by them with a last axis of 1, round, and ask what 0 / 0 gives.",
        "filled = F.pad(weight.float(), (0, -d_in % group_size)); groups = filled.unflatten(1, (-1, group_size)); where a scale is 0, divide by inf. Clamp to ±Q, flatten(1), and cut to d_in.",
    ),
)
def check_absmax(absmax_quantize, seed, shape, bits, group_size, dtype="float32", edges=False):
    """Each group has its own scale, zeros and tiny numbers survive, and NaN is refused."""
    weight = normal(seed, *shape, dtype=dtype)
    weight[0, -1] = -3.5  # the largest is negative
    before = weight.clone()
    got = absmax_quantize(weight, bits, group_size)
    expected = by_groups(weight, bits, group_size)
    a_pair(got, [part.shape for part in expected], (torch.int8, torch.float32), "ABSMAX-03")
    untouched(weight, before, "ABSMAX-10", "weight")
    largest = 2 ** (bits - 1) - 1
    wide = by_groups(weight, bits, group_size, largest=largest + 1)
    diagnose(got[1], expected[1], [
        Suspect("ABSMAX-01", "the scale divides by 2^(bits-1), a code that is not there", wide[1], "the largest code is 2^(bits-1) - 1: 127, not 128"),
        Suspect("ABSMAX-02", "the scale comes from the largest weight, not from the largest absolute value", by_groups(weight, bits, group_size, signed=True)[1],
                "-3.5 is larger than 1 here: abs() first"),
        Suspect("ABSMAX-04", "all groups have the same scale", by_groups(weight, bits, group_size, whole=True)[1], "a maximum for each group, along its own axis"),
    ])
    close(got[1], expected[1], "ABSMAX-09", "the scales differ from (largest absolute value of the group) / Q", "compare with the worked example; compute in float32")
    diagnose(got[0], expected[0], [
        Suspect("ABSMAX-05", "the quotient is cut off, not rounded", by_groups(weight, bits, group_size, rounding=torch.trunc)[0],
                ".to(torch.int8) cuts the fraction off: round() before it"),
        Suspect("ABSMAX-05", "the quotient is rounded down, not to the nearest", by_groups(weight, bits, group_size, rounding=torch.floor)[0], "round(), not floor or //"),
        Suspect("ABSMAX-06", "the weight is rounded before it is divided", by_groups(weight, bits, group_size, early=True)[0], "divide by the scale first, then round"),
    ])
    close(got[0], expected[0], "ABSMAX-09", "the codes differ from round(weight / scale)", "compare with the worked example")

    zeros = weight.float().clone()
    zeros[0] = 0
    codes, scales = absmax_quantize(zeros, bits, group_size)
    if codes[0].any() or scales[0].any() or not torch.isfinite(scales).all():
        raise Mistake("ABSMAX-07", "a group of zeros does not stay a group of zeros", f"codes {codes[0].tolist()[:4]}, scales {scales[0].tolist()[:4]}",
                      "0 / 0 is NaN, and NaN as int8 is anything: divide by something else where the scale is 0")
    tiny = torch.tensor([[190.0, -190.0, 64.0]]) * 1.4e-45  # 190 times the smallest float32, and the scale is rounded to 1 of them
    codes, _ = absmax_quantize(tiny, 8, 3)
    if codes.tolist() != [[127, -127, 64]]:
        raise Mistake("ABSMAX-08", "codes leave the range -Q … Q", f"[190, -190, 64] · 1.4e-45 gave {codes[0].tolist()}, expected [127, -127, 64]",
                      "a scale of a few of the smallest floats is rounded itself: clamp the codes before they become int8")
    whole = torch.tensor([[127.0, -64.0, 3.0]])  # a scale of exactly 1
    close(absmax_quantize(whole, 8, 3)[0], whole, "ABSMAX-09", "whole numbers up to 127 are their own codes", "their scale is 1")
    if edges:
        for spoilt in (math.nan, math.inf, -math.inf):
            bad = weight.clone()
            bad[1, 2] = spoilt
            must_raise(ValueError, lambda bad=bad: absmax_quantize(bad, bits, group_size), "ABSMAX-11", f"a weight of {spoilt} must raise ValueError", "require_finite is given")
        for wrong in ((1, 4), (9, 4), (8, 0), (8, -1)):
            must_raise(ValueError, lambda wrong=wrong: absmax_quantize(weight, *wrong), "ABSMAX-11",
                       "bits {} with group_size {} must raise ValueError".format(*wrong), "largest_code refuses bits; group_size is yours to refuse")


# ------------------------------------------------------------------ two to a byte


def packed_by_hand(codes, *, high_first=False, offset=False, halves=False, spilled=False):
    """Bytes, one after the other. The keyword arguments make the known mistakes."""
    rows = []
    for row in codes.tolist():
        row = row + [0] * (len(row) % 2)
        half = len(row) // 2
        pairs = [(row[j], row[j + half]) for j in range(half)] if halves else list(zip(row[0::2], row[1::2], strict=True))
        if offset:
            pairs = [(a + 8, b + 8) for a, b in pairs]
        if high_first:
            pairs = [(b, a) for a, b in pairs]
        rows.append([((a % 256) | ((b % 16) << 4)) if spilled else (a % 16) + 16 * (b % 16) for a, b in pairs])
    return torch.tensor(rows, dtype=torch.uint8)


@check(
    "hybridlab.llm.quantize.pack_int4",
    visible=[{"seed": 0, "shape": (2, 6)}, {"seed": 1, "shape": (1, 5), "edges": True}],
    hidden=[{"seed": 11, "shape": (5, 16)}, {"seed": 12, "shape": (3, 1)}, {"seed": 13, "shape": (4, 33), "edges": True}],
    hints=(
        "Write the eight bits of one byte on paper: which four belong to the first code? How is -1 written in four bits?",
        "codes.to(torch.uint8) & 15 gives the four bits of each code, negative ones too. Then [:, 0::2] and [:, 1::2] are the two halves.",
        "F.pad(codes, (0, codes.shape[1] % 2)) makes the number even; low | (high << 4) joins them.",
    ),
)
def check_pack(pack_int4, seed, shape, edges=False):
    """Two codes to a byte, the first in the low half, negative ones in two's complement; nothing else fits."""
    codes = torch.randint(-8, 8, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    codes[0, 0] = -3
    before = codes.clone()
    got = pack_int4(codes)
    expected = packed_by_hand(codes)
    if not isinstance(got, torch.Tensor) or got.dtype != torch.uint8 or got.shape != expected.shape:
        shown = f"{tuple(got.shape)} {got.dtype}" if isinstance(got, torch.Tensor) else type(got).__name__
        raise Mistake("NIBBLE-06", "shape or dtype of the bytes is wrong", f"got {shown}, expected {tuple(expected.shape)} torch.uint8", "ceil(d_in / 2) bytes a row")
    untouched(codes, before, "NIBBLE-08", "codes")
    diagnose(got, expected, [
        Suspect("NIBBLE-01", "the two halves of each byte are swapped", packed_by_hand(codes, high_first=True), "code 2j goes into the low half, so it is not shifted"),
        Suspect("NIBBLE-02", "a negative first code spills into the high half", packed_by_hand(codes, spilled=True), "-1 as a byte is 11111111: keep four bits of it with & 15"),
        Suspect("NIBBLE-03", "8 was added to the codes", packed_by_hand(codes, offset=True), "two's complement: -1 is 15 and 0 stays 0"),
        Suspect("NIBBLE-04", "a code is paired with the one half a row away", packed_by_hand(codes, halves=True), "neighbours share a byte here; llama.cpp pairs halves"),
    ])
    close(got, expected, "NIBBLE-09", "the bytes differ", "compare with the worked example")
    if edges:
        for outside in (8, -9, 127, -128):
            bad = codes.clone()
            bad[-1, -1] = outside
            must_raise(ValueError, lambda bad=bad: pack_int4(bad), "NIBBLE-07", f"a code of {outside} must raise ValueError", "four bits hold -8 to 7")
        ends = torch.tensor([[-8, 7]], dtype=torch.int8)
        close(pack_int4(ends), torch.tensor([[0x78]], dtype=torch.uint8), "NIBBLE-09", "-8 and 7 do fit", "refuse what lies outside, not the ends")


# ------------------------------------------------------------------ NF4

# bitsandbytes' table for NF4; tests/unit/test_nf4.py asks bitsandbytes again.
NF4 = [-1.0, -0.6961928, -0.5250730, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
       0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0]


def quantiles(outermost, positive=9, negative=8):
    normal_quantile = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0).icdf
    up, down = (normal_quantile(torch.linspace(outermost, 0.5, n, dtype=torch.float64)[:-1]) for n in (positive, negative))
    return torch.cat([-down, torch.zeros(1, dtype=torch.float64), up.flip(0)])


@check(
    "hybridlab.llm.nf4.nf4_levels",
    visible=[{"tolerance": 1e-4}],
    hidden=[{"tolerance": 5e-7}],
    forbids=("bitsandbytes", "get_4bit_type", "create_normal_map"),
    hints=(
        "Sixteen levels: eight above zero, zero itself, seven below. Why can't both sides have eight?",
        "torch.linspace(p, 0.5, 9)[:-1] are the eight probabilities above one half; ndtri turns them into quantiles. They come out falling: what must be turned round?",
        "torch.cat([-negative, torch.zeros(1), positive.flip(0)]), divided by its last entry, as float32.",
    ),
)
def check_nf4(nf4_levels, tolerance):
    """Sixteen levels in rising order from -1 to 1, an exact zero among them: those of bitsandbytes."""
    got, expected = nf4_levels(), torch.tensor(NF4)
    if not isinstance(got, torch.Tensor) or got.shape != (16,) or got.dtype != torch.float32:
        shown = f"{tuple(got.shape)} {got.dtype}" if isinstance(got, torch.Tensor) else type(got).__name__
        raise Mistake("NF4-06", "sixteen levels in float32 are expected", f"got {shown}", "8 + 1 + 7; .float() at the end")
    p = (31 / 32 + 29 / 30) / 2
    if not (got.diff() > 0).all() and same(got.sort().values, expected, 1e-4):
        raise Mistake("NF4-04", "the levels are not in rising order", f"got {[round(x, 2) for x in got.tolist()]}", "quantiles of falling probabilities fall: flip(0) one side")
    symmetric = quantiles(p, 9, 9)
    symmetric = symmetric[symmetric != 0]
    diagnose(got, expected, [
        Suspect("NF4-01", "the levels are evenly spaced: that is int4, not NF4", torch.linspace(-1, 1, 16), "quantiles of the normal distribution: torch.special.ndtri"),
        Suspect("NF4-02", "there is no exact zero", symmetric / symmetric[-1], "eight above, seven below, and 0 itself"),
        Suspect("NF4-03", "the levels do not end at 1", quantiles(p), "divide all by the largest"),
        Suspect("NF4-05", "eight levels below zero and seven above", -quantiles(p).flip(0) / quantiles(p)[-1], "the positive side has eight"),
        Suspect("NF4-07", "the outermost probability is not (31/32 + 29/30) / 2", quantiles(31 / 32) / quantiles(31 / 32)[-1], "p is the mean of the two"),
        Suspect("NF4-07", "the outermost probability is not (31/32 + 29/30) / 2", quantiles(29 / 30) / quantiles(29 / 30)[-1], "p is the mean of the two"),
    ], atol=1e-5)
    close(got, expected, "NF4-09", "the levels differ from those of bitsandbytes", "compute in float64, round to float32 at the end", atol=tolerance, rtol=0)


# ------------------------------------------------------------------ outliers


def eight_bits(matrix, whole=False):
    """Codes in float64 and scales of the rows, or of the whole matrix."""
    scale = (matrix.abs().max() if whole else matrix.abs().amax(1, keepdim=True)) / 127
    scale = scale.double().expand(len(matrix), 1)
    return torch.where(scale == 0, 0.0, matrix.double() / scale).round(), scale


def mixed(x, weight, threshold, *, whole=False, twice=False, scales_of_all=False, strict=False, entries=False, none=False, dropped=False):
    """The decomposition in float64. The keyword arguments make the known mistakes."""
    x, weight = x.float(), weight.float()
    large = x.abs() > threshold if strict else x.abs() >= threshold
    outlier = torch.zeros_like(large[0]) if none else large.any(0)
    if entries:
        regular, kept = x.masked_fill(large, 0), x.masked_fill(~large, 0)
        (a, s), (b, t) = eight_bits(regular), eight_bits(weight)
        return a @ b.T * s * t.T + kept.double() @ weight.double().T
    (a, s), (b, t) = eight_bits(x if scales_of_all else x.masked_fill(outlier, 0), whole), eight_bits(weight if scales_of_all else weight.masked_fill(outlier, 0), whole)
    if scales_of_all and not twice:
        a, b = a.masked_fill(outlier, 0), b.masked_fill(outlier, 0)
    exact = x[:, outlier].double() @ weight[:, outlier].double().T
    return a @ b.T * s * t.T + (0 if dropped else exact)


@check(
    "hybridlab.llm.quantize.outlier_matmul",
    visible=[
        {"seed": 0, "tokens": 3, "d_in": 16, "d_out": 4, "outliers": {2: 9.0}},
        {"seed": 1, "tokens": 2, "d_in": 8, "d_out": 3, "outliers": {}, "edges": True},
    ],
    hidden=[
        {"seed": 11, "tokens": 5, "d_in": 64, "d_out": 7, "outliers": {0: 30.0, 33: -8.0, 50: 6.0}},
        {"seed": 12, "tokens": 4, "d_in": 32, "d_out": 32, "outliers": {5: 12.0}, "dtype": "bfloat16"},
        {"seed": 13, "tokens": 6, "d_in": 24, "d_out": 5, "outliers": {3: 4.0}, "threshold": 3.9},
        {"seed": 14, "tokens": 1, "d_in": 300, "d_out": 2, "outliers": {7: 6.0}},
        {"seed": 15, "tokens": 3, "d_in": 12, "d_out": 4, "outliers": {1: 7.0}, "threshold": 0.0},
        {"seed": 16, "tokens": 3, "d_in": 12, "d_out": 4, "outliers": {1: 50.0}, "threshold": math.inf, "edges": True},
        {"seed": 17, "tokens": 4, "d_in": 48, "d_out": 6, "outliers": {9: 11.0, 40: 7.0}, "size": 0.05},
    ],
    forbids=("_int_mm", "bitsandbytes", "Linear8bitLt"),
    hints=(
        "Split the sum over the features into two sums: some columns of x and the same columns of weight in float32, the others in integers. Nothing may be in both.",
        "A column of zeros adds nothing to an integer product and raises no maximum: x.masked_fill(outlier, 0), and weight likewise. Then absmax_quantize with one group a row.",
        "integers = x_codes.int() @ w_codes.int().T (int8 would overflow); integers * x_scales * w_scales.T + x[:, outlier].float() @ weight[:, outlier].float().T, as x.dtype.",
    ),
)
def check_outliers(outlier_matmul, seed, tokens, d_in, d_out, outliers, threshold=6.0, dtype="float32", size=1.0, edges=False):
    """Integers for most, float32 for the features with outliers, and each feature in one of the two alone."""
    x, weight = size * normal(seed, tokens, d_in).clamp(-3, 3), size * normal(seed + 1, d_out, d_in)
    for feature, size in outliers.items():
        x[-1, feature] = size  # one token is enough
        weight[0, feature] = 5.0  # and this column would set the scale of a row
    x, weight = x.to(getattr(torch, dtype)), weight.to(getattr(torch, dtype))
    before = x.clone(), weight.clone()
    got = outlier_matmul(x, weight) if threshold == 6.0 else outlier_matmul(x, weight, threshold)
    if not isinstance(got, torch.Tensor) or got.shape != (tokens, d_out) or got.dtype != x.dtype:
        shown = f"{tuple(got.shape)} {got.dtype}" if isinstance(got, torch.Tensor) else type(got).__name__
        raise Mistake("MIXED-06", "shape or dtype of the result is wrong", f"got {shown}, expected {(tokens, d_out)} {x.dtype}", "(tokens, d_out), in x's dtype")
    untouched(x, before[0], "MIXED-08", "x")
    untouched(weight, before[1], "MIXED-08", "weight")
    expected, atol = mixed(x, weight, threshold), 2e-4 if dtype == "float32" else 5e-2
    diagnose(got, expected, [
        Suspect("MIXED-01", "the outliers are quantised like all others", mixed(x, weight, threshold, none=True), "columns with |x| >= threshold stay in float32"),
        Suspect("MIXED-02", "the outliers count twice, in integers and in float32", mixed(x, weight, threshold, twice=True, scales_of_all=True),
                "leave them out of the integers: columns of zeros in both"),
        Suspect("MIXED-03", "the outliers still set the scales of the integers", mixed(x, weight, threshold, scales_of_all=True), "take them out before absmax_quantize"),
        Suspect("MIXED-04", "there is one scale for the whole matrix", mixed(x, weight, threshold, whole=True), "a scale for each token and for each row of weight: group_size = d_in"),
        Suspect("MIXED-05", "single numbers are taken out, not whole features", mixed(x, weight, threshold, entries=True), "(x.abs() >= threshold).any(0): a column goes as a whole"),
        Suspect("MIXED-07", "a number that equals the threshold counts as small", mixed(x, weight, threshold, strict=True), ">=, not >"),
        Suspect("MIXED-10", "the outliers are left out altogether", mixed(x, weight, threshold, dropped=True), "add their product in float32"),
    ], atol)
    if (got.double() - expected).abs().max() > 20 * atol * max(1.0, expected.abs().max().item()) and threshold > 0:
        raise Mistake("MIXED-11", "the result is far from the product", differences(got, expected), "int8 times int8 overflows in int8: .int() before the product; both scales belong to it")
    close(got, expected, "MIXED-09", "the result differs from integers and float32 together", "try threshold = inf (integers alone), then 0 (float32 alone)", atol=atol, rtol=atol)
    if edges:
        must_raise(ValueError, lambda: outlier_matmul(x, weight[:, 1:]), "MIXED-12", "different numbers of features must raise ValueError", "compare shape[1] of both")
        for spoilt in (math.nan, math.inf):
            for name, place in (("x", 0), ("weight", 1)):
                pair = [x.clone(), weight.clone()]
                pair[place][-1, 0] = spoilt
                pair[0][0, 0] = spoilt if place == 0 else 9.0  # in an outlier column, too
                must_raise(ValueError, lambda pair=pair: outlier_matmul(*pair), "MIXED-12", f"{spoilt} in {name} must raise ValueError", "require_finite is given; ask it for both")


# ------------------------------------------------------------------ GPTQ


def inputs(seed, tokens, d_in):
    """Tokens whose features go together."""
    return normal(seed, tokens, d_in) @ normal(seed + 100, d_in, d_in) / d_in**0.5


def column_by_column(weight, hessian, bits, group_size, damping, *, nearest=False, undivided=False, undamped=False, stale=False, fresh_scales=False):
    """After each column, least squares for those behind it. The keyword arguments make the known mistakes."""
    d_in = weight.shape[1]
    h = hessian.double() + (1e-9 if undamped else damping) * hessian.double().diagonal().mean() * torch.eye(d_in, dtype=torch.float64)
    upper = torch.linalg.cholesky(torch.linalg.inv(h), upper=True)
    codes, scales = by_groups(weight, bits, group_size)
    largest, wanted, now = 2 ** (bits - 1) - 1, weight.double(), weight.double().clone()
    for j in range(d_in):
        g = j // group_size
        if fresh_scales and j % group_size == 0:
            scales[:, g] = (now[:, j : j + group_size].abs().amax(1) / largest).float()
        step = scales[:, g].double()
        source = wanted if stale or nearest else now
        code = torch.where(step == 0, 0.0, source[:, j] / step).round().clamp(-largest, largest)
        codes[:, j] = code
        error = (now[:, j] - code * step) / (1.0 if undivided else upper[j, j])
        now[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
    return codes, scales


@check(
    "hybridlab.llm.gptq.gptq_quantize",
    visible=[{"seed": 0, "rows": 4, "d_in": 8, "bits": 3, "group_size": 8}, {"seed": 1, "rows": 3, "d_in": 10, "bits": 4, "group_size": 4, "edges": True}],
    hidden=[
        {"seed": 11, "rows": 24, "d_in": 48, "bits": 3, "group_size": 48, "collinear": True},
        {"seed": 12, "rows": 5, "d_in": 20, "bits": 2, "group_size": 7, "damping": 0.3},
        {"seed": 13, "rows": 6, "d_in": 16, "bits": 4, "group_size": 8, "dtype": "bfloat16"},
        {"seed": 14, "rows": 40, "d_in": 40, "bits": 4, "group_size": 16, "edges": True},
    ],
    forbids=("optq", "GPTQModel"),
    hints=(
        "Without step 3 this is absmax_quantize. Write the loop first so that it gives the same codes, then let each column's error reach the columns behind it.",
        "Work on a copy in float64. Column j's code comes from the copy, which already holds what the columns before it asked for. The scales come from the weight as it was.",
        "error = (column - code * scale) / U[j, j]; then copy[:, j + 1:] -= error[:, None] * U[j, j + 1:]. Where the scale is 0, divide by inf.",
    ),
)
def check_gptq(gptq_quantize, seed, rows, d_in, bits, group_size, damping=0.01, dtype="float32", collinear=False, edges=False):
    """Each column's error is made up for by those behind it, as least squares would; the scales stay."""
    weight = normal(seed, rows, d_in, dtype=dtype)
    last = (d_in - 1) // group_size * group_size
    weight[0, last:] = 0  # a group of zeros, towards which errors flow
    x = inputs(seed, 4 * d_in, d_in)
    if collinear:
        x[:, 1::2] = x[:, 0::2] + 0.05 * x[:, 1::2]  # pairs that are almost one: damping matters
    hessian = x.double().T @ x.double() / len(x)
    before = weight.clone(), hessian.clone()
    got = gptq_quantize(weight, hessian, bits, group_size) if damping == 0.01 else gptq_quantize(weight, hessian, bits, group_size, damping)
    arguments = (weight, hessian, bits, group_size, damping)
    expected = column_by_column(*arguments)
    a_pair(got, [part.shape for part in expected], (torch.int8, torch.float32), "GPTQ-06")
    untouched(weight, before[0], "GPTQ-08", "weight")
    untouched(hessian, before[1], "GPTQ-08", "hessian")
    fresh = column_by_column(*arguments, fresh_scales=True)
    diagnose(got[1], expected[1], [Suspect("GPTQ-02", "the scales are found anew from weights that have already moved", fresh[1], "absmax_quantize of the weight as it came gives them, once")])
    close(got[1], expected[1], "GPTQ-09", "the scales are not those of absmax_quantize", "they stay as absmax_quantize(weight, bits, group_size) found them")
    diagnose(got[0], expected[0], [
        Suspect("GPTQ-01", "this is rounding to the nearest: no error reaches the columns behind", column_by_column(*arguments, nearest=True)[0], "codes come from the copy that step 3 changes"),
        Suspect("GPTQ-03", "the error is not divided by U[j, j]", column_by_column(*arguments, undivided=True)[0], "a column's own entry of U says how far its error counts"),
        Suspect("GPTQ-04", "the hessian is not damped", column_by_column(*arguments, undamped=True)[0] if not edges else expected[0], "hand `damping` on to compensation"),
    ])
    if (got[0][0, last:] != 0).any():
        raise Mistake("GPTQ-10", "a group whose scale is 0 gets codes that are not 0", f"codes {got[0][0, last:].tolist()[:6]}", "divide by inf where the scale is 0")
    wrong = int((got[0] != expected[0]).sum())
    if wrong > 0.002 * got[0].numel():  # a quotient at .5 may fall to either side
        raise Mistake("GPTQ-09", "the codes differ from least squares after each column", f"{wrong} of {got[0].numel()} codes differ",
                      "row j of U, right of the diagonal; the columns behind j alone; codes clamped to ±Q")
    if edges:
        must_raise(ValueError, lambda: gptq_quantize(weight, torch.eye(d_in + 1), bits, group_size), "GPTQ-07", "a hessian of another size must raise ValueError", "d_in × d_in")
        must_raise(ValueError, lambda: gptq_quantize(weight[:, 1:], torch.ones(d_in - 1, 1), bits, group_size), "GPTQ-07", "a hessian that is not square must raise ValueError", "d_in × d_in")
        must_raise(ValueError, lambda: gptq_quantize(weight, torch.zeros(d_in, d_in), bits, group_size), "GPTQ-07", "a hessian of zeros must raise ValueError", "compensation refuses it: don't catch that")


# ------------------------------------------------------------------ the way back


def spread(codes, scales, group_size, *, tiled=False, divided=False, first=False):
    """Weight by weight. The keyword arguments make the known mistakes."""
    out, n_groups = torch.zeros(codes.shape), scales.shape[1]
    for j in range(codes.shape[1]):
        g = j % n_groups if tiled else 0 if first else j // group_size
        out[:, j] = codes[:, j] / scales[:, g] if divided else codes[:, j] * scales[:, g]
    return out


@check(
    "hybridlab.llm.quantize.dequantize",
    visible=[{"seed": 0, "shape": (2, 8), "group_size": 4}, {"seed": 1, "shape": (2, 7), "group_size": 3, "edges": True}],
    hidden=[
        {"seed": 11, "shape": (5, 40), "group_size": 16},
        {"seed": 12, "shape": (3, 6), "group_size": 6},
        {"seed": 13, "shape": (4, 5), "group_size": 64},
        {"seed": 14, "shape": (2, 9), "group_size": 1},
        {"seed": 15, "shape": (4, 33), "group_size": 8, "edges": True},
    ],
    hints=(
        "Take one row of eight codes in two groups, and scales 1 and 100. Write down what each code is multiplied with.",
        "With one group a row it works, with two it does not. What does .repeat do with [a, b], and what should stand there?",
        "repeat_interleave gives a a a a b b b b; repeat gives a b a b a b a b.",
    ),
)
def check_dequantize(dequantize, seed, shape, group_size, edges=False):
    """Each code meets the scale of its own group, also in a short last one."""
    codes = torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    scales = normal(seed, shape[0], math.ceil(shape[1] / group_size)).abs() + 0.1
    before = codes.clone(), scales.clone()
    got = dequantize(codes, scales, group_size)
    expected = spread(codes, scales, group_size)
    if not isinstance(got, torch.Tensor) or tuple(got.shape) != shape or got.dtype != torch.float32:
        shown = f"{tuple(got.shape)} {got.dtype}" if isinstance(got, torch.Tensor) else type(got).__name__
        raise Mistake("SPREAD-04", "shape or dtype of the weights is wrong", f"got {shown}, expected {shape} torch.float32", "one weight a code, float32; cut the last group to d_in")
    untouched(codes, before[0], "SPREAD-06", "codes")
    untouched(scales, before[1], "SPREAD-06", "scales")
    diagnose(got, expected, [
        Suspect("SPREAD-01", "codes meet the scales of other groups: neighbours have different ones", spread(codes, scales, group_size, tiled=True),
                "group_size neighbours share a scale: code j belongs to group j // group_size"),
        Suspect("SPREAD-02", "the codes are divided by the scales", spread(codes, scales, group_size, divided=True), "quantising divides, the way back multiplies"),
        Suspect("SPREAD-03", "the first scale of a row is used for all of it", spread(codes, scales, group_size, first=True), "each group has a scale of its own"),
    ])
    close(got, expected, "SPREAD-09", "the weights differ from code · scale", "compare with the worked example")
    if edges:
        for width in (scales.shape[1] + 1, scales.shape[1] - 1):
            must_raise(ValueError, lambda width=width: dequantize(codes, torch.ones(shape[0], width), group_size), "SPREAD-05",
                       f"{width} scales a row for {shape[1]} codes in groups of {group_size} must raise ValueError", "ceil(d_in / group_size) are needed")
